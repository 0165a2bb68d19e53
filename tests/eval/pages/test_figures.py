"""How lines look: as they always did, and apart from each other however many there are."""

import io
import warnings

import cv2
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from data_prep import DataError
from data_prep.debian import apt_install
from eval.baselines.methods import BASELINES
from eval.pages import figures
from eval.pages.figures import Chart, Line, drawing, line_chart, look
from eval.pages.paper.groups import line_styles
from eval.pages.paper.pictures import write_classifications
from eval.pages.query_pictures import data_uri
from eval.tables import METHODS
from tests.eval.samples import picture


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


@pytest.fixture
def fonts():
    """The package of the fonts; the test is skipped where it cannot be installed."""
    figures.font_families.cache_clear()
    if len(figures.font_families()) < 2:
        try:
            apt_install(figures.FONT_PACKAGE, "to draw Chinese names")
        except DataError as error:
            pytest.skip(str(error))
    figures.font_families.cache_clear()


@pytest.fixture
def no_fonts(monkeypatch):
    """A machine without such fonts."""
    monkeypatch.setattr(figures, "FALLBACK_FONTS", ())
    caches = (figures.font_families, figures._say_boxes)
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


def pixels_of(name):
    """A picture with a name as its title, as an array."""
    buffer = io.BytesIO()
    with drawing():
        figure = Figure(figsize=(1, 0.5))
        figure.suptitle(name)
        FigureCanvasAgg(figure).print_png(buffer)
    return cv2.imdecode(np.frombuffer(buffer.getvalue(), np.uint8), 0)


def test_dollars_are_drawn_as_they_are(tmp_path):
    name = "$1 to $2, a_b^c \\frac"
    entry = {"picture": data_uri(picture("query", 0)), "label": name, "right": True}
    entry["bars"] = [{"class": name, "share": 0.5, "right": True}]
    write_classifications("of $x$", [entry], tmp_path / "bars")
    svg = (tmp_path / "bars.svg").read_text()
    assert svg.count(f">{name}</text>") == 2 and ">of $x$</text>" in svg
    assert ">$1 and $2</text>" in line_chart(Chart("$1 and $2", "x", "$y$", []))
    assert (pixels_of("$broken{$") < 255).any()


def test_chinese_and_japanese_letters_are_drawn(fonts, capsys):
    """Two boxes would be equal, two letters are not."""
    assert (pixels_of("猫") != pixels_of("犬")).any()
    assert (pixels_of("ね") != pixels_of("い")).any()
    assert capsys.readouterr().err == ""


def test_without_a_font_one_line_names_the_package(no_fonts, capsys):
    assert (pixels_of("猫") == pixels_of("犬")).all()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("install Debian's package fonts-wqy-microhei")


def test_other_warnings_pass():
    with pytest.warns(UserWarning, match="of the caller"), drawing():
        warnings.warn("of the caller", stacklevel=1)
