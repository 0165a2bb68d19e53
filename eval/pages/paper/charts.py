"""The line charts of a group of runs, each for the page and as files.

Where a measure was taken at one code length only, it stands in the tables and has no chart.
"""

from eval.baselines.table import Row
from eval.metrics import RADIUS
from eval.pages.figures import Chart, Line
from eval.pages.paper.groups import EUCLIDEAN, Group, line_styles, method_of
from eval.protocol import RELEASE_K
from eval.published import PRECISION_CURVES, map_curves, precision_curves
from eval.summary import figures_of, graded_measures

LEAST_SPAN = 0.1  # of a y axis: a smaller one would make much of little


def charts(group: Group) -> dict[str, Chart]:
    """Return the charts that have a line, each by the name of its files.

    In this order: mAPs by bits, of several labels graded measures by bits, precision at k for each
    code length, precision within the radius by bits.
    """
    at_k, radius = f"map_at_{RELEASE_K}", f"precision_radius_{RADIUS}"
    whole = not group.subset
    lengths = {row.bits for row in group.rows if row.bits}
    if whole and group.dataset == PRECISION_CURVES[0]:
        lengths.add(PRECISION_CURVES[1])
    ranking, published = (map_curves(group.dataset, k) if whole else {} for k in (None, RELEASE_K))
    graded = {title for row in group.rows for title, *_ in graded_measures(row.metrics)}
    drawn = {
        "map-by-bits": _by_bits(group, "map", "mAP, whole ranking", ranking),
        f"map-at-{RELEASE_K}-by-bits": _by_bits(group, at_k, f"mAP@{RELEASE_K}", published),
        **{f"{_file_of(title)}-by-bits": _by_bits(group, title, title) for title in sorted(graded)},
        **{f"precision-at-k-{bits}": _precision(group, bits) for bits in sorted(lengths)},
        f"precision-radius-{RADIUS}": _by_bits(group, radius, f"Precision within radius {RADIUS}"),
    }
    return {
        f"{group.name}-{file}": chart
        for file, chart in drawn.items()
        if chart.lines or chart.background
    }


def quantization_chart(group: Group) -> Chart:
    """Return ITQ's quantization error over iterations, relative to the random start's.

    A line for each result that recorded it: of ITQ and of CCA-ITQ, at each code length.
    """
    rows = [row for row in group.rows if "quantization_errors" in row.metrics.get("learned", {})]
    lines = []
    for row in rows:
        errors = row.metrics["learned"]["quantization_errors"]
        relative = [error / errors[0] for error in errors]
        lines.append(Line(f"{row.method}, {row.bits} bits", list(range(len(errors))), relative))
    return Chart("Quantization error of ITQ", "iteration", "share of the random start's", lines)


def _file_of(title: str) -> str:
    """Return the title of a measure as part of a file's name."""
    return title.partition(",")[0].replace("@", "-at-").lower()


def _by_bits(group: Group, measure: str, title: str, published: dict | None = None) -> Chart:
    lines = []
    styles = line_styles()
    for method in styles:
        values = {
            row.bits: _value(row, measure)
            for row in group.rows
            if row.bits and method_of(row) == method and _value(row, measure) is not None
        }
        if values:
            lines.append(Line(method, list(values), list(values.values()), styles[method]))
    background = _background(published or {})
    lengths = sorted({bits for line in (*lines, *background) for bits in line.x})
    if len(lengths) < 2:
        lines = []
    for row in group.rows if lines else []:
        value = _value(row, measure)
        if row.bits is None and value is not None:  # the features: one value for all lengths
            values = [value] * 2
            lines.append(Line(row.method, [lengths[0], lengths[-1]], values, styles[EUCLIDEAN]))
    return Chart(
        title=title,
        x_label="bits",
        y_label=title.partition(",")[0],
        lines=lines,
        background=background,
        limits=_limits([*lines, *background]),
        ticks=lengths,
    )


def _value(row: Row, measure: str) -> float | None:
    """Return a row's figure by a measure, of metrics.json or of `figures_of`."""
    if measure in row.metrics:
        return row.metrics[measure]
    return (figures_of(row.metrics, measure) or (None,))[0]


def _precision(group: Group, bits: int) -> Chart:
    published = precision_curves({"settings": {"dataset": group.dataset}}, {"bits": bits})
    background = _background({} if group.subset else published)
    lines = [_curve(row) for row in group.rows if row.bits in (bits, None)]
    return Chart(
        title=f"Precision at k, {bits} bits",
        x_label="k",
        y_label="precision",
        lines=lines,
        background=background,
        limits=_limits([*lines, *background]),
    )


def _background(published: dict) -> list[Line]:
    """Return published curves; a number at one code length alone is none, and stands in tables."""
    return [
        Line(f"{method} (published)", *points)
        for method, points in published.items()
        if len(points[0]) > 1
    ]


def _limits(lines: list[Line]) -> tuple[float, float] | None:
    """Return limits of the y axis that hold all values and span at least LEAST_SPAN."""
    values = [y for line in lines for y in line.y]
    if not values:
        return None
    middle, span = (min(values) + max(values)) / 2, max(max(values) - min(values), LEAST_SPAN)
    return max(middle - 0.55 * span, 0), min(middle + 0.55 * span, 1.02)


def _curve(row: Row) -> Line:
    curve = row.metrics["precision_at_k"]
    return Line(row.method, curve["k"], curve["precision"], line_styles()[method_of(row)])
