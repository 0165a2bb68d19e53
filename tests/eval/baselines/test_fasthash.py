from itertools import product

import lightgbm
import numpy as np
import pytest
from sklearn.tree import DecisionTreeRegressor

from eval.baselines import fasthash
from eval.baselines.training import affinity, signs, training_set
from eval.files import InputError
from tests.eval.baselines.clusters import clustered
from tests.eval.baselines.learn import make_small

ALL = np.array(list(product((-1.0, 1.0), repeat=10)))


def labelled(rows, bits, several, classes=3, seed=0):
    """Labels, their Affinity, earlier codes (rows, bits) and a start (rows,) of a next bit."""
    random = np.random.default_rng(seed)
    labels = random.integers(classes, size=rows)
    if several:
        labels = (random.random((rows, 4)) < 0.3).astype(np.uint8)
    codes = np.where(random.random((rows, bits)) < 0.5, -1.0, 1.0)
    start = np.where(random.random(rows) < 0.5, -1.0, 1.0)
    return labels, affinity(labels), codes, start


def alike(labels):
    """Y, all of it."""
    if labels.ndim == 2:
        return np.where(labels.astype(int) @ labels.T > 0, 1.0, -1.0)
    return np.where(labels[:, None] == labels, 1.0, -1.0)


def affinities(labels, codes, bit):
    """The a_ij of eq. 8, all of them."""
    return codes @ codes.T - bit * alike(labels)


@pytest.mark.parametrize("spread", [2, 15, 40])
def test_a_block_of_ten_is_set_to_the_best_of_all_1024(spread):
    for seed in range(60):
        random = np.random.default_rng(seed)
        within = -np.triu(random.integers(6, size=(10, 10)), 1)
        within, field = within + within.T, random.integers(-spread, spread + 1, size=10)
        energies = ((ALL @ within) * ALL).sum(axis=1) + 2 * ALL @ field
        z = fasthash.best_cut(within.astype(float), field.astype(float))
        assert set(z) <= {-1, 1}
        assert z @ within @ z + 2 * field @ z == energies.min()


@pytest.mark.parametrize("several", [False, True])
def test_each_block_of_a_sweep_is_the_best_while_the_others_are_held(several):
    labels, same, codes, z = labelled(30, 4, several)
    a = affinities(labels, codes, bit=5)
    for block in fasthash.blocks_of_labels(labels, np.random.default_rng(0)):
        block = block[:10]
        tried = np.tile(z, (2 ** len(block), 1))
        tried[:, block] = list(product((-1.0, 1.0), repeat=len(block)))
        energies = ((tried @ a) * tried).sum(axis=1)
        fasthash.cut_blocks(z, same, codes, 5, [block])
        assert z @ a @ z == pytest.approx(energies.min())
        assert fasthash.energy(z, same, codes, 5) == pytest.approx(z @ a @ z)


@pytest.mark.parametrize("several", [False, True])
def test_a_sweep_over_many_blocks_keeps_its_sums(monkeypatch, several):
    """In one call as in a call a block: the sums over all rows are kept up to date."""
    monkeypatch.setattr(fasthash, "BLOCK", 7)
    labels, same, codes, start = labelled(100, 6, several)
    blocks = fasthash.blocks_of_labels(labels, np.random.default_rng(0))
    assert sorted(np.concatenate(blocks)) == list(range(100))
    assert all(
        len(block) <= 7 and (len(block) == 1 or (alike(labels[block]) == 1).all())
        for block in blocks
    )
    at_once, one_by_one = start.copy(), start.copy()
    fasthash.cut_blocks(at_once, same, codes, 7, blocks)
    for block in blocks:
        before = fasthash.energy(one_by_one, same, codes, 7)
        fasthash.cut_blocks(one_by_one, same, codes, 7, [block])
        assert fasthash.energy(one_by_one, same, codes, 7) <= before + 1e-9
    np.testing.assert_array_equal(at_once, one_by_one)


@pytest.mark.parametrize("several", [False, True])
def test_the_spectral_start_and_the_objective_are_those_of_the_whole_matrix(several):
    labels, same, codes, z = labelled(60, 5, several)
    a = affinities(labels, codes, bit=6)
    values, vectors = np.linalg.eigh(a)
    assert values[1] - values[0] > 1e-6
    start = fasthash.spectral(same, codes, 6, np.random.default_rng(0))
    assert abs(start @ signs(vectors[:, 0])) == 60
    np.testing.assert_allclose(same.times(z), alike(labels) @ z)
    mean = np.square(alike(labels) - codes @ codes.T / 5).mean()
    assert fasthash.objective(same, codes) == pytest.approx(mean)


