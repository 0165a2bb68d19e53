"""The page of a run, report.html, with pictures from the LMDBs of its data: `make report`."""

import time
from contextlib import ExitStack

import cv2

from data_prep import DataError
from data_prep.lmdb_reader import open_rows
from eval.files import InputError
from eval.pages.report import write_report
from tools.codes.extract import SPLITS
from tools.run import record as runs
from tools.run.job import parser, resolve, stop


def report(job):
    """Write report.html of a job's run; return its path."""
    began = time.monotonic()
    with ExitStack() as stack:
        read = {
            group: stack.enter_context(open_rows(job["data"] / f"{split}_lmdb"))[1]
            for group, split in SPLITS.items()
        }

        def picture(group, row):
            """Return the PNG of a row's picture, as it lies in the LMDB."""
            pixels = read[group]([row])[0][0]
            return cv2.imencode(".png", pixels.transpose(1, 2, 0))[1].tobytes()

        page = write_report(job["run"], picture)
    runs.add_stage(job["run"], "report", time.monotonic() - began)
    return page


def main():
    job = resolve(parser(__doc__).parse_args())
    try:
        print(f"report: {report(job)}")
    except (InputError, DataError) as error:
        stop(str(error))
    except OSError as error:
        stop(
            f"{error.filename or job['run'] / 'report.html'}: {error.strerror}; mend that and run "
            "'make report' again"
        )


if __name__ == "__main__":
    main()
