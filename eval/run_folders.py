"""The runs in a folder of runs, each with what it measured."""

from pathlib import Path
from typing import NamedTuple

from eval.codes import codes_sha256, read_codes
from eval.features import read_mark
from eval.files import InputError, read_json


class Run(NamedTuple):
    """A run's folder; metrics is None where it has none that hold, and `why` says why."""

    folder: Path
    record: dict
    metrics: dict | None
    why: str

    @property
    def settings(self) -> dict:
        return self.record["settings"]

    @property
    def method(self) -> str:
        return self.settings.get("method", "ssdh")


def find_runs(folder: Path) -> list[Run]:
    """Runs of the folders in `folder` that have a run.json, by name.

    Raises InputError for a damaged run.json. Metrics count where they were measured on the
    codes.h5 beside them.
    """
    return [read_run(path.parent) for path in sorted(Path(folder).glob("*/run.json"))]


def read_run(folder: Path) -> Run:
    """The run in one folder. Raises InputError where its run.json is missing or damaged."""
    record = read_json(folder / "run.json", ["settings", "from_scratch", "warnings"], "make train")
    run = Run(folder, record, None, "")
    try:
        return run._replace(metrics=_read_metrics(run))
    except InputError as error:
        return run._replace(why=str(error))


def _read_metrics(run: Run) -> dict:
    """metrics.json, where it was measured on the file beside it."""
    path = run.folder / "metrics.json"
    if run.method == "finetune":
        measured, mark = "features.h5", "net_fingerprint"
        metrics = read_json(path, [mark, "accuracy"], "make eval METHOD=finetune")
        same = metrics[mark] == read_mark(run.folder / measured)
    else:
        measured, mark = "codes.h5", "codes_sha256"
        metrics = read_json(path, [mark], "make eval")
        same = metrics[mark] == codes_sha256(read_codes(run.folder / measured))
    if not same:
        raise InputError(f"{path} was not measured on the {measured} beside it; run make eval")
    return metrics
