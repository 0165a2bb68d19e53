"""make compare on digits: a caffemodel made here, evaluated twice, beside the run it came from."""

import hashlib
import json

import pytest


@pytest.fixture
def evaluated(trained, options, command):
    """A trained job with its codes and metrics."""
    assert command("tools.extract", *options(trained)).returncode == 0
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
