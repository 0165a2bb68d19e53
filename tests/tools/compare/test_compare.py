"""make compare on digits: a caffemodel made here, evaluated twice, beside the run it came from."""

import hashlib
import json
import shutil
from contextlib import suppress

import cv2
import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from data_prep import digits
from data_prep.datasets import Source
from data_prep.mean_image import to_binaryproto
from tools.compare import matlab
from tools.compare.preparation import preparation
from tools.net import render
from tools.run.failure import Failure
from tools.run.nets import net_of

OUT = "compare-digits-lenet-ssdh"


@pytest.fixture(scope="module")
def evaluated_run(trained_run, tmp_path_factory, options, command, folder_of):
    """A trained job with its codes and metrics; tests get copies of its run."""
    job = trained_run | {"--runs": tmp_path_factory.mktemp("evaluated")}
    shutil.copytree(folder_of(trained_run), folder_of(job))
    assert command("tools.codes", *options(job)).returncode == 0
    assert command("eval", folder_of(job) / "codes.h5").returncode == 0
    return job


@pytest.fixture
def evaluated(evaluated_run, folder_of, tmp_path):
    """A trained job with its codes and metrics, in a folder of the test's own."""
    job = evaluated_run | {"--runs": tmp_path}
    shutil.copytree(folder_of(evaluated_run), folder_of(job))
    return job


@pytest.fixture
def compare(command, options):
    """Run make compare of a job, with more options."""
    return lambda job, *more: command("tools.compare", *options(job), *more)


def test_a_caffemodel_made_here(evaluated, compare, folder_of, tmp_path):
    run, out = folder_of(evaluated), tmp_path / OUT
    model = tmp_path / "Mine16.caffemodel"
    model.write_bytes((run / "model.caffemodel").read_bytes())
    done = compare(evaluated, "--released", model)
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
    assert json.loads((out / "released-16-caffe.json").read_text()) == [
        file for file in content["models"][0]["files"] if file["role"] != "trained here"
    ]
    page = (out / "compare.html").read_text()
    assert "16 bits: not verified as the release" in page
    assert files["mean"]["sha256"] in page
    assert (out / "compare.txt").read_text() in done.stdout

    stamp = (out / "released-16-caffe.h5").stat().st_mtime_ns
    again = compare(evaluated, "--released", model)
    assert again.returncode == 0
    assert (out / "released-16-caffe.h5").stat().st_mtime_ns == stamp  # from the same: kept


def test_several_lengths_without_a_released_model(evaluated, compare, folder_of, tmp_path):
    """Each beside the run of its length."""
    folder_of(evaluated).rename(tmp_path / "digits-lenet-16")
    job = evaluated | {"--bits": "12 16", "--run": ""}
    done = compare(job)
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / OUT / "compare.json").read_text())
    cells = {
        (row["bits"], name): cell["value"] or cell["word"]
        for row in content["rows"]
        if row["measure"] == "mAP"
        for name, cell in row["cells"].items()
    }
    assert cells[12, "matlab"] == cells[16, "caffe"] == "not released"
    assert cells[12, "trained"] == "not trained here"
    assert cells[16, "trained"] > 0.5
    for name in ("released", "released-deploy"):
        one = compare(job, f"--{name}", tmp_path / "digits-lenet-16" / "model.caffemodel")
        assert one.returncode == 1
        variable = name.upper().replace("-", "_")
        assert f"{variable}= is one file, and BITS has several lengths" in one.stderr


def test_published_numbers_stand_beside(compare, tmp_path, job):
    """Nothing but published numbers: KevinNet's of 12 bits, which is on MEGA, and SSDH's."""
    cifar = job | {"--dataset": "cifar10", "--net": "alexnet", "--data-root": tmp_path}
    cases = [
        ("kevinnet", 12, "mAP@1000", 0.893, "not here"),
        ("ssdh", 12, "accuracy", 0.8875, "not released"),
    ]
    for method, bits, measure, number, word in cases:
        done = compare(cifar | {"--method": method, "--bits": bits})
        assert done.returncode == 0, done.stderr
        out = tmp_path / f"compare-cifar10-alexnet-{method}"
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


