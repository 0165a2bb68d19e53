"""The runs in a folder of runs, each with what it measured."""

from pathlib import Path
from typing import NamedTuple

from eval.codes import codes_sha256, read_codes
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
    try:
        metrics = read_json(folder / "metrics.json", ["codes_sha256"], "make eval")
        if metrics["codes_sha256"] != codes_sha256(read_codes(folder / "codes.h5")):
            raise InputError(
                f"{folder / 'metrics.json'} was not measured on the codes.h5 beside it; "
                "run make eval"
            )
    except InputError as error:
        return Run(folder, record, None, str(error))
    return Run(folder, record, metrics, "")
