"""Published, released and trained here: one table for the code lengths of one method.

A column here is one code length: bits; note (a word on the released caffemodel, or why there is
none); other_sources, whether the released net saw pictures of other files; released, {"matlab":
metrics, "caffe": metrics} or {}; record and trained, run.json and metrics of the net trained here,
None without one; why (there is none); files, each with role, file and sha256.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from eval.files import write_atomically
from eval.pages.template import page_template
from eval.published import accuracies, difference, maps, net_word, our_method
from eval.tables import METHODS, read_table

CELLS = ("matlab", "caffe", "trained")
HEADS = {
    "published": "published",
    "matlab": "released, MATLAB preprocessing",
    "caffe": "released, Caffe preprocessing",
    "trained": "trained here",
    "difference": "trained - released (Caffe)",
}
PRECISION_AT = (100, 200, 400, 600, 800, 1000)  # as the published curves
RULE = (
    "Rankings are by Hamming distance, ties in database order; AP at k divides by the relevant "
    "pictures among the first k. Behind a published number stands the difference of each cell to "
    "it, where net, features and protocol are the same."
)


def table(facts: dict, columns: list[dict]) -> list[dict]:
    """Return the rows of the table, each a dict.

    bits, measure; published, a number or None; of, what was published where and by which protocol;
    cells, {"matlab", "caffe", "trained"}, each a dict of value (or None), ties, word (what stands
    in place of a value), difference (to the published number, or None) and differs; difference,
    trained less released under Caffe's preprocessing, or None where one is missing or `unlike`
    says in what they were not measured on the same.
    """
    return [row for column in columns for row in _rows(facts, column)]


def _rows(facts: dict, column: dict) -> list[dict]:
    measured = {**column["released"], "trained": column["trained"]}
    absent = {name: "" if column["released"] else _absent(column) for name in ("matlab", "caffe")}
    absent["trained"] = column["why"]
    released_run = {"settings": facts, "from_scratch": False}
    runs = {name: column["record"] if name == "trained" else released_run for name in CELLS}
    published = {
        name: _published(facts, runs[name], metrics)
        for name in CELLS
        for metrics in [measured.get(name) or _nothing(column)]
        if runs[name]
    }
    unlike = _unlike(
        column["trained"], column["released"].get("caffe"), column.get("other_sources", False)
    )
    rows = []
    for measure, value_of in _measures():
        cells = {}
        for name in CELLS:
            metrics = measured.get(name)
            value, ties = value_of(metrics) if metrics else (None, None)
            cells[name] = {"value": value, "ties": ties, "word": "" if metrics else absent[name]}
        stated = next(iter(published.values()), {}).get(measure, [None])
        for place, number in enumerate(stated):
            compared = {
                name: cell | _beside(published.get(name, {}).get(measure), place, cell)
                for name, cell in cells.items()
            }
            ours, theirs = cells["trained"]["value"], cells["caffe"]["value"]
            rows.append(
                {
                    "bits": column["bits"],
                    "measure": measure,
                    "published": number and number["published"],
                    "of": number
                    and f"{number['method']}, {number['protocol']} ({number['source']})",
                    "cells": compared,
                    "difference": None if unlike or None in (ours, theirs) else ours - theirs,
                    "unlike": [] if None in (ours, theirs) else unlike,
                }
            )
    return rows


def _measures() -> Iterator[tuple[str, Callable[[dict], tuple[float | None, dict | None]]]]:
    """Yield (name, metrics -> (value or None, tie figures or None)) of each measure, in order."""
    yield "accuracy", lambda metrics: (metrics["accuracy"], None)
    yield "mAP@1000", lambda metrics: (metrics["map_at_1000"], metrics["ties"]["map_at_1000"])
    yield "mAP", lambda metrics: (metrics["map"], metrics["ties"]["map"])
    for k in PRECISION_AT:

        def precision(metrics: dict, k: int = k) -> tuple[float | None, dict | None]:
            curve = metrics["precision_at_k"]
            if k not in curve["k"]:
                return None, None
            at = curve["k"].index(k)
            return curve["precision"][at], {o: curve[o][at] for o in ("expected", "worst", "best")}

        yield f"precision@{k}", precision


def _published(facts: dict, run: dict, metrics: dict) -> dict[str, list[dict]]:
    """Return published numbers of the method and net by measure.

    An mAP@k other than at 1,000 is that of the whole ranking, and stands as mAP.
    """
    found = {}
    word = read_table("nets.toml")["nets"][facts["net"]]["published"]
    for row in (*accuracies(run, metrics), *maps(run, metrics)):
        if (our_method(row["method"]), net_word(row["method"])) != (facts["method"], word):
            continue
        measure = row["measure"]
        if measure.startswith("mAP@") and measure != "mAP@1000":
            measure = "mAP"
        found.setdefault(measure, []).append(row | {"difference": difference(row)})
    return found


def _nothing(column: dict) -> dict:
    """Return a stand-in for metrics that are not there, by which published numbers are listed."""
    return {"accuracy": None, "map": None, "bits": column["bits"], "database": 0, "queries": 0}


def _beside(published: list[dict] | None, place: int, cell: dict) -> dict:
    if not published or cell["value"] is None:
        return {"difference": None, "differs": []}
    return {name: published[place][name] for name in ("difference", "differs")}


def _unlike(one: dict | None, other: dict | None, other_sources: bool) -> list[str]:
    """Return in what two metrics were measured on something else, [] where either is missing.

    other_sources: whether the files that the pictures come from are others, by SHA-256. The order
    of the rows counts: it breaks ties.
    """
    if not (one and other):
        return []
    sizes = ("queries", "database")
    differ = other_sources or any(one[size] != other[size] for size in sizes)
    pictures = ["other pictures"] if differ else []
    return pictures + (["other order"] if one["row_order"] != other["row_order"] else [])


def difference_text(row: dict) -> str:
    """Return the difference of trained and released as text, or what forbids one."""
    if row["difference"] is not None:
        return f"{row['difference']:+.4f}"
    return ", ".join(row["unlike"]) or "—"


def _absent(column: dict) -> str:
    return column["note"] if column["note"].startswith("not ") else "not released"


def cell_text(cell: dict) -> str:
    """Return a cell as text: its value and difference to the published, or why there is none."""
    if cell["value"] is None:
        return cell["word"] or "—"
    if cell["difference"] is not None:
        return f"{cell['value']:.4f} ({cell['difference']:+.4f})"
    return f"{cell['value']:.4f}"


def cell_and_difference(cell: dict) -> str:
    """Return a cell's text, and in place of a difference what forbids one."""
    return cell_text(cell) + (f" [{', '.join(cell['differs'])}]" if cell["differs"] else "")


