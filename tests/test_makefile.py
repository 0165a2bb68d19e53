"""The Makefile as a person uses it: help, one stage at a time, the repeat that does nothing."""

import json
import shlex
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

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


def test_help_prints_every_variable_with_its_default(make):
    page = subprocess.run(["make", "help"], cwd=REPO, capture_output=True, text=True).stdout
    for variable in (
        *("DATASET", "BITS", "NET", "DEVICE", "ITERS", "SEED", "BATCH", "SUBSET", "WEIGHTS"),
        *("DATA_ROOT", "RUNS", "RUN"),
    ):
        line = next(line for line in page.splitlines() if line.startswith(f"  {variable} "))
        assert len(line.split()) > 1
    assert "alexnet 50000" in page
    assert "mnist-lenet-48" in page


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("RUN=", "each must be one word"),
        ("RUN=my run", "each must be one word"),
        ("RUNS=", "each must be one word"),
        ("RUN=a:b", "has one of"),
        ("RUN=it's", "has one of"),
        ("FINE=0", "FINE=0 is not known: it is 1, or left out"),
        ("SKIP=yes", "SKIP=yes is not known"),
    ],
)
def test_what_make_would_take_wrongly_is_refused(word, says):
    """Nothing of clean-run is even printed: RUN= alone would be the folder of all runs."""
    done = subprocess.run(
        ["make", "-n", "clean-run", word], cwd=REPO, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert says in done.stderr
    assert done.stdout == ""


def test_paths_may_have_any_signs(tmp_path):
    folder = tmp_path / "it's a: 100 % test"
    words = (f"IMAGES={folder}", f"CIFAR10_ARCHIVE={folder}/a.zip", "RUN=x", "DATASET=folder")
    done = subprocess.run(["make", "-n", "data", *words], cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = shlex.split(done.stdout.replace("\\\n", " "))
    assert f"{folder}/a.zip" in said and str(folder) in said


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
    words = ("DATASET=digits", "BITS=16", "ITERS=60", "DEVICE=cpu")
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
    for stage in ("codes", "eval", "report"):
        assert make(stage, *words).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == stamps

    some = make("eval", *words, "QUERIES=5")
    assert some.returncode == 0, some.stderr
    metrics = json.loads((run / "metrics-q5-k1000.json").read_text())
    assert metrics["queries"] == 50
    assert metrics["subset"] == {"queries_per_class": 5, "seed": 0}

    longer = make("train", "DATASET=digits", "BITS=16", "ITERS=80", "DEVICE=cpu")
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
    words = ("DATASET=digits", "BITS=8", "ITERS=20", "DEVICE=cpu")
    assert make("train", *words).returncode == 0
    run = make.folder / "runs" / "digits-lenet-8"
    assert not (run / "features.h5").exists()
    done = make("codes", *words, "FEATURES=1")
    assert done.returncode == 0, done.stderr
    assert (run / "features.h5").exists()
    again = make("codes", *words, "FEATURES=1")
    assert again.stdout == ""
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
    for words, module in [
        (("DATASET=mnist", "IMAGES=list.txt"), "tools.codes.pictures"),
        (("DATASET=mnist",), "tools.train --check"),
        (("DATASET=folder", "IMAGES=pets"), "tools.train --check"),
        (("DATASET=sun397", "IMAGES=SUN397", "PICTURES=photo.jpg"), "tools.codes.pictures"),
    ]:
        said = subprocess.run(
            ["make", "-n", "codes", *words], cwd=REPO, capture_output=True, text=True
        ).stdout
        assert ("tools.codes.pictures" in said, "--check" in said) == (
            module == "tools.codes.pictures",
            module != "tools.codes.pictures",
        )


def test_without_its_weights_training_stops_before_anything_is_written(make, tmp_path):
    missing = tmp_path / "none.caffemodel"
    words = ("DATASET=digits", "NET=alexnet", "SUBSET=20", f"WEIGHTS={missing}")
    done = make("train", *words)
    assert done.returncode != 0
    assert "there is no such file" in done.stderr
    assert not (make.folder / "runs" / "digits-alexnet-48").exists()
