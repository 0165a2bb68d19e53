"""The pictures behind an index's rows, and a grid of them."""

import io
from contextlib import contextmanager

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from data_prep.lmdb_reader import open_rows
from eval.pages.figures import drawing
from tools.codes.extract import SPLITS

COLUMNS = 5
CELL = 1.6  # inches


@contextmanager
def open_pictures(index, data):
    """Yield read(row), which returns the picture of an index's row, uint8 C x H x W, BGR.

    data: the run's data folder; pictures that were added later come from the index itself.
    """
    with open_rows(data / f"{SPLITS['database']}_lmdb") as (_, read):
        yield lambda row: picture_of(index, row, read)


def picture_of(index, row, read):
    """Return the picture of an index's row, uint8 C x H x W, BGR; read: the LMDB's, by rows."""
    base = len(index.codes) - len(index.added_pictures)
    return index.added_pictures[row - base] if row >= base else read([row])[0][0]


def draw_grid(query, pictures, answer):
    """Return a PNG's bytes: the query and, by rank, the pictures found, with class and distance.

    query: uint8 H x W x 3, BGR. pictures: uint8 C x H x W, BGR. answer: search_loop.described.
    """
    lines = 1 + -(-len(pictures) // COLUMNS)
    buffer = io.BytesIO()
    with drawing():
        figure = Figure(figsize=(COLUMNS * CELL, lines * 1.3 * CELL), dpi=100, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        cells = figure.subplots(lines, COLUMNS, squeeze=False)
        for cell in cells.flat:
            cell.axis("off")
        best = answer["classes"][0]
        _show(cells[0, 0], query, f"query\n{best['name']} {best['probability']:.1%}")
        found_in = zip(cells[1:].flat, pictures, answer["neighbours"], strict=False)
        for cell, picture, found in found_in:
            distance = f"distance {found['distance']}"
            if "euclidean" in found:
                distance += f", {found['euclidean']:.3g}"
            _show(cell, picture.transpose(1, 2, 0), f"{found['label'] or '-'}\n{distance}")
        canvas.print_png(buffer)
    return buffer.getvalue()


def _show(cell, picture, title):
    """Draw uint8 H x W x 1 or 3, BGR, into a cell; small pictures keep their pixels."""
    picture = np.repeat(picture, 3, axis=2) if picture.shape[2] == 1 else picture[:, :, ::-1]
    cell.imshow(picture, interpolation="nearest" if max(picture.shape) < 100 else "antialiased")
    cell.set_title(title, fontsize=9)
