"""The Makefile as a person uses it: help, one stage at a time, the repeat that does nothing."""

import json
import shlex
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_prep.datasets import DATASETS
from eval.tables import METHODS
from tools.run.nets import nets
from tools.run.variables import variables

REPO = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """Run make in the repository, with data and runs in a folder of the test's own."""
    folder = tmp_path_factory.mktemp("make")

    def run(*words):
        places = (f"DATA_ROOT={folder}/data", f"RUNS={folder}/runs")
        return subprocess.run(
            ["make", *words, *places], cwd=REPO, capture_output=True, text=True, timeout=300
        )

    run.folder = folder
    return run


def test_help_prints_every_variable_with_its_default():
    page = subprocess.run(["make", "help"], cwd=REPO, capture_output=True, text=True).stdout
    lines = {line.split()[0]: line.split()[1:] for line in page.splitlines() if line[:2] == "  "}
    for name, variable in variables().items():
        assert lines[name][0] == (variable.default or "-")
        assert len(lines[name]) > 1
    assert set(DATASETS) <= set(lines["DATASET"])
    assert {*nets(), "by"} < {word.rstrip(";") for word in lines["NET"]}
    assert set(METHODS) < {word.rstrip(";") for word in lines["METHOD"]}
    assert {"CAFFE_SRC", "CUDA_ARCHS", "BUILD_FLAGS", "train", "help"} < set(lines)


