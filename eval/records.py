"""run.json and metrics.json, read with a check of all that tables and pages take from them."""

from pathlib import Path

from eval.files import InputError, read_fitting
from eval.protocol import DRAWN_BY
from eval.schema import misfit

NAME, COUNT, FIGURE = (str, None), (int, None), (float, None)
TIES = {"expected": float, "worst": float, "best": float}
RUN = {
    "settings": {
        "dataset": str,
        "net": str,
        "bits": COUNT,
        "method?": str,
        "subset?": COUNT,
        "iters?": COUNT,
        "weights?": NAME,
        "head?": bool,
    },
    "from_scratch": bool,
    "warnings": [str],
    "model?": {"iters?": COUNT, "sha256?": str},
}
CURVES = ("precision_at_k", "precision_recall", "ndcg_at_k", "acg_at_k")
CLASSIFICATION = {
    "mean_average_precision": float,
    "micro_f1": float,
    "macro_f1": float,
    "threshold": float,
    "labels": int,
}
GRADED = {
    "k": int,
    "weighted_map": float,
    "weighted_map_at_k": float,
    **{
        f"{of}_at_k": {"k": [int], of: [float], **{name: [float] for name in TIES}}
        for of in ("ndcg", "acg")
    },
    "ties": {"weighted_map": TIES, "weighted_map_at_k": TIES},
    "convention": str,
}
ACCURACY = {
    "net_fingerprint": NAME,
    "accuracy": FIGURE,
    "classification?": (None, CLASSIFICATION),
    "queries": int,
    "database": int,
    "subset?": (None, {"queries_per_class": int, "seed": int}),
}
RANKING = {
    "bits": COUNT,
    "map": float,
    "precision_at_k": {"k": [int], "precision": [float], **{name: [float] for name in TIES}},
    "precision_radius_2?": float,
    "ties": {"map": TIES},
    "graded?": GRADED,
}
METRICS = {
    "codes_sha256": str,
    **ACCURACY,
    **RANKING,
    "bits": int,
    "constant_bits?": int,
    "k": int,
    "map_at_1000": float,
    "precision_radius_2": float,
    "empty_radius_2": int,
    "precision_recall": {"radius": [int], "precision": [FIGURE], "recall": [FIGURE]},
    "ties": {
        "map": TIES,
        "map_at_1000": TIES,
        "distinct_codes": {"database": int, "query": int},
    },
    "per_class": (
        None,
        [
            {
                "class": str,
                "queries": int,
                "map": float,
                "map_at_1000": float,
                "accuracy": FIGURE,
                "average_precision?": float,
                "f1?": float,
            }
        ],
    ),
    "relevance": str,
    "row_order": NAME,
}
BASELINE = {
    "method": str,
    "learned_on": {
        "run": str,
        "blob": str,
        "dimensions": int,
        "net_fingerprint": NAME,
        "source_sha256": str,
    },
    **{key: RANKING[key] for key in ("map", "precision_at_k", "ties", "graded?")},
    "map_at_1000": float,
    "constant_bits?": int,
    "learned?": {"quantization_errors?": [float]},
}

SECONDS = (None, float)
COST = {
    "machine": dict,
    "rows": [
        {
            "name": str,
            "title": str,
            "one_core": SECONDS,
            "all_cores": SECONDS,
            "faiss_one_core": SECONDS,
            "faiss_all_cores": SECONDS,
        }
    ],
}


def read_run_record(folder: Path) -> dict:
    """Return run.json of a run's folder; raise InputError where it is missing or damaged."""
    return read_fitting(folder / "run.json", RUN, "make train")


def read_metrics(path: Path, maker: str, codes: bool = True) -> dict:
    """Return the content of a file of metrics; raise InputError where it is missing or damaged.

    maker: the command that writes it. codes: of codes, or of a net that has none.
    """
    metrics = read_fitting(path, METRICS if codes else ACCURACY, maker)
    _check_curves(path, metrics, maker)
    at_k = f"map_at_{metrics.get('k')}"
    if codes and misfit(metrics, {at_k: float, "ties": {at_k: TIES}}):
        raise InputError(f"{path} lacks '{at_k}' or its ties; remove it and run {maker}")
    return metrics


def read_baseline(path: Path) -> dict:
    """Return a baseline's result; raise InputError where it is missing or damaged."""
    result = read_fitting(path, BASELINE, "make baselines")
    _check_curves(path, result, "make baselines")
    return result


def read_cost(path: Path) -> dict:
    """Return the measured cost of a distance; raise InputError where it is missing or damaged."""
    return read_fitting(path, COST, "make paper")


def drawn_otherwise(metrics: dict) -> bool:
    """Return whether metrics are of queries that were drawn as none are drawn any more."""
    subset = metrics.get("subset")
    return bool(subset) and (not isinstance(subset, dict) or subset.get("drawn_by") != DRAWN_BY)


def _check_curves(path: Path, metrics: dict, maker: str) -> None:
    """Raise InputError where the lists of a curve are empty or not of one length."""
    for name in CURVES:
        curve = metrics.get(name) or (metrics.get("graded") or {}).get(name) or {"": [0]}
        if not isinstance(curve, dict):
            raise InputError(f"{path} has no curve as '{name}'; remove it and run {maker}")
        lengths = {len(values) for values in curve.values() if isinstance(values, list)}
        if len(lengths) != 1 or 0 in lengths:
            raise InputError(
                f"{path} has lists of different lengths in '{name}'; remove it and run {maker}"
            )
