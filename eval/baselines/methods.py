"""The table of baselines, and how one is learned on features and measured."""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from eval.baselines import itq, ksh, lsh, spectral
from eval.baselines.training import Encode, Learn, Training, pieces
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
    baseline nor a method of prototxt/methods.toml has.
    """

    name: str
    labels: bool
    learn: Learn
    style: int


BASELINES = {  # by the name of its files, <name>-<bits>.json
    "lsh": Baseline("LSH", labels=False, learn=lsh.learn, style=6),
    "sh": Baseline("SH", labels=False, learn=spectral.learn, style=5),
    "itq": Baseline("ITQ", labels=False, learn=itq.learn, style=4),
    "cca-itq": Baseline("CCA-ITQ", labels=True, learn=itq.learn_with_labels, style=3),
    "ksh": Baseline("KSH", labels=True, learn=ksh.learn, style=2),
}


def check_bits(bits: int, size: int, path: object) -> None:
    """Raise InputError where ITQ has fewer feature dimensions, `size`, than it needs axes."""
    if bits > size:
        raise InputError(
            f"{path} has features of {size} dimensions, too few axes for ITQ at {bits} bits; "
            f"ask for at most {size}"
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
    learned (the record of `learn`) and seconds_learning.
    """
    began = time.monotonic()
    encode, learned = baseline.learn(training, bits, np.random.default_rng(SEED))
    seconds = time.monotonic() - began
    database, query = (
        Split(_pack(encode, rows.features), rows.labels, rows.keys)
        for rows in (features.database, features.query)
    )
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
        "seconds_learning": round(seconds, 2),
    }


def _pack(encode: Encode, features: np.ndarray) -> np.ndarray:
    return np.concatenate([np.packbits(encode(piece), axis=1) for piece in pieces(features)])
