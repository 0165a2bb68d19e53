"""The tables: published numbers and ours side by side; what no run has produced stays None."""

from eval.pages.paper.groups import Group, method_of
from eval.protocol import RELEASE_K
from eval.published import (
    accuracies,
    difference,
    maps,
    our_method,
    published_maps,
    read_published,
)
from eval.run_folders import Run
from eval.summary import figures_of

TABLES = {"cifar10": 3, "mnist": 4, "sun397": 5, "yahoo1m": 6}  # data sets and the paper's tables


def label_table(dataset: str, runs: list[Run]) -> list[dict]:
    """Return how the runs whose pictures have several labels classify them.

    One dict a run: method, bits, run, and scores, what metrics.json has as `classification`.
    """
    return [
        {
            "method": run.title,
            "bits": run.settings["bits"] if run.has_codes else None,
            "run": run.folder.name,
            "scores": run.metrics["classification"],
        }
        for run in runs
        if run.settings["dataset"] == dataset and run.metrics and run.metrics.get("classification")
    ]


def accuracy_table(dataset: str, runs: list[Run]) -> list[dict]:
    """Return classification accuracy, published and ours, as in tables 3 to 6.

    One dict a row: method, bits, net and source of the published number; published, ours (None
    where missing), run, difference, differs; `ours_expected` is False for methods not built here.
    Runs without a published counterpart follow, but for those of `label_table` and of nets without
    a classifier.
    """
    runs = [
        run
        for run in runs
        if run.settings["dataset"] == dataset
        and not (run.metrics and "classification" in run.metrics)
    ]
    published = [
        row for row in read_published("classification_accuracy") if row["dataset"] == dataset
    ]
    table, placed = [], set()
    for row in published:
        ours = [run for run in runs if _counterpart(run, row)]
        placed.update(run.folder for run in ours)
        table += [_beside(row, run) for run in ours] or [
            {
                **_of_published(row, "accuracy_percent"),
                "ours_expected": our_method(row["method"]) is not None,
            }
        ]
    return table + [
        {
            **_EMPTY,
            "method": run.title,
            "bits": run.settings["bits"] if run.has_codes else None,
            "ours": run.metrics and run.metrics["accuracy"],
            "run": run.folder.name,
            "net": f"{run.settings['net']} (here)",
        }
        for run in runs
        if run.folder not in placed and not (run.metrics and run.metrics["accuracy"] is None)
    ]


def retrieval_table(dataset: str, runs: list[Run]) -> list[dict]:
    """Return published mAPs of the methods built here, beside each run's.

    Keys are those of `accuracy_table`, and `measure`.
    """
    table = []
    for row in read_published("retrieval_map"):
        if row["dataset"] != dataset or our_method(row["method"]) is None:
            continue
        ours = [
            run for run in runs if run.settings["dataset"] == dataset and _counterpart(run, row)
        ]
        measure = f"mAP@{int(row['k'])}"
        table += [{**_beside(row, run, measure), "measure": measure} for run in ours] or [
            {**_of_published(row, "map_percent"), "measure": measure}
        ]
    return table


def map_table(group: Group, measure: str) -> tuple[list[int], list[dict]]:
    """Return mAP by code length: the columns (bits), and a dict a method: name, source, cells.

    measure: "map" or "map_at_1000", or what else `figures_of` knows. A cell is the figure with its
    tie figures, or None where nothing was measured. Published methods follow for the first two,
    each with `published` true, and its net and, where it is stated, its protocol in its source.
    """
    ours, others = {}, {}
    for row in group.rows:
        figures = figures_of(row.metrics, measure)
        if figures is None:
            continue
        entry = ours.setdefault(method_of(row), {"name": row.method, "sources": [], "values": {}})
        entry["values"][row.bits] = figures
        entry["sources"].append(row.source)
    cuts = {"map": None, f"map_at_{RELEASE_K}": RELEASE_K}
    if measure in cuts and not group.subset:
        k = cuts[measure]
        for row in published_maps(group.dataset, k):
            entry = others.setdefault(
                row["method"], {"name": row["method"], "sources": [_source(row)], "values": {}}
            )
            entry["values"][int(row["bits"])] = (float(row["map_percent"]) / 100, None)
    columns = sorted(
        {bits for row in (*ours.values(), *others.values()) for bits in row["values"] if bits}
    )
    return columns, [
        {
            "name": row["name"],
            "source": ", ".join(dict.fromkeys(row["sources"])),
            "published": published,
            # A ranking by the features themselves has no code length: one cell for all.
            "cells": [row["values"].get(bits) for bits in columns],
            "any_length": row["values"].get(None),
        }
        for published, table in ((False, ours), (True, others))
        for row in table.values()
    ]


def _source(row: dict[str, str]) -> str:
    words = [f"net: {row['net'] or 'not stated'}"]
    if row["queries"]:
        words.append(f"{int(row['queries']):,} queries, {int(row['database']):,} pictures")
    return "; ".join([*words, row["source"]])


_EMPTY = {
    "method": "",
    "bits": None,
    "net": "",
    "source": "",
    "published": None,
    "ours": None,
    "run": None,
    "difference": None,
    "differs": [],
    "ours_expected": True,
}


def _of_published(row: dict[str, str], column: str) -> dict:
    return {
        **_EMPTY,
        "method": row["method"],
        "bits": int(row["bits"]) if row["bits"] else None,
        "net": row["net"] or "not stated",
        "source": row["source"],
        "published": float(row[column]) / 100,
    }


def _beside(row: dict[str, str], run: Run, measure: str = "accuracy") -> dict:
    """Return a published row with a run's figure and, where nothing differs, the difference.

    The figure is of the published row's own queries where the run has been measured on them.
    """
    column, compared = (
        ("accuracy_percent", accuracies) if measure == "accuracy" else ("map_percent", maps)
    )
    beside = {**_of_published(row, column), "run": run.folder.name}
    if run.metrics is None:
        return beside
    measured = [
        (one, metrics)
        for metrics in (run.metrics, *run.subsets)
        for one in compared(run.record, metrics)
        if (one["method"], one["source"]) == (row["method"], row["source"])
    ]
    same = [pair for pair in measured if "other protocol" not in pair[0]["differs"]]
    found, metrics = (same or measured)[0]
    queries = f", {metrics['queries']:,} queries" if metrics.get("subset") else ""
    return beside | {
        "run": run.folder.name + queries,
        "ours": found["ours"],
        "difference": difference(found),
        "differs": found["differs"],
    }


def _counterpart(run: Run, row: dict[str, str]) -> bool:
    return run.method == our_method(row["method"]) and row["bits"] in (
        "",
        str(run.settings["bits"]),
    )
