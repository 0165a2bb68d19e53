"""The page of all runs, index.html, and beside it figures/ with each figure as SVG and PNG."""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from tqdm import tqdm

from eval.baselines.methods import BASELINES
from eval.files import InputError, write_atomically
from eval.metrics import RADIUS
from eval.pages.figures import Chart, line_chart, write_line_chart
from eval.pages.paper import pictures
from eval.pages.paper.charts import charts, quantization_chart
from eval.pages.paper.groups import Group, group_runs
from eval.pages.paper.kept import Draw, kept_figures
from eval.pages.paper.tables import (
    TABLES,
    accuracy_table,
    label_table,
    map_table,
    retrieval_table,
)
from eval.pages.template import page_template
from eval.pages.text import duration
from eval.published import read_published
from eval.run_folders import Run
from eval.summary import graded_measures

MEASURES = {"map_at_1000": "mAP@1000", "map": "mAP, whole ranking"}


def write_paper(
    folder: Path,
    runs: list[Run],
    picture: Callable[[Run, str, int], bytes],
    cost: dict,
    left_out: Sequence[str] = (),
) -> Path:
    """Write the page of `runs` into `folder` and return its path.

    Figures whose content is that of an earlier call are kept. picture(run, split, row): the PNG
    bytes of a row of "query" or "database"; an InputError from it leaves that run's pictures out,
    and the page says why. cost: `rows`, what `eval.bench.cost.distance_cost` measured, and
    `machine` (cpu, cores) where it did. left_out: sentences on runs that cannot be read, which the
    page names, as it does results of baselines.
    """
    names = dict.fromkeys([*TABLES, *(run.settings["dataset"] for run in runs)])
    groups = {name: _groups(name, runs) for name in names}
    damaged = [
        *left_out,
        *(said for of_set in groups.values() for g in of_set for said in g.left_out),
    ]
    for said in damaged:
        print(f"left out: {said}", file=sys.stderr)
    every = [group for of_set in groups.values() for group in of_set]
    with (
        kept_figures(folder / "figures") as draw,
        tqdm(total=len(every), desc="figures", unit=" groups", disable=None, leave=False) as bar,
    ):
        datasets = []
        for name in names:
            shown = []
            for group in groups[name]:
                bar.set_postfix_str(group.name)
                shown.append(_group(group, draw, picture))
                bar.update()
            datasets.append(_dataset(name, runs, shown))
    page = page_template("paper/page.html.j2").render(
        runs=runs,
        left_out=damaged,
        datasets=datasets,
        baselines=[baseline.name for baseline in BASELINES.values()],
        cost=_cost_table(cost["rows"]),
        seconds=lambda value: "—" if value is None else duration(value),
        machine=cost["machine"],
        radius=RADIUS,
    )
    path = folder / "index.html"
    with write_atomically(path) as written:
        written.write_text(page, encoding="utf-8")
    return path


def _groups(dataset: str, runs: list[Run]) -> list[Group]:
    of_dataset = [run for run in runs if run.settings["dataset"] == dataset]
    return group_runs(of_dataset) or [Group(dataset, "published", 0, False, [], [])]


def _dataset(name: str, runs: list[Run], groups: list[dict]) -> dict:
    return {
        "name": name,
        "table": TABLES.get(name),
        "accuracy": accuracy_table(name, runs),
        "labels": label_table(name, runs),
        "retrieval": retrieval_table(name, runs),
        "groups": groups,
    }


def _group(group: Group, draw: Draw, picture: Callable) -> dict:
    of_group = charts(group)
    graded = {title: title for row in group.rows for title, *_ in graded_measures(row.metrics)}
    errors = quantization_chart(group)
    return {
        "group": group,
        "charts": [_chart(name, chart, draw) for name, chart in of_group.items()],
        "published_curves": any(chart.background for chart in of_group.values()),
        "maps": [
            {"measure": name, "columns": columns, "rows": rows}
            for measure, name in (MEASURES | graded).items()
            for columns, rows in [map_table(group, measure)]
            if rows
        ],
        "graded": next(
            (row.metrics["graded"]["convention"] for row in group.rows if "graded" in row.metrics),
            None,
        ),
        "learned_on": next(
            (row.metrics["learned_on"] for row in group.rows if "learned_on" in row.metrics), None
        ),
        "errors": _chart(f"{group.name}-quantization-error", errors, draw)
        if errors.lines
        else None,
        **_pictures(group, draw, picture),
    }


def _chart(name: str, chart: Chart, draw: Draw) -> str:
    """Return a line chart for the page, and see to its files."""
    return draw(name, chart, lambda path: write_line_chart(path, chart), lambda: line_chart(chart))


def _pictures(group: Group, draw: Draw, picture: Callable) -> dict:
    runs = pictures.ssdh_runs(group)
    shown = {"grids": [], "bars": [], "bars_run": None, "no_pictures": None}
    if not runs:
        return shown
    try:
        grids = pictures.nearest_by_bits(runs, lambda *row: picture(runs[0], *row))
        bars = pictures.classifications(runs[-1], lambda *row: picture(runs[-1], *row))
    except InputError as error:
        return shown | {"no_pictures": str(error)}
    for name, write, title, content in (
        (
            "top-10",
            pictures.write_nearest,
            f"{group.title}: nearest by code length",
            grids,
        ),
        (
            "classification",
            pictures.write_classifications,
            f"{runs[-1].folder.name}: most probable classes",
            bars,
        ),
    ):
        if content:
            draw(f"{group.name}-{name}", [title, content], partial(write, title, content))
    return shown | {"grids": grids, "bars": bars, "bars_run": runs[-1].folder.name}


def _cost_table(rows: list[dict]) -> list[dict]:
    """Return rows of the cost of one comparison, in seconds; `published` None where it is not."""
    published = {row["descriptor"]: row for row in read_published("distance_cost")}
    of = {"hamming-64": "SSDH-64", "euclidean-4096": "CNN-fc7-4096"}
    table = []
    for row in rows:
        source = published.get(of.get(row["name"]))
        table.append(
            {
                **row,
                "published": source and float(source["seconds_per_comparison"]),
                "source": source and source["source"],
            }
        )
    return table
