"""Every method on one data set and net in one table: `make leaderboard`.

Learns BASELINES, or all methods, on the features of the net's METHOD=finetune run, and trains each
other METHOD that the net and the data can be trained by, at the code lengths BITS; what is there
already is taken as it is. The table is printed, and kept in RUNS/leaderboard-... with a figure.
"""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from eval.baselines.methods import BASELINES, known
from eval.pages import leaderboard
from eval.pages.paper.groups import group_runs
from eval.run_folders import read_run
from eval.tables import METHODS
from tools.run import data, machine
from tools.run.failure import Failure, Interrupted, carry_out, writing
from tools.run.job import VARIABLES, Job, job_of, takes_several
from tools.run.variables import environment_of, parse
from tools.train import targets


def main() -> None:
    """Bring every run and result up to date, and write the table into RUNS/leaderboard-..."""
    values = parse(__doc__, (*VARIABLES, "BASELINES"))
    if not values.bits:
        raise Failure("BITS has no code length in it: give one, or several as BITS='12 32 48'")
    if values.run:
        raise Failure("RUN= names one run, and a leaderboard has several: leave it out")
    methods = known(values.baselines.split())
    jobs = jobs_of(values)
    if all(job.method.codes for job in jobs):
        said = f"NET={jobs[0].net.name} has no METHOD=finetune, whose features others learn on"
        if values.baselines:
            raise Failure(f"{said}: leave BASELINES out, or take another NET=")
        print(f"left out: the methods on features: {said}", file=sys.stderr)
    environment = environment_of(values)
    for job in jobs:
        of_job = environment | {"SSDH_METHOD": job.method.name, "SSDH_BITS": str(job.bits or "")}
        run_command(of_job, "tools.train")
        run_command(of_job, "tools.stages", "report")
        if not job.method.codes:
            run_command(environment | {"SSDH_METHOD": job.method.name}, "tools.baselines")
    first = jobs[0]
    facts = {
        "dataset": first.dataset,
        "net": first.net.name,
        "subset": first.subset,
        "head": first.head,
        "command": machine.command(),
    }
    (group,) = group_runs([read_run(job.run) for job in jobs])
    folder = Path(values.runs) / f"leaderboard-{group.name}"
    with writing():
        folder.mkdir(parents=True, exist_ok=True)
    for said in group.left_out:
        print(f"left out: {said}", file=sys.stderr)
    unasked = {baseline.name for name, baseline in BASELINES.items() if name not in methods}
    asked = [
        row for row in group.rows if row.bits in (None, *values.bits) and row.method not in unasked
    ]
    group = group._replace(rows=asked)
    print(leaderboard.write(folder, facts, group))
    print(f"written to {folder}/leaderboard.txt and leaderboard.json")


def jobs_of(values: SimpleNamespace) -> list[Job]:
    """Return the jobs of each METHOD of the net: one for each code length, or one without codes.

    That one is the first. Methods that are not for the data, or cannot learn from it, are left out,
    and said so, before the first one is trained.
    """
    job = job_of(values, values.bits[0])
    manifest = data.read_manifest(job.data)
    several = data.has_several_labels(manifest)
    jobs = []
    for method in sorted(job.net.methods, key=lambda method: METHODS[method].codes):
        if several and not takes_several(METHODS[method]):
            print(
                f"left out: METHOD={method}, which compares pictures by their one class: those of "
                f"{job.dataset} have several labels each",
                file=sys.stderr,
            )
            continue
        for bits in values.bits if METHODS[method].codes else values.bits[:1]:
            one = job_of(SimpleNamespace(**vars(values) | {"method": method}), bits)
            try:
                targets.check_classes(one, manifest)
            except Failure as said:
                print(f"left out: BITS={bits}: {said}", file=sys.stderr)
            else:
                jobs.append(one)
    return jobs


def run_command(environment: dict[str, str], module: str, *arguments: str) -> None:
    """Run a command, its words to stderr; where it fails, end as it did, for it said why."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, stdout=sys.stderr, env=environment)
    if done.returncode:
        raise Interrupted(done.returncode if done.returncode > 0 else 128 - done.returncode)


if __name__ == "__main__":
    carry_out(main)
