"""FastHash: Lin, Shen, Shi, van den Hengel and Suter, CVPR 2014.

"Fast supervised hashing with decision trees for high-dimensional data". With z_1 ... z_K the bits
(1 or -1) of the rows and Y = 1 for rows of one class, else -1 (of several labels a row: 1 where two
share any), sought are bits with a small sum_ij (r Y_ij - sum_p z_p,i z_p,j)^2 (eq. 2), one after
another, each in two steps.

Step 1 finds the codes. Of bit r, what is left of the sum is sum_ij a_ij z_i z_j, with a_ij =
sum_(p<r) z_p,i z_p,j - r Y_ij (eqs. 7 and 8). Between rows that have a label in common a_ij is
negative, so that the part of the sum that a block B of such rows takes part in, the others held,
sum_(i,j in B) a_ij z_i z_j + 2 sum_(i in B) f_i z_i with f_i = sum_(j not in B) a_ij z_j, is
submodular, and a minimum cut minimizes it exactly ("block GraphCut", Algorithm 1). It starts from
the spectral relaxation, the signs of the eigenvector of the least sum. What Y says of two rows is
what it says of their combinations of labels, so that the matrix of pairs is never formed.

Step 2 learns a function for the bit: AdaBoost of decision trees of depth 4, h(x) = the sign of
sum_t w_t T_t(x), on features quantized to 256 steps, each tree on the rows that have 99 % of the
weight ("weight trimming") and on some of the features ("LazyBoost"). LightGBM grows them: as the
trees of the weighted squares whose slope is -w y and whose curvature is w. What h gives for the
rows takes the place of the codes (Algorithm 2), so that later bits repair it.
"""

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow
from scipy.sparse.linalg import LinearOperator, eigsh
from tqdm import trange

from eval.baselines.training import Affinity, Encode, Training, affinity, members, signs
from eval.files import InputError

if TYPE_CHECKING:
    import lightgbm

ROWS = 10_000  # that are learned from, as in the authors' demonstration
BLOCK = 100  # rows of one label in a cut, at most
CUTS = 2  # of each block and bit, as in the authors' code
TREES, DEPTH = 200, 4  # section 3
FEATURES = 200  # that a tree is learned on, at most; as many as a node's in the authors' code
KEPT_WEIGHT = 0.99  # of the rows that a tree is learned on; as in the authors' code
LEVELS = 256  # of a quantized feature, about as many rows on each
LEAST_ERROR = 1e-6  # of a tree's weighted error: one without any would outvote all others
TOLERANCE = 1e-6  # of the spectral start, relative


def learn(training: Training, bits: int, random: np.random.Generator) -> tuple[Encode, dict]:
    """Learn FastHash on rows that are drawn from the features.

    Records how many there are, the sum_ij a_ij z_i z_j of each bit at its spectral start, after the
    cuts, and as the trees give it, each divided by the number of pairs, and eq. 2 after each bit.
    """
    count = len(training.features)
    drawn = random.choice(count, min(ROWS, count), replace=False)
    rows, labels = training.features[drawn], training.labels[drawn]
    binned = binned_rows(rows)
    same = affinity(labels)
    blocks = blocks_of_labels(labels, random)
    codes = np.zeros((len(rows), 0))
    functions, energies, objectives = [], [], []
    for bit in trange(1, bits + 1, desc="FastHash", unit=" bits", disable=None, leave=False):
        start = spectral(same, codes, bit, random)
        cut = start.copy()
        for _ in range(CUTS):
            cut_blocks(cut, same, codes, bit, blocks)
        function, given = boost(rows, binned, cut, random)
        functions.append(function)
        steps = [energy(each, same, codes, bit) / len(rows) ** 2 for each in (start, cut, given)]
        energies.append(steps)
        codes = np.column_stack([codes, given])
        objectives.append(objective(same, codes))

    def encode(features: np.ndarray) -> np.ndarray:
        return np.stack([votes(function, features) > 0 for function in functions], axis=1)

    spectral_energy, cut_energy, tree_energy = (list(each) for each in zip(*energies, strict=True))
    return encode, {
        "rows": len(rows),
        "blocks": len(blocks),
        "trees": TREES,
        "spectral_energy": spectral_energy,
        "cut_energy": cut_energy,
        "tree_energy": tree_energy,
        "objective": objectives,
    }


def residue(same: Affinity, codes: np.ndarray, bit: int, z: np.ndarray) -> np.ndarray:
    """Return sum_j a_ij z_j of each row i."""
    return codes @ (codes.T @ z) - bit * same.times(z)


