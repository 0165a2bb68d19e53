"""Several labels a picture on real Caffe: each loss and method, the head alone, codes, figures."""

import csv
import json
import shutil

import cv2
import h5py
import lmdb
import numpy as np
import pytest
from sklearn.datasets import load_digits

from data_prep.labels import labels_of
from tools.train import loop

SIZES = {"train": 600, "test": 200}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory, command):
    """Options of a job on pictures of two digits side by side, its data made; and their labels."""
    images, random = tmp_path_factory.mktemp("pairs") / "pairs", np.random.RandomState(0)
    digits, numbers = load_digits(return_X_y=True)
    digits = np.round(digits.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    halves = np.array_split(random.permutation(len(digits)), 2)  # no digit is in both splits
    images.mkdir()
    labels = {}
    for (split, size), rows in zip(SIZES.items(), halves, strict=True):
        lines = []
        for row, drawn in enumerate(random.choice(rows, (size, 2))):
            name = f"{split}{row:03d}.png"
            cv2.imwrite(str(images / name), np.hstack(digits[drawn]))
            found = sorted(set(numbers[drawn].tolist()))
            labels[name] = found
            lines.append(f"{name} {' '.join(map(str, found))}\n")
        (images / f"{split}.txt").write_text("".join(lines))
    (images / "classes.txt").write_text("".join(f"digit {digit}\n" for digit in range(10)))
    root = tmp_path_factory.mktemp("data")
    job = {
        "--dataset": "folder",
        "--images": images,
        "--net": "lenet",
        "--bits": 16,
        "--batch": 25,
        "--data-root": root,
        "--device": "cpu",
        "--runs": root / "runs",
    }
    made = command("tools.data", *[word for pair in job.items() for word in pair])
    assert made.returncode == 0, made.stderr
    return job, labels


@pytest.fixture(scope="module")
def trained_pairs(pairs, command, options):
    """The same with a run, and what its training said."""
    job = pairs[0] | {"--run": "sigmoid", "--iters": 300}
    done = command("tools.train", *options(job))
    assert done.returncode == 0, done.stderr
    return job, done


def rows_of(run):
    with open(run / "train.csv", newline="") as file:
        return list(csv.DictReader(file))


def expected_rows(keys, labels):
    rows = np.zeros((len(keys), 10), np.uint8)
    for row, key in enumerate(keys):
        rows[row, labels[key.decode()]] = 1
    return rows


@pytest.mark.slow
def test_training_codes_and_figures(trained_pairs, pairs, command, options, folder_of):
    """Mean average precision in train.csv, bar and log; rows of 0 and 1 in codes.h5; metrics."""
    job, done = trained_pairs
    run = folder_of(job)
    rows = rows_of(run)
    assert "test_accuracy" not in rows[0]
    assert float(rows[0]["test_mean_ap"]) < 0.35 < 0.6 < float(rows[-1]["test_mean_ap"])
    assert "mean AP=" in done.stderr
    assert "average precision by label, of 200 pictures: 0 " in (run / "train.log").read_text()
    settings = json.loads((run / "run.json").read_text())["settings"]
    assert settings["loss"] == "sigmoid"
    extracted = command("tools.codes", *options(job))
    assert extracted.returncode == 0, extracted.stderr
    with h5py.File(run / "codes.h5") as file:
        for group, split in (("database", "train"), ("query", "test")):
            keys = file[group]["key"][:]
            assert len(keys) == SIZES[split] and all(key.startswith(split.encode()) for key in keys)
            assert file[group]["labels"].dtype == np.uint8
            np.testing.assert_array_equal(file[group]["labels"][:], expected_rows(keys, pairs[1]))
        probabilities = file["query/probabilities"][:]
        assert file.attrs["class_names"][3] == "digit 3"
    assert probabilities.shape == (200, 10) and probabilities.sum(axis=1).std() > 0.05
    assert 0 <= probabilities.min() < 0.2 and 0.6 < probabilities.max() <= 1
    measured = command("eval", run / "codes.h5")
    assert measured.returncode == 0, measured.stderr
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["relevance"] == "any shared label" and metrics["map"] > 0.4


@pytest.mark.slow
def test_done_is_done_and_another_loss_is_another_run(trained_pairs, command, options):
    job, _ = trained_pairs
    again = command("tools.train", *options(job))
    assert again.returncode == 0 and "is trained already" in again.stdout
    more = command("tools.train", *options(job | {"--iters": 310}))
    assert more.returncode == 0 and "resuming at iteration 300" in more.stderr
    other = command("tools.train", *options(job | {"--loss": "margin2"}))
    assert other.returncode == 1
    assert "LOSS=sigmoid there, LOSS=margin2 here" in other.stderr
    softmax = command("tools.train", *options(job | {"--loss": "softmax"}))
    assert softmax.returncode == 1
    assert (
        "LOSS=softmax is not for folder-pairs, whose pictures have several labels each: sigmoid or "
        "margin1 or margin2 is"
    ) in softmax.stderr


@pytest.mark.slow
def test_one_label_takes_no_loss_of_several(job, command, options, folder_of):
    done = command("tools.train", *options(job | {"--loss": "margin1"}))
    assert done.returncode == 1
    assert "LOSS=margin1 is not for digits, whose pictures have one label each: softmax is" in (
        done.stderr
    )
    assert not folder_of(job).exists()


@pytest.mark.slow
def test_without_codes_and_by_the_margin(pairs, command, options, folder_of):
    job = pairs[0] | {"--method": "finetune", "--loss": "margin2", "--run": "margin"}
    job |= {"--iters": 200}
    done = command("tools.train", *options(job))
    assert done.returncode == 0, done.stderr
    run = folder_of(job)
    assert float(rows_of(run)[-1]["test_mean_ap"]) > 0.5
    parts = json.loads((run / "run.json").read_text())["fingerprint"]["parts"]
    assert "margin_loss.py" in parts
    assert command("tools.codes", *options(job)).returncode == 0
    with h5py.File(run / "features.h5") as file:
        keys = file["query/key"][:]
        np.testing.assert_array_equal(file["query/labels"][:], expected_rows(keys, pairs[1]))
        assert file["query/probabilities"].shape == (200, 10)


@pytest.mark.slow
def test_the_head_alone(trained_pairs, pairs, command, options, folder_of):
    model = folder_of(trained_pairs[0]) / "model.caffemodel"
    job = pairs[0] | {"--head": 1, "--method": "kevinnet", "--loss": "margin1", "--run": "head"}
    job |= {"--iters": 300, "--weights": model}
    done = command("tools.train", *options(job))
    assert done.returncode == 0, done.stderr
    run = folder_of(job)
    assert float(rows_of(run)[-1]["test_mean_ap"]) > 0.6
    assert command("tools.codes", *options(job)).returncode == 0
    with h5py.File(run / "codes.h5") as file:
        keys = file["database/key"][:]
        np.testing.assert_array_equal(file["database/labels"][:], expected_rows(keys, pairs[1]))


@pytest.mark.slow
def test_labels_of_other_pictures_stop_the_training(pairs, command, options, tmp_path):
    job, _ = pairs
    shutil.copytree(job["--data-root"] / "folder-pairs", tmp_path / "folder-pairs")
    path = labels_of(tmp_path / "folder-pairs/28x1/test_lmdb")
    with lmdb.open(str(path), map_size=1 << 24) as env, env.begin(write=True) as txn:
        key, value = next(iter(txn.cursor()))
        txn.delete(key)
        txn.put(key + b"x", value)
    done = command("tools.train", *options(job | {"--data-root": tmp_path, "--run": "other"}))
    assert done.returncode == 1
    assert f"{path} has other keys than test_lmdb, or in other order; remove" in done.stderr
    assert done.stderr.count("\n") == 1


def test_average_precision_by_label_against_a_plain_loop(capsys):
    random = np.random.RandomState(0)
    labels = random.rand(60, 4) < [0.1, 0.5, 0.9, 0]
    scores = random.rand(60, 4).astype(np.float32)
    expected = []
    for column in range(3):
        order = sorted(range(60), key=lambda row, c=column: -scores[row, c])
        hits = [labels[row, column] for row in order]
        found = [sum(hits[: at + 1]) / (at + 1) for at in range(60) if hits[at]]
        expected.append(sum(found) / len(found))
    figures = loop.label_figures(labels, scores)
    assert figures["test_mean_ap"] == pytest.approx(np.mean(expected), abs=1e-12)
    assert figures["label_share"] == pytest.approx(labels[:, :3].mean())
    assert f"1 {expected[1]:.4f}, 2 {expected[2]:.4f}\n" in capsys.readouterr().err


def test_codes_of_several_labels_that_collapse_are_warned_of():
    """Near chance is near the share of pictures that have a label."""
    row = {"saturation": 0.4, "test_binarization": -0.1249, "dead_bits": 0.0, "label_share": 0.3}
    assert loop.health(row | {"test_mean_ap": 0.6}, 10, 48) == []
    (words,) = loop.health(row | {"test_mean_ap": 0.33}, 10, 48)
    assert "mean average precision 0.330 is near chance" in words
