"""A query and the pictures that were found for it, drawn side by side."""

import io
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from eval.pages.figures import drawing
from tools.search.answer import likely

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 5
CELL = 1.6  # inches
LINE = 22  # letters


def draw_grid(query: np.ndarray, pictures: Sequence[np.ndarray], answer: dict) -> bytes:
    """Return a PNG: the query and, by rank, the pictures found, with labels and distance.

    query: uint8 H x W x 3, BGR. pictures: uint8 C x H x W, BGR. answer: answer.describe's.
    """
    lines = 1 + -(-len(pictures) // COLUMNS)
    buffer = io.BytesIO()
    with drawing():
        figure = Figure(figsize=(COLUMNS * CELL, lines * 1.3 * CELL), dpi=100, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        cells = figure.subplots(lines, COLUMNS, squeeze=False)
        for cell in cells.flat:
            cell.axis("off")
        said = ", ".join(
            f"{c['name']}\N{NO-BREAK SPACE}{c['probability']:.1%}"
            for c in likely(answer["classes"])
        )
        _show(cells[0, 0], query, "\n".join(["query", *([_wrapped(said)] if said else [])]))
        found_in = zip(cells[1:].flat, pictures, answer["neighbours"], strict=False)
        for cell, picture, found in found_in:
            distance = f"distance {found['distance']}"
            if "euclidean" in found:
                distance += f", {found['euclidean']:.3g}"
            _show(
                cell, picture.transpose(1, 2, 0), f"{_wrapped(found['label'] or '-')}\n{distance}"
            )
        canvas.print_png(buffer)
    return buffer.getvalue()


def _wrapped(text: str) -> str:
    """Return a text in lines that are no longer than a picture is wide, where it has spaces."""
    return textwrap.fill(text, LINE, break_long_words=False, break_on_hyphens=False)


def _show(cell: "Axes", picture: np.ndarray, title: str) -> None:
    """Draw uint8 H x W x 1 or 3, BGR, into a cell; small pictures keep their pixels."""
    picture = np.repeat(picture, 3, axis=2) if picture.shape[2] == 1 else picture[:, :, ::-1]
    cell.imshow(picture, interpolation="nearest" if max(picture.shape) < 100 else "antialiased")
    cell.set_title(title, fontsize=9)
