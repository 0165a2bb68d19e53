"""python -m eval FILE.h5: measure a codes file and write metrics.json beside it."""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

from eval.files import InputError, write_atomically
from eval.metrics import Figures, evaluate_queries
from eval.protocol import RELEASE_K, measure, metrics_path


def main() -> None:
    arguments = _parse()
    path = metrics_path(arguments.file, arguments.k, arguments.queries)
    try:
        metrics = measure(
            arguments.file,
            arguments.k,
            arguments.queries,
            arguments.leave_one_out,
            evaluate_with_bar,
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


def write_metrics(path: Path, metrics: dict) -> None:
    """Write metrics as JSON, whole or not at all."""
    with write_atomically(path) as partial:
        partial.write_text(json.dumps(metrics, indent=2, allow_nan=False) + "\n")


def describe(metrics: dict) -> str:
    """A few lines to read; every mAP as `value (ties: expected, worst to best)`."""
    at_k = f"map_at_{metrics['k']}"
    curve = metrics["precision_at_k"]
    distinct = metrics["ties"]["distinct_codes"]
    accuracy = metrics["accuracy"]
    lines = [
        f"{metrics['queries']:,} queries against {metrics['database']:,} codes of "
        f"{metrics['bits']} bits ({distinct['database']:,} distinct)",
        f"accuracy           {'no class probabilities' if accuracy is None else f'{accuracy:.4f}'}",
        f"mAP, whole ranking {with_ties(metrics['map'], metrics['ties']['map'])}",
        f"mAP@{metrics['k']:<15}{with_ties(metrics[at_k], metrics['ties'][at_k])}",
        f"precision@{curve['k'][-1]:<9}{curve['precision'][-1]:.4f}",
        f"within radius 2    {metrics['precision_radius_2']:.4f} precision, "
        f"{metrics['empty_radius_2']:,} queries find nothing there",
    ]
    return "\n".join(lines)


def with_ties(value: float, ties: dict[str, float]) -> str:
    """`value (ties: expected, worst to best)`, four decimals each."""
    return f"{value:.4f} (ties: {ties['expected']:.4f}, {ties['worst']:.4f} to {ties['best']:.4f})"


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m eval", description=__doc__)
    parser.add_argument("file", type=Path, help="codes file (format: eval/codes.py)")
    parser.add_argument(
        "--k", type=_positive, default=RELEASE_K, help="k of mAP@k (default: %(default)s)"
    )
    parser.add_argument("--queries", type=_positive, metavar="N", help="only N queries a class")
    parser.add_argument(
        "--leave-one-out",
        action="store_true",
        help="rank each query against the other rows, where queries are part of the database",
    )
    return parser.parse_args()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not at least 1")
    return number


if __name__ == "__main__":
    main()
