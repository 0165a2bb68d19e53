"""HEAD=1 on real Caffe: features once, the head alone, and a whole net in the end."""

import json
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest

from eval.files import InputError
from eval.hdf5 import create_hdf5
from tests.tools.run.jobs import make_job
from tools.net import render, weights
from tools.run.data import read_manifest
from tools.train import assembly, extraction
from tools.train.features import folder_of as features_folder
from tools.train.features import identity, read, write_inputs

pytestmark = pytest.mark.slow
JOB = {"--head": 1, "--iters": 400, "--run": "head"}


@pytest.fixture(scope="module")
def head(trained_run, folder_of, command, options, tmp_path_factory):
    """The options of a job whose head was trained on the features of trained_run's net."""
    model = folder_of(trained_run) / "model.caffemodel"
    runs = tmp_path_factory.mktemp("heads")
    job = trained_run | JOB | {"--runs": runs, "--weights": model}
    done = command("tools.train", *options(job))
    assert done.returncode == 0, done.stderr
    return job, done.stdout


def features_of(job):
    """The folders of features beside the LMDBs."""
    return sorted((job["--data-root"] / "digits" / "28x1").glob("features-*"))


def arrays(path):
    return {
        name: [np.array(blob.data, np.float32) for blob in blobs]
        for name, blobs in weights.layers_of(weights.read(path))
        if blobs
    }


def test_it_says_what_it_is(head, folder_of):
    job, said = head
    assert "training lenet on digits, 16 bits, the head alone" in said
    assert "HEAD=1: the head alone, on the features ip1 in" in said
    record = json.loads((folder_of(job) / "run.json").read_text())
    assert record["settings"]["head"] is True and record["stages"]["features"] >= 0
    assert set(record["fingerprint"]["parts"]) >= {"head.prototxt", "solver.prototxt"}


def test_the_model_is_the_pretrained_net_with_a_new_head(head, folder_of):
    job, _ = head
    before, after = arrays(job["--weights"]), arrays(folder_of(job) / "model.caffemodel")
    assert set(before) == set(after)
    for name in before:
        same = all(map(np.array_equal, before[name], after[name]))
        assert same == (name not in ("latent", "fc9")), name


def test_the_whole_net_gives_what_the_head_was_trained_to_give(head, folder_of, command, options):
    job, _ = head
    run = folder_of(job)
    for words in (("tools.codes",), ("eval", run / "codes.h5"), ("tools.report",)):
        done = command(*words, *(options(job) if len(words) == 1 else ()))
        assert done.returncode == 0, done.stderr
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["accuracy"] > 0.85
    assert "head alone trained" in (run / "report.html").read_text()
    (folder,) = features_of(job)
    with h5py.File(folder / "test-0.h5") as file, h5py.File(run / "codes.h5") as codes:
        found, labels = file["data"][:], file["label"][:]
        latent, labels_there = codes["query/latent"][:], codes["query/labels"][:]
    model = arrays(run / "model.caffemodel")
    weight, bias = model["latent"]
    by_hand = 1 / (1 + np.exp(-(found @ weight.reshape(16, -1).T + bias)))
    # the one has the LMDB's order, the other the data set's
    nearest = np.abs(by_hand[:, None] - latent).max(axis=2).argmin(axis=1)
    np.testing.assert_allclose(by_hand, latent[nearest], atol=1e-4)
    np.testing.assert_array_equal(labels, labels_there[nearest])


def test_the_whole_net_is_exported_as_any_run_s_is(head, folder_of, command, options):
    job, _ = head
    for module in ("tools.codes", "tools.search.indexing", "tools.export"):
        done = command(module, *options(job))
        assert done.returncode == 0, done.stderr
    assert done.stdout.count("0 of 5,680") >= 2  # ONNX Runtime's bits, and OpenCV's
    assert (folder_of(job) / "export" / "search.py").is_file()


def test_features_are_extracted_once(head, command, options):
    """Another code length, and a method without codes, take those that are there."""
    job, _ = head
    times = {path: path.stat().st_mtime_ns for path in features_of(job)[0].iterdir()}
    for other in ({"--bits": 8, "--run": "8"}, {"--method": "finetune", "--run": "finetune"}):
        done = command("tools.train", *options(job | other))
        assert done.returncode == 0, done.stderr
    assert len(features_of(job)) == 1
    assert times == {path: path.stat().st_mtime_ns for path in features_of(job)[0].iterdir()}


