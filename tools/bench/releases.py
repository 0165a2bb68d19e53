"""MLH and BRE beside MATLAB code that others released, in Octave, on scikit-learn's digits.

`python -m tools.bench.releases MLH BRE` takes two folders: one with learnMLH.m, of the authors'
release of MLH ("min-loss-hashing", its version of 2011), and one with trainBRE.m, of a port of the
authors' BRE ("hashing-baseline-for-image-retrieval"). First both sides make the same steps: from
one start, on the pairs and weights that Octave draws, so that what they reach is to be equal but
for rounding. Then each learns by itself, and the digits' mAP by both codes is printed.
"""

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from scipy.io import loadmat, savemat
from sklearn.datasets import load_digits
from tqdm import tqdm

from eval.baselines import bre, mlh
from eval.baselines.training import unit_rows
from tools.run.failure import Failure, carry_out

SEEDS = (1, 2, 3)
QUERIES = 297  # the first digits; the other 1,500 are the database, and what is learned from
BITS, RHO, EPOCHS = 16, 3, 30  # of MLH; the authors' choice for small data
BRE_ROWS, BRE_BITS = 400, 8  # Octave takes minutes for more
MLH_SCRIPT = """
load given.mat
addpath(code);
param = struct('nb', nb, 'eta', eta, 'shrink_eta', 0, 'size_batches', batch, 'maxiter', 2, ...
  'zerobias', 1, 'momentum', momentum, 'shrink_w', decay, 'trainset', 'train', ...
  'nval_during', 0, 'nval_after', 0, ...
  'loss', struct('type', 'hinge', 'rho', rho, 'lambda', .5));
data = struct('Ntraining', n, 'Xtraining', x, 'Straining', same);
positive = find(same == 1);
more = round(batch * max(.5 - numel(positive) / n^2, 0));
rand('twister', seed);
pairs = zeros(batch, steps);
for step = 1:steps
  pairs(1:batch-more, step) = ceil(rand(batch - more, 1) * n^2);
  pairs(batch-more+1:end, step) = positive(ceil(rand(more, 1) * numel(positive)));
end
rand('twister', seed);
[ap, epoch] = learnMLH(data, param, 0, start);
param.shrink_eta = 1;
param.maxiter = epochs + 1;
[ap, whole] = learnMLH(data, param, 0, start);
save('-v7', 'found.mat', 'pairs', 'epoch', 'whole');
"""
BRE_SCRIPT = """
load given.mat
addpath(code);
given = struct('Ktrain', kernel, 'Ktest', queries, 'n', n, 'nbits', bits, 'hash_inds', rows, ...
  'hash_size', size, 'W0', start, 'disp', 1);
randp('twister', seed); rand('twister', seed);
first = []; second = [];
for i = 1:n
  order = randperm(n);
  partners = setdiff(order(1:(.05*n))', i);
  first = [first; i * ones(length(partners), 1)]; second = [second; partners];
end
weights = zeros(bits, 1);
for b = 1:bits
  weights(b) = ceil(rand * size);
end
rand('twister', seed);
[database, query] = trainBRE(given);
save('-v7', 'found.mat', 'first', 'second', 'weights', 'database', 'query');
"""


