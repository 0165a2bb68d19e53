"""The page of all runs, index.html, and beside it figures/ with each figure as SVG and PNG."""

import shutil
from collections.abc import Callable
from pathlib import Path

from eval.baselines.methods import BASELINES
from eval.files import InputError, write_atomically
from eval.metrics import RADIUS
from eval.pages.figures import line_chart, write_line_chart
from eval.pages.paper import pictures
from eval.pages.paper.charts import charts, quantization_chart
from eval.pages.paper.groups import Group, group_runs
from eval.pages.paper.tables import TABLES, accuracy_table, map_table, retrieval_table
from eval.pages.template import page_template
from eval.pages.text import duration
from eval.published import read_published
from eval.run_folders import Run

MEASURES = {"map_at_1000": "mAP@1000", "map": "mAP, whole ranking"}


def write_paper(
    folder: Path,
    runs: list[Run],
    picture: Callable[[Run, str, int], bytes],
    cost: dict,
) -> Path:
    """Write the page of `runs` into `folder` and return its path.

    picture(run, split, row): the PNG bytes of a row of "query" or "database"; an InputError from
    it leaves that run's pictures out, and the page says why. cost: `rows`, what
    `eval.bench.cost.distance_cost` measured, and `machine` (cpu, cores) where it did.
    """
    figures, drawn = folder / "figures", folder / ".figures.partial"
    shutil.rmtree(drawn, ignore_errors=True)
    drawn.mkdir(parents=True)
    names = dict.fromkeys([*TABLES, *(run.settings["dataset"] for run in runs)])
    page = page_template("paper/page.html.j2").render(
        runs=runs,
        datasets=[_dataset(name, runs, drawn, picture) for name in names],
        baselines=[baseline.name for baseline in BASELINES.values()],
        cost=_cost_table(cost["rows"]),
        seconds=lambda value: "—" if value is None else duration(value),
        machine=cost["machine"],
        radius=RADIUS,
    )
    path = folder / "index.html"
    with write_atomically(path) as partial:
        partial.write_text(page, encoding="utf-8")
    shutil.rmtree(figures, ignore_errors=True)  # with those of runs that are no longer there
    drawn.rename(figures)
    return path


def _dataset(name: str, runs: list[Run], figures: Path, picture: Callable) -> dict:
    of_dataset = [run for run in runs if run.settings["dataset"] == name]
    groups = group_runs(of_dataset) or [Group(name, "published", 0, [], [])]
    return {
        "name": name,
        "table": TABLES.get(name),
        "accuracy": accuracy_table(name, runs),
        "retrieval": retrieval_table(name, runs),
        "groups": [_group(group, figures, picture) for group in groups],
    }


def _group(group: Group, figures: Path, picture: Callable) -> dict:
    drawn = charts(group)
    for name, chart in drawn.items():
        write_line_chart(figures / name, chart)
    errors = quantization_chart(group)
    if errors.lines:
        write_line_chart(figures / f"{group.name}-quantization-error", errors)
    return {
        "group": group,
        "charts": [line_chart(chart) for chart in drawn.values()],
        "published_curves": any(chart.background for chart in drawn.values()),
        "maps": [
            {"measure": name, "columns": columns, "rows": rows}
            for measure, name in MEASURES.items()
            for columns, rows in [map_table(group, measure)]
            if rows
        ],
        "learned_on": next(
            (row.metrics["learned_on"] for row in group.rows if "learned_on" in row.metrics), None
        ),
        "errors": line_chart(errors) if errors.lines else None,
        **_pictures(group, figures, picture),
    }


def _pictures(group: Group, figures: Path, picture: Callable) -> dict:
    runs = pictures.ssdh_runs(group)
    shown = {"grids": [], "bars": [], "bars_run": None, "no_pictures": None}
    if not runs:
        return shown
    try:
        grids = pictures.nearest_by_bits(runs, lambda *row: picture(runs[0], *row))
        bars = pictures.classifications(runs[-1], lambda *row: picture(runs[-1], *row))
    except InputError as error:
        return shown | {"no_pictures": str(error)}
    pictures.write_nearest(
        figures / f"{group.name}-top-10", f"{group.title}: nearest by code length", grids
    )
    if bars:
        title = f"{runs[-1].folder.name}: most probable classes"
        pictures.write_classifications(figures / f"{group.name}-classification", title, bars)
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
