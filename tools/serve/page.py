"""The page: a picture in by upload or camera, its classes, its code and its neighbours out."""

import asyncio
import functools
import html
import logging
from collections.abc import Sequence
from pathlib import Path

import gradio as gr

from tools.serve.limits import MIB, PICTURE_BYTES, QUEUE, TOP, Refused
from tools.serve.schema import Answer, Neighbour, RunInfo
from tools.serve.service import Service

LOG = logging.getLogger("serve")
ALL = "All categories"
EXACT, FINE = "Exact (Hamming)", "Fine (features)"
KEEP_SECONDS = 600  # an uploaded picture
STYLE = Path(__file__).with_name("page.css")
WELCOME = "<p class='note' role='status'>Upload a picture, or take one, to see similar ones.</p>"

# on a phone the answer stands below the controls
SHOW_ANSWER = """() => {
  const found = document.querySelector('#found');
  if (innerWidth < 700 && found.querySelector('.classes, .problem')) found.scrollIntoView();
}"""


def make_page(service: Service) -> gr.Blocks:
    """Return the page of a Service, to be mounted."""
    runs = [run.info for run in service.runs.values()]
    first = runs[0]
    title = f"Pictures like yours: {first.dataset}"
    with gr.Blocks(
        title=title, analytics_enabled=False, delete_cache=(60, KEEP_SECONDS), fill_width=True
    ) as page:
        gr.HTML(
            f"<h1>{html.escape(title)}</h1><p>{first.pictures:,} pictures, found by binary codes "
            "of a deep net. <a href='docs' target='_blank' rel='noopener'>JSON API</a></p>"
        )
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
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
                run = gr.Radio(
                    [(length(info, runs), info.name) for info in runs],
                    value=first.name,
                    label="Code length",
                    visible=len(runs) > 1,
                )
                category = gr.Dropdown([ALL, *first.categories], value=ALL, label="Category")
                order = gr.Radio(
                    [EXACT, FINE],
                    value=EXACT,
                    label="Search",
                    visible=any(info.fine for info in runs),
                )
                top = gr.Slider(1, TOP, value=10, step=1, label="How many")
                button = gr.Button("Search", variant="primary")
            with gr.Column(scale=2, min_width=300):
                found = gr.HTML(WELCOME, elem_id="found", min_height=400)
        search = {
            "fn": functools.partial(answer, service),
            "inputs": [picture, run, category, order, top],
            "outputs": found,
            "preprocess": False,  # Gradio would decode the picture before its size is known
            "show_progress": "minimal",
            "trigger_mode": "always_last",
            "concurrency_limit": 16,
            "api_visibility": "private",
        }
        picture.change(**search).then(None, js=SHOW_ANSWER, api_visibility="private")
        gr.on([run.change, category.change, order.change, top.release, button.click], **search)
    page.queue(max_size=QUEUE)
    return page


def length(info: RunInfo, runs: Sequence[RunInfo]) -> str:
    """Return a run's label: its code length, and what tells it from others of that length."""
    alike = [other for other in runs if other.bits == info.bits]
    return f"{info.bits} bits" + (f" ({info.name})" if len(alike) > 1 else "")


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
        LOG.warning("page: %d %s", refused.status, refused)
        return f"<p class='note problem' role='alert'>{html.escape(str(refused))}</p>"
    return show(found)


def read_upload(path: str) -> bytes:
    """Return the bytes of an uploaded picture, whose path the gate has let through."""
    try:
        return Path(path).read_bytes()
    except OSError:
        raise Refused(
            410, f"The upload is no longer here ({KEEP_SECONDS // 60} minutes); upload it again."
        ) from None


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
    neighbours = "".join(
        f"<li><img src='{html.escape(one.picture[1:])}' alt='{html.escape(one.label or '')}' "
        f"loading='lazy'><b>{html.escape(one.label or '')}</b>"
        f"<span title='{html.escape(one.key)}'>{distance(one)}</span></li>"
        for one in found.neighbours
    )
    empty = f"<p class='note'>No picture lies within {found.radius} bits; search exactly.</p>"
    return (
        f"<p class='sr-only' role='status'>{html.escape(found.classes[0].name)}, "
        f"{len(found.neighbours)} neighbours</p>"
        f"<section><h2>Predicted classes</h2><ol class='classes'>{classes}</ol></section>"
        f"<section><h2>Code, {found.bits} bits</h2>"
        f"<div class='code' role='img' aria-label='Code {found.code}'>{cells}</div></section>"
        f"<section><h2>Nearest pictures{among}</h2>{'' if neighbours else empty}"
        f"<ol class='neighbours'>{neighbours}</ol></section>"
        f"<p class='seconds'>{found.milliseconds:.0f} ms</p>"
    )


def distance(one: Neighbour) -> str:
    """Return a Neighbour's distance as the page shows it."""
    bits = f"{one.distance} bit{'s' * (one.distance != 1)}"
    return bits if one.euclidean is None else f"{one.euclidean:.2f}, {bits}"
