"""Line charts: SVG that takes its colours from the page around it, and files of their own.

`drawing` is for every figure, of whatever kind: names from the data are drawn as they are.
"""

import io
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from html import escape
from pathlib import Path
from typing import NamedTuple

import matplotlib
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator

from eval.files import write_atomically

COLOURS = 8  # of lines, series-1 to series-8 of page.css
ROLES = ("ink", "grid", "muted", *(f"series-{i + 1}" for i in range(COLOURS)))
# In a page a line is drawn in a colour that stands for its role, which is then replaced by what
# follows the page's light or dark theme (page.css); a file of its own has the light theme's.
PLACEHOLDERS = dict(zip(ROLES, (f"#0101{i + 1:02x}" for i in range(len(ROLES))), strict=True))
PAGE_COLOURS = {
    "ink": "currentColor",
    **{role: f"var(--{role})" for role in ROLES if role != "ink"},
}
FILE_COLOURS = dict(
    zip(
        ROLES,
        ("#1a1c1f", "#e4e7ea", "#5c636b", "#1f5fbf", "#b3541e", "#14713d", "#8e3fb0", "#a8186b",
         "#0b7285", "#7a6200", "#4a4f57"),
        strict=True,
    )
)  # fmt: skip
DASHES = ("-", (0, (4, 2)), (0, (1, 1)), (0, (5, 1, 1, 1)))  # lines differ without colour, too
MARKERS = "osD^vPX*"
LABEL_GAP = 0.05  # between the names of background lines, as a share of the y axis
SIZE = (4.6, 3.0)  # inches
FONT = "DejaVu Sans"  # matplotlib's own; it has no Chinese, Japanese or Korean letters
FALLBACK_FONTS = (  # files of Debian's packages that have them; the first one that is there
    "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc",
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/opentype/ipafont-gothic/ipag.ttf",
)
FONT_PACKAGE = "fonts-wqy-microhei"


@contextmanager
def drawing(settings: dict | None = None) -> Iterator[None]:
    """Make figures in the block, and draw them there: names of classes stand as they are.

    A $ is no sign of mathematics. Letters that the fonts here lack are said once, with the package
    that has them. settings: of matplotlib, besides.
    """
    fonts = {"font.family": font_families(), "text.parse_math": False}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with matplotlib.rc_context(fonts | (settings or {})):
            yield
    lacks_letters = [re.match(r"Glyph \d+ .* missing from", str(each.message)) for each in caught]
    if any(lacks_letters):
        _say_boxes()
    for warning, of_letters in zip(caught, lacks_letters, strict=True):
        if not of_letters:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )


@cache
def font_families() -> list[str]:
    """Return the fonts that letters are looked for in, one after another."""
    there = next(filter(Path.exists, map(Path, FALLBACK_FONTS)), None)
    if there is None:
        return [FONT]
    font_manager.fontManager.addfont(there)  # matplotlib's list may be older than the package
    return [FONT, font_manager.FontProperties(fname=there).get_name()]


@cache
def _say_boxes() -> None:
    """Say, once in a process, why names are drawn as boxes."""
    print(
        "some letters of the names of classes are drawn as boxes, since no font here has them: "
        f"install Debian's package {FONT_PACKAGE}",
        file=sys.stderr,
    )


class Line(NamedTuple):
    """One line: its name for the legend, and the N points (x, y) that it joins.

    style: any whole number from 0, its colour, dashes and marker (`look`); the line's place in
    the chart where None.
    """

    name: str
    x: list[float]
    y: list[float]
    style: int | None = None


class Chart(NamedTuple):
    """What a line chart shows.

    lines: any number, each in its style. background: lines in grey, named at their end. limits:
    of the y axis. ticks: of the x axis.
    """

    title: str
    x_label: str
    y_label: str
    lines: list[Line]
    background: list[Line] = []
    limits: tuple[float, float] | None = None
    ticks: list[float] | None = None


def look(style: int) -> tuple[int, str | tuple, str]:
    """Return the colour (0 to 7), the dashes and the marker of a style.

    The first eight styles have a colour each. Each further eight take the same colours with
    other dashes and another marker: 32 styles differ in colour or dashes alone.
    """
    turn, colour = divmod(style, COLOURS)
    return colour, DASHES[(colour + turn) % len(DASHES)], MARKERS[(colour + turn) % len(MARKERS)]


