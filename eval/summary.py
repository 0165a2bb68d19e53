"""metrics.json: what a file's figures come to, with the conventions named."""

import json
import math
from pathlib import Path

import numpy as np

from eval.codes import Codes, codes_sha256
from eval.files import write_atomically
from eval.hamming import distinct_codes
from eval.metrics import ORDERS, Figures, precision_cutoffs

CONVENTION = (
    "AP@k is the mean of the precisions at the relevant ranks among the first k: 'release' "
    "divides their sum by the relevant rows among the first k (0 if none), 'trec' by all relevant "
    "rows; headline figures follow the release, with ties in database order"
)


def summarize(codes: Codes, figures: Figures, chosen: np.ndarray, k: int) -> dict:
    """Return the content of metrics.json, from figures of the query rows `chosen` ((Q,) int64).

    accuracy                  share of queries whose most probable class is their label, or None
    map, map_at_<k>           mAP over the whole database and among the first k
    precision_at_k            lists k, precision and its expected, worst and best tie order
    precision_radius_2        mean precision within Hamming distance 2, where a query without any
                              row there counts as 0; empty_radius_2 counts those
    precision_recall          lists by Hamming radius, rows of all queries pooled; precision is
                              None where the radius holds no row
    ties                      expected, worst and best of both mAPs; distinct codes of each split
    denominators              mAP@k under both conventions, with tie figures
    per_class                 of single-label data: queries, mAPs and accuracy of each class
    """
    database, query = codes.database, codes.query
    ranked = int(figures.pooled[0].sum()) // len(chosen)
    at_k = f"map_at_{k}"
    maps = {"map": figures.ap, at_k: figures.ap_at_k}
    retrieved, relevant = np.cumsum(figures.pooled, axis=1)
    rows_near, relevant_near = figures.within_radius.T
    return {
        "accuracy": _accuracy(codes, chosen),
        **{name: mean(ap[:, 0]) for name, ap in maps.items()},
        "precision_at_k": {
            "k": precision_cutoffs(k, ranked).tolist(),
            **{
                name: [mean(column) for column in figures.precision[:, :, order].T]
                for order, name in enumerate(("precision", *ORDERS[1:]))
            },
        },
        "precision_radius_2": mean(relevant_near / np.maximum(rows_near, 1)),
        "empty_radius_2": int(np.count_nonzero(rows_near == 0)),
        "precision_recall": {
            "radius": list(range(codes.bits + 1)),
            "precision": [
                float(a / b) if b else None for a, b in zip(relevant, retrieved, strict=True)
            ],
            "recall": [float(a / relevant[-1]) if relevant[-1] else None for a in relevant],
            "averaging": "rows of all queries pooled",
        },
        "bits": codes.bits,
        "queries": len(chosen),
        "database": len(database.codes),
        "k": k,
        "ties": {
            **{name: _tie_figures(ap) for name, ap in maps.items()},
            "distinct_codes": {
                "database": len(distinct_codes(database.codes)[0]),
                "query": len(distinct_codes(query.codes[chosen])[0]),
            },
        },
        "denominators": {
            name: {at_k: mean(ap[:, 0]), "ties": _tie_figures(ap)}
            for name, ap in (("release", figures.ap_at_k), ("trec", figures.ap_at_k_trec))
        },
        "per_class": _per_class(codes, figures, chosen, at_k),
        "queries_without_relevant": int(np.count_nonzero(figures.relevant == 0)),
        "relevance": "same label" if query.labels.ndim == 1 else "any shared label",
        "convention": CONVENTION,
        "dataset": codes.dataset,
        "net": codes.net,
        "net_fingerprint": codes.net_fingerprint,
        "row_order": codes.row_order,
        "codes_sha256": codes_sha256(codes),
    }


def write_metrics(path: Path, metrics: dict) -> None:
    """Write metrics as JSON, whole or not at all."""
    with write_atomically(path) as partial:
        partial.write_text(json.dumps(metrics, indent=2, allow_nan=False) + "\n")


def describe(metrics: dict) -> str:
    """Return a few lines to read; every mAP as `value (ties: expected, worst to best)`."""
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
    if subset := metrics.get("subset"):
        drawn = f"{subset['queries_per_class']} queries a class, drawn with seed {subset['seed']}"
        lines.insert(1, drawn)
    return "\n".join(lines)


def with_ties(value: float, ties: dict[str, float]) -> str:
    """Return `value (ties: expected, worst to best)`, four decimals each."""
    return f"{value:.4f} (ties: {ties['expected']:.4f}, {ties['worst']:.4f} to {ties['best']:.4f})"


def mean(values: np.ndarray) -> float:
    """Return the mean of a (Q,) array; its sum is rounded once, so no order of queries matters."""
    return math.fsum(values) / len(values)


def _tie_figures(ap: np.ndarray) -> dict[str, float]:
    return {name: mean(ap[:, order]) for order, name in enumerate(ORDERS) if order}


def _accuracy(codes: Codes, chosen: np.ndarray) -> float | None:
    correct = _correct(codes, chosen)
    return None if correct is None else mean(correct)


def _correct(codes: Codes, chosen: np.ndarray) -> np.ndarray | None:
    query = codes.query
    if query.predictions is None or query.labels.ndim == 2:
        return None
    return query.predictions[chosen] == query.labels[chosen]


def _per_class(codes: Codes, figures: Figures, chosen: np.ndarray, at_k: str) -> list[dict] | None:
    labels = codes.query.labels[chosen]
    if labels.ndim == 2:
        return None
    correct = _correct(codes, chosen)
    table = []
    for label in np.unique(labels):
        of_class = labels == label
        table.append(
            {
                "class": codes.class_names[label],
                "queries": int(of_class.sum()),
                "map": mean(figures.ap[of_class, 0]),
                at_k: mean(figures.ap_at_k[of_class, 0]),
                "accuracy": None if correct is None else mean(correct[of_class]),
            }
        )
    return table