def test_a_bad_caffemodel_stops_with_its_name(evaluated, compare, folder_of, tmp_path):
    bad = tmp_path / "bad.caffemodel"
    bad.write_bytes(b"<!DOCTYPE html><html>")
    done = compare(evaluated, "--released", bad)
    assert done.returncode == 1
    assert "bad.caffemodel is a web page" in done.stderr
    assert "Traceback" not in done.stderr
    model = folder_of(evaluated) / "model.caffemodel"
    other = compare(evaluated | {"--bits": 24, "--run": "none"}, "--released", model)
    assert other.returncode == 1
    assert other.stderr.splitlines()[-1] == (
        f"error: {model} is of 16 bits, and BITS=24 is asked for"
    )
    assert not (tmp_path / OUT / "compare.json").exists()


def test_what_cannot_be_compared_stops_before_anything_is_extracted(
    evaluated, compare, folder_of, tmp_path
):
    released = ("--released", folder_of(evaluated) / "model.caffemodel")
    for changed, more, says in (
        ({"--bits": 24}, released, "was trained with BITS=16, not 24"),
        ({"--method": "kevinnet"}, (), "was trained with METHOD=ssdh, not kevinnet"),
        ({"--bits": "12 16"}, (), "RUN= names one run, and BITS has several lengths: leave it out"),
        ({"--bits": " "}, (), "BITS has no code length in it"),
        ({"--method": "finetune"}, (), "a METHOD=finetune net has no codes"),
        ({}, ("--released", tmp_path / "gone"), "there is no such file or folder"),
        ({}, ("--released-deploy", tmp_path), "has no prototxt with 16 in its name"),
    ):
        done = compare(evaluated | changed, *more)
        assert done.returncode == 1
        assert says in done.stderr and done.stderr.count("\n") == 1
    assert not list(tmp_path.rglob("released-*.h5"))


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


def test_the_release_s_lists_and_deploy_file(evaluated, compare, folder_of, tmp_path, lists):
    run, out = folder_of(evaluated), tmp_path / OUT
    theirs = render.read(run / "deploy.prototxt")
    render.cut_behind(theirs, net_of("lenet").blobs("ssdh").code)
    path = tmp_path / "theirs.prototxt"
    path.write_text(str(theirs))
    given = ("--released", run / "model.caffemodel", "--released-deploy", path, "--list", lists)
    done = compare(evaluated, *given)
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
    done = compare(evaluated, *given)
    assert done.returncode == 1
    assert "/test/3.png" in done.stderr and "would have put zeros" in done.stderr


@pytest.mark.parametrize(("method", "transposed"), [("ssdh", True), ("kevinnet", False)])
def test_ssdh_subtracts_its_mean_transposed(method, transposed, tmp_path):
    random = np.random.default_rng(2)
    mean = random.uniform(0, 255, (3, 256, 256)).astype(np.float32)
    picture = random.integers(0, 256, (40, 30, 3), np.uint8)
    path = tmp_path / "mean.binaryproto"
    path.write_bytes(to_binaryproto(mean))
    prepared = preparation("matlab", method, mean_file=path, crop=227, scale=1.0)(picture)
    upright = matlab.transform(picture, mean=0 * mean, crop=227, scale=1.0, transposed_mean=False)
    inside = slice(15, 15 + 227)
    used = mean.transpose(0, 2, 1) if transposed else mean
    np.testing.assert_allclose(prepared, upright - used[:, inside, inside], atol=1e-3)


