"""`python -m eval` with the queries shared out, to --workers N processes or a Dask --scheduler.

Partitions are fixed blocks of queries, joined in order: metrics.json is the same to the last byte.
"""

from collections.abc import Callable

import numpy as np
from tqdm import tqdm

from eval.command import main as evaluate_file
from eval.metrics import Figures, evaluate_queries, join
from tools.run import cluster
from tools.run.failure import carry_out
from tools.run.variables import parse_known

QUERIES = 500  # of a partition


def main() -> None:
    """Measure the codes file of the command line, as `python -m eval` does."""
    values, arguments = parse_known(__doc__, ("SCHEDULER", "WORKERS"))
    with cluster.partitions(
        values.scheduler, cluster.check_workers(values.workers)
    ) as run_partitions:
        evaluate_file(arguments, shared_out(run_partitions))


def shared_out(run_partitions: Callable) -> Callable[..., Figures]:
    """Return a function that stands in for eval.metrics.evaluate_queries."""

    def evaluate(
        *,
        query_codes: np.ndarray,
        query_labels: np.ndarray,
        excluded: np.ndarray | None,
        **database: np.ndarray | int,
    ) -> Figures:
        starts = range(0, len(query_codes), QUERIES)
        rows = [slice(start, start + QUERIES) for start in starts]
        tasks = (
            (query_codes[r], query_labels[r], None if excluded is None else excluded[r])
            for r in rows
        )
        results = run_partitions(block, tasks, shared=tuple(database.items()))
        return join(list(tqdm(results, total=len(rows), unit="partition", disable=None)))

    return evaluate


def block(*values: object) -> Figures:
    """Return evaluate_queries' figures of a block of queries; what the workers run.

    values: (name, value) of what all blocks share, then the block's codes, labels and excluded
    rows.
    """
    *database, query_codes, query_labels, excluded = values
    return evaluate_queries(query_codes, query_labels, excluded=excluded, **dict(database))


if __name__ == "__main__":
    carry_out(main)
