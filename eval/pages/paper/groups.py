"""Runs that one figure may join: of one data set, one net and one choice of pictures."""

from typing import NamedTuple

from eval.baselines.methods import METHODS
from eval.baselines.table import Row, code_lengths, rows
from eval.run_folders import Run

NAMES = {"ssdh": "SSDH", "kevinnet": "KevinNet", "finetune": "fine-tuning"}  # METHOD= in words
EUCLIDEAN = "Euclidean"
ORDER = ("SSDH", "KevinNet", *(method.name for method in reversed(METHODS.values())), EUCLIDEAN)


class Group(NamedTuple):
    """runs: all of the group's, by name. rows: one for each method and code length, in ORDER."""

    dataset: str
    net: str
    subset: int
    runs: list[Run]
    rows: list[Row]

    @property
    def title(self) -> str:
        subset = f", {self.subset:,} pictures of each split" if self.subset else ""
        return f"{self.dataset}, {self.net}{subset}"

    @property
    def name(self) -> str:
        return f"{self.dataset}-{self.net}" + (f"-{self.subset}" if self.subset else "")


def group_runs(runs: list[Run]) -> list[Group]:
    """Groups of the runs, by data set and net.

    Of several runs of one method and code length, the one with the shortest name stands in the
    group's rows. Other methods' results are those on a METHOD=finetune run's features, or, where
    that has none, on those of another run.
    """
    members = {}
    for run in runs:
        settings = run.settings
        key = (settings["dataset"], settings["net"], settings.get("subset") or 0)
        members.setdefault(key, []).append(run)
    return [Group(*key, of_group, _rows(of_group)) for key, of_group in sorted(members.items())]


def method_of(row: Row) -> str:
    """The name in ORDER of a row's method: Euclidean search is named after its net."""
    return EUCLIDEAN if row.bits is None else row.method


def _rows(runs: list[Run]) -> list[Row]:
    by_name = sorted(runs, key=lambda run: (len(run.folder.name), run.folder.name))
    found = {}
    for run in by_name:
        if run.metrics and run.method in ("ssdh", "kevinnet"):
            row = Row(NAMES[run.method], run.metrics["bits"], run.metrics, run.folder.name)
            found.setdefault((row.method, row.bits), row)
    learned_on = sorted(
        (run for run in by_name if (run.folder / "baselines").is_dir()),
        key=lambda run: run.method != "finetune",
    )
    for run in learned_on[:1]:
        for row in rows(run, code_lengths(run), []):
            if row.metrics:
                found[method_of(row), row.bits] = row
    return sorted(found.values(), key=lambda row: (ORDER.index(method_of(row)), row.bits or 0))