def line_chart(chart: Chart) -> str:
    """Return a chart as an SVG element for a page.

    The description that screen readers give names each line's last value.
    """
    with drawing(_settings(PLACEHOLDERS)):
        svg = _svg(_draw(chart, PLACEHOLDERS), chart.title, transparent=True)
    named = "; ".join(f"{line.name} ends at {line.y[-1]:.4g}" for line in chart.lines)
    return _for_page(svg, f"{chart.title}: {named or 'no line'}")


def write_line_chart(path: Path, chart: Chart) -> None:
    """Write a chart as `path` with .svg and with .png, on white."""
    with drawing(_settings(FILE_COLOURS)):
        write_figure(path, _draw(chart, FILE_COLOURS), chart.title)


def write_figure(path: Path, figure: Figure, title: str) -> None:
    """Write a figure as `path` with .svg and with .png, each whole or not at all.

    Callers are in the block of `drawing` in which they made the figure.
    """
    with write_atomically(path.with_name(f"{path.name}.svg")) as partial:
        partial.write_text(_svg(figure, title, transparent=False), encoding="utf-8")
    with write_atomically(path.with_name(f"{path.name}.png")) as partial:
        FigureCanvasAgg(figure)
        figure.savefig(partial, format="png", dpi=200, metadata={"Software": None})


def _draw(chart: Chart, colours: dict[str, str]) -> Figure:
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    height = chart.limits[1] - chart.limits[0] if chart.limits else 1
    ends = _apart([line.y[-1] for line in chart.background], LABEL_GAP * height)
    for line, end in zip(chart.background, ends, strict=True):
        axes.plot(line.x, line.y, color=colours["muted"], linewidth=0.8)
        axes.annotate(
            line.name,
            (line.x[-1], end),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
            color=colours["muted"],
            annotation_clip=False,
        )
    for place, line in enumerate(chart.lines):
        colour, dashes, marker = look(place if line.style is None else line.style)
        axes.plot(
            line.x,
            line.y,
            color=colours[f"series-{colour + 1}"],
            linestyle=dashes,
            linewidth=1.6,
            marker=marker if len(line.x) < 30 else None,
            markersize=3,
            label=line.name,
        )
    axes.set_title(chart.title, loc="left", fontsize=10)
    axes.set_xlabel(chart.x_label)
    axes.set_ylabel(chart.y_label)
    axes.xaxis.set_major_locator(FixedLocator(chart.ticks) if chart.ticks else MaxNLocator(5))
    if chart.limits:
        axes.set_ylim(*chart.limits)
    if len(chart.lines) > 3 or (chart.lines and chart.background):
        figure.legend(loc="outside lower center", ncols=4, fontsize=7)
    elif len(chart.lines) > 1:
        axes.legend(fontsize=8)
    return figure


def _settings(colours: dict[str, str]) -> dict:
    ink = colours["ink"]
    return {
        "svg.fonttype": "none",
        "font.size": 9,
        "text.color": ink,
        "axes.edgecolor": ink,
        "axes.labelcolor": ink,
        "xtick.color": ink,
        "ytick.color": ink,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": colours["grid"],
        "grid.linewidth": 0.6,
        "legend.frameon": False,
    }


def _svg(figure: Figure, title: str, transparent: bool) -> str:
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        FigureCanvasSVG(figure)
        figure.savefig(buffer, format="svg", transparent=transparent, metadata={"Date": None})
    return buffer.getvalue()


def _apart(heights: list[float], gap: float) -> list[float]:
    """Return heights moved up where needed, so that no two are closer than `gap`."""
    moved = list(heights)
    last = float("-inf")
    for i in sorted(range(len(heights)), key=heights.__getitem__):
        last = moved[i] = max(heights[i], last + gap)
    return moved


def _for_page(svg: str, description: str) -> str:
    """Return a file's SVG as an element with a description, in the colours of the page's theme."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(
        r'<svg [^>]*?viewBox="([^"]+)"[^>]*>',
        rf'<svg viewBox="\1" role="img" aria-label="{escape(description)}">',
        svg,
        count=1,
    )
    for role, drawn in PLACEHOLDERS.items():
        svg = svg.replace(drawn, PAGE_COLOURS[role])
    return svg
