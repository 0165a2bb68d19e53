"""The runs in a folder of runs, each with what it measured."""

from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from eval.codes import codes_sha256, read_codes
from eval.features import read_mark
from eval.files import InputError, read_json
from eval.protocol import RELEASE_K


class Run(NamedTuple):
    """A run's folder; metrics is None where it has none that hold, and `why` says why.

    subsets: metrics of some queries a class (make eval QUERIES=), as the paper's 1,000.
    """

    folder: Path
    record: dict
    metrics: dict | None
    why: str
    subsets: tuple[dict, ...] = ()

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
        run = run._replace(metrics=_read_metrics(run, folder / "metrics.json"))
    except InputError as error:
        return run._replace(why=str(error))
    subsets = []
    for path in sorted(folder.glob(f"metrics-q*-k{RELEASE_K}.json")):
        with suppress(InputError):  # of earlier codes, or damaged: as if it were not there
            subsets.append(_read_metrics(run, path))
    return run._replace(subsets=tuple(subsets))


def _read_metrics(run: Run, path: Path) -> dict:
    """A metrics file, where it was measured on the file beside it."""
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
