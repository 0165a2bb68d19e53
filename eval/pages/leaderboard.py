"""The leaderboard: every method at each code length, on one data set and net, in one table.

An entry is a dict: method, bits (None for the features themselves), map, ties, map_at_1000,
constant_bits (None where not counted), run, seconds_training, and seconds_coding, of one picture.
Coding a picture is its way through the net, from the data's LMDB to codes.h5. A method on features
is learned on those of a net that was trained before: coding a picture takes that net's time and its
own, and the training of that net is no part of its own.
"""

import json
from pathlib import Path

from eval.baselines.table import constant
from eval.files import write_atomically
from eval.pages.figures import write_line_chart
from eval.pages.paper.charts import charts
from eval.pages.paper.groups import Group
from eval.run_folders import Run
from eval.summary import with_ties

RULE = (
    "Rankings are by Hamming distance, ties in database order; mAP is that of the whole ranking. "
    "The training of a method on a net's features is its own, without that of the net; its coding "
    "of a picture has the net's time in it."
)
OF_HEADS = "Heads alone were trained, on features whose extraction is in no training time."


def entries(group: Group) -> list[dict]:
    """Return the entries of a group's rows: the features, then by bits, the best mAP first."""
    runs = {run.folder.name: run for run in group.runs}
    found = [_entry(row.method, row.bits, row.metrics, runs[row.source]) for row in group.rows]
    return sorted(found, key=lambda entry: (entry["bits"] or 0, -entry["map"]))


def write(folder: Path, facts: dict, group: Group) -> str:
    """Write leaderboard.json and .txt, and mAP by bits as a figure, into a folder; return the text.

    facts: dataset, net, subset, head and command, as the JSON keeps them.
    """
    found = entries(group)
    rule = f"{RULE} {OF_HEADS}" if facts["head"] else RULE
    text = "\n".join([*lines(found), *constant(group.rows), "", rule])
    with write_atomically(folder / "leaderboard.json") as partial:
        content = {**facts, "rule": rule, "entries": found}
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    with write_atomically(folder / "leaderboard.txt") as partial:
        partial.write_text(text + "\n", encoding="utf-8")
    for name, chart in charts(group).items():
        if name.endswith("by-bits"):
            write_line_chart(folder / name, chart)
    return text


def lines(found: list[dict]) -> list[str]:
    """Return the lines of the table to print."""
    text = [
        f"{'method':26} {'bits':>4}  {'mAP (ties: expected, worst to best)':48} {'mAP@1000':8}  "
        f"{'training':>9}  {'coding':>12}  run"
    ]
    for entry in found:
        coding = entry["seconds_coding"]
        text.append(
            f"{entry['method']:26} {entry['bits'] or '':4}  "
            f"{with_ties(entry['map'], entry['ties']):48} {entry['map_at_1000']:<8.4f}  "
            f"{_seconds(entry['seconds_training']):>9}  "
            f"{'—' if coding is None else f'{1000 * coding:.3f} ms':>12}  {entry['run']}"
        )
    return text


def _entry(method: str, bits: int | None, metrics: dict, run: Run) -> dict:
    pictures = metrics["queries"] + metrics["database"]
    stages = run.record.get("stages", {})
    training, own = stages.get("train"), 0.0
    if "learned_on" in metrics:  # a method on the run's features, or these themselves
        training = metrics.get("seconds_learning")
        own = metrics.get("seconds_coding") if bits else 0.0
    known = own is not None and "codes" in stages
    return {
        "method": method,
        "bits": bits,
        "map": metrics["map"],
        "ties": metrics["ties"]["map"],
        "map_at_1000": metrics["map_at_1000"],
        "constant_bits": metrics.get("constant_bits"),
        "seconds_training": training,
        "seconds_coding": (stages["codes"] + own) / pictures if known else None,
        "run": run.folder.name,
    }


def _seconds(seconds: float | None) -> str:
    return "—" if seconds is None else f"{seconds:,.1f} s"
