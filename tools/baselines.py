"""Other hashing methods on a run's features: `make baselines` (eval/baselines/)."""

import os
import sys

from tools.run.failure import Failure, carry_out
from tools.run.job import VARIABLES, job_of
from tools.run.variables import parse


def main() -> None:
    """Measure BASELINES, or all methods, at the code lengths BITS, on features of the job's run."""
    values = parse(__doc__, (*VARIABLES, "BASELINES"))
    if not values.bits:
        raise Failure("BITS has no code length in it: give one, or several as BITS='12 32 48'")
    run, bits = job_of(values, values.bits[0]).run, map(str, values.bits)
    methods = values.baselines.split()
    command = [sys.executable, "-m", "eval.baselines", str(run), "--bits", *bits]
    os.environ["OMP_WAIT_POLICY"] = "passive"  # LightGBM's threads wait without work
    os.execv(sys.executable, [*command, *(["--methods", *methods] if methods else [])])


if __name__ == "__main__":
    carry_out(main)
