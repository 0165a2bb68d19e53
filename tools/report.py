"""The page of a run, report.html, with pictures from the LMDBs of its data: `make report`."""

import time

import cv2
import numpy as np

from eval.pages.report import write_report
from tools.run import record
from tools.run.data import open_pictures
from tools.run.failure import Failure, carry_out
from tools.run.job import read_job


def main() -> None:
    """Write report.html of the job's run."""
    job, _ = read_job(__doc__)
    began = time.monotonic()
    try:
        with open_pictures(job.data) as read:
            page = write_report(job.run, lambda group, row: png(read(group, row)))
        record.set_seconds(job.run, "report", time.monotonic() - began)
    except OSError as error:
        raise Failure(
            f"{error.filename or job.run / 'report.html'}: {error.strerror}; mend that and run "
            "'make report' again"
        ) from None
    print(f"report: {page}")


def png(picture: np.ndarray) -> bytes:
    """Return the PNG of a picture, uint8 C x H x W, BGR."""
    return cv2.imencode(".png", picture.transpose(1, 2, 0))[1].tobytes()


if __name__ == "__main__":
    carry_out(main)
