"""MLH: Norouzi and Fleet, "Minimal loss hashing for compact binary codes", ICML 2011.

A code is b(x) = sign(Wx), which maximizes g'Wx over the codes g in {-1, 1}^q (eq. 2). Two rows
whose codes differ in m bits cost l(m) = max(m - rho + 1, 0) if they are of one class (of several
labels a row: if they share any), else lambda max(rho - m + 1, 0) (eq. 4; each branch is divided by
its largest value, as in the authors' code).
What is minimized is a bound on that cost (eq. 8), piecewise linear in W:

    max over g, h of [l(|g - h|) + g'Wx + h'Wy] - max over g of g'Wx - max over h of h'Wy

The first maximum, loss-augmented inference, is exact (eqs. 9 to 12): in every bit the two codes
are either equal, at a score of |Wx + Wy|, or not, at |Wx - Wy|. The best pair that differs in m
bits is the best one that differs in m - 1, and the bit that then gains most: one pass over the
bits, in the order of their gains, has the best for every m.

Each step draws a batch of pairs and moves W by the bound's gradient (eq. 13), with momentum, and
with weight decay in place of the paper's unit rows, as in the authors' code. Rows are the
features on 40 principal axes, at unit length. rho is the one whose codes rank a validation part
best.
"""

from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from eval.baselines.training import (
    Encode,
    Training,
    members,
    principal_axes,
    share_labels,
    unit_rows,
)
from eval.compiled import compiled
from eval.metrics import evaluate_queries

ROWS = 20_000  # that are learned from: the paper's largest set
AXES = 40  # of PCA
VALIDATION = 0.1  # share of the rows that rho is chosen by, at most VALIDATION_ROWS
VALIDATION_ROWS = 1000
BATCH = 100  # pairs a step
STEPS = 1000  # an epoch: 100,000 pairs
EPOCHS, VALIDATION_EPOCHS = 30, 5
SHARES_OF_BITS = (1 / 16, 1 / 8, 3 / 16, 1 / 4, 3 / 8)  # what rho may be
RATE, MOMENTUM, DECAY = 0.03, 0.9, 1e-4
LAMBDA = 1.0  # half of the pairs that are drawn are of one class
SPREAD = 0.1  # of the first W
REDRAWS = 20  # of the second of a pair that is to share no label


class Pairs(NamedTuple):
    """Rows (N, D) float64, and what pairs of them are drawn by.

    labels: (N,) integers, or (N, L) of 0 and 1. of_row: int64, each row's labels, numbered from 0
    on, one row after another; by_label: int64, the rows of each label, one label after another;
    begin_row, begin_label: (N + 1,) and (C + 1,) int64, where those of each begin there.
    """

    rows: np.ndarray
    labels: np.ndarray
    of_row: np.ndarray
    begin_row: np.ndarray
    by_label: np.ndarray
    begin_label: np.ndarray


def learn(training: Training, bits: int, random: np.random.Generator) -> tuple[Encode, dict]:
    """Learn MLH on rows that are drawn from the features, with the best of some rho.

    Records the rows, each rho with its mAP on the validation part, the rho chosen, and of each
    epoch the mean bound and the mean loss of its pairs.
    """
    count = len(training.features)
    drawn = random.choice(count, min(ROWS, count), replace=False)
    axes = principal_axes(training, min(AXES, len(training.mean)))
    middle = training.mean @ axes

    def on_axes(features: np.ndarray) -> np.ndarray:
        return unit_rows(features @ axes, middle)

    rows, labels = on_axes(training.features[drawn]), training.labels[drawn]
    start = SPREAD * random.standard_normal((rows.shape[1], bits))
    held = min(max(1, int(VALIDATION * len(rows))), VALIDATION_ROWS)
    candidates = sorted({max(1, round(share * bits)) for share in SHARES_OF_BITS})
    total = VALIDATION_EPOCHS * len(candidates) + EPOCHS
    with tqdm(total=total, desc="MLH", unit=" epochs", disable=None, leave=False) as bar:
        ranked = []
        for rho in candidates:
            fitted = by_class(rows[held:], labels[held:])
            weights = descend(fitted, start, rho, VALIDATION_EPOCHS, random, bar)[0]
            ranked.append(mean_ap(rows @ weights > 0, labels, held))
        rho = candidates[int(np.argmax(ranked))]
        weights, bounds, losses = descend(by_class(rows, labels), start, rho, EPOCHS, random, bar)
    normals = axes @ weights  # to bring a row to unit length changes no sign
    record = {"rows": len(rows), "axes": axes.shape[1], "rho": rho, "rhos": candidates}
    return (
        lambda features: (features - training.mean) @ normals > 0,
        record | {"validation_map": ranked, "bound": bounds, "loss": losses},
    )


def by_class(rows: np.ndarray, labels: np.ndarray) -> Pairs:
    """Return rows (N, D) and labels (N,), or (N, L) of 0 and 1, as what pairs are drawn from."""
    labelled = members(labels)
    begin_row, begin_label = (
        np.concatenate([[0], np.cumsum(labelled.sum(axis=axis))]) for axis in (1, 0)
    )
    of_row, by_label = np.nonzero(labelled)[1], np.nonzero(labelled.T)[1]
    return Pairs(np.ascontiguousarray(rows), labels, of_row, begin_row, by_label, begin_label)


