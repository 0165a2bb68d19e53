"""A query and the pictures that were found for it, drawn side by side."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from eval.pages.figures import drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 5
CELL = 1.6  # inches


def draw_grid(query: np.ndarray, pictures: Sequence[np.ndarray], answer: dict) -> bytes:
    """Return a PNG: the query and, by rank, the pictures found, with class and distance.

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
        best = [f"{each['name']} {each['probability']:.1%}" for each in answer["classes"][:1]]
        _show(cells[0, 0], query, "\n".join(["query", *best]))
        found_in = zip(cells[1:].flat, pictures, answer["neighbours"], strict=False)
        for cell, picture, found in found_in:
            distance = f"distance {found['distance']}"
            if "euclidean" in found:
                distance += f", {found['euclidean']:.3g}"
            _show(cell, picture.transpose(1, 2, 0), f"{found['label'] or '-'}\n{distance}")
        canvas.print_png(buffer)
    return buffer.getvalue()


def _show(cell: "Axes", picture: np.ndarray, title: str) -> None:
    """Draw uint8 H x W x 1 or 3, BGR, into a cell; small pictures keep their pixels."""
    picture = np.repeat(picture, 3, axis=2) if picture.shape[2] == 1 else picture[:, :, ::-1]
    cell.imshow(picture, interpolation="nearest" if max(picture.shape) < 100 else "antialiased")
    cell.set_title(title, fontsize=9)
