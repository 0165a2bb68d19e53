"""Classification into several labels, beside scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score

from eval.label_scores import classification, of_label, score_labels


@pytest.fixture(scope="module")
def scored():
    """Labels and probabilities, of which many are equal; no picture has the last label."""
    random = np.random.default_rng(0)
    labels = (random.random((60, 7)) < 0.3).astype(np.uint8)
    probabilities = ((4 * labels + random.integers(9, size=labels.shape)) / 12).astype(np.float32)
    labels[:, 6] = 0
    return labels, probabilities


def test_equals_scikit_learn(scored):
    labels, probabilities = scored
    found, scores = probabilities > 0.5, score_labels(labels, probabilities)
    for label in range(6):
        ap = average_precision_score(labels[:, label], probabilities[:, label])
        f1 = f1_score(labels[:, label], found[:, label])
        assert of_label(scores, label) == pytest.approx({"average_precision": ap, "f1": f1})
    every = classification(scores)
    assert every["mean_average_precision"] == pytest.approx(
        average_precision_score(labels[:, :6], probabilities[:, :6], average="macro")
    )
    assert every["macro_f1"] == pytest.approx(
        f1_score(labels[:, :6], found[:, :6], average="macro")
    )
    assert every["micro_f1"] == pytest.approx(f1_score(labels, found, average="micro"))
    assert (every["labels"], every["threshold"]) == (6, 0.5)


def test_a_probability_of_one_half_is_no_label():
    half = np.array([[0.5, np.nextafter(np.float32(0.5), np.float32(1))]], np.float32)
    scores = score_labels(np.ones((1, 2), np.uint8), half)
    assert scores.f1.tolist() == [0, 1]


def test_pictures_without_any_label_score_zero():
    every = classification(score_labels(np.zeros((3, 2), np.uint8), np.zeros((3, 2), np.float32)))
    assert every["mean_average_precision"] == every["micro_f1"] == every["macro_f1"] == 0
