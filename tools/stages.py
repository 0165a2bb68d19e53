"""The stages behind training, each from the file before it: `make codes`, `make eval`, and so on.

    python -m tools.stages codes|eval|report|search|serve|export|trained

brings a trained run's files up to date, by a command for each, and says where the last one is. A
file is up to date when it is not older than the one that it is made from.
"""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

from data_prep.datasets import DATASETS
from tools.run.failure import Failure, Interrupted, carry_out
from tools.run.job import Job, read_job, require_codes
from tools.run.variables import environment_of
from tools.train.identity import check_trained


class Stage(NamedTuple):
    """A file of a run's folder, the file that it is made from, and the command that makes it."""

    file: str
    source: str
    command: tuple[str, ...]


VARIABLES = ("FEATURES", "FINE", "QUERIES", "SCHEDULER", "WORKERS", "PICTURES")
CODES = Stage("codes.h5", "model.caffemodel", ("tools.codes",))
FEATURES = Stage("features.h5", "model.caffemodel", ("tools.codes", "--features", "1"))
INDEX = Stage(
    "index.h5",
    "codes.h5",
    ("tools.search.indexing", "--add", "", "--remove", ""),  # make index itself changes it
)


def main() -> None:
    """Bring up to date what is asked for; the run must be the trained run of the job."""
    wanted = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    job, values = read_job(__doc__, *VARIABLES)
    own = values.pictures or (values.images and not DATASETS[job.source].pictures)
    if wanted == "codes" and own:
        run_command(("tools.codes.pictures",), values)
        return
    if wanted == "export" and values.weights and not (job.run / "run.json").exists():
        return  # a caffemodel without a run: there is nothing before it
    check_trained(job)
    if wanted in ("search", "serve"):
        require_codes(job)
    all_stages = stages_of(job, values)
    if wanted not in all_stages:
        raise Failure(f"{wanted or 'nothing'} is no stage; there are {', '.join(all_stages)}")
    stages = all_stages[wanted]
    made = False
    for stage in stages:
        made = not is_up_to_date(job.run / stage.file, job.run / stage.source)
        made = made or not is_of_todays_draw(job.run / stage.file)
        if made:
            run_command(stage.command, values, sys.stderr if wanted == "search" else None)
    if wanted in ("codes", "eval", "report"):
        say(job, job.run / stages[-1].file, made)


def stages_of(job: Job, values: SimpleNamespace) -> dict[str, list[Stage]]:
    """Return what each of the wanted things needs, in order."""
    codes = CODES if job.method.codes else FEATURES
    with_features = [FEATURES] if job.method.codes else []
    extracted = [codes, *(with_features if values.features else [])]
    metrics = evaluation(job, codes.file, None, values)
    page = Stage("report.html", "metrics.json", ("tools.report",))
    return {
        "trained": [],
        "codes": extracted,
        "eval": [codes, evaluation(job, codes.file, values.queries, values)],
        "report": [codes, metrics, *([page] if job.method.codes else [])],
        "search": [codes, *(with_features if values.fine else []), INDEX],
        "serve": [*extracted, INDEX],
        "export": [codes, INDEX] if job.method.codes else [],
    }


def evaluation(job: Job, measured: str, queries: int | None, values: SimpleNamespace) -> Stage:
    """Return the stage that measures codes, or the accuracy of a net without codes."""
    file = f"metrics-q{queries}-k1000.json" if queries else "metrics.json"
    if not job.method.codes:
        module = "eval.classification"
    else:
        module = "tools.evaluate" if values.scheduler or values.workers else "eval"
    subset = ("--queries", str(queries)) if queries else ()
    return Stage(file, measured, (module, str(job.run / measured), *subset))


def is_up_to_date(file: Path, source: Path) -> bool:
    """Return whether a file is there and not older than what it is made from."""
    return file.exists() and file.stat().st_mtime_ns >= source.stat().st_mtime_ns


def is_of_todays_draw(file: Path) -> bool:
    """Return whether a file of metrics is of queries drawn as today's; True for any other file."""
    if not file.name.startswith("metrics-q"):
        return True
    from eval.files import InputError, read_json  # and NumPy with the other one
    from eval.records import drawn_otherwise

    try:
        return not drawn_otherwise(read_json(file, (), "make eval"))
    except InputError:  # damaged: it is made again
        return False


def run_command(command: tuple[str, ...], values: SimpleNamespace, stdout: object = None) -> None:
    """Run a command of this repository; where it fails, end as it did, for it said why."""
    environment = environment_of(values)
    environment["OMP_WAIT_POLICY"] = "passive"  # FAISS's threads wait without work
    done = subprocess.run([sys.executable, "-m", *command], stdout=stdout, env=environment)
    if done.returncode:
        raise Interrupted(done.returncode if done.returncode > 0 else 128 - done.returncode)


def say(job: Job, path: Path, made: bool) -> None:
    """Say where the last file is, and what a measurement that was there already had found."""
    if path.name == "report.html":
        print(f"the report is {path}")
    elif path.name.startswith("metrics") and job.method.codes and not made:
        from eval.records import read_metrics
        from eval.summary import describe

        print(describe(read_metrics(path, "make eval")))
        print(f"measured already: {path}")
    elif not job.method.codes:
        print(f"the accuracy is in {path}")
    elif not made:
        print(f"{path} is there already, of this model")


if __name__ == "__main__":
    carry_out(main)
