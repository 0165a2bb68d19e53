"""report.html: one self-contained page a run, from the files of its folder."""

import base64
import csv
import math
from collections.abc import Callable
from pathlib import Path

import jinja2
import numpy as np

from eval.codes import Codes, codes_sha256, read_codes
from eval.files import InputError, read_json, write_atomically
from eval.hamming import nearest
from eval.metrics import RADIUS
from eval.pages.figures import Line, line_chart
from eval.published import compare, precision_curves
from eval.ranking import shares_label

RUN_KEYS = ["settings", "from_scratch", "warnings"]
LOSS_TERMS = ("classification", "binarization", "balance")
QUERIES_SHOWN = 10
NEAREST_SHOWN = 10
POINTS_DRAWN = 300


def write_report(run_folder: Path, picture: Callable[[str, int], bytes]) -> Path:
    """Write report.html into a run's folder and return its path.

    Reads run.json, train.csv, codes.h5 and metrics.json there. `picture(split, row)` gives the
    PNG bytes of a row of "query" or "database". Raises InputError, naming the file, where one is
    missing, damaged, or metrics.json was measured on other codes.
    """
    run = read_json(run_folder / "run.json", RUN_KEYS, "make train")
    metrics = read_json(run_folder / "metrics.json", ["codes_sha256"], "make eval")
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
        published=compare(run, metrics, _tests(training)),
        provenance=_flatten(run),
        radius=RADIUS,
    )
    path = run_folder / "report.html"
    with write_atomically(path) as partial:
        partial.write_text(page, encoding="utf-8")
    return path


def read_training(path: Path) -> dict[str, np.ndarray]:
    """Columns of train.csv as float64 arrays of one length; NaN where a cell is blank."""
    try:
        with open(path, newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; run make train") from None
    columns = {name: np.full(len(rows), math.nan) for name in reader.fieldnames or ()}
    if "iteration" not in columns:
        raise InputError(f"{path} has no column 'iteration'; run make train again")
    for line, row in enumerate(rows):
        for name in columns:
            try:
                columns[name][line] = float(row[name] or "nan")
            except (TypeError, ValueError):
                raise InputError(
                    f"{path}, line {line + 2}: {row[name]!r} in column '{name}' is no number; "
                    "run make train again"
                ) from None
    return columns


def training_charts(training: dict[str, np.ndarray]) -> list[str]:
    """SVG of each loss term and of the accuracy over iterations, of those that were logged."""
    charts = []
    for term in LOSS_TERMS:
        lines = [_line("test", training, f"test_{term}"), _line("training", training, term)]
        lines = [line for line in lines if line.x]
        if lines:
            charts.append(line_chart(f"{term.capitalize()} loss", "iteration", "loss", lines))
    accuracy = _line("test", training, "test_accuracy")
    if accuracy.x:
        charts.append(line_chart("Accuracy", "iteration", "share of pictures", [accuracy]))
    return charts


def retrieval_charts(metrics: dict, published: dict[str, tuple]) -> list[str]:
    """SVG of precision at k and of precision over recall."""
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
        line_chart(
            "Precision at k",
            "k",
            "precision",
            [Line("this run", curve["k"], curve["precision"])],
            background=[Line(method, *points) for method, points in published.items()],
            limits=(0, 1.02),
        )
    ]
    if by_radius:
        recall, precision = zip(*by_radius, strict=True)
        charts.append(
            line_chart(
                "Precision and recall by Hamming radius",
                "recall",
                "precision",
                [Line("this run", recall, precision)],
                limits=(0, 1.02),
            )
        )
    return charts


def query_grid(codes: Codes, picture: Callable[[str, int], bytes]) -> list[dict]:
    """The first query of up to QUERIES_SHOWN classes, each with its nearest database pictures.

    Each entry: picture (data URI), label, and `nearest`: picture, label, distance, right.
    """
    return [
        nearest_pictures(codes, int(query), picture)
        for query in shown_queries(codes.query.labels, QUERIES_SHOWN)
    ]


def nearest_pictures(codes: Codes, query: int, picture: Callable[[str, int], bytes]) -> dict:
    """One query row as `query_grid` describes it."""
    label = codes.query.labels[query]
    right = shares_label(label, codes.database.labels)
    found = nearest(codes.query.codes[query], codes.database.codes, NEAREST_SHOWN)
    return {
        "picture": data_uri(picture("query", query)),
        "label": names(codes, label),
        "nearest": [
            {
                "picture": data_uri(picture("database", int(row))),
                "label": names(codes, codes.database.labels[row]),
                "distance": int(distance),
                "right": bool(right[row]),
            }
            for row, distance in zip(*found, strict=True)
        ],
    }


def shown_queries(labels: np.ndarray, classes: int) -> np.ndarray:
    """First query row of each class, of at most so many classes, evenly spaced."""
    if labels.ndim == 1:
        first = np.unique(labels, return_index=True)[1]
    else:
        first = np.unique([np.argmax(of_label) for of_label in labels.T if of_label.any()])
    spaced = np.linspace(0, len(first) - 1, min(classes, len(first))).astype(int)
    return first[spaced]


def names(codes: Codes, label: np.ndarray) -> str:
    """The class name of a label, or those of a row of 0 and 1."""
    if np.ndim(label) == 0:
        return codes.class_names[label]
    return ", ".join(codes.class_names[i] for i in np.flatnonzero(label)) or "no label"


def _line(name: str, training: dict[str, np.ndarray], column: str) -> Line:
    """A column over iterations; a long one as means of at most POINTS_DRAWN stretches."""
    values = training.get(column, np.array([]))
    logged = np.flatnonzero(np.isfinite(values))
    parts = np.array_split(logged, min(POINTS_DRAWN, len(logged))) if len(logged) else []
    iterations = training["iteration"]
    return Line(
        name,
        [float(iterations[part].mean()) for part in parts],
        [float(values[part].mean()) for part in parts],
    )


def _tests(training: dict[str, np.ndarray]) -> list[dict[str, float]]:
    """Rows of train.csv that hold a test, without their blank cells."""
    columns = [name for name in training if name.startswith("test_")]
    tests = []
    for row in range(len(training["iteration"])):
        tested = {name: training[name][row] for name in columns if np.isfinite(training[name][row])}
        if tested:
            tests.append({"iteration": training["iteration"][row], **tested})
    return tests


def _last_health(training: dict[str, np.ndarray]) -> dict[str, float]:
    """The last value of each column on the state of the codes, where it was logged."""
    health = {}
    for name in ("dead_bits", "firing_rate", "distinct_codes", "saturation"):
        values = training.get(name, np.array([]))
        values = values[np.isfinite(values)]
        if len(values):
            health[name.replace("_", " ")] = float(values[-1])
    return health


def _flatten(value: object, prefix: str = "") -> list[tuple[str, str]]:
    """(dotted name, text) of every leaf of nested dicts, in order."""
    if isinstance(value, dict):
        return [
            leaf
            for name, inner in value.items()
            for leaf in _flatten(inner, f"{prefix}.{name}" if prefix else str(name))
        ]
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    return [(prefix, "not set" if value is None or value == "" else str(value))]


def data_uri(png: bytes) -> str:
    """A PNG as an address that an img element shows."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def page_template(path: str) -> jinja2.Template:
    """A template of this package, which may include others of it."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = figure
    return environment.get_template(path)


def figure(value: float | None, digits: int = 4) -> str:
    """A number as text, a dash where there is none."""
    return "—" if value is None else f"{value:.{digits}f}"
