"""The leaderboard's table, of sample runs."""

import json

import pytest

from eval.pages import leaderboard
from eval.pages.paper.groups import group_runs
from eval.protocol import measure
from eval.run_folders import find_runs
from eval.summary import with_ties, write_metrics
from tests.eval.baselines.learn import learn_baselines
from tests.eval.samples import write_features, write_run, write_sample


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    """A group of SSDH runs at two code lengths, and of baselines on a finetune run's features."""
    folder = tmp_path_factory.mktemp("runs")
    for bits in (8, 12):
        run = folder / f"digits-lenet-{bits}"
        run.mkdir()
        write_sample(run / "codes.h5", bits=bits)
        write_metrics(run / "metrics.json", measure(run / "codes.h5"))
        write_run(run / "run.json", bits=bits)
        add(run / "run.json", {"train": 30.0, "codes": 1.3})
    tuned = folder / "digits-lenet-finetune"
    tuned.mkdir()
    write_features(tuned / "features.h5")
    write_run(tuned / "run.json", bits=None, method="finetune")
    add(tuned / "run.json", {"train": 20.0, "codes": 3.4})
    learn_baselines(tuned, 8, 12)
    (found,) = group_runs(find_runs(folder))
    return found


def add(path, stages):
    path.write_text(json.dumps(json.loads(path.read_text()) | {"stages": stages}))


def test_the_best_stands_first_at_each_code_length_with_its_times(group):
    found = leaderboard.entries(group)
    assert found[0]["bits"] is None and found[0]["seconds_training"] is None
    assert found[0]["seconds_coding"] == pytest.approx(3.4 / 340)
    for bits in (8, 12):
        of_length = [entry for entry in found if entry["bits"] == bits]
        assert len(of_length) == 9
        maps = [entry["map"] for entry in of_length]
        assert maps == sorted(maps, reverse=True)
        (ssdh,) = [entry for entry in of_length if entry["method"] == "SSDH"]
        assert (ssdh["seconds_training"], ssdh["seconds_coding"]) == (30.0, 0.01)
        assert ssdh["run"] == f"digits-lenet-{bits}"
        for entry in of_length:
            if entry is not ssdh:
                assert 0 <= entry["seconds_training"] < 20
                assert 0.01 <= entry["seconds_coding"] < 0.02  # the net's, and its own
                assert entry["run"] == "digits-lenet-finetune"


def test_it_is_written_as_json_as_text_and_as_a_figure(group, tmp_path):
    text = leaderboard.write(tmp_path, {"dataset": "digits", "net": "lenet", "head": False}, group)
    assert leaderboard.OF_HEADS not in text
    content = json.loads((tmp_path / "leaderboard.json").read_text())
    assert content["entries"] == leaderboard.entries(group) and content["net"] == "lenet"
    assert (tmp_path / "leaderboard.txt").read_text() == text + "\n"
    for entry, line in zip(content["entries"], text.splitlines()[1:], strict=False):
        assert line.startswith(entry["method"]) and line.endswith(entry["run"])
        assert with_ties(entry["map"], entry["ties"]) in line
    for suffix in ("svg", "png"):
        assert (tmp_path / f"digits-lenet-map-by-bits.{suffix}").exists()


def test_it_says_which_codes_have_bits_that_never_change(group, tmp_path):
    facts = {"dataset": "digits", "net": "lenet", "head": False}
    assert "never change" not in leaderboard.write(tmp_path, facts, group)
    some = [
        row._replace(metrics=row.metrics | {"constant_bits": 3}) if row.bits == 8 else row
        for row in group.rows
    ]
    text = leaderboard.write(tmp_path, facts, group._replace(rows=some))
    assert text.count("8 bits: 3 of them never change in the database\n") == 9
    content = json.loads((tmp_path / "leaderboard.json").read_text())
    assert {(entry["bits"], entry["constant_bits"]) for entry in content["entries"]} == {
        (None, None),
        (8, 3),
        (12, 0),
    }


def test_it_says_what_heads_alone_are_timed_without(group, tmp_path):
    text = leaderboard.write(tmp_path, {"dataset": "digits", "net": "lenet", "head": True}, group)
    assert text.endswith(leaderboard.OF_HEADS)
    assert json.loads((tmp_path / "leaderboard.json").read_text())["rule"] in text


def test_what_was_not_timed_is_a_dash(group):
    older = [row._replace(metrics={**row.metrics, "seconds_coding": None}) for row in group.rows]
    runs = [run._replace(record=run.record | {"stages": {}}) for run in group.runs]
    lines = leaderboard.lines(leaderboard.entries(group._replace(rows=older, runs=runs)))
    assert all("—" in line for line in lines[1:])