def test_help_needs_make_alone(tmp_path):
    """On a bare machine: no Python, no virtual environment."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("make", "sh", "sed", "expand", "echo"):
        (tools / name).symlink_to(shutil.which(name))
    done = subprocess.run(
        ["make", "help"], cwd=REPO, env={"PATH": str(tools)}, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stderr == ""
    assert "mnist fashion_mnist cifar10" in done.stdout


@pytest.mark.parametrize("name", ["..", ".", "../runs", "a/b", "two\nlines"])
def test_a_run_lies_in_runs(make, name):
    (make.folder / "runs" / "kept").mkdir(parents=True, exist_ok=True)
    done = make("clean-run", f"RUN={name}")
    assert done.returncode != 0
    assert f"error: RUN={name!r} is not a name" in done.stderr
    assert (make.folder / "runs" / "kept").exists()


@pytest.mark.parametrize("word", ["FINE=0", "SKIP=yes", "JSON=true"])
def test_flags_are_1_or_left_out(make, word):
    done = make("search" if word[0] in "FJ" else "data", word)
    assert done.returncode != 0
    assert f"error: {word} is not known: it is 1, or left out" in done.stderr


ODD = 'it\'s a: 100 % $x $(shell touch gone) `touch gone` (1)=* & "test" #; é'


def test_names_may_have_any_signs(make, tmp_path):
    """They are neither expanded by make nor read by a shell, from the pictures to the report."""
    pictures = tmp_path / ODD
    for split, count in (("train", 3), ("test", 2)):
        for number in range(2 * count):
            path = pictures / split / str(number % 2) / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.full((28, 28), 100 * (number % 2) + 10 * number + len(split), np.uint8)
            path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    words = ("DATASET=folder", f"IMAGES={pictures}", "NET=lenet", "ITERS=2", "BITS=8")
    done = make("train", *words, "DEVICE=cpu", "BATCH=2")
    assert done.returncode == 0, done.stderr
    run = make.folder / "runs" / f"folder-{ODD}-lenet-8"
    assert (run / "report.html").exists()
    command = json.loads((run / "run.json").read_text())["command"]
    assert f"IMAGES={pictures}" in shlex.split(command)
    found = make("search", *words, "BATCH=2", f"QUERY={path}", f"GRID={tmp_path}/{ODD}.png")
    assert found.returncode == 0, found.stderr
    assert (tmp_path / f"{ODD}.png").exists()
    assert make("clean-run", *words).returncode == 0
    assert not run.exists()
    assert not list(tmp_path.rglob("gone")) and not (REPO / "gone").exists()


def test_clean_run_removes_a_run_and_nothing_else(make):
    runs = make.folder / "runs"
    for name in ("mine", "other"):
        (runs / name).mkdir(parents=True)
        (runs / name / "photo.jpg").write_bytes(b"x")
    refused = make("clean-run", "RUN=mine")
    assert refused.returncode != 0 and "has no run.json" in refused.stderr
    (runs / "mine" / "run.json").write_text("{}")
    assert make("clean-run", "RUN=mine").returncode == 0
    assert [path.name for path in runs.iterdir() if path.name in ("mine", "other")] == ["other"]


def test_stages_one_by_one_then_a_repeat_does_nothing(make):
    words = ("DATASET=digits", "BITS=16", "ITERS=60", "BATCH=25", "DEVICE=cpu")
    run = make.folder / "runs" / "digits-lenet-16"
    early = make("codes", *words)
    assert early.returncode != 0
    assert "run 'make data'" in early.stderr
    assert make("data", *words).returncode == 0
    early = make("report", *words)
    assert early.returncode != 0
    assert "there is no trained net" in early.stderr

    done = make("train", *words)
    assert done.returncode == 0, done.stderr
    for name in ("model.caffemodel", "codes.h5", "metrics.json", "report.html", "run.json"):
        assert (run / name).exists()
    command = json.loads((run / "run.json").read_text())["command"]
    assert command.startswith("make train ")
    assert set(words) <= set(command.split())
    stamps = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    again = make("train", *words)
    assert again.returncode == 0
    assert "trained already" in again.stdout
    assert f"the report is {run}/report.html" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == stamps
    for stage, sentence in [
        ("codes", f"{run}/codes.h5 is there already"),
        ("eval", f"measured already: {run}/metrics.json"),
        ("report", f"the report is {run}/report.html"),
    ]:
        done = make(stage, *words)
        assert done.returncode == 0
        assert sentence in done.stdout
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == stamps

    some = make("eval", *words, "QUERIES=5")
    assert some.returncode == 0, some.stderr
    metrics = json.loads((run / "metrics-q5-k1000.json").read_text())
    assert metrics["queries"] == 50
    assert metrics["subset"] == {
        "queries_per_class": 5,
        "seed": 0,
        "drawn_by": "numpy.random.RandomState",
    }

    longer = make("train", "DATASET=digits", "BITS=16", "ITERS=80", "BATCH=25", "DEVICE=cpu")
    assert longer.returncode == 0, longer.stderr
    assert (run / "report.html").stat().st_mtime_ns > stamps[run / "report.html"]

    other = make("train", *words, "SEED=7")
    assert other.returncode != 0
    assert "SEED=42 there, SEED=7 here" in other.stderr
    named = make("train", *words, "SEED=7", "RUN=seven")
    assert named.returncode == 0, named.stderr
    assert make("clean-run", *words).returncode == 0
    assert not run.exists()
    assert (make.folder / "runs" / "seven").exists()


def test_features_come_with_codes_on_request_and_a_search_with_its_index(make):
    words = ("DATASET=digits", "BITS=8", "ITERS=20", "BATCH=25", "DEVICE=cpu")
    assert make("train", *words).returncode == 0
    run = make.folder / "runs" / "digits-lenet-8"
    assert not (run / "features.h5").exists()
    done = make("codes", *words, "FEATURES=1")
    assert done.returncode == 0, done.stderr
    assert (run / "features.h5").exists()
    again = make("codes", *words, "FEATURES=1")
    assert again.stdout == f"{run}/features.h5 is there already, of this model\n"
    picture = make.folder / "white.png"
    cv2.imwrite(str(picture), np.full((28, 28), 255, np.uint8))
    done = make("search", *words, f"QUERY={picture}", "FINE=1", "RADIUS=8", "JSON=1")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["neighbours"]) == 10
    stamp = (run / "index.h5").stat().st_mtime_ns
    assert make("search", *words, f"QUERY={picture}").returncode == 0
    assert (run / "index.h5").stat().st_mtime_ns == stamp


def test_images_are_a_data_set_or_what_is_encoded(make):
    """make codes IMAGES= encodes pictures, but where IMAGES is the data set's own folder."""
    for words, sentence in [
        (("DATASET=mnist", "IMAGES=list.txt"), "IMAGES=list.txt: there is no such list"),
        (("DATASET=mnist",), "run 'make data'"),
        (("DATASET=folder", "IMAGES=pets"), "run 'make data'"),
        (("DATASET=sun397", "IMAGES=SUN397", "PICTURES=photo.jpg"), "PICTURES=photo.jpg: there is"),
    ]:
        done = make("codes", *words)
        assert done.returncode != 0
        assert sentence in done.stderr


def test_without_its_weights_training_stops_before_anything_is_written(make, tmp_path):
    missing = tmp_path / "none.caffemodel"
    words = ("DATASET=digits", "NET=alexnet", "SUBSET=20", f"WEIGHTS={missing}")
    done = make("train", *words)
    assert done.returncode != 0
    assert "there is no such file" in done.stderr
    assert not (make.folder / "runs" / "digits-alexnet-48").exists()
