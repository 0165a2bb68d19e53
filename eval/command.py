"""python -m eval FILE.h5: measure a codes file and write metrics.json beside it."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from eval.files import InputError, system_sentence
from eval.metrics import Figures
from eval.progress import evaluate_with_bar
from eval.protocol import RELEASE_K, measure, metrics_path, positive
from eval.summary import describe, write_metrics


def main(
    arguments: list[str] | None = None, evaluate: Callable[..., Figures] = evaluate_with_bar
) -> None:
    """Run the command line `arguments`, this process's own where None.

    `evaluate` stands in for `eval.metrics.evaluate_queries`: one that shares blocks of queries out
    gives the same metrics. Exits with a sentence where the file cannot be measured.
    """
    options = _parse(arguments)
    path = metrics_path(options.file, options.k, options.queries)
    try:
        metrics = measure(
            options.file,
            k=options.k,
            per_class=options.queries,
            leave_one_out=options.leave_one_out,
            evaluate=evaluate,
        )
        write_metrics(path, metrics)
    except InputError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {system_sentence(error)}")
    print(describe(metrics))
    print(f"written to {path}")


def _parse(arguments: list[str] | None) -> argparse.Namespace:
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
    return parser.parse_args(arguments)
