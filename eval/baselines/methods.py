"""The table of baselines, and how one is learned on features and measured."""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from eval.baselines import bre, fasthash, itq, ksh, lsh, mlh, spectral
from eval.baselines.training import Encode, Learn, Training, members, pieces
from eval.codes import Codes, Split
from eval.features import Features
from eval.files import InputError
from eval.metrics import Figures
from eval.protocol import RELEASE_K
from eval.summary import summarize

EUCLIDEAN, EUCLIDEAN_STYLE = "Euclidean", 7  # search on the features themselves, as a baseline
SEED = 0  # of each method's random draws


class Baseline(NamedTuple):
    """A row of the table of baselines.

    name: in tables and legends. labels: whether it learns from labels. learn: its module's
    function. style: of its line in charts (eval/pages/figures.py), a number that neither another
    baseline nor a method of prototxt/methods.toml has. axes: whether each bit needs a feature
    dimension of its own.
    """

    name: str
    labels: bool
    learn: Learn
    style: int
    axes: bool = False


BASELINES = {  # by the name of its files, <name>-<bits>.json
    "lsh": Baseline("LSH", labels=False, learn=lsh.learn, style=6),
    "sh": Baseline("SH", labels=False, learn=spectral.learn, style=5),
    "itq": Baseline("ITQ", labels=False, learn=itq.learn, style=4, axes=True),
    "cca-itq": Baseline("CCA-ITQ", labels=True, learn=itq.learn_with_labels, style=3, axes=True),
    "bre": Baseline("BRE", labels=True, learn=bre.learn, style=9),
    "mlh": Baseline("MLH", labels=True, learn=mlh.learn, style=10),
    "ksh": Baseline("KSH", labels=True, learn=ksh.learn, style=2),
    "fasthash": Baseline("FastHash", labels=True, learn=fasthash.learn, style=11),
}


def known(names: list[str]) -> list[str]:
    """Return the names of baselines that are given, or of all; raise InputError for others."""
    for name in names:
        if name not in BASELINES:
            raise InputError(
                f"BASELINES: there is no method {name!r}; there are {', '.join(BASELINES)}"
            )
    return names or list(BASELINES)


def source_digest(name: str) -> str:
    """Return the SHA-256 of the source of a baseline, or of "euclidean", and of training.py."""
    module = BASELINES[name].learn.__module__.split(".")[-1] if name in BASELINES else name
    sources = [Path(__file__).with_name(f"{each}.py") for each in (module, "training")]
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()


def check_axes(features: Features, bits: int, name: str) -> None:
    """Raise InputError where features have too few dimensions for a method's `bits` bits."""
    size = features.database.features.shape[1]
    if BASELINES[name].axes and bits > size:
        raise InputError(
            f"{features.path} has features of {size} dimensions, too few axes for "
            f"{BASELINES[name].name} at {bits} bits; ask for at most {size}"
        )


def check_learnable(features: Features, bits: int) -> None:
    """Raise InputError where no method can learn `bits` bits from features.

    What is not finite is refused where features are read.
    """
    rows = len(features.database.features)
    if rows < bits:
        raise InputError(
            f"{features.path} has {rows} pictures in 'database', fewer than the {bits} bits that "
            "are to be learned from them; ask for fewer bits, or take more pictures"
        )
    if not np.ptp(features.database.features, axis=0).any():
        raise InputError(
            f"{features.path} has the same features for every picture in 'database', so that there "
            "is nothing to tell them apart by; look at the training of that run"
        )
    owned = members(features.database.labels)
    if not owned.any() or owned.all(axis=0).any():
        raise InputError(
            f"{features.path} has pictures of one class alone in 'database', or with a label that "
            "all of them have, or with none; methods are learned and compared on two or more"
        )


def learn_and_measure(
    baseline: Baseline,
    training: Training,
    features: Features,
    bits: int,
    evaluate: Callable[..., Figures],
) -> dict:
    """Return what metrics.json has, for the codes of one baseline, and what it recorded.

    training: of the database in `features`. evaluate: takes the keyword arguments of
    `eval.metrics.evaluate_queries`. Beside the figures stand method (its name), uses_labels,
    learned (the record of `learn`), seconds_learning, and seconds_coding, of both splits' rows.
    """
    began = time.monotonic()
    try:
        encode, learned = baseline.learn(training, bits, np.random.default_rng(SEED))
    except InputError as error:
        raise InputError(f"{features.path}: {error}") from None
    learned_at = time.monotonic()
    database, query = (
        Split(_pack(encode, rows.features), rows.labels, rows.keys)
        for rows in (features.database, features.query)
    )
    coded_at = time.monotonic()
    figures = evaluate(
        query_codes=query.codes,
        query_labels=query.labels,
        database_codes=database.codes,
        database_labels=database.labels,
        bits=bits,
        k=RELEASE_K,
    )
    codes = Codes(
        bits=bits,
        class_names=features.class_names,
        dataset=features.dataset,
        net=features.net,
        net_fingerprint=features.net_fingerprint,
        row_order=features.row_order,
        database=database,
        query=query,
    )
    return {
        **summarize(codes, figures, np.arange(len(query.labels)), RELEASE_K),
        "method": baseline.name,
        "uses_labels": baseline.labels,
        "learned": learned,
        "seconds_learning": round(learned_at - began, 2),
        "seconds_coding": round(coded_at - learned_at, 3),
    }


def _pack(encode: Encode, features: np.ndarray) -> np.ndarray:
    return np.concatenate([np.packbits(encode(piece), axis=1) for piece in pieces(features)])
