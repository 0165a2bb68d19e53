"""The methods by name, and how one is learned on features and measured."""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from eval.baselines import itq, ksh, lsh, spectral
from eval.baselines.training import Training, pieces
from eval.codes import Codes, Split
from eval.features import Features
from eval.files import InputError
from eval.metrics import Figures
from eval.protocol import RELEASE_K
from eval.summary import summarize

SEED = 0  # of each method's random draws


class Method(NamedTuple):
    """A method's name in tables, whether it learns from labels, and `learn` of its module."""

    name: str
    labels: bool
    learn: Callable


METHODS = {
    "lsh": Method("LSH", False, lsh.learn),
    "sh": Method("SH", False, spectral.learn),
    "itq": Method("ITQ", False, itq.learn),
    "cca-itq": Method("CCA-ITQ", True, itq.learn_with_labels),
    "ksh": Method("KSH", True, ksh.learn),
}


def check_bits(bits: int, size: int, path: object) -> None:
    """Raise InputError where ITQ has fewer feature dimensions, `size`, than it needs axes."""
    if bits > size:
        raise InputError(
            f"{path} has features of {size} dimensions, too few axes for ITQ at {bits} bits; "
            f"ask for at most {size}"
        )


def learn_and_measure(
    method: Method,
    training: Training,
    features: Features,
    bits: int,
    evaluate: Callable[..., Figures],
) -> dict:
    """What metrics.json has, for the codes of one method, with what it recorded as `learned`.

    training: of the database in `features`.
    """
    began = time.monotonic()
    encode, learned = method.learn(training, bits, np.random.default_rng(SEED))
    seconds = time.monotonic() - began
    database, query = (
        Split(_pack(encode, rows.features), rows.labels, rows.keys, None)
        for rows in (features.database, features.query)
    )
    figures = evaluate(
        query.codes, query.labels, database.codes, database.labels, bits, RELEASE_K, None
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
        "method": method.name,
        "uses_labels": method.labels,
        "learned": learned,
        "seconds_learning": round(seconds, 2),
    }


def _pack(encode: Callable, features: np.ndarray) -> np.ndarray:
    return np.concatenate([np.packbits(encode(piece), axis=1) for piece in pieces(features)])
