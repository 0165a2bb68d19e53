"""The page: a picture in by upload or camera, its classes, its code and its neighbours out."""

import asyncio
import functools
import html
from pathlib import Path

import gradio as gr
import numpy as np

from tools.search.answer import LIKELY, counted
from tools.serve.choices import ALL, EXACT, FINE, length, orders
from tools.serve.gate import GONE
from tools.serve.limits import MIB, PICTURE_BYTES, TOP, Refused
from tools.serve.refusals import log_page
from tools.serve.runs import Run
from tools.serve.schema import Answer, Neighbour
from tools.serve.service import Service

STYLE, SCRIPT = (Path(__file__).with_name(f"page.{kind}") for kind in ("css", "js"))
DAY = {"paper": "#fff", "ink": "#000"}
WELCOME = "<p class='note' role='status'>Upload a picture, or take one, to see similar ones.</p>"
DRAW = """<details id='draw'><summary>Draw a picture</summary>
<canvas width='280' height='280' data-paper='{paper}' data-ink='{ink}' role='img'
 aria-label='A drawing, made with a finger, a pen or the mouse'></canvas>
<p><button type='button' data-draw='search'>Search with the drawing</button>
<button type='button' data-draw='clear'>Begin again</button></p></details>"""


def make_page(service: Service) -> gr.Blocks:
    """Return the page of a Service, to be mounted."""
    runs = [run.info for run in service.runs.values()]
    first = runs[0]
    title = f"Pictures like yours: {first.dataset}"
    with gr.Blocks(title=title, analytics_enabled=False, fill_width=True) as page:
        gr.HTML(
            f"<h1>{html.escape(title)}</h1><p>{counted(first.pictures, 'picture')}, found by "
            "binary codes of a deep net. "
            "<a href='docs' target='_blank' rel='noopener'>JSON API</a></p>"
        )
        with gr.Row():
            with gr.Column(scale=1, min_width=280, elem_id="controls"):
                picture = gr.Image(
                    label=f"Your picture (at most {PICTURE_BYTES // MIB} MiB)",
                    type="filepath",
                    sources=["upload", "webcam", "clipboard"],
                    height=280,
                    buttons=[],
                    elem_id="picture",
                    alt_text="Your picture",
                    webcam_options=gr.WebcamOptions(
                        mirror=False, constraints={"video": {"facingMode": "environment"}}
                    ),
                )
                gr.HTML(to_try(service.runs[first.name]), elem_id="try")
                run = gr.Radio(
                    [(length(info, runs), info.name) for info in runs],
                    value=first.name,
                    label="Code length",
                    visible=len(runs) > 1,
                )
                category = gr.Dropdown([ALL, *first.categories], value=ALL, label="Category")
                order = gr.Radio(orders(first), value=EXACT, label="Search")
                top = gr.Slider(1, TOP, value=10, step=1, label="How many")
                button = gr.Button("Search", variant="primary", elem_id="search")
            with gr.Column(scale=2, min_width=300):
                found = gr.HTML(WELCOME, elem_id="found", min_height=400)
        event = {"preprocess": False, "queue": False, "api_visibility": "private"}
        search = event | {  # Gradio would decode the picture before its size is known
            "fn": functools.partial(answer, service),
            "inputs": [picture, run, category, order, top],
            "outputs": found,
            "show_progress": "minimal",
            "trigger_mode": "always_last",
        }
        show = {"fn": None, "js": "() => showAnswer()", "api_visibility": "private"}
        picture.change(**search).then(**show)
        button.click(**search).then(**show)
        gr.on([category.change, order.change, top.change], **search)
        run.change(
            functools.partial(offer, service), [run, order], order, show_progress="hidden", **event
        ).then(**search)
    return page


def to_try(run: Run) -> str:
    """Return the HTML of a run's examples and of a canvas, on paper as the examples' is."""
    shown = "".join(
        f"<button type='button' data-picture='api/runs/{html.escape(run.info.name)}/examples/"
        f"{number}'><img src='api/runs/{html.escape(run.info.name)}/examples/{number}' "
        f"alt='Test picture {number + 1}'></button>"
        for number in range(len(run.examples))
    )
    dark = bool(run.examples) and np.mean([each.mean() for each in run.examples]) < 96
    draw = DRAW.format(**{"paper": "#000", "ink": "#fff"} if dark else DAY)
    return (f"<p>Or try one of the test pictures:</p><div>{shown}</div>" if shown else "") + draw


