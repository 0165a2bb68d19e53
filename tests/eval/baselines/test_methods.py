import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import eigh
from scipy.optimize import check_grad

from eval.baselines import itq, ksh, lsh, spectral
from eval.baselines.methods import BASELINES
from eval.baselines.training import affinity, principal_axes, training_set
from tests.eval.baselines.clusters import clustered
from tests.eval.baselines.learn import make_small

LEARN = [pytest.param(baseline.learn, id=name) for name, baseline in BASELINES.items()]


@pytest.fixture(scope="module")
def training():
    return training_set(*clustered(1200))


@pytest.fixture(autouse=True)
def small(request, monkeypatch):
    if "learn" in request.fixturenames:
        make_small(monkeypatch)


@pytest.mark.parametrize("learn", LEARN)
def test_codes_of_one_class_are_nearer_than_those_of_two(training, learn):
    encode, _ = learn(training, 16, np.random.default_rng(0))
    features, labels = clustered(300, seed=1)
    bits = encode(features)
    assert bits.shape == (300, 16) and bits.dtype == bool
    distances = (bits[:, None] != bits).sum(axis=2)
    same = labels[:, None] == labels
    assert bits.any(axis=0).all() and not bits.all(axis=0).any()
    assert distances[same].mean() < distances[~same].mean() - 2


@pytest.mark.parametrize("learn", LEARN)
def test_as_few_rows_as_bits_are_enough(learn):
    encode, _ = learn(training_set(*clustered(8, classes=2)), 8, np.random.default_rng(0))
    assert encode(clustered(5)[0]).shape == (5, 8)


@pytest.mark.parametrize("learn", LEARN)
def test_one_seed_gives_the_same_codes(training, learn):
    first, second = (learn(training, 16, np.random.default_rng(3))[0] for _ in range(2))
    np.testing.assert_array_equal(first(training.features[:50]), second(training.features[:50]))


def test_moments_and_axes_are_those_of_all_rows(training, monkeypatch):
    monkeypatch.setattr("eval.baselines.training.ROWS_PER_PIECE", 100)
    features, labels = clustered(1234)
    pieced = training_set(features, labels)
    np.testing.assert_allclose(pieced.mean, features.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(
        pieced.covariance, np.cov(features.T.astype(float), bias=True), atol=1e-9
    )
    axes = principal_axes(pieced, 3)
    variances = ((features - pieced.mean) @ axes).var(axis=0)
    np.testing.assert_allclose(variances, np.linalg.eigvalsh(pieced.covariance)[::-1][:3])


def test_lsh_distance_estimates_the_angle(training):
    encode, _ = lsh.learn(training, 20_000, np.random.default_rng(0))
    pair = training.features[:2]
    centred = pair - training.mean
    cosine = centred[0] @ centred[1] / np.linalg.norm(centred[0]) / np.linalg.norm(centred[1])
    differing = np.mean(np.not_equal(*encode(pair)))
    assert differing == pytest.approx(np.arccos(cosine) / np.pi, abs=0.02)


def test_spectral_modes_are_the_smallest_eigenvalues_of_equation_7():
    width, epsilon, bits = np.array([7.0, 3.0, 1.0, 0.0]), 0.1, 12
    axis, mode = spectral.smallest_modes(width, bits)
    eigenvalues = {
        (a, m): 1 - np.exp(-(epsilon**2) / 2 * (m * np.pi / width[a]) ** 2)
        for a in range(3)
        for m in range(1, bits + 1)
    }
    assert set(zip(axis.tolist(), mode.tolist(), strict=True)) == set(
        sorted(eigenvalues, key=eigenvalues.get)[:bits]
    )
    assert 2 not in axis[:9]  # a long axis is cut often before a short one is cut once


def test_first_spectral_bit_cuts_the_longest_axis_in_its_middle(training):
    encode, record = spectral.learn(training, 8, np.random.default_rng(0))
    along = (training.features - training.mean) @ principal_axes(training, 8)
    widest = np.ptp(along, axis=0).argmax()
    assert (record["axis"][0], record["mode"][0]) == (widest, 1)
    along = along[:, widest]
    middle = (along.min() + along.max()) / 2
    np.testing.assert_array_equal(encode(training.features)[:, 0], along <= middle)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(2, 200),
    bits=st.integers(1, 12),
    scale=st.floats(1e-3, 1e3),
    zero_columns=st.integers(0, 11),
)
def test_quantization_error_never_rises(seed, rows, bits, scale, zero_columns):
    random = np.random.default_rng(seed)
    projections = scale * random.standard_normal((rows, bits)) * random.random(bits)
    projections[:, bits - min(zero_columns, bits - 1) :] = 0
    turned, errors = itq.rotation(projections, random)
    assert len(errors) == itq.ITERATIONS + 1
    assert np.diff(errors).max() <= 1e-12 * errors[0]
    np.testing.assert_allclose(turned @ turned.T, np.eye(bits), atol=1e-9)
    rotated = projections @ turned
    distance = np.square(np.where(rotated >= 0, 1, -1) - rotated).sum()
    assert distance == pytest.approx(errors[-1])


def test_itq_rotates_the_principal_axes_to_a_smaller_error(training):
    _, record = itq.learn(training, 16, np.random.default_rng(0))
    errors = record["quantization_errors"]
    assert errors[-1] < 0.98 * errors[0]


