"""report.html: one self-contained page a run, from the files of its folder."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from eval.codes import Codes, codes_sha256, read_codes
from eval.files import InputError, write_atomically
from eval.metrics import RADIUS
from eval.pages.figures import Chart, Line, line_chart
from eval.pages.query_pictures import nearest_pictures, shown_queries
from eval.pages.template import page_template
from eval.published import compare, precision_curves
from eval.records import read_metrics, read_run_record
from eval.summary import graded_measures
from eval.tables import LOSS_TERMS
from eval.training_log import read_training, tests_of

QUERIES_SHOWN = 10
POINTS_DRAWN = 300


def write_report(run_folder: Path, picture: Callable[[str, int], bytes]) -> Path:
    """Write report.html into a run's folder and return its path.

    Reads run.json, train.csv, codes.h5 and metrics.json there. `picture(split, row)` gives the
    PNG bytes of a row of "query" or "database". Raises InputError, naming the file, where one is
    missing, damaged, or metrics.json was measured on other codes.
    """
    run = read_run_record(run_folder)
    metrics = read_metrics(run_folder / "metrics.json", "make eval")
    codes = read_codes(run_folder / "codes.h5")
    if metrics["codes_sha256"] != codes_sha256(codes):
        raise InputError(
            f"{run_folder / 'metrics.json'} was not measured on the codes.h5 beside it; "
            "run make eval"
        )
    training = read_training(run_folder / "train.csv")
    page = page_template("report.html.j2").render(
        run=run,
        settings=run["settings"],
        metrics=metrics,
        charts=training_charts(training),
        retrieval_charts=retrieval_charts(metrics, precision_curves(run, metrics)),
        health=_last_health(training),
        grid=query_grid(codes, picture),
        graded=graded_measures(metrics),
        published=compare(run, metrics, tests_of(training)),
        provenance=_flatten(run),
        radius=RADIUS,
    )
    path = run_folder / "report.html"
    with write_atomically(path) as partial:
        partial.write_text(page, encoding="utf-8")
    return path


def training_charts(training: dict[str, np.ndarray]) -> list[str]:
    """Return charts (SVG) of each loss term and the accuracy over iterations, where logged.

    Of several labels a picture, the mean average precision of the labels is in accuracy's place.

    training: what `eval.training_log.read_training` returns.
    """
    charts = []
    for term in LOSS_TERMS:
        lines = [_line("test", training, f"test_{term}"), _line("training", training, term)]
        lines = [line for line in lines if line.x]
        if lines:
            charts.append(Chart(f"{term.capitalize()} loss", "iteration", "loss", lines))
    for column, title, unit in (
        ("test_accuracy", "Accuracy", "share of pictures"),
        ("test_mean_ap", "Mean average precision of the labels", "average precision"),
    ):
        line = _line("test", training, column)
        if line.x:
            charts.append(Chart(title, "iteration", unit, [line]))
    return [line_chart(chart) for chart in charts]


def retrieval_charts(metrics: dict, published: dict[str, tuple]) -> list[str]:
    """Return charts (SVG) of precision at k and of precision over recall.

    Of several labels a picture, NDCG and ACG at k follow.

    metrics: content of metrics.json. published: precision-at-k curves (k, precision) by method.
    """
    curve = metrics["precision_at_k"]
    by_radius = [
        (recall, precision)
        for recall, precision in zip(
            metrics["precision_recall"]["recall"],
            metrics["precision_recall"]["precision"],
            strict=True,
        )
        if precision is not None and recall is not None
    ]
    charts = [
        Chart(
            title="Precision at k",
            x_label="k",
            y_label="precision",
            lines=[Line("this run", curve["k"], curve["precision"])],
            background=[Line(method, *points) for method, points in published.items()],
            limits=(0, 1.02),
        )
    ]
    if by_radius:
        recall, precision = zip(*by_radius, strict=True)
        charts.append(
            Chart(
                title="Precision and recall by Hamming radius",
                x_label="recall",
                y_label="precision",
                lines=[Line("this run", recall, precision)],
                limits=(0, 1.02),
            )
        )
    for name, unit in (("ndcg", "NDCG"), ("acg", "shared labels")):
        if graded := metrics.get("graded"):
            curve = graded[f"{name}_at_k"]
            lines = [Line("this run", curve["k"], curve[name])]
            charts.append(Chart(f"{name.upper()} at k", "k", unit, lines))
    return [line_chart(chart) for chart in charts]


def query_grid(codes: Codes, picture: Callable[[str, int], bytes]) -> list[dict]:
    """Return the first query of up to QUERIES_SHOWN classes, each with its nearest pictures.

    Each entry is what `nearest_pictures` returns; `picture` is as in `write_report`.
    """
    return [
        nearest_pictures(codes, int(query), picture)
        for query in shown_queries(codes.query.labels, QUERIES_SHOWN)
    ]


def _line(name: str, training: dict[str, np.ndarray], column: str) -> Line:
    """Return a column over iterations; a long one as means of at most POINTS_DRAWN stretches."""
    values = training.get(column, np.array([]))
    logged = np.flatnonzero(np.isfinite(values))
    parts = np.array_split(logged, min(POINTS_DRAWN, len(logged))) if len(logged) else []
    iterations = training["iteration"]
    return Line(
        name,
        [float(iterations[part].mean()) for part in parts],
        [float(values[part].mean()) for part in parts],
    )


def _last_health(training: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the last value of each column on the state of the codes, where it was logged."""
    health = {}
    for name in ("dead_bits", "firing_rate", "distinct_codes", "saturation"):
        values = training.get(name, np.array([]))
        values = values[np.isfinite(values)]
        if len(values):
            health[name.replace("_", " ")] = float(values[-1])
    return health


def _flatten(value: object, prefix: str = "") -> list[tuple[str, str]]:
    """Return (dotted name, text) of every leaf of nested dicts, in order."""
    if isinstance(value, dict):
        return [
            leaf
            for name, inner in value.items()
            for leaf in _flatten(inner, f"{prefix}.{name}" if prefix else str(name))
        ]
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    return [(prefix, "not set" if value is None or value == "" else str(value))]
