"""Which files of a run the stages make anew though they are newer than what they are made from."""

import json

import pytest

from eval.protocol import subset_of
from tools.stages import is_of_todays_draw


@pytest.mark.parametrize(
    ("name", "subset", "holds"),
    [
        ("metrics-q5-k1000.json", subset_of(5), True),
        ("metrics-q5-k1000.json", {"queries_per_class": 5, "seed": 0}, False),
        ("metrics-q5-k1000.json", "damaged", False),
        ("metrics-q5-k1000.json", None, True),
        ("metrics.json", {"queries_per_class": 5, "seed": 0}, True),
    ],
)
def test_queries_that_were_drawn_otherwise_are_measured_again(tmp_path, name, subset, holds):
    (tmp_path / name).write_text(json.dumps({"subset": subset}))
    assert is_of_todays_draw(tmp_path / name) == holds


def test_a_damaged_file_of_some_queries_is_made_again(tmp_path):
    assert not is_of_todays_draw(tmp_path / "metrics-q5-k1000.json")
    (tmp_path / "metrics-q5-k1000.json").write_text("{")
    assert not is_of_todays_draw(tmp_path / "metrics-q5-k1000.json")
    assert is_of_todays_draw(tmp_path / "codes.h5")