def main() -> None:
    """Print what both sides reach."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mlh", type=Path, help="folder of learnMLH.m")
    parser.add_argument("bre", type=Path, help="folder of trainBRE.m")
    given = parser.parse_args()
    if not shutil.which("octave-cli"):
        raise Failure("octave-cli is not installed: apt-get install octave")
    for path in (given.mlh / "learnMLH.m", given.bre / "trainBRE.m"):
        if not path.is_file():
            raise Failure(f"there is no {path}: give the folders of both releases")
    features, labels = load_digits(return_X_y=True)
    rows = unit_rows(features, features.mean(axis=0))
    for seed in SEEDS:
        compare_mlh(given.mlh, rows, labels, seed)
    for seed in SEEDS:
        compare_bre(given.bre, rows, labels, seed)


def octave(script: str, folder: Path, given: dict) -> tuple[dict, str]:
    """Return what a script saves as found.mat, and what it prints; `given` are its variables."""
    savemat(folder / "given.mat", given)
    command = ["octave-cli", "--quiet", "--no-init-file", "--eval", script]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise Failure(f"Octave ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return loadmat(folder / "found.mat"), done.stdout


def compare_mlh(code: Path, rows: np.ndarray, labels: np.ndarray, seed: int) -> None:
    """Print W after an epoch of the same pairs on both sides, and the mAP of a whole training."""
    random = np.random.default_rng(seed)
    learned, known = rows[QUERIES:], labels[QUERIES:]
    start = mlh.SPREAD * random.standard_normal((rows.shape[1], BITS))
    with tempfile.TemporaryDirectory(prefix="releases-") as folder:
        found, _ = octave(
            MLH_SCRIPT,
            Path(folder),
            {
                "code": str(code.resolve()),
                "nb": float(BITS),
                "eta": mlh.RATE,
                "batch": float(mlh.BATCH),
                "steps": float(mlh.STEPS),
                "momentum": mlh.MOMENTUM,
                "decay": mlh.DECAY,
                "rho": float(RHO),
                "epochs": float(EPOCHS),
                "n": float(len(learned)),
                "x": learned.T,
                "same": (known[:, None] == known).astype(float),
                "start": np.column_stack([start.T, np.zeros(BITS)]),
                "seed": float(seed),
            },
        )
    second, first = np.divmod(found["pairs"].T.ravel().astype(np.int64) - 1, len(learned))
    pairs, weights = mlh.by_class(learned, known), start.copy()
    losses = mlh.pair_losses(BITS, RHO)
    same = known[first] == known[second]
    velocity = np.zeros_like(weights)
    mlh.descend_epoch(pairs.rows, first, second, same, losses, weights, velocity, mlh.RATE)
    theirs = found["epoch"][:, :-1].T
    apart = np.abs(weights - theirs).max() / np.abs(theirs).max()
    with tqdm(total=EPOCHS, disable=None, leave=False) as bar:
        whole = mlh.descend(pairs, start, RHO, EPOCHS, random, bar)[0]
    ours, octaves = (
        mlh.mean_ap(rows @ each > 0, labels, QUERIES) for each in (whole, found["whole"][:, :-1].T)
    )
    print(
        f"MLH, {BITS} bits, seed {seed}: W after {mlh.STEPS:,} steps on the same pairs differs by "
        f"{apart:.1e} of its largest; mAP after {EPOCHS} epochs {ours:.4f}, Octave {octaves:.4f}",
        flush=True,
    )


def compare_bre(code: Path, rows: np.ndarray, labels: np.ndarray, seed: int) -> None:
    """Print the objective after a line search of each bit on both sides, and where both end."""
    random = np.random.default_rng(seed)
    learned = rows[QUERIES : QUERIES + BRE_ROWS]
    kernel, others = learned @ learned.T, rows @ learned.T
    of_bit = np.stack([random.permutation(BRE_ROWS)[: bre.HASH_ROWS] for _ in range(BRE_BITS)])
    start = bre.SPREAD * random.standard_normal(of_bit.shape)
    with tempfile.TemporaryDirectory(prefix="releases-") as folder:
        found, printed = octave(
            BRE_SCRIPT,
            Path(folder),
            {
                "code": str(code.resolve()),
                "kernel": kernel,
                "queries": others,
                "n": float(BRE_ROWS),
                "bits": float(BRE_BITS),
                "rows": of_bit.T + 1.0,
                "size": float(bre.HASH_ROWS),
                "start": start.T,
                "seed": float(seed),
            },
        )
    values = [float(line.split()[-1]) for line in printed.splitlines() if "value" in line]
    pairs = np.column_stack([found["first"].ravel(), found["second"].ravel()]).astype(np.int64) - 1
    squared = np.square(learned[:, None] - learned).sum(axis=2)
    wanted = (squared / squared.max())[pairs[:, 0], pairs[:, 1]]
    theirs = 2 * np.array(values) / len(pairs)  # theirs are half of the sum
    steps = found["weights"].ravel().astype(int) - 1
    ours = first_searches(kernel, of_bit, start.copy(), pairs, wanted, steps)
    apart = np.abs(ours - theirs[1 : BRE_BITS + 1]).max()
    weights = start.copy()
    reached = bre.descend(kernel, of_bit, weights, pairs, wanted, random)
    normals = np.einsum("ps,psf->fp", weights, learned[of_bit])
    print(
        f"BRE, {BRE_BITS} bits, seed {seed}: objective {reached[0]:.6f} at the start, Octave "
        f"{theirs[0]:.6f}; after each of {BRE_BITS} line searches they differ by {apart:.1e} at "
        f"most; at the end {reached[-1]:.6f}, Octave {theirs[-1]:.6f}; "
        f"mAP {mlh.mean_ap(rows @ normals > 0, labels, QUERIES):.4f}, "
        f"Octave {mlh.mean_ap(found['query'] > 0, labels, QUERIES):.4f}",
        flush=True,
    )


def first_searches(
    kernel: np.ndarray,
    of_bit: np.ndarray,
    weights: np.ndarray,
    pairs: np.ndarray,
    wanted: np.ndarray,
    steps: np.ndarray,
) -> np.ndarray:
    """Return the objective after a line search of one weight of each bit, steps (b,) says which."""
    bits = len(of_bit)
    sums = np.stack([kernel[:, of_bit[p]] @ weights[p] for p in range(bits)])
    start, partner, of_pair = bre.adjacency(pairs, len(kernel))
    objectives = []

    def differing() -> np.ndarray:
        return (sums[:, pairs[:, 0]] > 0) != (sums[:, pairs[:, 1]] > 0)

    for p in range(bits):
        differ = differing()
        others = (differ.sum(axis=0) - differ[p]) / bits
        gain = 1 / bits**2 - 2 * (wanted - others) / bits
        column = kernel[:, of_bit[p, steps[p]]]
        sums[p] += bre.line_search(sums[p], column, gain[of_pair], start, partner)[0] * column
        objectives.append(np.square(wanted - differing().mean(axis=0)).mean())
    return np.array(objectives)


if __name__ == "__main__":
    carry_out(main)
