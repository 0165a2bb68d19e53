"""A trained run on the page of all runs, as `make paper` does it."""

import json
import shutil

import pytest

from tests.eval.samples import write_run
from tools.run.machine import machine


@pytest.fixture
def folder(trained, options, command, tmp_path, folder_of):
    """A folder with a trained and measured run, and costs that are there for this machine."""
    done = command("tools.codes", *options(trained))
    assert done.returncode == 0, done.stderr
    done = command("eval", folder_of(trained) / "codes.h5")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs"
    write_costs(folder)
    shutil.move(folder_of(trained), folder / "digits-lenet-16")
    return folder


def write_costs(folder):
    """Write costs of one distance as if they had been measured on this machine."""
    (folder / "paper").mkdir(parents=True)
    here = {key: machine()[key] for key in ("cpu", "cores")}
    costs = {"machine": here, "rows": []}
    (folder / "paper" / "distance_cost.json").write_text(json.dumps(costs))


def test_the_page_shows_the_run_and_its_pictures(folder, command):
    done = command("tools.paper", "--runs", folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1 runs, 1 with figures")
    page = (folder / "paper" / "index.html").read_text()
    metrics = json.loads((folder / "digits-lenet-16" / "metrics.json").read_text())
    assert f"{metrics['map']:.4f}" in page
    assert page.count("<img") >= 3 * 11
    assert (folder / "paper" / "figures" / "digits-lenet-top-10.png").exists()


def test_what_cannot_be_read_is_left_out_in_one_sentence(tmp_path, command):
    write_costs(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{")
    write_run(tmp_path / "run.json")
    (tmp_path / "other").mkdir()
    (tmp_path / "run.json").rename(tmp_path / "other" / "run.json")
    (tmp_path / "other" / "metrics.json").write_text('{"map": 1}')
    done = command("tools.paper", "--runs", tmp_path)
    assert done.returncode == 0, done.stderr
    left_out, without = done.stderr.splitlines()
    assert left_out.startswith("left out: ") and "run.json is no JSON" in left_out
    assert without.startswith("no figures of other: ") and "lacks 'codes_sha256'" in without
    page = (tmp_path / "paper" / "index.html").read_text()
    assert "run/run.json is no JSON" in page and "metrics.json lacks" in page
