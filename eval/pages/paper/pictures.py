"""Pictures of a group of runs: one query's nearest at several code lengths, and classifications."""

import base64
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread

from eval.codes import Codes, read_codes
from eval.hdf5 import open_hdf5
from eval.label_scores import THRESHOLD
from eval.pages.figures import FILE_COLOURS, drawing, write_figure
from eval.pages.paper.groups import Group
from eval.pages.query_pictures import data_uri, names, nearest_pictures, shown_queries
from eval.run_folders import Run
from eval.tables import METHODS

QUERIES = 3  # queries in the grid, and bars of right and of wrong classifications each
CLASSES = 5  # of the most probable, in the bars
RIGHT, WRONG = "#14713d", "#b3261e"  # page.css's, light

Picture = Callable[[str, int], bytes]


def ssdh_runs(group: Group) -> list[Run]:
    """Return the SSDH runs of the group's rows, by code length."""
    of = {(row.method, row.source) for row in group.rows}
    runs = [run for run in group.runs if (METHODS["ssdh"].title, run.folder.name) in of]
    return sorted(runs, key=lambda run: run.metrics["bits"])


def nearest_by_bits(runs: list[Run], picture: Picture) -> list[dict]:
    """Return, for each of QUERIES queries, its nearest pictures at each run's code length.

    One dict a query: picture, label, and `lengths`, a dict a run of bits, run and `nearest` (as
    `nearest_pictures` returns it). A run whose rows are others than the first run's is left out.
    """
    codes = [read_codes(run.folder / "codes.h5") for run in runs]
    same = [
        (run, of_run)
        for run, of_run in zip(runs, codes, strict=True)
        if _same_rows(of_run, codes[0])
    ]
    grids = []
    for query in shown_queries(codes[0].query.labels, QUERIES):
        found = [nearest_pictures(of_run, int(query), picture) for _, of_run in same]
        grids.append(
            {
                "picture": found[0]["picture"],
                "label": found[0]["label"],
                "lengths": [
                    {"bits": of_run.bits, "run": run.folder.name, "nearest": one["nearest"]}
                    for (run, of_run), one in zip(same, found, strict=True)
                ],
            }
        )
    return grids


def classifications(run: Run, picture: Picture) -> list[dict]:
    """Return bars of the most probable classes of the grid's queries and of the first wrong ones.

    One dict a query: picture, label, right (bool) and `bars`, of class, share and right. Of several
    labels, bars are right whose label the picture carries, and the query is where those above
    THRESHOLD are its own and no others. Empty where the run has no probabilities.
    """
    path = run.folder / "codes.h5"
    codes = read_codes(path)
    query, labels = codes.query, codes.query.labels
    if query.predictions is not None:
        correct = query.predictions == labels
        carried = labels[:, None] == np.arange(len(codes.class_names))
    elif query.probabilities is not None:
        carried = labels > 0
        correct = ((query.probabilities > THRESHOLD) == carried).all(axis=1)
    else:
        return []
    shown = shown_queries(labels, QUERIES).tolist()
    shown += [row for row in np.flatnonzero(~correct).tolist() if row not in shown][:QUERIES]
    with open_hdf5(path, "extract the codes again") as file:
        probabilities = [file["query/probabilities"][row] for row in shown]
    return [
        {
            "picture": data_uri(picture("query", row)),
            "label": names(codes, labels[row]),
            "right": bool(correct[row]),
            "bars": [
                {
                    "class": codes.class_names[label],
                    "share": float(of_row[label]),
                    "right": bool(carried[row, label]),
                }
                for label in np.argsort(-of_row, kind="stable")[:CLASSES]
            ],
        }
        for row, of_row in zip(shown, probabilities, strict=True)
    ]


@drawing()
def write_nearest(title: str, grids: list[dict], path: Path) -> None:
    """Write the grids as a figure's files: a line for each query and length, the query first."""
    rows = [(grid, length) for grid in grids for length in grid["lengths"]]
    columns = 1 + max(len(length["nearest"]) for _, length in rows)
    figure = Figure(figsize=(0.62 * columns + 0.5, 0.85 * len(rows) + 0.4), layout="constrained")
    figure.suptitle(title, fontsize=9, x=0.01, ha="left")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, (grid, length) in zip(axes, rows, strict=True):
        _show(line[0], grid["picture"], f"{length['bits']} bits", FILE_COLOURS["muted"])
        for place, found in zip(line[1:], length["nearest"], strict=False):
            mark = "✓" if found["right"] else "✗"
            colour = RIGHT if found["right"] else WRONG
            _show(place, found["picture"], f"{mark} d {found['distance']}", colour)
        for place in line[1 + len(length["nearest"]) :]:
            place.set_axis_off()
    write_figure(path, figure, title)


@drawing()
def write_classifications(title: str, entries: list[dict], path: Path) -> None:
    """Write the bars as a figure's files."""
    figure = Figure(figsize=(5.4, 1.05 * len(entries) + 0.4), layout="constrained")
    figure.suptitle(title, fontsize=9, x=0.01, ha="left")
    axes = figure.subplots(len(entries), 2, squeeze=False, width_ratios=(1, 4))
    for (left, right), entry in zip(axes, entries, strict=True):
        colour = RIGHT if entry["right"] else WRONG
        _show(left, entry["picture"], entry["label"], colour)
        bars = entry["bars"]
        places = range(len(bars))
        right.barh(
            places,
            [bar["share"] for bar in bars],
            color=[RIGHT if bar["right"] else FILE_COLOURS["muted"] for bar in bars],
        )
        for place, bar in zip(places, bars, strict=True):
            right.text(bar["share"] + 0.01, place, f"{bar['share']:.1%}", va="center", fontsize=7)
        right.set_yticks(places, [bar["class"] for bar in bars], fontsize=7)
        right.set_xlim(0, 1.15)
        right.set_xticks([])
        right.invert_yaxis()
        right.spines[["top", "right", "bottom"]].set_visible(False)
    write_figure(path, figure, title)


def _show(axes: Axes, uri: str, title: str, colour: str) -> None:
    pixels = imread(BytesIO(_png(uri)))
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=1)
    axes.set_title(title, fontsize=6.5, pad=2, color=colour)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(color=colour, linewidth=1.5)


def _png(uri: str) -> bytes:
    return base64.b64decode(uri.partition(",")[2])


def _same_rows(codes: Codes, first: Codes) -> bool:
    return all(
        np.array_equal(a.labels, b.labels) and np.array_equal(a.keys, b.keys)
        for a, b in ((codes.query, first.query), (codes.database, first.database))
    )
