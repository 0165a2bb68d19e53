"""How long the service takes for one picture: `python -m tools.bench.latency`.

A trained run's server gets test pictures one after another, as JPEG files of a photograph's size,
and answers with code, class and the ten nearest pictures. Printed are the milliseconds of a whole
request, and of the net alone for one picture, by Caffe in a process of its own.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import cv2
import httpx
import numpy as np

from data_prep.lmdb_reader import open_rows
from tools.bench.served import running_server
from tools.run import child, device
from tools.run.data import lmdb_of
from tools.run.failure import carry_out
from tools.run.job import read_job, require_codes

REQUESTS, WARM = 200, 20
SHAPE = 500, 375  # of a picture that is sent


def main() -> None:
    """Print the two lines."""
    job, _ = read_job(__doc__)
    require_codes(job)
    with open_rows(lmdb_of(job.data, "query")) as (keys, read):
        rows = np.linspace(0, len(keys) - 1, REQUESTS + WARM).astype(int)
        pictures = read(list(rows))[0]
    with tempfile.TemporaryDirectory() as folder:
        found = child.call(
            "tools.bench.export_engine.measure",
            threads=device.threads(),
            log=Path(folder) / "caffe.log",
            engine="Caffe",
            run=job.run,
            data=job.data,
        )
    least, middle, most = found["milliseconds"]
    print(f"{job.run.name}, {device.threads()} threads")
    print(f"the net, one picture: {middle:.1f} ms ({least:.1f} to {most:.1f}, means of 5 parts)")
    with running_server(sys.argv[1:]) as (port, _), httpx.Client() as client:
        seconds = []
        for picture in pictures:
            sent = cv2.resize(picture.transpose(1, 2, 0), SHAPE, interpolation=cv2.INTER_CUBIC)
            file = cv2.imencode(".jpg", sent)[1].tobytes()
            began = time.perf_counter()
            answer = client.post(f"http://127.0.0.1:{port}/api/search", files={"picture": file})
            answer.raise_for_status()
            seconds.append(time.perf_counter() - began)
    measured = sorted(1000 * each for each in seconds[WARM:])
    worst = measured[int(0.95 * len(measured))]
    print(
        f"a request, {SHAPE[0]}x{SHAPE[1]} JPEG to code, class and ten pictures: "
        f"{statistics.median(measured):.1f} ms (p95 {worst:.1f}, {len(measured)} requests)"
    )


if __name__ == "__main__":
    carry_out(main)
