"""python -m eval.classification FEATURES.h5: accuracy of a net that has no codes, to metrics.json.

With --queries N, of N queries a class, the same that `python -m eval --queries N` takes.

The file is features.h5 of a METHOD=finetune run: groups `database` and `query` with `labels` and
`probabilities`, the names of the classes as attribute. Where pictures have several labels, average
precision and F1 (eval/label_scores.py) stand in the place of accuracy.
"""

import argparse
import sys
from pathlib import Path

import h5py
import numpy as np

from eval.files import InputError
from eval.hdf5 import open_hdf5, text_of, texts_of
from eval.label_scores import classification, describe_classification, of_label, score_labels
from eval.protocol import choose_queries, metrics_path, positive, subset_of
from eval.summary import mean, write_metrics


def measure_classification(path: Path, per_class: int | None = None) -> dict:
    """Return the content of metrics.json: accuracy, over all queries and of each class.

    With several labels accuracy is None, and `classification` and each label's scores are those of
    eval/label_scores.py.

    With `per_class`, only so many queries of each class count.
    Raises InputError, naming the file, where it is missing, damaged or lacks what is needed.
    """
    with open_hdf5(path, "run make codes again" if path.exists() else "run make codes") as file:
        labels, probabilities = _query(file, path)
        attributes = {
            name: text_of(file.attrs.get(name))
            for name in ("blob", "dataset", "net", "net_fingerprint")
        }
        names = texts_of(file.attrs.get("class_names"))
        database = len(file["database/labels"])
    lacking = [name for name, value in {**attributes, "class_names": names}.items() if not value]
    if lacking:
        raise InputError(f"{path} has no attribute {lacking[0]!r}; run make codes again")
    highest = labels.max() if labels.ndim == 1 else labels.shape[1] - 1
    if highest >= min(len(names), probabilities.shape[1]):
        raise InputError(
            f"{path}: label {highest} has no name or no probability; run make codes again"
        )
    if per_class is not None:
        chosen = choose_queries(labels, per_class, path)
        labels, probabilities = labels[chosen], probabilities[chosen]
    measure = _of_one_label if labels.ndim == 1 else _of_several
    figures, classes = measure(labels, probabilities)
    return {
        **figures,
        "queries": len(labels),
        "database": database,
        "per_class": [{"class": names[label], **of_class} for label, of_class in classes.items()],
        "subset": subset_of(per_class),
        **attributes,
    }


def _of_one_label(labels: np.ndarray, probabilities: np.ndarray) -> tuple[dict, dict]:
    correct = probabilities.argmax(axis=1) == labels
    return {"accuracy": mean(correct)}, {
        label: {
            "queries": int((labels == label).sum()),
            "accuracy": mean(correct[labels == label]),
        }
        for label in np.unique(labels)
    }


def _of_several(labels: np.ndarray, probabilities: np.ndarray) -> tuple[dict, dict]:
    scores = score_labels(labels, probabilities)
    return {"accuracy": None, "classification": classification(scores)}, {
        label: {"queries": int(labels[:, label].sum()), **of_label(scores, label)}
        for label in np.flatnonzero(labels.any(axis=0))
    }


def _query(file: h5py.File, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return labels, (N,) int64 or (N, L), and probabilities (N, C) float32 of the queries."""
    for name in ("query/labels", "query/probabilities", "database/labels"):
        if name not in file:
            raise InputError(f"{path} has no '{name}'; run make codes again")
        if not isinstance(file[name], h5py.Dataset) or not file[name].size:
            raise InputError(f"{path}: '{name}' is no rows; run make codes again")
    labels, probabilities = (file["query"][name][:] for name in ("labels", "probabilities"))
    several = labels.ndim == 2
    one_a_picture = labels.ndim in (1, 2) and probabilities.ndim == 2
    if not one_a_picture or len(labels) != len(probabilities):
        raise InputError(
            f"{path}: labels {labels.shape} and probabilities {probabilities.shape} are not one "
            "row a picture; run make codes again"
        )
    if several and (labels.shape != probabilities.shape or not np.isin(labels, (0, 1)).all()):
        raise InputError(
            f"{path}: 'query/labels' are not 0 and 1 for each of {probabilities.shape[1]} labels; "
            "run make codes again"
        )
    if labels.dtype.kind not in "iu" or labels.min() < 0:
        raise InputError(f"{path}: 'query/labels' are no numbers of classes; run make codes again")
    if probabilities.dtype.kind != "f" or not np.isfinite(probabilities).all():
        raise InputError(
            f"{path}: 'query/probabilities' holds a value that is not finite; run make codes again"
        )
    return labels.astype(np.int64), probabilities


def main() -> None:
    """Run this process's command line."""
    parser = argparse.ArgumentParser(prog="python -m eval.classification", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--queries", type=positive, metavar="N", help="only N queries a class")
    arguments = parser.parse_args()
    path = metrics_path(arguments.file, per_class=arguments.queries)
    try:
        metrics = measure_classification(arguments.file, arguments.queries)
        write_metrics(path, metrics)
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")
    classified = metrics.get("classification")
    right = (
        describe_classification(classified) if classified else f"accuracy {metrics['accuracy']:.4f}"
    )
    print(f"{right}, {metrics['queries']:,} queries")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