def test_the_release_s_own_mean_is_subtracted_as_it_is_stored(tmp_path):
    random = np.random.default_rng(2)
    mean = random.uniform(0, 255, (256, 256, 3)).astype(np.float32)
    picture = random.integers(0, 256, (40, 30, 3), np.uint8)
    none = np.zeros((3, 256, 256), np.float32)
    plain = matlab.transform(picture, mean=none, crop=227, scale=1.0, transposed_mean=False)
    inside = slice(15, 15 + 227)
    for name in matlab.MEAN_NAMES:
        path = tmp_path / matlab.MEAN_FILE
        savemat(path, {name: mean})
        for method in ("ssdh", "kevinnet"):
            prepared = preparation("matlab", method, mean_file=path, crop=227, scale=1.0)(picture)
            expected = plain - mean.transpose(2, 0, 1)[:, inside, inside]
            np.testing.assert_allclose(prepared, expected, atol=1e-3)
    savemat(path, {"other": "text", "image_mean": mean}, do_compression=True)
    np.testing.assert_array_equal(matlab.read_mean(path), mean.transpose(2, 0, 1))
    savemat(path, {"image_mean": np.arange(12, dtype=np.uint8).reshape(2, 2, 3)})
    np.testing.assert_array_equal(matlab.read_mean(path)[:, 1, 0], [6, 7, 8])
    head = path.read_bytes()  # SciPy's reader dies of some of these bytes
    for at in range(0, len(head), 3):
        path.write_bytes(head[:at] + b"\xff" + head[at + 1 :])
        with suppress(Failure):
            matlab.read_mean(path)
        path.write_bytes(head[:at])
        with pytest.raises(Failure):
            matlab.read_mean(path)
    with h5py.File(path, "w") as file:  # as version 7.3 has it
        file["image_mean"] = mean.T
    np.testing.assert_array_equal(matlab.read_mean(path), mean.transpose(2, 0, 1))
    for content in (b"", b"no mat", b"MATLAB 5.0 MAT-file" + bytes(200)):
        path.write_bytes(content)
        with pytest.raises(Failure, match="is no MATLAB file|has no image named"):
            matlab.read_mean(path)


@pytest.mark.parametrize("preprocessing", ["matlab", "caffe"])
def test_originals_are_not_turned_by_their_exif_orientation(preprocessing, tmp_path):
    """The release's imread turned none."""
    mean = tmp_path / "mean.binaryproto"
    mean.write_bytes(to_binaryproto(np.zeros((3, 32, 32), np.float32)))
    prepare = preparation(preprocessing, "ssdh", mean_file=mean, crop=0, scale=1.0)
    random = np.random.default_rng(3)
    picture = Image.fromarray(random.integers(0, 256, (32, 32, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    picture.save(tmp_path / "plain.jpg", quality=95)
    picture.save(tmp_path / "turned.jpg", quality=95, exif=exif)
    plain, turned = (
        prepare((tmp_path / f"{name}.jpg").read_bytes()) for name in ("plain", "turned")
    )
    np.testing.assert_array_equal(plain, turned)


def test_a_folder_without_a_caffemodel_of_the_length_overwrites_nothing(
    evaluated, compare, tmp_path
):
    (tmp_path / "empty").mkdir()
    out = tmp_path / OUT
    out.mkdir()
    (out / "compare.json").write_text("earlier")
    done = compare(evaluated, "--released", tmp_path / "empty")
    assert done.returncode == 1
    assert "no caffemodel in this folder has 16 in its name" in done.stderr
    assert (out / "compare.json").read_text() == "earlier"


def test_pictures_of_other_files_are_not_the_same_pictures(
    evaluated, data_root, compare, folder_of, tmp_path
):
    """Two archives of one size pass by their counts; the files' SHA-256 tell them apart."""
    root = tmp_path / "data"
    shutil.copytree(data_root, root)
    job = evaluated | {"--data-root": root}
    model = tmp_path / "Mine16.caffemodel"
    model.write_bytes((folder_of(job) / "model.caffemodel").read_bytes())

    def rows():
        done = compare(job, "--released", model)
        assert done.returncode == 0, done.stderr
        found = json.loads((tmp_path / OUT / "compare.json").read_text())["rows"]
        return {row["measure"]: row for row in found}

    assert rows()["mAP"]["difference"] is not None
    path = root / "digits" / "28x1" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["sources"][0]["sha256"] = "0" * 64
    path.write_text(json.dumps(manifest))
    assert rows()["mAP"]["difference"] is None
    assert rows()["mAP"]["unlike"] == ["other pictures"]
