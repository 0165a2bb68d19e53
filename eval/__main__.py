"""python -m eval FILE.h5: measure a codes file and write metrics.json beside it."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from eval.files import InputError
from eval.metrics import Figures, evaluate_queries
from eval.protocol import RELEASE_K, measure, metrics_path, positive
from eval.summary import describe, write_metrics


def main(words: list[str] | None = None, evaluate: Callable[..., Figures] | None = None) -> None:
    """Run the command line `words` (default: this process's).

    `evaluate` may stand in for `evaluate_queries`, where it shares blocks of queries out.
    """
    arguments = _parse(words)
    path = metrics_path(arguments.file, arguments.k, arguments.queries)
    try:
        metrics = measure(
            arguments.file,
            arguments.k,
            arguments.queries,
            arguments.leave_one_out,
            evaluate or evaluate_with_bar,
        )
        write_metrics(path, metrics)
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")
    print(describe(metrics))
    print(f"written to {path}")


def evaluate_with_bar(query_codes: np.ndarray, *others) -> Figures:
    """`evaluate_queries` with a progress bar on a terminal."""
    with tqdm(total=len(query_codes), unit=" queries", disable=None) as bar:
        return evaluate_queries(query_codes, *others, progress=bar.update)


def _parse(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m eval", description=__doc__)
    parser.add_argument("file", type=Path, help="codes file (format: eval/codes.py)")
    parser.add_argument(
        "--k", type=positive, default=RELEASE_K, help="k of mAP@k (default: %(default)s)"
    )
    parser.add_argument("--queries", type=positive, metavar="N", help="only N queries a class")
    parser.add_argument(
        "--leave-one-out",
        action="store_true",
        help="rank each query against the other rows, where queries are part of the database",
    )
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
