"""Remove a run's folder, and nothing that is no run: `make clean-run`."""

import shutil

from tools.run.failure import Failure, carry_out
from tools.run.job import read_job


def main() -> None:
    """Remove the folder of the job's run."""
    job, _ = read_job(__doc__)
    run = job.run
    if not run.exists():
        print(f"there is no {run}")
        return
    if not (run / "run.json").exists() and not (run / "snapshots").is_dir():
        raise Failure(f"{run} has no run.json, so it is no run: remove it by hand")
    shutil.rmtree(run)
    print(f"removed {run}")


if __name__ == "__main__":
    carry_out(main)
