"""train.csv, what a run's training logged: a line for each display and each test."""

import csv
import math
from pathlib import Path

import numpy as np

from eval.files import InputError


def read_training(path: Path) -> dict[str, np.ndarray]:
    """Return the columns of a train.csv as float64 arrays of one length; NaN for a blank cell.

    Raises InputError, naming the file, where it is missing or a cell is no number.
    """
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is no regular file; run make train again")
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            names, rows = list(reader.fieldnames or ()), list(reader)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; run make train") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; mend that") from None
    except (ValueError, csv.Error) as error:
        raise InputError(
            f"{path} is damaged, no table of text ({error}); run make train again"
        ) from None
    columns = {name: np.full(len(rows), math.nan) for name in names}
    if "iteration" not in columns:
        raise InputError(f"{path} has no column 'iteration'; run make train again")
    for line, row in enumerate(rows):
        for name in columns:
            try:
                columns[name][line] = float(row[name] or "nan")
            except (TypeError, ValueError):
                raise InputError(
                    f"{path}, line {line + 2}: {row[name]!r} in column '{name}' is no number; "
                    "run make train again"
                ) from None
    wrong = np.flatnonzero(~np.isfinite(columns["iteration"]))
    if len(wrong):
        raise InputError(f"{path}, line {wrong[0] + 2}: has no iteration; run make train again")
    return columns


def rows_until(path: Path, iteration: int) -> list[dict[str, str]]:
    """Return the rows of a train.csv up to an iteration, [] where there is none.

    Raises InputError, naming the file, where it is damaged.
    """
    if not path.exists():
        return []
    try:
        read_training(path)
    except InputError as error:
        raise InputError(
            f"{str(error).removesuffix('; run make train again')}; remove it, and the same command "
            "goes on, with a log from here on"
        ) from None
    with open(path, newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if float(row["iteration"]) <= iteration]


def tests_of(training: dict[str, np.ndarray]) -> list[dict[str, float]]:
    """Return the rows that hold a test: `iteration` and the columns test_* that are not blank."""
    columns = [name for name in training if name.startswith("test_")]
    tests = []
    for row in range(len(training["iteration"])):
        tested = {name: training[name][row] for name in columns if np.isfinite(training[name][row])}
        if tested:
            tests.append({"iteration": training["iteration"][row], **tested})
    return tests
