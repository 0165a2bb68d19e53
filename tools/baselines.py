"""Other hashing methods on a run's features: `make baselines` (eval/baselines/)."""

import os
import sys

from tools.run.failure import carry_out
from tools.run.job import VARIABLES, job_of
from tools.run.variables import parse


def main() -> None:
    """Measure every method at the code lengths BITS, on the features of the job's run."""
    values = parse(__doc__, VARIABLES)
    run, bits = job_of(values, values.bits[0]).run, map(str, values.bits)
    os.execv(sys.executable, [sys.executable, "-m", "eval.baselines", str(run), "--bits", *bits])


if __name__ == "__main__":
    carry_out(main)
