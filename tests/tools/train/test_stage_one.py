"""CNNH's stage 1: the objective, beside S in full, at every single step."""

import numpy as np
import pytest

from tools.train import stage_one


def in_full(codes, labels):
    """The objective by S and H H' themselves, a mean over all pairs."""
    same = np.where(labels[:, None] == labels, 1.0, -1.0)
    return np.square(same - codes @ codes.T / codes.shape[1]).mean()


def labels_of(pictures, classes, seed):
    """Labels of classes of unequal sizes, of which one may be empty."""
    random = np.random.RandomState(seed)
    return np.minimum(*random.randint(0, classes, (2, pictures)))


@pytest.mark.parametrize(("pictures", "classes", "bits"), [(40, 4, 12), (30, 10, 24), (25, 2, 8)])
def test_the_objective_falls_at_every_step(pictures, classes, bits):
    labels = labels_of(pictures, classes, seed=bits)
    random = np.random.RandomState(1)
    codes = random.uniform(-1, 1, (pictures, bits))
    sums = np.stack([codes[labels == label].sum(axis=0) for label in range(classes)])
    products, before = codes.T @ codes, in_full(codes, labels)
    moved = 0
    for place in random.permutation(codes.size):
        stage_one.sweep(codes, labels, sums, products, np.array([place]))
        now = in_full(codes, labels)
        assert now <= before + 1e-12
        moved += now < before - 1e-12
        before = now
    assert moved > 0.8 * codes.size
    assert np.abs(codes).max() <= 1
    np.testing.assert_allclose(products, codes.T @ codes, atol=1e-9)
    np.testing.assert_allclose(sums[2 % classes], codes[labels == 2 % classes].sum(axis=0))


def test_a_step_is_newton_s_where_that_lowers_the_objective():
    """Derivatives of the objective in one entry by differences of it, in full."""
    labels = labels_of(80, 5, seed=3)
    codes = np.random.RandomState(4).uniform(-1, 1, (80, 16))
    sums = np.stack([codes[labels == label].sum(axis=0) for label in range(5)])
    i, j, step = 7, 5, 1e-3

    def at(d):
        moved = codes.copy()
        moved[i, j] += d
        return in_full(moved, labels) * 16**2 * 80**2

    first = (at(step) - at(-step)) / (2 * step)
    second = (at(step) - 2 * at(0) + at(-step)) / step**2
    newton = codes[i, j] - first / second
    assert second > 0 and abs(newton) < 1 and at(newton - codes[i, j]) < at(0)
    stage_one.sweep(codes, labels, sums, codes.T @ codes, np.array([16 * i + j]))
    assert codes[i, j] == pytest.approx(newton, abs=1e-4)


def test_codes_tell_classes_apart_and_depend_on_the_seed_alone():
    labels = labels_of(500, 10, seed=5)
    runs = []
    for seed in (42, 42, 43):
        found = [(codes > 0, objective) for codes, objective in each_of(labels, 24, seed)]
        runs.append(found[-1][0])
        objectives = [objective for _, objective in found]
        assert (np.diff(objectives) <= 0).all() and objectives[-1] < 0.75 < 0.99 < objectives[0]
        assert len(found) <= stage_one.SWEEPS + 1
    assert (runs[0] == runs[1]).all() and (runs[0] != runs[2]).any()
    centres = np.stack([runs[0][labels == label].mean(axis=0) > 0.5 for label in np.unique(labels)])
    apart = (centres[:, None] != centres).sum(axis=2) + 24 * np.eye(len(centres), dtype=int)
    within = (runs[0] != centres[np.unique(labels, return_inverse=True)[1]]).sum(axis=1)
    assert apart.min() >= 8 and within.mean() < 1


def each_of(labels, bits, seed):
    return ((codes.copy(), each) for codes, each in stage_one.approximate_codes(labels, bits, seed))


def test_the_objective_by_sums_is_that_of_the_matrices():
    labels = labels_of(60, 7, seed=6)
    for codes, objective in stage_one.approximate_codes(labels, 16, 1):
        assert objective == pytest.approx(in_full(codes, labels), abs=1e-10)
