"""The accuracy of a net without codes, of all queries and of some a class."""

import json

import h5py
import numpy as np
import pytest

from eval.classification import measure_classification
from eval.files import InputError
from eval.label_scores import classification, score_labels
from eval.protocol import choose_queries
from eval.records import read_metrics
from tests.eval.samples import random_split, several_split, write_features


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "features.h5"
    write_features(path)
    _, probabilities, labels = random_split(np.random.default_rng(4), 40, 16, 4)
    with h5py.File(path, "a") as file:
        file["query/probabilities"] = probabilities
        file["query/labels"][...] = labels
    return path


def accuracy(path, rows):
    with h5py.File(path) as file:
        right = file["query/probabilities"][:].argmax(axis=1) == file["query/labels"][:]
    return right[rows].mean()


def test_all_queries_and_some_of_each_class(path):
    metrics = measure_classification(path)
    assert metrics["accuracy"] == pytest.approx(accuracy(path, slice(None)))
    assert (metrics["queries"], metrics["database"], metrics["subset"]) == (40, 300, None)
    with h5py.File(path) as file:
        chosen = choose_queries(file["query/labels"][:], 5, path)
    metrics = measure_classification(path, 5)
    assert metrics["accuracy"] == pytest.approx(accuracy(path, chosen))
    assert [each["queries"] for each in metrics["per_class"]] == [5] * 4
    drawn_by = "numpy.random.RandomState"
    assert metrics["subset"] == {"queries_per_class": 5, "seed": 0, "drawn_by": drawn_by}
    with pytest.raises(InputError, match="ask for fewer"):
        measure_classification(path, 30)


def test_several_labels(path):
    _, probabilities, labels = several_split(np.random.default_rng(4), 40, 16, 4)
    with h5py.File(path, "a") as file:
        del file["query/labels"]
        file["query/labels"], file["query/probabilities"][...] = labels, probabilities
    metrics = measure_classification(path)
    scores = score_labels(labels, probabilities)
    assert metrics["accuracy"] is None and metrics["classification"] == classification(scores)
    assert [each["queries"] for each in metrics["per_class"]] == labels.sum(axis=0).tolist()
    assert metrics["per_class"][2]["f1"] == scores.f1[2]
    path.with_name("metrics.json").write_text(json.dumps(metrics))
    assert read_metrics(path.with_name("metrics.json"), "make eval", codes=False) == metrics
    for wrong in (labels[:, :3], 2 * labels):
        with h5py.File(path, "a") as file:
            del file["query/labels"]
            file["query/labels"] = wrong
        with pytest.raises(InputError, match="not 0 and 1 for each of 4 labels; run make codes"):
            measure_classification(path)


def test_the_command_keeps_the_full_figures(path, command):
    done = command("eval.classification", path, "--queries", 5)
    assert done.returncode == 0, done.stderr
    assert json.loads(path.with_name("metrics-q5-k1000.json").read_text())["queries"] == 20
    assert json.loads(path.with_name("metrics.json").read_text())["accuracy"] == 0.75
    done = command("eval.classification", path, "--queries", 0)
    assert done.returncode == 2 and "0 is not at least 1" in done.stderr
