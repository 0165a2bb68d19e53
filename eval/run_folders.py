"""The runs in a folder of runs, each with what it measured."""

from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from eval.codes import codes_sha256, read_codes
from eval.features import read_fingerprint
from eval.files import InputError, read_json
from eval.protocol import RELEASE_K
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


def find_runs(folder: Path) -> list[Run]:
    """Return the runs of those folders in `folder` that have a run.json, by name.

    Metrics count where they were measured on the codes.h5 (or features.h5) beside them. Raises
    InputError for a damaged run.json.
    """
    return [read_run(path.parent) for path in sorted(Path(folder).glob("*/run.json"))]


def read_run(folder: Path) -> Run:
    """Return the run in one folder; raise InputError where run.json is missing or damaged."""
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
    """Return the content of a metrics file that was measured on the file beside it."""
    if run.has_codes:
        measured, key = "codes.h5", "codes_sha256"
        metrics = read_json(path, [key], "make eval")
        found = codes_sha256(read_codes(run.folder / measured))
    else:
        measured, key = "features.h5", "net_fingerprint"
        metrics = read_json(path, [key, "accuracy"], f"make eval METHOD={run.method}")
        found = read_fingerprint(run.folder / measured)
    if metrics[key] != found:
        raise InputError(f"{path} was not measured on the {measured} beside it; run make eval")
    model = run.record.get("model", {}).get("sha256", "")
    made_by = (metrics.get("net_fingerprint") or "").rpartition("-")[2]
    if model and made_by and not model.startswith(made_by):
        raise InputError(f"{path} is of an earlier model of this run; run make eval")
    return metrics
