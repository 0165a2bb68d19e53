"""metrics.json: what a file's figures come to, with the conventions named."""

import json
import math
from pathlib import Path

import numpy as np

from eval.codes import Codes, codes_sha256
from eval.files import write_atomically
from eval.graded import Graded
from eval.hamming import constant_bits, distinct_codes
from eval.label_scores import (
    LabelScores,
    classification,
    describe_classification,
    of_label,
    score_labels,
)
from eval.metrics import ORDERS, Figures, precision_cutoffs

CONVENTION = (
    "AP@k is the mean of the precisions at the relevant ranks among the first k: 'release' "
    "divides their sum by the relevant rows among the first k (0 if none), 'trec' by all relevant "
    "rows; headline figures follow the release, with ties in database order"
)
GRADED_CONVENTION = (
    "of r, the labels that a row shares with the query: NDCG@k has the gain 2^r - 1 and the "
    "discount log2(1 + rank), ACG@k is the mean of r among the first k, weighted AP@k the mean of "
    "ACG at the relevant ranks among the first k"
)


def summarize(codes: Codes, figures: Figures, chosen: np.ndarray, k: int) -> dict:
    """Return the content of metrics.json, from figures of the query rows `chosen` ((Q,) int64).

    accuracy                  share of queries whose most probable class is their label, or None
    classification            of several labels, in place of accuracy: mean average precision of the
                              labels, F1 (eval/label_scores.py); None without probabilities
    map, map_at_<k>           mAP over the whole database and among the first k
    precision_at_k            lists k, precision and its expected, worst and best tie order
    precision_radius_2        mean precision within Hamming distance 2, where a query without any
                              row there counts as 0; empty_radius_2 counts those
    precision_recall          lists by Hamming radius, rows of all queries pooled; precision is
                              None where the radius holds no row
    constant_bits             how many are the same in all of the database
    ties                      expected, worst and best of both mAPs; distinct codes of each split
    denominators              mAP@k under both conventions, with tie figures
    per_class                 queries, mAPs and accuracy of each class; of several labels, of each
                              that a query carries: queries, their mAPs, average precision, F1
    graded                    of several labels: figures by how many are shared (eval/graded.py)
    """
    database, query = codes.database, codes.query
    ranked = int(figures.pooled[0].sum()) // len(chosen)
    at_k = f"map_at_{k}"
    maps = {"map": figures.ap, at_k: figures.ap_at_k}
    retrieved, relevant = np.cumsum(figures.pooled, axis=1)
    rows_near, relevant_near = figures.within_radius.T
    scores = _label_scores(codes, chosen)
    several = {}
    if figures.graded is not None:
        several["classification"] = scores and classification(scores)
        several["graded"] = graded_content(figures.graded, precision_cutoffs(k, ranked), k)
    return {
        "accuracy": _accuracy(codes, chosen),
        **{name: mean(ap[:, 0]) for name, ap in maps.items()},
        "precision_at_k": {
            "k": precision_cutoffs(k, ranked).tolist(),
            **_curve("precision", figures.precision),
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
        "constant_bits": constant_bits(database.codes, codes.bits),
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
        "per_class": _per_class(codes, figures, chosen, at_k, scores),
        **several,
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
    right = "no class probabilities" if accuracy is None else f"{accuracy:.4f}"
    if classified := metrics.get("classification"):
        right = describe_classification(classified)
    constant = metrics.get("constant_bits")  # an older file does not count them
    never = f"; {constant} bits never change" if constant else ""
    lines = [
        f"{metrics['queries']:,} queries against {metrics['database']:,} codes of "
        f"{metrics['bits']} bits ({distinct['database']:,} distinct{never})",
        f"{'labels' if classified else 'accuracy':<19}{right}",
        f"mAP, whole ranking {with_ties(metrics['map'], metrics['ties']['map'])}",
        f"mAP@{metrics['k']:<15}{with_ties(metrics[at_k], metrics['ties'][at_k])}",
        f"precision@{curve['k'][-1]:<9}{curve['precision'][-1]:.4f}",
        f"within radius 2    {metrics['precision_radius_2']:.4f} precision, "
        f"{metrics['empty_radius_2']:,} queries find nothing there",
    ]
    for title, value, ties in graded_measures(metrics):
        lines.append(f"{title:<18} {with_ties(value, ties)}")
    if subset := metrics.get("subset"):
        drawn = f"{subset['queries_per_class']} queries a class, drawn with seed {subset['seed']}"
        lines.insert(1, drawn)
    return "\n".join(lines)


def with_ties(value: float, ties: dict[str, float]) -> str:
    """Return `value (ties: expected, worst to best)`, four decimals each."""
    return f"{value:.4f} (ties: {ties['expected']:.4f}, {ties['worst']:.4f} to {ties['best']:.4f})"


def graded_content(graded: Graded, cutoffs: np.ndarray, k: int) -> dict:
    """Return what metrics.json has as `graded`: means over the queries of graded figures.

    cutoffs: (C,) int64, those of the figures at k.
    """
    maps = {"weighted_map": graded.weighted_ap, "weighted_map_at_k": graded.weighted_ap_at_k}
    return {
        "k": k,
        **{name: mean(ap[:, 0]) for name, ap in maps.items()},
        "ndcg_at_k": {"k": cutoffs.tolist(), **_curve("ndcg", graded.ndcg)},
        "acg_at_k": {"k": cutoffs.tolist(), **_curve("acg", graded.acg)},
        "ties": {name: _tie_figures(ap) for name, ap in maps.items()},
        "convention": GRADED_CONVENTION,
    }


def graded_measures(metrics: dict) -> list[tuple[str, float, dict[str, float]]]:
    """Return title, value and tie figures of each measure of graded relevance; [] of one label.

    metrics: content of metrics.json, or what a baseline has of it.
    """
    graded = metrics.get("graded")
    if not graded:
        return []
    k = graded["k"]
    titles = {"weighted_map": "wmAP, whole ranking", "weighted_map_at_k": f"wmAP@{k}"}
    measures = [(title, graded[name], graded["ties"][name]) for name, title in titles.items()]
    for name in ("ndcg", "acg"):
        curve = graded[f"{name}_at_k"]
        at = curve["k"].index(min(k, curve["k"][-1]))
        ties = {order: curve[order][at] for order in ORDERS[1:]}
        measures.append((f"{name.upper()}@{k}", curve[name][at], ties))
    return measures


def figures_of(metrics: dict, measure: str) -> tuple[float, dict[str, float]] | None:
    """Return a measure and its tie figures, None where metrics do not have it.

    measure: "map", "map_at_<k>", or the title of one of `graded_measures`.
    """
    if measure in metrics:
        return metrics[measure], metrics["ties"][measure]
    graded = {title: (value, ties) for title, value, ties in graded_measures(metrics)}
    return graded.get(measure)


def mean(values: np.ndarray) -> float:
    """Return the mean of a (Q,) array; its sum is rounded once, so no order of queries matters."""
    return math.fsum(values) / len(values)


def _tie_figures(ap: np.ndarray) -> dict[str, float]:
    return {name: mean(ap[:, order]) for order, name in enumerate(ORDERS) if order}


def _curve(name: str, values: np.ndarray) -> dict[str, list[float]]:
    """Return means over the queries of (Q, C, 4) figures, as lists by `name` and orders of ties."""
    return {
        of: [mean(column) for column in values[:, :, order].T]
        for order, of in enumerate((name, *ORDERS[1:]))
    }


def _label_scores(codes: Codes, chosen: np.ndarray) -> LabelScores | None:
    query = codes.query
    if query.probabilities is None:
        return None
    return score_labels(query.labels[chosen], query.probabilities[chosen])


def _accuracy(codes: Codes, chosen: np.ndarray) -> float | None:
    correct = _correct(codes, chosen)
    return None if correct is None else mean(correct)


def _correct(codes: Codes, chosen: np.ndarray) -> np.ndarray | None:
    query = codes.query
    if query.predictions is None:
        return None
    return query.predictions[chosen] == query.labels[chosen]


def _per_class(
    codes: Codes, figures: Figures, chosen: np.ndarray, at_k: str, scores: LabelScores | None
) -> list[dict]:
    labels = codes.query.labels[chosen]
    several = labels.ndim == 2
    correct = _correct(codes, chosen)
    table = []
    for label in np.flatnonzero(labels.any(axis=0)) if several else np.unique(labels):
        of_class = labels[:, label] > 0 if several else labels == label
        table.append(
            {
                "class": codes.class_names[label],
                "queries": int(of_class.sum()),
                "map": mean(figures.ap[of_class, 0]),
                at_k: mean(figures.ap_at_k[of_class, 0]),
                "accuracy": None if correct is None else mean(correct[of_class]),
                **(of_label(scores, label) if scores else {}),
            }
        )
    return table
