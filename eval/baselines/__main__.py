"""python -m eval.baselines RUN --bits 32 48: other hashing methods on a run's feature layer.

Learns all methods, or those that --methods names. Writes <run>/baselines/<method>-<bits>.json,
and euclidean.json for exhaustive search on the features, each with the figures of metrics.json;
prints them as a table, with the SSDH runs of the same data set and net beside them. What was
measured on the same features, by the same method's code, is not measured again. A method that the
features have too few dimensions for is left out where it was not named.
"""

import argparse
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

from tqdm import tqdm

from eval.baselines import euclidean
from eval.baselines.methods import (
    BASELINES,
    EUCLIDEAN,
    SEED,
    Baseline,
    check_axes,
    check_learnable,
    known,
    learn_and_measure,
    source_digest,
)
from eval.baselines.table import lines
from eval.baselines.training import training_set
from eval.features import Features, read_features
from eval.files import InputError, read_json, system_sentence
from eval.progress import evaluate_with_bar
from eval.protocol import RELEASE_K
from eval.run_folders import Run, find_runs, read_run
from eval.summary import write_metrics


def main(arguments: list[str] | None = None) -> None:
    """Run the command line `arguments`, this process's own where None."""
    options = _parse(arguments)
    try:
        code_lengths = [_bits(text) for text in options.bits]
        methods = known(options.methods or [])
        run = read_run(options.run)
        measure_all(run, code_lengths, methods, named=bool(options.methods))
        print("\n".join(lines(run, code_lengths, find_runs(options.run.parent), methods)))
    except InputError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {system_sentence(error)}")


def measure_all(run: Run, code_lengths: list[int], methods: list[str], *, named: bool) -> None:
    """Write the result of each method and code length that is not there yet.

    methods: keys of BASELINES; named: whether a person asked for just these. Raises InputError
    where the run has no metrics that hold, no features.h5, or features that no method, or not one
    that was asked for, can learn from.
    """
    if run.metrics is None:
        raise InputError(run.why)
    features = read_features(run.folder / "features.h5")
    check_learnable(features, max(code_lengths))
    wanted = []
    for bits in code_lengths:
        for name in methods:
            try:
                check_axes(features, bits, name)
            except InputError as error:
                if named:
                    raise
                print(f"left out: {error}", file=sys.stderr)
            else:
                wanted.append((bits, name))
    folder = run.folder / "baselines"
    folder.mkdir(exist_ok=True)
    learned_on = {
        "run": run.folder.name,
        "blob": features.blob,
        "dimensions": features.database.features.shape[1],
        "features_sha256": features.sha256,
        "net_fingerprint": features.net_fingerprint,
        "seed": SEED,
    }

    def keep(name: str, file: str, title: str, result: Callable[[], dict]) -> None:
        """Write `result` into the folder, unless it is there for the same features and code."""
        path = folder / file
        there = path.exists() and read_json(path, ["learned_on"], "make baselines")
        of_code = learned_on | {"source_sha256": source_digest(name)}
        if there and there["learned_on"] == of_code:
            print(f"{title}: kept {path}")
            return
        print(f"{title} ...", flush=True)
        write_metrics(path, {**result(), "learned_on": of_code})

    training = cache(lambda: training_set(features.database.features, features.database.labels))

    def learned(baseline: Baseline, bits: int) -> dict:
        return learn_and_measure(
            baseline,
            training=training(),
            features=features,
            bits=bits,
            evaluate=evaluate_with_bar,
        )

    keep("euclidean", "euclidean.json", "Euclidean search", lambda: _euclidean(features))
    for bits, name in wanted:
        baseline = BASELINES[name]
        title = f"{baseline.name}, {bits} bits"
        keep(name, f"{name}-{bits}.json", title, partial(learned, baseline, bits))


def _euclidean(features: Features) -> dict:
    query, database = features.query, features.database
    with tqdm(total=len(query.labels), unit=" queries", disable=None) as bar:
        figures = euclidean.measure(
            query=query.features,
            query_labels=query.labels,
            database=database.features,
            database_labels=database.labels,
            k=RELEASE_K,
            progress=bar.update,
        )
    return {
        **figures,
        "method": EUCLIDEAN,
        "dataset": features.dataset,
        "net": features.net,
        "row_order": features.row_order,
    }


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m eval.baselines", description=__doc__)
    parser.add_argument("run", type=Path, help="a run's folder with features.h5")
    parser.add_argument("--bits", nargs="+", required=True, help="code lengths")
    parser.add_argument("--methods", nargs="+", help=f"some of {' '.join(BASELINES)}; all")
    return parser.parse_args(arguments)


def _bits(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1024:
        raise InputError(f"BITS={text} is no code length: give whole numbers from 1 to 1024")
    return int(text)


if __name__ == "__main__":
    main()