def test_canonical_axes_solve_equation_4(training):
    axes = itq.canonical_axes(training, 6)
    assert not axes[:, 4:].any()  # five classes have four axes
    labels = (training.labels[:, None] == np.arange(5)).astype(float)
    joint = np.cov(training.features.T.astype(float), labels.T, bias=True)
    cross = joint[:24, 24:]
    left = cross @ np.linalg.inv(joint[24:, 24:] + itq.RIDGE * np.eye(5)) @ cross.T
    right = joint[:24, :24] + itq.RIDGE * np.eye(24)
    squared = eigh(left, right, eigvals_only=True)[::-1]
    for w, expected in zip(axes.T[:4], squared, strict=False):
        np.testing.assert_allclose(left @ w, expected * (right @ w), atol=1e-8)
        assert w @ right @ w == pytest.approx(expected)


def several(rows, seed=0):
    """Features around the sum of a centre for each of a row's labels, and labels (rows, 6)."""
    random = np.random.default_rng(seed)
    labels = (random.random((rows, 6)) < 0.3).astype(np.uint8)
    centres = np.random.default_rng(99).standard_normal((6, 24)) * 3
    return (labels @ centres + random.standard_normal((rows, 24))).astype(np.float32), labels


@pytest.mark.parametrize(
    "learn", [pytest.param(each.learn, id=name) for name, each in BASELINES.items()]
)
def test_codes_of_rows_that_share_labels_are_nearer(learn):
    encode, _ = learn(training_set(*several(1000)), 8, np.random.default_rng(0))
    features, labels = several(300, seed=1)
    bits, grades = encode(features), labels.astype(int) @ labels.T
    distances = (bits[:, None] != bits).sum(axis=2)
    assert distances[grades > 0].mean() < distances[grades == 0].mean()
    assert distances[grades > 1].mean() < distances[grades == 1].mean()


def test_canonical_axes_of_several_labels_solve_equation_4():
    training = training_set(*several(1200))
    axes = itq.canonical_axes(training, 8)
    assert not axes[:, 6:].any()  # of six labels that are not bound to one another
    joint = np.cov(training.features.T.astype(float), training.labels.T, bias=True)
    cross = joint[:24, 24:]
    left = cross @ np.linalg.inv(joint[24:, 24:] + itq.RIDGE * np.eye(6)) @ cross.T
    right = joint[:24, :24] + itq.RIDGE * np.eye(24)
    squared = eigh(left, right, eigvals_only=True)[::-1]
    for w, expected in zip(axes.T[:6], squared, strict=False):
        np.testing.assert_allclose(left @ w, expected * (right @ w), atol=1e-7)
        assert w @ right @ w == pytest.approx(expected)


def test_ksh_takes_rows_for_similar_where_they_share_any_label():
    _, labels = several(80)
    shared = labels.astype(int) @ labels.T > 0
    random = np.random.default_rng(0)
    chosen = np.sign(random.standard_normal((80, 2)))
    residue = 5 * np.where(shared, 1, -1) - chosen @ chosen.T
    v = random.standard_normal(80)
    np.testing.assert_allclose(ksh._residue(affinity(labels), chosen, 5)(v), residue @ v)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), bits=st.integers(1, 6), classes=st.integers(1, 4))
def test_each_bit_is_no_worse_than_its_spectral_start(seed, bits, classes):
    random = np.random.default_rng(seed)
    kernel = random.standard_normal((60, 8))
    labels = random.integers(classes, size=60)
    coefficients, spectral_objective, final = ksh.learn_bits(kernel, labels, bits)
    similarity = np.where(labels[:, None] == labels, 1, -1)
    residue = bits * similarity.astype(float)
    gram = kernel.T @ kernel
    gram += ksh.RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    for a, start, kept in zip(coefficients.T, spectral_objective, final, strict=True):
        # eq. 12 written out: the largest generalized eigenvector of (K'RK, K'K)
        spectral = kernel @ eigh(kernel.T @ residue @ kernel, gram)[1][:, -1]
        spectral_bit = np.where(spectral > 0, 1.0, -1.0)
        assert start == pytest.approx(-spectral_bit @ residue @ spectral_bit)
        assert kept <= -spectral_bit @ residue @ spectral_bit + 1e-6
        bit = np.where(kernel @ a > 0, 1.0, -1.0)
        assert kept == pytest.approx(-bit @ residue @ bit)
        residue -= np.outer(bit, bit)


def test_descent_improves_bits_beyond_their_spectral_start(training):
    _, record = ksh.learn(training, 16, np.random.default_rng(0))
    pairs = list(zip(record["spectral_objective"], record["final_objective"], strict=True))
    assert all(final <= start for start, final in pairs)
    assert sum(final < start for start, final in pairs) >= 4


def test_spectral_start_is_the_largest_generalized_eigenvector():
    random = np.random.default_rng(0)
    kernel, labels = random.standard_normal((50, 6)), random.integers(3, size=50)
    similarity = 4.0 * np.where(labels[:, None] == labels, 1, -1)
    start = ksh._spectral_start(
        kernel, kernel.T @ kernel, ksh._residue(affinity(labels), np.zeros((50, 0)), 4)
    )
    assert np.square(kernel @ start).sum() == pytest.approx(50)
    largest = eigh(kernel.T @ similarity @ kernel, kernel.T @ kernel, eigvals_only=True)[-1]
    assert (kernel @ start) @ similarity @ (kernel @ start) == pytest.approx(50 * largest)


def test_gradient_of_the_smoothed_objective():
    random = np.random.default_rng(0)
    kernel, labels = random.standard_normal((40, 5)), random.integers(3, size=40)
    smoothed = ksh._smoothed(kernel, ksh._residue(affinity(labels), _one_bit(random), bits=4))
    a = random.standard_normal(5)
    error = check_grad(lambda x: smoothed(x)[0], lambda x: smoothed(x)[1], a)
    assert error < 1e-3 * np.linalg.norm(smoothed(a)[1])


def _one_bit(random):
    return np.sign(random.standard_normal((40, 1)))
