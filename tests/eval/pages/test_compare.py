"""The table of make compare, from metrics to text."""

import json

import pytest

from eval.pages.compare import table, write
from eval.published import read_published

FACTS = {"dataset": "cifar10", "net": "alexnet", "method": "ssdh", "subset": 0, "command": "make"}
TIES = {"expected": 0.9, "worst": 0.8, "best": 0.95}


def some_metrics(level, accuracy=None):
    ks = [100, 200, 400, 600, 800, 1000]
    return {
        "accuracy": accuracy,
        "map": level,
        "map_at_1000": level + 0.01,
        "precision_at_k": {"k": ks} | {name: [level] * 6 for name in ("precision", *TIES)},
        "ties": {"map": TIES, "map_at_1000": TIES},
        "bits": 48,
        "queries": 10_000,
        "database": 50_000,
        "row_order": "the archive's own order",
    }


def column(**changes):
    return {
        "bits": 48,
        "note": "not verified as the release",
        "released": {"matlab": some_metrics(0.91), "caffe": some_metrics(0.9)},
        "record": {"settings": FACTS, "from_scratch": False},
        "trained": some_metrics(0.92, 0.89),
        "why": "",
        "files": [{"role": "caffemodel", "file": "x.caffemodel", "sha256": "ab" * 32}],
    } | changes


def rows_of(**changes):
    return {
        (row["measure"], row["of"] and row["of"].split(",")[0]): row
        for row in table(FACTS, [column(**changes)])
    }


def test_differences_to_the_published_and_between_the_columns():
    rows = rows_of()
    row = rows["mAP", "SSDH"]
    (published,) = [
        float(each["map_percent"]) / 100
        for each in read_published("retrieval_map")
        if each["method"] == "SSDH"
    ]
    assert row["published"] == published
    for name, value in (("matlab", 0.91), ("caffe", 0.9), ("trained", 0.92)):
        assert row["cells"][name]["difference"] == pytest.approx(value - published)
    assert row["difference"] == pytest.approx(0.02)
    accuracy = rows["accuracy", "SSDH (released log at iteration 50000)"]
    assert accuracy["cells"]["matlab"]["value"] is None  # the caffemodel has no classifier
    assert accuracy["cells"]["trained"]["difference"] == pytest.approx(0.89 - 0.8989)
    assert rows["precision@400", None]["cells"]["caffe"]["value"] == 0.9
    assert not any("VGG" in (of or "") or "KevinNet" in (of or "") for _, of in rows)


def test_a_net_trained_from_scratch_is_not_compared_with_the_published():
    row = rows_of(record={"settings": FACTS, "from_scratch": True})["mAP", "SSDH"]
    assert row["cells"]["trained"]["difference"] is None
    assert row["cells"]["trained"]["differs"] == ["other net"]
    assert row["cells"]["matlab"]["difference"] is not None


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"queries": 1000}, "other pictures"),
        ({"database": 1000}, "other pictures"),
        ({"row_order": "the release's list files' own order"}, "other order"),
    ],
)
def test_no_difference_of_what_was_measured_on_something_else(tmp_path, changes, word):
    trained = some_metrics(0.92, 0.89) | changes
    row = rows_of(trained=trained)["mAP", "SSDH"]
    assert row["difference"] is None and row["unlike"] == [word]
    assert row["cells"]["trained"]["value"] == 0.92
    assert word in write(tmp_path, FACTS, [column(trained=trained)])
    assert word in (tmp_path / "compare.html").read_text()


def test_cells_without_numbers(tmp_path):
    text = write(
        tmp_path,
        FACTS,
        [
            column(),
            column(note="not released", released={}, record=None, trained=None, why="not trained"),
        ],
    )
    lines = [line.split("  ") for line in text.splitlines()]
    first = [cell.strip() for cell in lines[2] if cell.strip()]
    assert first[:2] == ["48", "accuracy"] and first[3:5] == ["—", "—"]
    assert text.count("not released  ") == 2 * len(table(FACTS, [column(released={})]))
    assert "ab" * 32 in text
    assert (tmp_path / "compare.txt").read_text() == text + "\n"
    content = json.loads((tmp_path / "compare.json").read_text())
    assert content["models"][1]["note"] == "not released"
    page = (tmp_path / "compare.html").read_text()
    assert page.count("not verified as the release.") == 1
    assert page.count('<span class="missing">not released</span>') == text.count("not released  ")
