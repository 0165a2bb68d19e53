"""Templates: every placeholder gets a value, and what comes out is what Caffe can read."""

import numpy as np
import pytest

from eval.tables import CLASSIFICATIONS
from tools.net import render
from tools.run.failure import Failure


def test_a_placeholder_without_a_value_stops_with_its_name():
    with pytest.raises(Failure, match=r"x\.prototxt has the placeholder \$bits"):
        render.fill("num_output: $bits", {"classes": 10}, "x.prototxt")


def test_a_stray_dollar_stops():
    with pytest.raises(Failure, match=r"x\.prototxt: Invalid placeholder"):
        render.fill("price: $ 5", {}, "x.prototxt")


def test_text_that_caffe_cannot_read_stops_with_its_line():
    with pytest.raises(Failure, match=r"net\.prototxt is not a valid NetParameter: line 2"):
        render.parse('name: "x"\nlayr { }', "net.prototxt")


def test_a_file_that_is_no_text_stops_with_its_name(tmp_path):
    (tmp_path / "deploy.prototxt").write_bytes(b"layer { \xff }")
    with pytest.raises(Failure, match=r"deploy\.prototxt is damaged: it is no text"):
        render.read(tmp_path / "deploy.prototxt")


def test_numbers_are_written_as_people_write_them():
    assert render.fill("$alpha $beta", {"alpha": 1.0, "beta": 0.25}, "x") == "1 0.25"


@pytest.mark.parametrize("share", [0.03, 0.19, 0.5, 0.8])
@pytest.mark.parametrize(
    ("loss", "of_margin"),
    [
        ("sigmoid", lambda margin: np.log1p(np.exp(-margin))),
        ("margin1", lambda margin: np.maximum(0, 1 - margin)),
        ("margin2", lambda margin: np.maximum(0, 1 - margin) ** 2),
    ],
)
def test_a_classifier_of_several_labels_starts_with_the_least_loss(loss, of_margin, share):
    scores = np.linspace(-5, 5, 10001)
    expected = share * of_margin(scores) + (1 - share) * of_margin(-scores)
    bias = render.BIASES[CLASSIFICATIONS[loss].bias](share)
    there = share * of_margin(bias) + (1 - share) * of_margin(-bias)
    assert there <= expected.min() + 1e-12


def test_a_classifier_of_one_label_starts_at_zero():
    assert render.BIASES[CLASSIFICATIONS["softmax"].bias](0.1) == 0
