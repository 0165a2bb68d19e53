import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.baselines import bre
from tests.eval.baselines.clusters import clustered


def objective(hashed, pairs, wanted):
    """Eq. 3, the mean over the pairs, of bits (b, N)."""
    first, second = hashed[:, pairs[:, 0]], hashed[:, pairs[:, 1]]
    return np.square(wanted - (first != second).mean(axis=0)).mean()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(2, 30), coarse=st.booleans())
def test_the_line_search_finds_what_trying_every_interval_finds(seed, rows, coarse):
    random = np.random.default_rng(seed)
    pairs = bre.draw_pairs(rows, 4, random)
    start, partner, of_pair = bre.adjacency(pairs, rows)
    sums, column = random.standard_normal(rows), random.standard_normal(rows)
    column[random.random(rows) < 0.2] = 0  # rows that the weight does not touch
    if coarse:  # thresholds that are equal, and sums of 0
        sums, column = np.round(sums), np.round(column)
    gain = random.standard_normal(len(pairs))

    def value(step):
        bits = sums + step * column > 0
        return gain[bits[pairs[:, 0]] != bits[pairs[:, 1]]].sum()

    with np.errstate(divide="ignore", invalid="ignore"):
        thresholds = np.unique((-sums / column)[column != 0])
    tried = [thresholds[:1] - 1, (thresholds[1:] + thresholds[:-1]) / 2, thresholds[-1:] + 1, [0]]
    best = min(map(value, np.concatenate(tried)))
    step, change = bre.line_search(sums, column, gain[of_pair], start, partner)
    assert value(step) == pytest.approx(best, abs=1e-6)
    assert change == pytest.approx(best - value(0), abs=1e-6)


def test_one_weight_is_set_to_the_best_of_a_fine_grid():
    """Against the objective itself, the other bits held, over 20,001 values of the weight."""
    random = np.random.default_rng(0)
    features, labels = clustered(40)
    kernel = features @ features.T.astype(float)
    pairs = bre.draw_pairs(40, 10, random)
    wanted = (labels[pairs[:, 0]] != labels[pairs[:, 1]]).astype(float)
    weights = random.standard_normal((3, 5))
    of_bit = np.stack([random.choice(40, 5, replace=False) for _ in range(3)])
    sums = np.stack([kernel[:, of_bit[p]] @ weights[p] for p in range(3)])
    hashed = sums > 0
    others = (hashed[1:, pairs[:, 0]] != hashed[1:, pairs[:, 1]]).sum(axis=0)
    gain = 1 / 9 - 2 * (wanted - others / 3) / 3
    start, partner, of_pair = bre.adjacency(pairs, 40)
    column = kernel[:, of_bit[0, 0]]
    step, change = bre.line_search(sums[0], column, gain[of_pair], start, partner)

    def with_step(value):
        return objective(np.vstack([sums[0] + value * column > 0, hashed[1:]]), pairs, wanted)

    grid = [with_step(value) for value in np.linspace(-20, 20, 20_001)]
    assert with_step(step) <= min(grid) + 1e-12 < objective(hashed, pairs, wanted)
    assert change == pytest.approx((with_step(step) - with_step(0)) * len(pairs))


def test_the_objective_falls_and_is_that_of_the_codes():
    random = np.random.default_rng(1)
    features, labels = clustered(200)
    centred = features - features.mean(axis=0, dtype=float)
    rows = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    pairs = bre.draw_pairs(200, 20, random)
    assert len(np.unique(pairs, axis=0)) == len(pairs) and (pairs[:, 0] < pairs[:, 1]).all()
    wanted = (labels[pairs[:, 0]] != labels[pairs[:, 1]]).astype(float)
    of_bit = np.stack([random.choice(200, 10, replace=False) for _ in range(8)])
    weights = random.standard_normal((8, 10))
    found = bre.descend(rows @ rows.T, of_bit, weights, pairs, wanted, random)
    assert np.diff(found).max() <= 1e-12 and found[-1] < 0.9 * found[0]
    hashed = np.stack([rows @ rows[of_bit[p]].T @ weights[p] > 0 for p in range(8)])
    assert found[-1] == pytest.approx(objective(hashed, pairs, wanted))