def test_of_two_at_once_one_extracts_and_the_other_waits(trained_run, options, tmp_path, folder_of):
    """Both need the same features, which are not there: of two extractions one would be in vain."""
    data = shutil.copytree(trained_run["--data-root"], tmp_path / "data")
    for folder in (data / "digits/28x1").glob("features-*"):
        shutil.rmtree(folder)
    job = trained_run | JOB | {"--runs": tmp_path, "--data-root": data, "--iters": 5}
    job["--weights"] = folder_of(trained_run) / "model.caffemodel"
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "tools.train", *map(str, options(job | {"--run": name}))],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "other")
    ]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    extracted = [name for name in ("one", "other") if (tmp_path / name / "features.log").exists()]
    assert len(extracted) == 1
    assert sum("waiting for it" in text for text in said) <= 1
    models = {(tmp_path / name / "model.caffemodel").read_bytes() for name in ("one", "other")}
    assert len(models) == 1


def test_paths_with_blanks_and_a_database_of_its_own(head, options, command, tmp_path):
    """Caffe reads a list of files up to a blank; the pictures of a database are not trained on."""
    job, _ = head
    root = shutil.copytree(job["--data-root"], tmp_path / "my data")
    data = root / "digits" / "28x1"
    for folder in data.glob("features-*"):
        shutil.rmtree(folder)
    shutil.copytree(data / "test_lmdb", data / "database_lmdb")
    manifest = json.loads((data / "manifest.json").read_text())
    for of_split in (manifest["counts"], manifest["labels"], manifest["lmdb_sha256"]):
        of_split["database"] = of_split["test"]
    (data / "manifest.json").write_text(json.dumps(manifest))
    others = {"--data-root": root, "--runs": tmp_path / "my runs", "--iters": 5, "--run": "my head"}
    done = command("tools.train", *options(job | others))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "my runs" / "my head" / "model.caffemodel").is_file()
    (folder,) = data.glob("features-*")
    assert not list(folder.glob("database-*"))


@pytest.mark.parametrize("method", ["cnnh", "dnnh"])
def test_heads_without_a_classifier_learn_codes(head, folder_of, command, options, method):
    """CNNH's features and target codes keep step; all layers of DNNH's head get onto the net."""
    job, _ = head
    job = job | {"--method": method, "--run": method}
    done = command("tools.train", *options(job))
    assert done.returncode == 0, done.stderr
    run = folder_of(job)
    shuffled = "shuffle: true" in (run / "head.prototxt").read_text()
    assert shuffled == (method == "dnnh")
    for words in (("tools.codes", *options(job)), ("eval", run / "codes.h5")):
        done = command(*words)
        assert done.returncode == 0, done.stderr
    assert json.loads((run / "metrics.json").read_text())["map"] > 0.85


def test_done_is_done_and_a_larger_iters_goes_on(head, command, options):
    job, _ = head
    again = command("tools.train", *options(job))
    assert again.returncode == 0 and "is trained already" in again.stdout
    more = command("tools.train", *options(job | {"--iters": 500}))
    assert more.returncode == 0 and "resuming at iteration 400" in more.stderr
    fewer = command("tools.train", *options(job))
    assert fewer.returncode == 1 and "beyond ITERS=400" in fewer.stderr


@pytest.mark.parametrize("there", [0, 1])
def test_a_head_and_a_whole_training_do_not_share_a_folder(head, trained, command, options, there):
    job, _ = head
    if there:
        other = {each: value for each, value in job.items() if each != "--head"}
    else:
        other = trained | {"--head": 1, "--weights": job["--weights"]}
    done = command("tools.train", *options(other))
    assert done.returncode == 1
    assert f"HEAD={bool(there)} there, HEAD={not there} here" in done.stderr


def test_a_net_that_has_learned_nothing_is_refused(job, command, options):
    done = command("tools.train", *options(job | {"--head": 1}))
    assert done.returncode == 1
    assert "HEAD=1 trains on the features of a net that has learned" in done.stderr


def test_scales_are_folded_into_the_layer():
    random = np.random.default_rng(0)
    weight, bias, features = (random.standard_normal(shape) for shape in ((4, 6), 4, (10, 6)))
    mean, variance = random.standard_normal(6), random.random(6)
    scaled = (features - mean) / np.sqrt(variance + assembly.EPSILON)
    folded, shifted = assembly.unscaled(weight, bias, mean * 3, variance * 3, np.float64([3]))
    np.testing.assert_allclose(features @ folded.T + shifted, scaled @ weight.T + bias)