def energy(z: np.ndarray, same: Affinity, codes: np.ndarray, bit: int) -> float:
    """Return sum_ij a_ij z_i z_j over all pairs, each row's with itself among them."""
    return float(z @ residue(same, codes, bit, z))


def objective(same: Affinity, codes: np.ndarray) -> float:
    """Return eq. 2 of codes (N, r), its mean over the pairs, divided by r^2: at most 4."""
    rows, bits = codes.shape
    # |r Y - Z Z'|^2 = r^2 N^2 - 2 r <Y, Z Z'> + |Z'Z|^2
    agreement = (codes * same.times(codes)).sum()
    total = bits**2 * rows**2 - 2 * bits * agreement + np.square(codes.T @ codes).sum()
    return float(total / (bits * rows) ** 2)


def spectral(
    same: Affinity, codes: np.ndarray, bit: int, random: np.random.Generator
) -> np.ndarray:
    """Return the signs (N,) of the v of unit length with the least v'Av, by Lanczos' method."""
    rows = len(codes)
    matrix = LinearOperator(
        (rows, rows), lambda z: residue(same, codes, bit, z.reshape(-1)), dtype=np.float64
    )
    first = random.standard_normal(rows)
    return signs(eigsh(matrix, k=1, which="SA", v0=first, tol=TOLERANCE)[1][:, 0])


