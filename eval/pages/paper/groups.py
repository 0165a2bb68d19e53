"""Runs that one figure may join: of one data set, net and choice of pictures, trained as far."""

from collections.abc import Callable
from typing import NamedTuple

from eval.baselines.methods import BASELINES, EUCLIDEAN, EUCLIDEAN_STYLE
from eval.baselines.table import Row, code_lengths, rows
from eval.files import InputError
from eval.run_folders import Run
from eval.tables import METHODS


class Group(NamedTuple):
    """Runs of one data set, net and subset (pictures of each split, 0 for all).

    head: whether their heads alone were trained. runs: all of them, by name. rows: one for each
    method and code length, in the order of `line_styles`. left_out: sentences on results of
    baselines that cannot be read, or are of other code.
    """

    dataset: str
    net: str
    subset: int
    head: bool
    runs: list[Run]
    rows: list[Row]
    left_out: list[str] = []

    @property
    def title(self) -> str:
        """Return the group's name for headings."""
        subset = f", {self.subset:,} pictures of each split" if self.subset else ""
        head = ", heads alone trained" if self.head else ""
        return f"{self.dataset}, {self.net}{subset}{head}"

    @property
    def name(self) -> str:
        """Return the group's name for files."""
        subset = f"-{self.subset}" if self.subset else ""
        return f"{self.dataset}-{self.net}{subset}" + ("-head" if self.head else "")


def group_runs(runs: list[Run]) -> list[Group]:
    """Return the groups of the runs, by data set, net, subset and whether heads alone learned.

    Of several runs of one method and code length, the one with the shortest name stands in the
    group's rows. Other methods' results are those on the features of a run without codes (a
    METHOD=finetune one), or, where that has none, on those of another run.
    """
    members = {}
    for run in runs:
        settings = run.settings
        subset, head = settings.get("subset") or 0, bool(settings.get("head"))
        key = (settings["dataset"], settings["net"], subset, head)
        members.setdefault(key, []).append(run)
    groups = []
    for key, of_group in sorted(members.items()):
        left_out = []
        found = _rows(of_group, lambda error, said=left_out: said.append(str(error)))
        groups.append(Group(*key, of_group, found, left_out))
    return groups


def line_styles() -> dict[str, int]:
    """Return the style of the line of each method that ranks pictures, by the method's name.

    The order is that of rows and lines: the nets trained here, the baselines from the last in
    their table to the first, then Euclidean search.
    """
    trained = {method.title: method.style for method in METHODS.values() if method.codes}
    baselines = {baseline.name: baseline.style for baseline in reversed(BASELINES.values())}
    return {**trained, **baselines, EUCLIDEAN: EUCLIDEAN_STYLE}


def method_of(row: Row) -> str:
    """Return the name in `line_styles` of a row's method: Euclidean rows are named after a net."""
    return EUCLIDEAN if row.bits is None else row.method


def _rows(runs: list[Run], left_out: Callable[[InputError], None]) -> list[Row]:
    by_name = sorted(runs, key=lambda run: (len(run.folder.name), run.folder.name))
    found = {}
    for run in by_name:
        if run.metrics and run.method in METHODS and run.has_codes:
            row = Row(run.title, run.metrics["bits"], run.metrics, run.folder.name)
            found.setdefault((row.method, row.bits), row)
    learned_on = sorted(
        (run for run in by_name if (run.folder / "baselines").is_dir()),
        key=lambda run: run.has_codes,
    )
    for run in learned_on[:1]:
        for row in rows(run, code_lengths(run), [], left_out=left_out):
            if row.metrics:
                found[method_of(row), row.bits] = row
    order = list(line_styles())
    return sorted(found.values(), key=lambda row: (order.index(method_of(row)), row.bits or 0))
