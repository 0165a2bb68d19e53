"""Fetch and verify the pretrained weights of a net: `make weights`."""

from tools.net import pretrained
from tools.run.failure import carry_out
from tools.run.job import read_job


def main() -> None:
    """Fetch NET's default weights, and say where they are."""
    job, _ = read_job(__doc__)
    path = pretrained.find(job.net.weights)
    print(path or "this net is trained from scratch: there are no weights to fetch")


if __name__ == "__main__":
    carry_out(main)
