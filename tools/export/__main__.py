"""A trained net for where there is no Caffe, into the run's folder export/: `make export`.

It is the net of the job's trained run, with what `make search` searches; or, where there is no such
run, the caffemodel WEIGHTS of NET and BITS. Nothing is exported that does not give Caffe's answers.
"""

import tempfile
from pathlib import Path

from tools.export.exporting import export
from tools.net.exported import FOLDER
from tools.net.model import of_run, of_weights
from tools.run import device, record
from tools.run.failure import carry_out
from tools.run.job import read_job


def main() -> None:
    """Export the net of the job's run, or WEIGHTS."""
    job, values = read_job(__doc__, "PICTURES", "INT8")
    content = record.read_if_there(job.run)
    gpu, device_sentence = device.choose(job.device)
    with tempfile.TemporaryDirectory(prefix="export-") as scratch:
        of_its_own = values.weights and not content
        model = of_weights(job, Path(scratch)) if of_its_own else of_run(job)
        print(f"exporting {model.caffemodel}; Caffe on {device_sentence}", flush=True)
        for line in export(job, model, content, gpu, given=values.pictures, int8=values.int8):
            print(line, flush=True)
    print(f"the export is {job.run / FOLDER}")


if __name__ == "__main__":
    carry_out(main)
