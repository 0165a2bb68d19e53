"""Other hashing methods on a run's features: `make baselines` (eval/baselines/)."""

from eval.baselines.command import measure_and_print
from tools.run.failure import carry_out
from tools.run.job import job_of
from tools.run.job import VARIABLES
from tools.run.variables import parse


def main() -> None:
    """Measure every method at the code lengths BITS, on the features of the job's run."""
    values = parse(__doc__, VARIABLES)
    measure_and_print(job_of(values, values.bits[0]).run, values.bits)


if __name__ == "__main__":
    carry_out(main)
