"""How lines look: as they always did, and apart from each other however many there are."""

from eval.baselines.methods import BASELINES
from eval.pages.figures import Chart, Line, line_chart, look
from eval.pages.paper.groups import line_styles
from eval.tables import METHODS


def test_methods_keep_their_looks():
    names = ("SSDH", "KevinNet", "KSH", "CCA-ITQ", "ITQ", "SH", "LSH", "Euclidean")
    styles = line_styles()
    assert [styles[name] for name in names] == list(range(8))
    assert [name for name in styles if name in names] == list(names)
    solid, dashed, dotted, mixed = "-", (0, (4, 2)), (0, (1, 1)), (0, (5, 1, 1, 1))
    assert [look(style) for style in range(8)] == [
        *((0, solid, "o"), (1, dashed, "s"), (2, dotted, "D"), (3, mixed, "^")),
        *((4, solid, "v"), (5, dashed, "P"), (6, dotted, "X"), (7, mixed, "*")),
    ]


def test_no_two_methods_share_a_style():
    styles = [entry.style for entry in (*METHODS.values(), *BASELINES.values())]
    assert len(set(styles)) == len(styles)
    assert len(set(line_styles().values())) == len(line_styles())


def test_lines_beyond_the_colours_differ_in_dashes():
    assert len({look(style)[:2] for style in range(32)}) == 32


def test_a_chart_takes_any_number_of_lines():
    lines = [Line(f"line {i}", [0, 1], [i, i + 1]) for i in range(40)]
    svg = line_chart(Chart("Many", "x", "y", lines))
    assert all(line.name in svg for line in lines)