def test_votes_are_those_of_adaboost_with_exact_trees(monkeypatch):
    """Of scikit-learn's, on all rows and features; of little depth, so that no two cuts tie."""
    monkeypatch.setattr(fasthash, "TREES", 8)
    monkeypatch.setattr(fasthash, "DEPTH", 2)
    monkeypatch.setattr(fasthash, "KEPT_WEIGHT", 1)
    random = np.random.default_rng(0)
    rows = random.integers(fasthash.LEVELS, size=(2000, 5)).astype(np.float32)
    wanted = signs(rows.sum(axis=1) + random.normal(600, 200, size=2000) - 1240)
    weights, expected = np.full(2000, 1 / 2000), np.zeros(2000)
    for _ in range(8):
        tree = DecisionTreeRegressor(max_depth=2)
        answers = signs(tree.fit(rows, wanted, weights).predict(rows))
        error = weights[answers != wanted].sum()
        vote = np.log((1 - error) / error) / 2
        expected += vote * answers
        weights *= np.exp(-vote * answers * wanted)
        weights /= weights.sum()
    trees, given = boosted(rows, wanted)
    np.testing.assert_allclose(fasthash.votes(trees, rows), expected, rtol=1e-5)
    np.testing.assert_array_equal(given, signs(expected))


def boosted(rows, wanted):
    return fasthash.boost(rows, fasthash.binned_rows(rows), wanted, np.random.default_rng(0))


def test_boosting_fits_what_no_tree_of_its_depth_can(monkeypatch):
    monkeypatch.setattr(fasthash, "TREES", 60)
    rows = np.random.default_rng(0).integers(256, size=(800, 6)).astype(np.float32)
    wanted = signs(rows.sum(axis=1) - rows.sum(axis=1).mean())
    tree = DecisionTreeRegressor(max_depth=fasthash.DEPTH).fit(rows, wanted)
    alone = (signs(tree.predict(rows)) == wanted).mean()
    trees, given = boosted(rows, wanted)
    assert alone < 0.9 < 0.98 < (given == wanted).mean()
    np.testing.assert_array_equal(signs(fasthash.votes(trees, rows)), given)


@pytest.mark.parametrize("sign", [-1, 1])
def test_rows_that_are_wanted_alike_get_what_is_wanted(sign):
    rows = np.random.default_rng(0).integers(256, size=(30, 6)).astype(np.float32)
    trees, given = boosted(rows, np.full(30, float(sign)))
    assert trees.num_trees() == 1
    np.testing.assert_array_equal(given, sign)


def test_a_feature_that_is_constant_is_no_feature():
    """As of a unit that is dead over the whole database: nothing asks for it."""
    features, labels = clustered(400)
    dead = np.concatenate([features, np.full((400, 40), 3.5, np.float32)], axis=1)
    trees, _ = boosted(dead, np.where(labels < 2, 1.0, -1.0))
    splits, width = trees.feature_importance(), features.shape[1]
    assert splits[:width].any() and not splits[width:].any()


def test_one_picture_far_out_spoils_no_feature(monkeypatch):
    """Steps have as many rows each, whatever the widest feature of one row is."""
    make_small(monkeypatch)
    features, labels = clustered(400)
    wanted = np.where(labels < 2, 1.0, -1.0)
    assert (boosted(features, wanted)[1] == wanted).all()
    features[7] = 1e6
    assert (boosted(features, wanted)[1] == wanted).all()


@pytest.mark.parametrize("far", [1e-37, 1e6])
def test_rows_that_no_tree_tells_apart_are_one_sentence(monkeypatch, far):
    """As of a collapsed net: all features are alike but those of a picture that is not drawn."""
    monkeypatch.setattr(fasthash, "ROWS", 20)
    features, labels = np.zeros((2000, 6), np.float32), np.arange(2000) % 2
    drawn = np.random.default_rng(0).choice(2000, 20, replace=False)
    features[np.setdiff1d(np.arange(2000), drawn)[0]] = far
    with pytest.raises(InputError, match="the 20 pictures that FastHash learns from are the same"):
        fasthash.learn(training_set(features, labels), 4, np.random.default_rng(0))


def test_trees_are_learned_on_the_rows_that_have_the_weight(monkeypatch):
    """Once boosting has told easy rows from hard ones, on few of them; at first on nearly all."""
    counts = []

    class Counting(lightgbm.Booster):
        def update(self, fobj):
            def counted(*arguments):
                slopes, weights = fobj(*arguments)
                counts.append((np.count_nonzero(weights), weights.mean()))
                np.testing.assert_array_equal(np.abs(slopes), weights)
                return slopes, weights

            return super().update(fobj=counted)

    monkeypatch.setattr(lightgbm, "Booster", Counting)
    monkeypatch.setattr(fasthash, "TREES", 40)
    features, labels = clustered(1000)
    boosted(features, np.where(labels < 2, 1.0, -1.0))
    assert all(weight >= fasthash.KEPT_WEIGHT - 1e-9 for _, weight in counts)
    assert counts[0][0] >= 990 and counts[-1][0] < 500


def test_energies_fall_in_the_cuts_and_the_objective_over_the_bits(monkeypatch):
    make_small(monkeypatch)
    _, record = fasthash.learn(training_set(*clustered(900)), 12, np.random.default_rng(0))
    assert all(np.array(record["cut_energy"]) <= np.array(record["spectral_energy"]) + 1e-12)
    assert record["objective"][-1] < 0.5 * record["objective"][0]
    assert len(record["tree_energy"]) == 12
