"""From a codes file to the content of metrics.json: which queries, against which rows."""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from eval.codes import Codes, Split, read_codes
from eval.files import InputError
from eval.metrics import Figures, evaluate_queries
from eval.summary import summarize

RELEASE_K = 1000  # the k of KevinNet's run_cifar10.m
SUBSET_SEED = 0
DRAWN_BY = "numpy.random.RandomState"  # frozen for ever (NEP 19); the newer Generator's is not


def measure(
    path: Path,
    k: int = RELEASE_K,
    per_class: int | None = None,
    leave_one_out: bool = False,
    evaluate: Callable[..., Figures] = evaluate_queries,
) -> dict:
    """Return the metrics of the codes file `path`, as `eval.summary.summarize` lists them.

    With `per_class`, only so many queries of each class count. With `leave_one_out`, the row
    with a query's own key is left out of its ranking. `evaluate` takes the keyword arguments of
    `evaluate_queries`; one that shares blocks of queries out gives the same metrics.
    Raises InputError, naming the file, for a file or a choice that cannot be measured.
    """
    codes = read_codes(path)
    chosen = np.arange(len(codes.query.labels))
    if per_class is not None:
        chosen = choose_queries(codes.query.labels, per_class, path)
    figures = evaluate(
        query_codes=codes.query.codes[chosen],
        query_labels=codes.query.labels[chosen],
        database_codes=codes.database.codes,
        database_labels=codes.database.labels,
        bits=codes.bits,
        k=k,
        excluded=excluded_rows(codes, chosen, leave_one_out, path),
    )
    metrics = summarize(codes, figures, chosen, k)
    metrics["leave_one_out"] = leave_one_out
    metrics["subset"] = subset_of(per_class)
    return metrics


def metrics_path(path: Path, k: int = RELEASE_K, per_class: int | None = None) -> Path:
    """Return metrics.json beside the codes file, or metrics-q<queries a class>-k<k>.json."""
    if k == RELEASE_K and per_class is None:
        return path.with_name("metrics.json")
    return path.with_name(f"metrics-q{per_class or 'all'}-k{k}.json")


def subset_of(per_class: int | None) -> dict | None:
    """Return what metrics.json says of the choice of queries, None for all of them."""
    return per_class and {
        "queries_per_class": per_class,
        "seed": SUBSET_SEED,
        "drawn_by": DRAWN_BY,
    }


def positive(text: str) -> int:
    """Return the whole number that a text of a command line is; argparse refuses those below 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not at least 1")
    return number


def choose_queries(labels: np.ndarray, per_class: int, path: Path) -> np.ndarray:
    """Return query rows, ascending: `per_class` of each class, drawn by SUBSET_SEED, none twice.

    labels: (Q,) int32 or (Q, L) uint8. Raises InputError, naming the file `path`, where a class
    has too few.
    """
    random = np.random.RandomState(SUBSET_SEED)
    members = labels if labels.ndim == 2 else labels[:, None] == np.unique(labels)
    free = np.ones(len(labels), bool)
    for label, carries in enumerate(members.T):
        rows = np.flatnonzero(free & (carries > 0))
        if len(rows) < per_class:
            raise InputError(
                f"{path}: {per_class} queries a class were asked for, but class {label} has "
                f"{len(rows)}; ask for fewer"
            )
        free[random.choice(rows, per_class, replace=False)] = False
    return np.flatnonzero(~free)


def excluded_rows(
    codes: Codes, chosen: np.ndarray, leave_one_out: bool, path: Path
) -> np.ndarray | None:
    """Return the database row (Q,) int64 with the key of each chosen query, to leave it out.

    None where `leave_one_out` was not asked for.
    Raises InputError, naming the file `path`, where queries are in the database and
    `leave_one_out` was not asked for, or where it was and a query's own row cannot be found.
    """
    if codes.query.keys is None or codes.database.keys is None:
        if leave_one_out:
            raise InputError(f"{path} has no keys, by which leave-one-out finds a query's own row")
        return None
    keys = codes.query.keys[chosen].tolist()
    row_of = _rows_with_keys(codes.database, set(keys), path)
    if row_of and not leave_one_out:
        raise InputError(
            f"{path}: {len(row_of)} query pictures are also in the database; pass "
            "--leave-one-out to rank the other rows only"
        )
    if not leave_one_out:
        return None
    absent = len(set(keys) - set(row_of))
    if absent or len(codes.database.keys) == 1:
        raise InputError(
            f"{path}: leave-one-out needs each query among two or more database rows, but "
            f"{absent} queries are not there and the database has {len(codes.database.keys)} rows"
        )
    return np.array([row_of[key] for key in keys])


def _rows_with_keys(database: Split, wanted: set[bytes], path: Path) -> dict[bytes, int]:
    row_of = {}
    for row, key in enumerate(database.keys.tolist()):
        if key in wanted and row_of.setdefault(key, row) != row:
            raise InputError(
                f"{path}: database rows {row_of[key]} and {row} have the key {key.decode()!r}; "
                "keys must be unique"
            )
    return row_of
