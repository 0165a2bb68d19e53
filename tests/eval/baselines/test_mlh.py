import tracemalloc
from itertools import product

import numpy as np
import pytest
from tqdm import tqdm

from eval.baselines import mlh
from eval.baselines.training import training_set
from tests.eval.baselines.clusters import clustered
from tests.eval.baselines.learn import make_small


@pytest.mark.parametrize("bits", range(1, 11))
def test_inference_finds_the_best_of_all_pairs_of_codes(bits):
    """All 2^K codes of the first row, each with all 2^K of the second."""
    random = np.random.default_rng(bits)
    codes = np.array(list(product((-1, 1), repeat=bits)))
    for _ in range(20):
        scores, loss = random.standard_normal((2, bits)), 3 * random.random(bits + 1)
        chosen = np.empty((2, bits))
        found = mlh.infer(scores, loss, chosen)
        best = -np.inf
        for code, own in zip(codes, codes @ scores[0], strict=True):
            differing = (code != codes).sum(axis=1)
            best = max(best, (own + codes @ scores[1] + loss[differing]).max())
        assert found == pytest.approx(best, abs=1e-12)
        differing = int((chosen[0] != chosen[1]).sum())
        assert set(np.unique(chosen)) <= {-1, 1}
        assert (chosen * scores).sum() + loss[differing] == pytest.approx(best, abs=1e-12)


def test_losses_are_those_of_equation_4_to_a_factor():
    apart, same = mlh.pair_losses(bits=8, rho=3)
    assert apart * 4 == pytest.approx([4, 3, 2, 1, 0, 0, 0, 0, 0])
    assert same * 6 == pytest.approx([0, 0, 0, 1, 2, 3, 4, 5, 6])


def test_a_step_follows_the_gradient_of_the_bound(monkeypatch):
    """One batch with a small rate changes the bound by what its finite difference says."""
    random = np.random.default_rng(0)
    rows = random.standard_normal((mlh.BATCH * 2, 5))
    same = random.random(mlh.BATCH) < 0.4
    first, second = np.arange(mlh.BATCH), np.arange(mlh.BATCH, 2 * mlh.BATCH)
    losses = mlh.pair_losses(6, 2)
    start = 0.3 * random.standard_normal((5, 6))

    def bound(weights):
        still = weights.copy(), np.zeros_like(weights)
        return mlh.descend_epoch(rows, first, second, same, losses, *still, 0.0)[0]

    weights, velocity = start.copy(), np.zeros_like(start)
    before, loss = mlh.descend_epoch(rows, first, second, same, losses, weights, velocity, 1.0)
    assert 0 < loss <= before
    downhill = velocity + mlh.DECAY * start  # what the bound alone asks for
    for _ in range(5):
        direction = random.standard_normal(start.shape)
        slope = (bound(start + 1e-6 * direction) - bound(start - 1e-6 * direction)) / 2e-6
        assert slope == pytest.approx(-(downhill * direction).sum(), abs=1e-5)


def test_pairs_are_of_one_class_and_of_two_by_turns():
    labels = np.array([2, 0, 1, 0, 2, 2, 1, 0])
    pairs = mlh.by_class(np.arange(8.0)[:, None], labels)
    first, second, same = mlh.draw(pairs, 4000, np.random.default_rng(0))
    np.testing.assert_array_equal(same, labels[first] == labels[second])
    np.testing.assert_array_equal(same, np.arange(4000) % 2 == 0)
    assert len(np.unique(np.stack([first, second]), axis=1).T) == 8 * 8


def test_pairs_of_several_labels_share_one_or_none_by_turns():
    """But for a row that shares a label with all others, and for what REDRAWS does not find."""
    labels = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0], [1, 1, 1, 0]])
    pairs = mlh.by_class(np.arange(5.0)[:, None], labels.astype(np.uint8))
    first, second, same = mlh.draw(pairs, 4000, np.random.default_rng(0))
    np.testing.assert_array_equal(same, (labels[first] * labels[second]).any(axis=1))
    held = first != 4
    by_turns = np.arange(4000) % 2 == 0
    assert same[by_turns].all() and same[held & ~by_turns].mean() < 0.01
    assert same[~held].all() and not held.all()
    assert len(np.unique(np.stack([first, second]), axis=1).T) == 25


def test_the_memory_that_pairs_take_does_not_grow_with_the_classes():
    """20,000 rows of SUN397's 397 classes; an epoch's 100,000 pairs."""
    labels = np.arange(20_000) % 397
    pairs = mlh.by_class(np.zeros((20_000, 1)), labels)
    tracemalloc.start()
    first, second, same = mlh.draw(pairs, mlh.BATCH * mlh.STEPS, np.random.default_rng(0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6
    np.testing.assert_array_equal(same, labels[first] == labels[second])


def test_bound_and_loss_fall_and_the_best_rho_is_taken(monkeypatch):
    make_small(monkeypatch)
    training = training_set(*clustered(1500))
    _, record = mlh.learn(training, 16, np.random.default_rng(0))
    assert record["bound"][-1] < 0.8 * record["bound"][0]
    assert all(np.array(record["loss"]) <= record["bound"])
    best = int(np.argmax(record["validation_map"]))
    assert record["rho"] == record["rhos"][best]


def test_descent_does_not_change_its_start():
    pairs = mlh.by_class(*clustered(50))
    start = np.full((24, 4), 0.1)
    weights = mlh.descend(pairs, start, 1, 1, np.random.default_rng(0), tqdm(disable=True))[0]
    assert (start == 0.1).all() and (weights != 0.1).any()
