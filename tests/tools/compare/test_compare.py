"""make compare on digits: a caffemodel made here, evaluated twice, beside the run it came from."""

import hashlib
import json

import cv2
import numpy as np
import pytest

from data_prep import digits
from data_prep.datasets import Source
from tools.compare import extract as compare_loop
from tools.compare import matlab
from tools.net import render


@pytest.fixture
def evaluated(trained, options, command):
    """A trained job with its codes and metrics."""
    assert command("tools.codes", *options(trained)).returncode == 0
    assert command("eval", trained["--run"] / "codes.h5").returncode == 0
    return trained


def compare(command, options, job, out, *words):
    return command(
        *("tools.compare", *options(job), "--out", out, "--trained", job["--run"], *words)
    )


def test_a_caffemodel_made_here(evaluated, options, command, tmp_path):
    run, out = evaluated["--run"], tmp_path / "compared"
    model = tmp_path / "Mine16.caffemodel"
    model.write_bytes((run / "model.caffemodel").read_bytes())
    words = ("--released", model)
    done = compare(command, options, evaluated, out, *words)
    assert done.returncode == 0, done.stderr
    assert "not verified as the release" in done.stdout
    content = json.loads((out / "compare.json").read_text())
    metrics = json.loads((run / "metrics.json").read_text())
    rows = {row["measure"]: row for row in content["rows"]}
    for measure, name in (("accuracy", "accuracy"), ("mAP", "map"), ("mAP@1000", "map_at_1000")):
        cells = rows[measure]["cells"]
        assert cells["trained"]["value"] == metrics[name]
        assert cells["caffe"]["value"] == pytest.approx(metrics[name], abs=2e-3)
        assert cells["matlab"]["value"] != cells["caffe"]["value"]
        assert rows[measure]["published"] is None
    files = {file["role"]: file for file in content["models"][0]["files"]}
    assert files["caffemodel"]["file"] == "Mine16.caffemodel"
    assert files["caffemodel"]["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert {"deploy", "mean", "data", "trained here"} <= set(files)
    page = (out / "compare.html").read_text()
    assert "16 bits: not verified as the release" in page
    assert files["mean"]["sha256"] in page
    assert (out / "compare.txt").read_text() in done.stdout

    stamp = (out / "released-16-caffe.h5").stat().st_mtime_ns
    again = compare(command, options, evaluated, out, *words)
    assert again.returncode == 0
    assert (out / "released-16-caffe.h5").stat().st_mtime_ns == stamp  # from the same: kept


def test_several_lengths_without_a_released_model(evaluated, options, command, tmp_path):
    out = tmp_path / "compared"
    job = evaluated | {"--bits": "12 16"}
    gone = tmp_path / "gone"
    done = command(
        *("tools.compare", *options(job), "--out", out, "--trained", gone, evaluated["--run"])
    )
    assert done.returncode == 0, done.stderr
    content = json.loads((out / "compare.json").read_text())
    cells = {
        (row["bits"], name): cell["value"] or cell["word"]
        for row in content["rows"]
        if row["measure"] == "mAP"
        for name, cell in row["cells"].items()
    }
    assert cells[12, "matlab"] == cells[16, "caffe"] == "not released"
    assert cells[12, "trained"] == "not trained here"
    assert cells[16, "trained"] > 0.5
    one = command(
        *("tools.compare", *options(job), "--out", out, "--trained", gone, gone),
        *("--released", evaluated["--run"] / "model.caffemodel"),
    )
    assert one.returncode == 1
    assert "RELEASED= is one file, and BITS has several lengths" in one.stderr


def test_published_numbers_stand_beside(options, command, tmp_path, job):
    """Nothing but published numbers: KevinNet's of 12 bits, which is on MEGA, and SSDH's."""
    cifar = job | {"--dataset": "cifar10", "--net": "alexnet", "--data-root": tmp_path}
    cases = [
        ("kevinnet", 12, "mAP@1000", 0.893, "not here"),
        ("ssdh", 12, "accuracy", 0.8875, "not released"),
    ]
    for method, bits, measure, number, word in cases:
        out = tmp_path / method
        asked = cifar | {"--method": method, "--bits": bits}
        done = compare(command, options, asked, out)
        assert done.returncode == 0, done.stderr
        rows = json.loads((out / "compare.json").read_text())["rows"]
        row = next(row for row in rows if row["measure"] == measure)
        assert row["published"] == pytest.approx(number)
        assert row["cells"]["matlab"] == {
            "value": None,
            "ties": None,
            "word": word,
            "difference": None,
            "differs": [],
        }
        assert ("MEGA and Baidu" in done.stdout) == (method == "kevinnet")


def test_a_bad_caffemodel_stops_with_its_name(evaluated, options, command, tmp_path):
    bad = tmp_path / "bad.caffemodel"
    bad.write_bytes(b"<!DOCTYPE html><html>")
    done = compare(command, options, evaluated, tmp_path / "out", "--released", bad)
    assert done.returncode == 1
    assert "bad.caffemodel is a web page" in done.stderr
    assert "Traceback" not in done.stderr
    other = command(
        "tools.compare",
        *options(evaluated | {"--bits": 24}),
        "--out",
        tmp_path / "o",
        "--trained",
        tmp_path,
        "--released",
        evaluated["--run"] / "model.caffemodel",
    )
    assert other.returncode == 1
    assert "model.caffemodel is of 16 bits, and BITS=24 is asked for" in other.stderr
    assert not (tmp_path / "o" / "compare.json").exists()


def test_a_run_of_another_kind_stops_before_anything_is_extracted(
    evaluated, options, command, tmp_path
):
    out, words = tmp_path / "o", ("--released", evaluated["--run"] / "model.caffemodel")
    done = compare(command, options, evaluated | {"--bits": 24}, out, *words)
    assert done.returncode == 1
    assert "was trained with BITS=16, not 24" in done.stderr
    done = compare(command, options, evaluated | {"--method": "kevinnet"}, out)
    assert done.returncode == 1
    assert "was trained with METHOD=ssdh, not kevinnet" in done.stderr
    done = compare(command, options, evaluated | {"--bits": "12 16"}, out)
    assert done.returncode == 1
    assert "RUN= names one run, and BITS has several lengths" in done.stderr
    assert not list(out.glob("*.h5"))


@pytest.fixture
def lists(tmp_path):
    """Digits as pictures under a release's list files, the database in reverse order."""
    folder, dataset = tmp_path / "release", digits.load(Source(tmp_path))
    for name, split in (("train", dataset.train), ("test", dataset.test)):
        (folder / name).mkdir(parents=True)
        rows = range(len(split.keys))[:: -1 if name == "train" else 1]
        for row in rows:
            cv2.imwrite(str(folder / name / f"{row}.png"), split.read(row))
        paths = "".join(f"/{name}/{row}.png\n" for row in rows)
        (folder / f"{name}-file-list.txt").write_text(paths)
        (folder / f"{name}-label.txt").write_text("".join(f"{split.labels[r]}\n" for r in rows))
    return folder


def test_the_release_s_lists_and_deploy_file(evaluated, options, command, tmp_path, lists):
    run, out = evaluated["--run"], tmp_path / "compared"
    theirs = render.parse((run / "deploy.prototxt").read_text(), "deploy.prototxt")
    render.cut_at_codes(theirs)
    path = tmp_path / "theirs.prototxt"
    path.write_text(str(theirs))
    words = ("--released", run / "model.caffemodel", "--released-deploy", path, "--list", lists)
    done = compare(command, options, evaluated, out, *words)
    assert done.returncode == 0, done.stderr
    content = json.loads((out / "compare.json").read_text())
    row = next(row for row in content["rows"] if row["measure"] == "mAP")
    cells, ties = row["cells"], row["cells"]["trained"]["ties"]
    assert row["difference"] is None and row["unlike"] == ["other order"]
    assert ties["worst"] <= cells["caffe"]["value"] + 2e-3 <= ties["best"] + 4e-3
    assert cells["caffe"]["ties"]["expected"] == pytest.approx(ties["expected"], abs=2e-3)
    files = {file["role"]: file for file in content["models"][0]["files"]}
    assert files["deploy"]["file"] == "theirs.prototxt"
    named = [file["file"] for file in content["models"][0]["files"] if file["role"] == "data"]
    assert "train-file-list.txt" in named and "pictures of test-file-list.txt" in named

    broken = lists / "test" / "3.png"
    broken.write_bytes(broken.read_bytes()[:60])
    done = compare(command, options, evaluated, tmp_path / "other", *words)
    assert done.returncode == 1
    assert "/test/3.png" in done.stderr and "would have put zeros" in done.stderr


@pytest.mark.parametrize(("method", "transposed"), [("ssdh", True), ("kevinnet", False)])
def test_ssdh_subtracts_its_mean_transposed(method, transposed):
    random = np.random.default_rng(2)
    mean = random.uniform(0, 255, (3, 256, 256)).astype(np.float32)
    picture = random.integers(0, 256, (40, 30, 3), np.uint8)
    request = {"crop": 227, "scale": 1.0, "preprocessing": "matlab", "method": method}
    prepared = compare_loop.preparation(request, mean)(picture)
    upright = matlab.transform(picture, 0 * mean, 227, 1.0, False)
    inside = slice(15, 15 + 227)
    used = mean.transpose(0, 2, 1) if transposed else mean
    np.testing.assert_allclose(prepared, upright - used[:, inside, inside], atol=1e-3)