def test_features_by_another_mean_image_or_of_other_pictures_are_others(data_root, tmp_path):
    root = shutil.copytree(data_root, tmp_path / "data")
    job = make_job(DATASET="digits", DATA_ROOT=str(root), HEAD="1", WEIGHTS="some.caffemodel")
    manifest = read_manifest(job.data)
    before = features_folder(job, manifest, "weights")
    assert (
        before
        == features_folder(job, manifest, "weights")
        != features_folder(job, manifest, "others")
    )
    with open(job.data / "mean.binaryproto", "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x41")
    assert features_folder(job, manifest, "weights") != before


def test_features_are_those_of_any_method_whose_net_makes_the_same():
    """A TEST phase that mirrors (KevinNet's) mirrors none here; layers in place are the net's."""
    job = {"DATASET": "digits", "NET": "alexnet", "HEAD": "1", "WEIGHTS": "some.caffemodel"}
    both = {
        method: render.render_job(
            make_job(METHOD=method, **job), classes=1, data="data", run="run", iters=0
        )
        for method in ("ssdh", "kevinnet")
    }
    assert len({identity(files, "fc7") for files in both.values()}) == 1
    files = both["ssdh"]
    dry = files | {"deploy.prototxt": files["deploy.prototxt"].replace("relu7", "relu_of_7")}
    assert identity(dry, "fc7") != identity(files, "fc7")


@pytest.fixture
def features(head, tmp_path):
    """A copy of the folder of the features that a head was trained on."""
    (folder,) = features_of(head[0])
    return shutil.copytree(folder, tmp_path / "features")


COUNTS = {"train": 1442, "test": 355}


def test_a_feature_that_hardly_differs_is_left_out(features, tmp_path, capsys):
    """Scaled by its own deviation it would be the loudest of all in pictures where it differs."""
    mean, variance = read(features, COUNTS)
    variance = np.maximum(variance, 0.1 * np.median(variance))
    variance[:3] = 0, 1e-9, 1e-5 * np.median(variance)
    with create_hdf5(features / "statistics.h5") as file:
        file["mean"], file["variance"] = mean, variance
    start = write_inputs(tmp_path, features, COUNTS)
    assert "3 of 500 features hardly differ" in capsys.readouterr().out
    (_, (_, scaled, _)) = next(iter(arrays(start).items()))
    assert (scaled[:3] >= 1e30).all()
    np.testing.assert_allclose(scaled[3:], variance[3:] * 500 / 100, rtol=1e-6)
    with create_hdf5(features / "statistics.h5") as file:
        file["mean"], file["variance"] = mean, np.zeros(500)
    with pytest.raises(InputError, match="has the same features for every training picture"):
        write_inputs(tmp_path, features, COUNTS)


def test_a_damaged_part_of_an_extraction_that_goes_on_is_said(features):
    (features / "train-0.h5").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"train-0\.h5 .*remove .*train-0\.h5, and run"):
        extraction.statistics([features / "train-0.h5"])


@pytest.mark.parametrize("name", ["statistics.h5", "train-0.h5", "test-0.h5"])
def test_damaged_features_are_said_with_the_file_and_what_to_do(features, name):
    whole = (features / name).read_bytes()
    for content in (whole[:-100], b"", b"\0" * len(whole)):
        (features / name).write_bytes(content)
        with pytest.raises(InputError, match=rf"{name} .*remove {features}, and run the command"):
            read(features, COUNTS)
    (features / name).unlink()
    with pytest.raises(InputError, match=f"{name} does not exist; remove"):
        read(features, COUNTS)


def test_features_of_other_pictures_or_another_size_are_refused(features):
    mean, variance = read(features, COUNTS)
    assert mean.shape == variance.shape == (500,)
    for counts in (COUNTS | {"train": 1441}, COUNTS | {"test": 356}):
        with pytest.raises(InputError, match="do not fit together"):
            read(features, counts)
    with create_hdf5(features / "statistics.h5") as file:
        file["mean"], file["variance"] = mean[1:], variance[1:]
    with pytest.raises(InputError, match="train-0.h5 and statistics.h5 do not fit together"):
        read(features, COUNTS)


def test_what_a_kill_has_left_of_a_snapshot_goes_where_the_head_is_published(
    head, folder_of, command, options
):
    job, _ = head
    run = folder_of(job)
    (run / "snapshots" / ".partial").mkdir()
    content = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(content | {"model": {}}))
    iters = content["settings"]["iters"]
    done = command("tools.train", *options(job | {"--iters": iters}))
    assert done.returncode == 0, done.stderr
    assert json.loads((run / "run.json").read_text())["model"]["iters"] == iters
    assert not (run / "snapshots" / ".partial").exists()
