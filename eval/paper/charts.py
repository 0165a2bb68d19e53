"""The line charts of a group of runs, each for the page and as files."""

from pathlib import Path
from typing import NamedTuple

from eval.baselines.table import Row
from eval.figures import Line, line_chart, write_line_chart
from eval.metrics import RADIUS
from eval.paper.groups import EUCLIDEAN, ORDER, Group, method_of
from eval.published import precision_curves


class Chart(NamedTuple):
    """What line_chart draws, with the name of its files."""

    file: str
    title: str
    x_label: str
    y_label: str
    lines: list[Line]
    background: list[Line] = []
    limits: tuple[float, float] | None = None
    ticks: list[int] | None = None

    def svg(self) -> str:
        return line_chart(*self[1:])

    def write(self, folder: Path) -> None:
        write_line_chart(folder / self.file, *self[1:])


def charts(group: Group) -> list[Chart]:
    """mAP by bits, precision at k for each code length, precision within the radius by bits."""
    drawn = [_by_bits(group, "map", "mAP, whole ranking", "map-by-bits")]
    lengths = sorted({row.bits for row in group.rows if row.bits} | _published_lengths(group))
    drawn += [_precision(group, bits) for bits in lengths]
    drawn.append(
        _by_bits(
            group,
            f"precision_radius_{RADIUS}",
            f"Precision within radius {RADIUS}",
            f"precision-radius-{RADIUS}",
        )  # fmt: skip
    )
    return [chart for chart in drawn if chart.lines or chart.background]


def quantization_chart(group: Group) -> Chart:
    """ITQ's and CCA-ITQ's quantization error over iterations, relative to the random start's."""
    rows = [row for row in group.rows if "quantization_errors" in row.metrics.get("learned", {})]
    lines = []
    for style, row in enumerate(rows[:8]):
        errors = row.metrics["learned"]["quantization_errors"]
        relative = [error / errors[0] for error in errors]
        lines.append(
            Line(f"{row.method}, {row.bits} bits", list(range(len(errors))), relative, style)
        )
    return Chart(
        f"{group.name}-quantization-error",
        "Quantization error of ITQ",
        "iteration",
        "share of the random start's",
        lines,
    )


def _by_bits(group: Group, measure: str, title: str, file: str) -> Chart:
    lines = []
    for method in ORDER[: ORDER.index(EUCLIDEAN)]:
        rows = [row for row in group.rows if method_of(row) == method]
        if rows:
            values = [row.metrics[measure] for row in rows]
            lines.append(Line(method, [row.bits for row in rows], values, ORDER.index(method)))
    everywhere = [row for row in group.rows if row.bits is None and measure in row.metrics]
    lengths = [x for line in lines for x in line.x]
    for row in everywhere if lengths else []:
        ends = sorted({min(lengths), max(lengths)})
        values = [row.metrics[measure]] * len(ends)
        lines.append(Line(row.method, ends, values, ORDER.index(EUCLIDEAN)))
    return Chart(
        f"{group.name}-{file}", title, "bits", title.partition(",")[0], lines,
        ticks=sorted(set(lengths)),
    )  # fmt: skip


def _precision(group: Group, bits: int) -> Chart:
    rows = [row for row in group.rows if row.bits in (bits, None)]
    published = [
        Line(f"{method} (published)", *points) for method, points in _published(group, bits).items()
    ]
    return Chart(
        f"{group.name}-precision-at-k-{bits}",
        f"Precision at k, {bits} bits",
        "k",
        "precision",
        [_curve(row) for row in rows],
        published,
        (0, 1.02) if published else None,
    )


def _curve(row: Row) -> Line:
    curve = row.metrics["precision_at_k"]
    return Line(row.method, curve["k"], curve["precision"], ORDER.index(method_of(row)))


def _published(group: Group, bits: int) -> dict:
    if group.subset:
        return {}
    return precision_curves({"settings": {"dataset": group.dataset}}, {"bits": bits})


def _published_lengths(group: Group) -> set[int]:
    return {bits for bits in (48,) if _published(group, bits)}
