"""python -m eval.baselines RUN --bits 32 48: other hashing methods on a run's feature layer.

Writes <run>/baselines/<method>-<bits>.json, and euclidean.json for exhaustive search on the
features, each with the figures of metrics.json; prints them as a table, with the SSDH runs of the
same data set and net beside them. What was measured on the same features is not measured again.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from eval.__main__ import evaluate_with_bar
from eval.baselines import euclidean
from eval.baselines.methods import METHODS, SEED, check_bits, learn_and_measure
from eval.baselines.table import lines
from eval.baselines.training import training_set
from eval.features import Features, read_features
from eval.files import InputError, read_json
from eval.protocol import RELEASE_K
from eval.run_folders import Run, find_runs, read_run
from eval.summary import write_metrics


def main(words: list[str] | None = None) -> None:
    """Run the command line `words` (default: this process's)."""
    arguments = _parse(words)
    try:
        code_lengths = [_bits(text) for text in arguments.bits]
        run = read_run(arguments.run)
        measure_all(run, code_lengths)
        print("\n".join(lines(run, code_lengths, find_runs(arguments.run.parent))))
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")


def measure_all(run: Run, code_lengths: list[int]) -> None:
    """Write the result of every method and code length that is not there yet."""
    if run.metrics is None:
        raise InputError(run.why)
    features = read_features(run.folder / "features.h5")
    size = features.database.features.shape[1]
    check_bits(max(code_lengths), size, features.path)
    folder = run.folder / "baselines"
    folder.mkdir(exist_ok=True)
    mark = {
        "run": run.folder.name,
        "blob": features.blob,
        "dimensions": size,
        "features_sha256": features.sha256,
        "net_fingerprint": features.net_fingerprint,
        "seed": SEED,
    }
    _keep(folder / "euclidean.json", mark, "Euclidean search", lambda: _euclidean(features))
    training = None
    for bits in code_lengths:
        for name, method in METHODS.items():

            def result(bits: int = bits, method=method) -> dict:
                nonlocal training
                training = training or training_set(*features.database[:2])
                return learn_and_measure(method, training, features, bits, evaluate_with_bar)

            _keep(folder / f"{name}-{bits}.json", mark, f"{method.name}, {bits} bits", result)


def _keep(path: Path, mark: dict, what: str, result: Callable[[], dict]) -> None:
    """Write `result` to `path`, unless it is there for the same features."""
    if path.exists() and read_json(path, ["learned_on"], "make baselines")["learned_on"] == mark:
        print(f"{what}: kept {path}")
        return
    print(f"{what} ...", flush=True)
    write_metrics(path, {**result(), "learned_on": mark})


def _euclidean(features: Features) -> dict:
    query, database = features.query, features.database
    with tqdm(total=len(query.labels), unit=" queries", disable=None) as bar:
        figures = euclidean.measure(
            *(query.features, query.labels, database.features, database.labels),
            RELEASE_K,
            bar.update,
        )
    return {
        **figures,
        "method": "Euclidean",
        "dataset": features.dataset,
        "net": features.net,
        "row_order": features.row_order,
    }


def _parse(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m eval.baselines", description=__doc__)
    parser.add_argument("run", type=Path, help="a run's folder with features.h5")
    parser.add_argument("--bits", nargs="+", required=True, help="code lengths")
    return parser.parse_args(words)


def _bits(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1024:
        raise InputError(f"BITS={text} is no code length: give whole numbers from 1 to 1024")
    return int(text)


if __name__ == "__main__":
    main()