def blocks_of_labels(labels: np.ndarray, random: np.random.Generator) -> list[np.ndarray]:
    """Return blocks of at most BLOCK rows that share a label, which together are all rows.

    A row that has several labels stands with one of them, its rarest; one that has none, alone.
    """
    owned = members(labels)
    rarest = np.where(owned, owned.sum(axis=0), len(owned) + 1).argmin(axis=1)
    labelled = owned.any(axis=1)
    blocks = list(np.flatnonzero(~labelled)[:, None])
    for label in np.unique(rarest[labelled]):
        rows = random.permutation(np.flatnonzero(labelled & (rarest == label)))
        blocks += np.array_split(rows, -(-len(rows) // BLOCK))
    return blocks


def cut_blocks(
    z: np.ndarray, same: Affinity, codes: np.ndarray, bit: int, blocks: list[np.ndarray]
) -> None:
    """Set z (N,), of -1 and 1, to its best on one block after another, in place."""
    of_combinations, of_codes, total = same.columns.T @ z, codes.T @ z, z.sum()
    for block in blocks:
        before, of_block, combination = z[block], codes[block], same.combination[block]
        within = of_block @ of_block.T - bit * (
            2 * same.shared[np.ix_(combination, combination)] - 1
        )
        field = of_block @ of_codes - within @ before
        field -= bit * (2 * same.shared[combination] @ of_combinations - total)
        np.fill_diagonal(within, 0)  # z_i z_i is 1 whatever z is
        z[block] = after = best_cut(within, field)
        change = after - before
        np.add.at(of_combinations, combination, change)
        of_codes += of_block.T @ change
        total += change.sum()


def best_cut(within: np.ndarray, field: np.ndarray) -> np.ndarray:
    """Return the z (n,) of -1 and 1 with the least sum_ij a_ij z_i z_j + 2 sum_i f_i z_i.

    within: (n, n), a, whole numbers that are symmetric and not positive, 0 on the diagonal.
    field: (n,), f, whole numbers. A row whose field outweighs all of its pairs is decided by it,
    whatever the others are; a minimum cut decides the rest.
    """
    z = np.zeros(len(field))
    while True:
        open_rows = np.flatnonzero(z == 0)
        pull = field[open_rows] + within[open_rows] @ z
        held = -within[np.ix_(open_rows, open_rows)].sum(axis=1)
        decided = np.abs(pull) > held
        if not decided.any():
            break
        z[open_rows[decided]] = -np.sign(pull[decided])
    if len(open_rows):
        z[open_rows] = minimum_cut(-within[np.ix_(open_rows, open_rows)], pull)
    return z


def minimum_cut(pairs: np.ndarray, pull: np.ndarray) -> np.ndarray:
    """Return the z (n,) of -1 and 1 with the least sum_i f_i z_i - sum_i<j w_ij z_i z_j.

    pairs: (n, n), w, symmetric whole numbers that are not negative. pull: (n,), f, whole numbers.
    A row that the cut leaves with the source, n, is 1, one that is left with the sink, n + 1, -1.
    """
    n = len(pull)
    capacities = np.zeros((n + 2, n + 2), np.int32)
    capacities[:n, :n] = pairs
    capacities[n, :n] = np.maximum(-pull, 0)
    capacities[:n, n + 1] = np.maximum(pull, 0)
    graph = csr_array(capacities)
    left = graph - maximum_flow(graph, n, n + 1).flow
    left.eliminate_zeros()
    z = np.full(n, -1.0)
    reached = breadth_first_order(left, n, return_predecessors=False)
    z[reached[reached < n]] = 1
    return z


def binned_rows(rows: np.ndarray) -> "lightgbm.Dataset":
    """Return rows (N, F) float32, quantized by LightGBM, as the trees of all bits take them.

    Raises InputError where no feature has two values that it tells apart.
    """
    import lightgbm  # here, since whoever draws a chart imports this module

    binned = lightgbm.Dataset(rows, params=parameters(rows)).construct()
    if all(binned.feature_num_bin(feature) < 2 for feature in range(rows.shape[1])):
        raise InputError(
            f"the features of the {len(rows)} pictures that FastHash learns from are the same, or "
            "too near each other for a tree; look at the training of that run, or leave FastHash "
            "out of BASELINES"
        )
    return binned


def parameters(rows: np.ndarray) -> dict[str, object]:
    """Return LightGBM's parameters for trees on rows (N, F)."""
    return {
        "objective": "custom",
        "learning_rate": 1,
        "max_depth": DEPTH,
        "num_leaves": 2**DEPTH,
        "feature_fraction": min(1, FEATURES / rows.shape[1]),
        "max_bin": LEVELS,
        "min_data_in_bin": 1,
        "min_data_in_leaf": 1,
        "min_sum_hessian_in_leaf": 1,  # the mean row's
        "deterministic": True,
        "force_col_wise": True,
        "verbosity": -1,
    }


def boost(
    rows: np.ndarray, binned: "lightgbm.Dataset", wanted: np.ndarray, random: np.random.Generator
) -> tuple["lightgbm.Booster", np.ndarray]:
    """Learn AdaBoost's trees for `wanted` (N,), of -1 and 1, on rows (N, F) float32.

    binned: of binned_rows. Returns the trees, each leaf with its weighted vote, and the signs (N,)
    that they give the rows. There are fewer than TREES where a tree finds nothing to tell apart.
    """
    import lightgbm

    weights = np.full(len(rows), 1 / len(rows))
    before, ballots = np.zeros(len(rows)), []

    def count(outputs: np.ndarray) -> None:
        """Weigh the vote of the last tree, which has these outputs (N,), and then the rows."""
        answers = signs(outputs)
        error = np.clip(weights[answers != wanted].sum(), LEAST_ERROR, 1 - LEAST_ERROR)
        ballots.append(0.5 * np.log((1 - error) / error))
        weights[:] *= np.exp(-ballots[-1] * answers * wanted)
        weights[:] /= weights.sum()

    def slopes(outputs: np.ndarray, _: "lightgbm.Dataset") -> tuple[np.ndarray, np.ndarray]:
        """Return what the next tree is learned from; outputs (N,) are summed over the trees."""
        if len(ballots) < trees.num_trees():
            count(outputs - before)
            before[:] = outputs
        order = np.argsort(-weights)
        kept = len(rows) * weights
        kept[order[np.searchsorted(np.cumsum(weights[order]), KEPT_WEIGHT) + 1 :]] = 0
        return -kept * wanted, kept

    own = {"seed": int(random.integers(2**31))}
    trees = lightgbm.Booster(parameters(rows) | own, binned)
    for _ in range(TREES):
        if trees.update(fobj=slopes):
            break
    if len(ballots) < trees.num_trees():
        count(trees.predict(rows, raw_score=True) - before)
    for t, tree in enumerate(trees.dump_model()["tree_info"]):
        for leaf in range(tree["num_leaves"]):
            sign = 1 if trees.get_leaf_output(t, leaf) > 0 else -1
            trees.set_leaf_output(t, leaf, sign * ballots[t])
    trees = lightgbm.Booster(model_str=trees.model_to_string())  # without what it was learned with
    return trees, signs(votes(trees, rows))


def votes(trees: "lightgbm.Booster", rows: np.ndarray) -> np.ndarray:
    """Return the sum of the trees' votes (N,) float64 for rows (N, F) float32."""
    return trees.predict(rows, raw_score=True)
