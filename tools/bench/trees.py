"""FastHash's decision trees by LightGBM, as it learns them, beside scikit-learn's exact ones.

`python -m tools.bench.trees RUN` takes a run with features.h5 (`make baselines` leaves it). Of each
of the first BITS bits, both learn the same codes, those of the cuts, from the same rows, by
AdaBoost with weight trimming; scikit-learn's trees look at 200 features a node, as in the authors'
code, LightGBM's at 200 a tree. Printed are the seconds, the share of rows that get another bit than
is wanted, and that of as many other rows, of which the bit of most rows of their class is wanted.
Last stands this process's memory after LightGBM's first bit was given to the whole database.
"""

import argparse
import resource
import time
from collections.abc import Callable
from pathlib import Path

import lightgbm
import numpy as np
from sklearn.tree import DecisionTreeClassifier
from tqdm import trange

from eval.baselines import fasthash
from eval.baselines.training import affinity, pieces, signs
from eval.features import read_features
from eval.files import InputError
from tools.run.failure import Failure, carry_out

BITS = 4
Votes = Callable[[np.ndarray], np.ndarray]  # rows (n, F) float32 -> (n,) float64


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a run's folder with features.h5")
    try:
        database = read_features(parser.parse_args().run / "features.h5").database
    except InputError as error:
        raise Failure(str(error)) from None
    features, labels = database.features, database.labels
    if labels.ndim == 2 or len(features) < 2 * fasthash.ROWS:
        raise Failure(
            f"the run needs pictures of one label each, {2 * fasthash.ROWS:,} or more in its "
            "database: take one of MNIST or CIFAR-10"
        )
    random = np.random.default_rng(0)
    drawn, others = np.split(random.permutation(len(features))[: 2 * fasthash.ROWS], 2)
    rows, same = features[drawn], affinity(labels[drawn])
    blocks = fasthash.blocks_of_labels(labels[drawn], random)
    binned = fasthash.binned_rows(rows)
    learners = {
        "LightGBM": lambda wanted: lightgbm_trees(rows, binned, wanted, random),
        "scikit-learn": lambda wanted: exact_trees(rows, wanted, random),
    }
    codes, found, peak = np.zeros((len(rows), 0)), {name: [] for name in learners}, 0
    for bit in trange(1, BITS + 1, unit=" bits", disable=None, leave=False):
        wanted = fasthash.spectral(same, codes, bit, random)
        for _ in range(fasthash.CUTS):
            fasthash.cut_blocks(wanted, same, codes, bit, blocks)
        asked = [(drawn, wanted), (others, of_most(wanted, labels[drawn], labels[others]))]
        given = {}
        for name, learn in learners.items():
            began = time.monotonic()
            votes = learn(wanted)
            given[name] = signs(votes(rows))
            seconds = time.monotonic() - began
            wrong = [(signs(votes(features[of])) != right).mean() for of, right in asked]
            found[name].append((seconds, *wrong))
            if not peak:
                for piece in pieces(features):
                    votes(piece)
                peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        codes = np.column_stack([codes, given["LightGBM"]])
    print(f"{len(rows):,} rows, {rows.shape[1]:,} features, {BITS} bits of {fasthash.TREES} trees")
    print(f"{'':14}{'s a bit':>10}{'wrong, these rows':>20}{'other rows':>14}")
    for name, taken in found.items():
        seconds, learned, other = np.mean(taken, axis=0)
        print(f"{name:14}{seconds:10.1f}{learned:20.4f}{other:14.4f}")
    seconds = {name: np.array(taken)[:, 0] for name, taken in found.items()}
    ratios = seconds["scikit-learn"] / seconds["LightGBM"]
    print(f"LightGBM is {ratios.min():.1f} to {ratios.max():.1f} times as fast")
    print(
        f"memory with LightGBM's trees: {peak / 1e6:,.0f} MB at most, of which the "
        f"{len(features):,} pictures' features are {features.nbytes / 1e6:,.0f} MB"
    )


def lightgbm_trees(
    rows: np.ndarray, binned: lightgbm.Dataset, wanted: np.ndarray, random: np.random.Generator
) -> Votes:
    """Return the votes of `fasthash.boost`."""
    trees, _ = fasthash.boost(rows, binned, wanted, random)
    return lambda asked: fasthash.votes(trees, asked)


def of_most(wanted: np.ndarray, labels: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return of each of the other labels the bit (n,) of -1 and 1 that most rows of it want."""
    sums = np.bincount(labels, wanted, minlength=others.max() + 1)
    return signs(sums)[others]


def exact_trees(rows: np.ndarray, wanted: np.ndarray, random: np.random.Generator) -> Votes:
    """Return the votes of AdaBoost with scikit-learn's trees, learned as `fasthash.boost` does."""
    weights, trees, ballots = np.full(len(rows), 1 / len(rows)), [], []
    for _ in range(fasthash.TREES):
        order = np.argsort(-weights)
        last = np.searchsorted(np.cumsum(weights[order]), fasthash.KEPT_WEIGHT)
        kept = order[: last + 1]
        tree = DecisionTreeClassifier(
            max_depth=fasthash.DEPTH,
            max_features=min(fasthash.FEATURES, rows.shape[1]),
            random_state=int(random.integers(2**31)),
        ).fit(rows[kept], wanted[kept], weights[kept])
        answers = tree.predict(rows)
        error = np.clip(
            weights[answers != wanted].sum(), fasthash.LEAST_ERROR, 1 - fasthash.LEAST_ERROR
        )
        trees.append(tree)
        ballots.append(0.5 * np.log((1 - error) / error))
        weights *= np.exp(-ballots[-1] * answers * wanted)
        weights /= weights.sum()
    return lambda asked: sum(
        ballot * tree.predict(asked) for ballot, tree in zip(ballots, trees, strict=True)
    )


if __name__ == "__main__":
    carry_out(main)
