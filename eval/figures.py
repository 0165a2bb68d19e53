"""Line charts as SVG that takes its colours from the page around it."""

import io
import re
from html import escape
from typing import NamedTuple

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Drawn in these colours, which are then replaced by what follows the page's light or dark theme.
PAGE_COLOURS = {
    "#010101": "currentColor",
    "#010102": "var(--grid)",
    "#010103": "var(--muted)",
    "#010104": "var(--series-1)",
    "#010105": "var(--series-2)",
}
INK, GRID, MUTED, *SERIES = PAGE_COLOURS
DASHES = ("-", (0, (4, 2)))  # lines differ without colour, too
LABEL_GAP = 0.05  # between the names of background lines, in units of the y axis
SETTINGS = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}


class Line(NamedTuple):
    """One line: its name for the legend, and the (N,) values it joins."""

    name: str
    x: list[float]
    y: list[float]


def line_chart(
    title: str,
    x_label: str,
    y_label: str,
    lines: list[Line],
    background: list[Line] = (),
    limits: tuple[float, float] | None = None,
) -> str:
    """An SVG element with up to two lines, and `background` lines in grey named at their end.

    limits: of the y axis. The description that screen readers give names each line's last value.
    """
    with matplotlib.rc_context({**SETTINGS, "svg.hashsalt": title}):
        figure = Figure(figsize=(4.6, 3.0), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        ends = _apart([line.y[-1] for line in background], LABEL_GAP)
        for line, end in zip(background, ends, strict=True):
            axes.plot(line.x, line.y, color=MUTED, linewidth=0.8)
            axes.annotate(
                line.name,
                (line.x[-1], end),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                fontsize=7,
                color=MUTED,
                annotation_clip=False,
            )
        for line, colour, dashes in zip(lines, SERIES, DASHES, strict=False):
            marker = "o" if len(line.x) < 30 else None
            axes.plot(
                line.x,
                line.y,
                color=colour,
                linestyle=dashes,
                linewidth=1.6,
                marker=marker,
                markersize=3,
                label=line.name,
            )
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        if limits:
            axes.set_ylim(*limits)
        if len(lines) > 1:
            axes.legend()
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    description = "; ".join(f"{line.name} ends at {line.y[-1]:.4g}" for line in lines)
    return _for_page(buffer.getvalue(), f"{title}: {description}")


def _apart(heights: list[float], gap: float) -> list[float]:
    """Heights moved up where needed, so that no two are closer than `gap`."""
    moved = list(heights)
    last = float("-inf")
    for i in sorted(range(len(heights)), key=heights.__getitem__):
        last = moved[i] = max(heights[i], last + gap)
    return moved


def _for_page(svg: str, description: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(
        r'<svg [^>]*?viewBox="([^"]+)"[^>]*>',
        rf'<svg viewBox="\1" role="img" aria-label="{escape(description)}">',
        svg,
        count=1,
    )
    for drawn, of_page in PAGE_COLOURS.items():
        svg = svg.replace(drawn, of_page)
    return svg
