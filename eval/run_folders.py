"""The runs in a folder of runs, each with what it measured."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from eval.codes import codes_sha256, read_codes
from eval.features import read_fingerprint
from eval.files import InputError
from eval.protocol import RELEASE_K
from eval.records import drawn_otherwise, read_metrics, read_run_record
from eval.tables import METHODS


class Run(NamedTuple):
    """A run's folder with its run.json (`record`) and what it measured.

    metrics: None where there are none that hold, and `why` says why. subsets: metrics of some
    queries a class (make eval QUERIES=), as the paper's 1,000.
    """

    folder: Path
    record: dict
    metrics: dict | None
    why: str
    subsets: tuple[dict, ...] = ()

    @property
    def settings(self) -> dict:
        """Return the variables of make that the run was made with."""
        return self.record["settings"]

    @property
    def iters(self) -> int | None:
        """Return the iterations that the run's model was made by.

        They are fewer than ITERS while the run is being extended.
        """
        return self.record.get("model", {}).get("iters", self.settings.get("iters"))

    @property
    def method(self) -> str:
        """Return the run's METHOD, SSDH's where run.json is older than that variable."""
        return self.settings.get("method", "ssdh")

    @property
    def title(self) -> str:
        """Return the method's name on pages: METHOD itself where it is not in methods.toml."""
        return METHODS[self.method].title if self.method in METHODS else self.method

    @property
    def has_codes(self) -> bool:
        """Return whether the run's net has a latent layer, and so a codes.h5."""
        return self.method not in METHODS or METHODS[self.method].codes


def find_runs(folder: Path, left_out: Callable[[InputError], None] | None = None) -> list[Run]:
    """Return the runs of those folders in `folder` that have a run.json, by name.

    Metrics count where they were measured on the codes.h5 (or features.h5) beside them. left_out:
    takes the error of each run whose run.json is damaged; without it, such an error is raised.
    """
    runs = []
    paths = sorted(Path(folder).glob("*/run.json"))
    for path in tqdm(paths, desc="reading runs", unit=" runs", disable=None, leave=False):
        try:
            runs.append(read_run(path.parent))
        except InputError as error:
            if not left_out:
                raise
            left_out(error)
    return runs


def read_run(folder: Path) -> Run:
    """Return the run in one folder; raise InputError where run.json is missing or damaged."""
    run = Run(folder, read_run_record(folder), None, "")
    try:
        run = run._replace(metrics=_read_metrics(run, folder / "metrics.json"))
    except InputError as error:
        return run._replace(why=str(error))
    subsets = []
    for path in sorted(folder.glob(f"metrics-q*-k{RELEASE_K}.json")):
        with suppress(InputError):  # of earlier codes, or damaged: as if it were not there
            metrics = _read_metrics(run, path)
            if not drawn_otherwise(metrics):
                subsets.append(metrics)
    return run._replace(subsets=tuple(subsets))


def _read_metrics(run: Run, path: Path) -> dict:
    """Return the content of a metrics file that was measured on the file beside it."""
    if run.has_codes:
        measured, key = "codes.h5", "codes_sha256"
        metrics = read_metrics(path, "make eval")
        found = codes_sha256(read_codes(run.folder / measured))
    else:
        measured, key = "features.h5", "net_fingerprint"
        metrics = read_metrics(path, f"make eval METHOD={run.method}", codes=False)
        found = read_fingerprint(run.folder / measured)
    if metrics[key] != found:
        raise InputError(f"{path} was not measured on the {measured} beside it; run make eval")
    model = run.record.get("model", {}).get("sha256", "")
    made_by = (metrics.get("net_fingerprint") or "").rpartition("-")[2]
    if model and made_by and not model.startswith(made_by):
        raise InputError(f"{path} is of an earlier model of this run; run make eval")
    return metrics