def offer(service: Service, run: object, order: object) -> dict:
    """Return the ways to search the run that was chosen; the one chosen before, where it can be."""
    if not isinstance(run, str) or run not in service.runs:
        return gr.update()
    choices = orders(service.runs[run].info)
    kept = order if any(order == value for _, value in choices) else EXACT
    return gr.update(choices=choices, value=kept)


async def answer(
    service: Service, picture: object, run: object, category: object, order: object, top: object
) -> str:
    """Return the HTML that answers the page's values, which a client may have made up.

    picture: what the upload route gave out.
    """
    if not picture:
        return WELCOME
    try:
        path = picture.get("path") if isinstance(picture, dict) else None
        values = ((path, str), (run, str), (category, str), (top, int))
        if not all(isinstance(value, kind) for value, kind in values):
            raise Refused(422, "The page sent a value that it does not offer.")
        content = await asyncio.to_thread(read_upload, path)
        found = await service.search(
            content,
            run_name=run,
            top=top,
            category=None if category == ALL else category,
            fine=order == FINE,
        )
    except Refused as refused:
        log_page(refused)
        return f"<p class='note problem' role='alert'>{html.escape(str(refused))}</p>"
    return show(found)


def read_upload(path: str) -> bytes:
    """Return the bytes of an uploaded picture, whose path the gate has let through."""
    try:
        return Path(path).read_bytes()
    except OSError:
        raise Refused(410, GONE) from None


def show(found: Answer) -> str:
    """Return an Answer as HTML."""
    classes = "".join(
        f"<li><span class='label'>{html.escape(one.name)}</span>"
        f"<span class='bar' style='--part:{one.probability:.1%}'></span>"
        f"<span class='percent'>{one.probability:.1%}</span></li>"
        for one in found.classes
    )
    cells = "".join(f"<i class='b{bit}'></i>" for bit in found.code)
    among = f" in {html.escape(found.category)}" if found.category else ""
    neighbours = "".join(neighbour(one) for one in found.neighbours)
    hint = (
        f"<p class='note hint' role='status'>{html.escape(found.hint)} "
        "<button type='button' data-invert>Invert it and search</button></p>"
        if found.hint
        else ""
    )
    near = counted(found.radius or 0, "bit")
    empty = f"<p class='note'>No picture lies within {near}; search exactly.</p>"
    best = found.classes[:1] + [one for one in found.classes[1:] if one.probability > LIKELY]
    said = "".join(f"{html.escape(one.name)}, " for one in best)  # none without a classifier
    predicted = f"<h2>Predicted classes</h2><ol class='classes'>{classes}</ol>"
    return (
        f"<p class='sr-only' role='status'>{said}"
        f"{counted(len(found.neighbours), 'neighbour')}</p>{hint}"
        f"{f'<section>{predicted}</section>' if classes else ''}"
        f"<section><h2>Code, {counted(found.bits, 'bit')}</h2>"
        f"<div class='code' role='img' aria-label='Code {found.code}'>{cells}</div></section>"
        f"<section><h2>Nearest pictures{among}</h2>{'' if neighbours else empty}"
        f"<ol class='neighbours'>{neighbours}</ol></section>"
        f"<p class='seconds'>{found.milliseconds:.0f} ms</p>"
    )


def neighbour(one: Neighbour) -> str:
    """Return a Neighbour as HTML: its picture opens, and can be searched with."""
    address, label = html.escape(one.picture[1:]), html.escape(one.label or "")
    key = html.escape(one.key)
    return (
        f"<li><a href='{address}' target='_blank' rel='noopener' title='{key}: open the picture'>"
        f"<img src='{address}' alt='{label}' loading='lazy'></a><b>{label}</b>"
        f"<span>{distance(one)}</span><small>{key}</small>"
        f"<button type='button' data-picture='{address}' aria-label='Search with {key}'>Search"
        " with it</button></li>"
    )


def distance(one: Neighbour) -> str:
    """Return a Neighbour's distance as the page shows it."""
    bits = counted(one.distance, "bit")
    return bits if one.euclidean is None else f"{one.euclidean:.2f}, {bits}"
