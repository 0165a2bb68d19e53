"""`python -m eval` with the queries shared out, to --workers N processes or a Dask --scheduler.

Partitions are fixed blocks of queries, joined in order: metrics.json is the same to the last byte.
"""

import argparse
import sys

from tqdm import tqdm

from eval.command import main as evaluate_file
from eval.metrics import evaluate_queries, join
from tools.run import cluster
from tools.run.job import whole

QUERIES = 500  # of a partition


def block(database_codes, database_labels, bits, k, query_codes, query_labels, excluded):
    """Return evaluate_queries' figures of a block of queries; what the workers run."""
    return evaluate_queries(
        query_codes, query_labels, database_codes, database_labels, bits, k, excluded
    )


def shared_out(run_partitions):
    """Return a function that stands in for eval.metrics.evaluate_queries."""

    def evaluate(
        query_codes, query_labels, database_codes, database_labels, bits, k, excluded=None
    ):
        starts = range(0, len(query_codes), QUERIES)
        rows = [slice(start, start + QUERIES) for start in starts]
        tasks = (
            (query_codes[r], query_labels[r], None if excluded is None else excluded[r])
            for r in rows
        )
        shared = (database_codes, database_labels, bits, k)
        results = run_partitions(block, tasks, shared=shared)
        return join(list(tqdm(results, total=len(rows), unit="partition", disable=None)))

    return evaluate


def main():
    p = argparse.ArgumentParser(description=__doc__, add_help=False)
    cluster.add_options(p)
    args, words = p.parse_known_args()
    workers = whole("WORKERS", args.workers, 1, 1024) if args.workers else 0
    try:
        with cluster.partitions(args.scheduler, workers) as run_partitions:
            evaluate_file(words, shared_out(run_partitions))
    except (ConnectionError, RuntimeError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