def as_text(facts: dict, columns: list[dict], rows: list[dict]) -> str:
    """Return the table and the checksums as lines of text."""
    head = ("bits", "measure", *HEADS.values())
    lines = [head] + [
        (
            str(row["bits"]),
            row["measure"],
            "—" if row["published"] is None else f"{row['published']:.4f}",
            *(cell_and_difference(row["cells"][name]) for name in CELLS),
            difference_text(row),
        )
        for row in rows
    ]
    widths = [max(map(len, texts)) for texts in zip(*lines, strict=True)]
    text = [_title(facts)]
    text += [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    text += [
        f"published {row['measure']} at {row['bits']} bits, {row['published']:.4f}: {row['of']}"
        for row in rows
        if row["of"]
    ]
    text += [RULE]
    for column in columns:
        text += [f"{column['bits']} bits: released model: {column['note']}"]
        text += [f"  {file['sha256']}  {file['role']}: {file['file']}" for file in column["files"]]
    return "\n".join(text)


def _title(facts: dict) -> str:
    subset = f", {facts['subset']} pictures of each split" if facts["subset"] else ""
    return f"{METHODS[facts['method']].title}, {facts['dataset']}, {facts['net']}{subset}"


def write(folder: Path, facts: dict, columns: list[dict]) -> str:
    """Write compare.txt, compare.json and compare.html into a folder; return the text.

    facts: dataset, net, method, subset, and command, the call that made the table. columns: see
    the head of this module.
    """
    rows = table(facts, columns)
    text = as_text(facts, columns, rows)
    content = {
        "facts": facts,
        "rows": rows,
        "models": [
            {name: column[name] for name in ("bits", "note", "files")} for column in columns
        ],
    }
    page = page_template("compare.html.j2").render(
        title=_title(facts),
        facts=facts,
        columns=columns,
        rows=rows,
        heads=HEADS,
        cells=CELLS,
        rule=RULE,
        cell_text=cell_text,
        difference_text=difference_text,
        unverified=[c["bits"] for c in columns if c["note"].startswith("not verified")],
    )
    for name, written in (
        ("compare.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n"),
        ("compare.txt", text + "\n"),
        ("compare.html", page),
    ):
        with write_atomically(folder / name) as partial:
            partial.write_text(written, encoding="utf-8")
    return text