def descend(
    pairs: Pairs,
    start: np.ndarray,
    rho: int,
    epochs: int,
    random: np.random.Generator,
    bar: tqdm,
) -> tuple[np.ndarray, list[float], list[float]]:
    """Return W' (D, b) float64 that stochastic descent reaches from `start`; bounds; losses.

    The lists have the mean of each epoch's pairs, as W was when they were drawn.
    """
    weights, velocity = start.copy(), np.zeros_like(start)
    losses = pair_losses(start.shape[1], rho)
    bounds, empirical = [], []
    for epoch in range(epochs):
        rate = RATE * (1 - epoch / epochs)
        first, second, same = draw(pairs, BATCH * STEPS, random)
        bound, loss = descend_epoch(
            pairs.rows, first, second, same, losses, weights, velocity, rate
        )
        bounds.append(bound)
        empirical.append(loss)
        bar.update()
    return weights, bounds, empirical


def draw(
    pairs: Pairs, count: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return `count` pairs as two (count,) int64 arrays, and whether they share a label, bool.

    Every other one does, by a label of the first that is drawn, too; of the rest none, unless a row
    shares labels with nearly all others, and REDRAWS draws have found none that it does not.
    """
    rows = len(pairs.rows)
    first = random.integers(rows, size=count)
    alike = np.arange(count) % 2 == 0
    several = np.maximum(np.diff(pairs.begin_row)[first], 1)  # of a row without labels, any label
    place = pairs.begin_row[first] + random.integers(several)
    label = pairs.of_row[np.minimum(place, len(pairs.of_row) - 1)]
    size = np.diff(pairs.begin_label)[label]
    inside = pairs.by_label[pairs.begin_label[label] + random.integers(size)]
    second = np.where(alike, inside, random.integers(rows, size=count))
    for _ in range(REDRAWS):
        same = share_labels(pairs.labels[first], pairs.labels[second])
        wrong = np.flatnonzero(same & ~alike)
        second[wrong] = random.integers(rows, size=len(wrong))
    return first, second, share_labels(pairs.labels[first], pairs.labels[second])


def pair_losses(bits: int, rho: int) -> np.ndarray:
    """Return l(m, same) as (2, bits + 1) float64: of pairs of two classes, and of one class."""
    differing = np.arange(bits + 1)
    apart = np.maximum(rho - differing + 1, 0) / (rho + 1)
    same = np.maximum(differing - rho + 1, 0) / (bits - rho + 1)
    return np.stack([LAMBDA * apart, same])


def mean_ap(codes: np.ndarray, labels: np.ndarray, held: int) -> float:
    """Return the mAP, ties in expected order, of the first `held` codes against the others."""
    packed = np.packbits(codes, axis=1)
    figures = evaluate_queries(
        query_codes=packed[:held],
        query_labels=labels[:held],
        database_codes=packed[held:],
        database_labels=labels[held:],
        bits=codes.shape[1],
        k=1,
    )
    return float(figures.ap[:, 1].mean())


@compiled
def descend_epoch(
    rows: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    same: np.ndarray,
    losses: np.ndarray,
    weights: np.ndarray,
    velocity: np.ndarray,
    rate: float,
) -> tuple[float, float]:
    """Descend by batches of pairs, in place; return the mean bound and the mean loss of the pairs.

    weights, velocity: (D, b) float64, W' and its last change. rows: (N, D) float64. first, second:
    (P,) int64, pairs of rows. same: (P,) bool, which pairs share a label. losses: of `pair_losses`.
    """
    size, bits = weights.shape
    scores = np.empty((2, bits))
    chosen = np.empty((2, bits))
    gradient = np.zeros_like(weights)
    bound = total = 0.0
    for pair in range(len(first)):
        ends = (first[pair], second[pair])
        for side in range(2):
            scores[side] = 0
            for d in range(size):
                value = rows[ends[side], d]
                for k in range(bits):
                    scores[side, k] += value * weights[d, k]
        loss = losses[1 if same[pair] else 0]
        bound += infer(scores, loss, chosen) - np.abs(scores).sum()
        differing = 0
        for k in range(bits):
            differing += (scores[0, k] > 0) != (scores[1, k] > 0)
        total += loss[differing]
        for side in range(2):
            for k in range(bits):  # b(x) - g, of eq. 13
                chosen[side, k] = (1 if scores[side, k] > 0 else -1) - chosen[side, k]
            if np.abs(chosen[side]).sum() > 0:
                for d in range(size):
                    value = rows[ends[side], d]
                    for k in range(bits):
                        gradient[d, k] += value * chosen[side, k]
        if (pair + 1) % BATCH == 0:
            velocity *= MOMENTUM
            velocity += rate * (gradient / BATCH - DECAY * weights)
            weights += velocity
            gradient[:] = 0
    return bound / len(first), total / len(first)


@compiled
def infer(scores: np.ndarray, loss: np.ndarray, chosen: np.ndarray) -> float:
    """Write into `chosen` the codes g, h that maximize loss + g'Wx + h'Wy; return that maximum.

    scores: (2, b) float64, Wx and Wy. loss: (b + 1,) float64, by the number of bits that differ.
    chosen: (2, b) float64, of -1 and 1.
    """
    bits = scores.shape[1]
    equal = np.abs(scores[0] + scores[1])
    gains = np.abs(scores[0] - scores[1]) - equal
    order = np.argsort(-gains)
    best = value = equal.sum()
    best += loss[0]
    differing = 0
    for m in range(1, bits + 1):
        value += gains[order[m - 1]]
        if value + loss[m] > best:
            best, differing = value + loss[m], m
    for k in range(bits):
        chosen[:, k] = 1 if scores[0, k] + scores[1, k] > 0 else -1
    for m in range(differing):
        k = order[m]
        chosen[0, k] = 1 if scores[0, k] > scores[1, k] else -1
        chosen[1, k] = -chosen[0, k]
    return best
