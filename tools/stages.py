"""The stages behind training, each from the file before it: `make codes`, `make eval`, and so on.

    python -m tools.stages codes|eval|report|index|trained

brings the run's files up to date, by a command a stage, and then says where the last one is. A file
is up to date when it is not older than the one that it is made from.
"""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tools.run.failure import Failure, Interrupted, carry_out
from tools.run.job import Job, job_of, read_job
from tools.train.identity import check_trained

MORE = ("FEATURES", "FINE", "QUERIES", "SCHEDULER", "WORKERS", "ADD", "REMOVE")


class Stage(NamedTuple):
    """A file of a run's folder, the file that it is made from, and the command that makes it."""

    file: str
    source: str
    command: tuple[str, ...]


def main() -> None:
    """Make what is asked for up to date, if the run is the trained run of the job."""
    wanted = sys.argv.pop(1) if len(sys.argv) > 1 and not sys.argv[1].startswith("-") else ""
    job, values = read_job(__doc__, *MORE)
    check_trained(job)
    stages = {
        "codes": codes(job, values.features),
        "eval": evaluation(job, values.queries, bool(values.scheduler or values.workers)),
        "report": report(job),
        "search": codes(job, values.fine) + [INDEX],
        "serve": codes(job, values.features) + [INDEX],
        "trained": [],
    }
    if wanted not in stages:
        raise Failure(f"{wanted or 'nothing'} is no stage; there are {', '.join(stages)}")
    made = [stage for stage in stages[wanted] if bring_up_to_date(job.run, stage)]
    return made
