"""Make the data folder of a job, or say that it is there: `make data`."""

from data_prep.prepare import prepare
from tools.run.failure import carry_out
from tools.run.job import read_job


def main() -> None:
    """Make the LMDBs of the job's data set, as its net wants them."""
    job, values = read_job(__doc__, "ENCODING", "SKIP")
    prepare(
        dataset=job.source,
        root=job.data_root,
        side=job.net.side,
        channels=job.net.channels,
        mean=job.net.mean,
        subset=job.subset or None,
        images=job.images,
        archive=job.archive,
        encoding=values.encoding or None,
        skip=values.skip,
    )


if __name__ == "__main__":
    carry_out(main)
