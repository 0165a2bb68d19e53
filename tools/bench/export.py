"""A trained run's net by each engine, and the service by two of them: `make bench-export`.

Each engine runs in a process of its own, one after another, on test pictures of the run, with as
many threads as cores. The service's memory is what its processes hold alone and their share of what
they hold together (PSS), after some requests.
"""

import sys

import cv2
import httpx
import psutil

from data_prep.lmdb_reader import open_rows
from tools.bench.served import running_server
from tools.net.engines import ENGINES
from tools.run import child, device
from tools.run.data import lmdb_of
from tools.run.failure import carry_out
from tools.run.job import Job, read_job, require_codes

NAMES = ("Caffe", "ONNX Runtime", "OpenCV DNN", "ONNX Runtime, int8")
REQUESTS = 100


def main() -> None:
    """Print both tables."""
    job, _ = read_job(__doc__)
    require_codes(job)
    threads = device.threads()
    print(f"{job.run.name}, {threads} threads; median (slowest to fastest of 5 parts)")
    print(f"{'':18} {'pictures a second':>26} {'ms for one picture':>26} {'process':>8}")
    for engine in NAMES:
        found = child.call(
            "tools.bench.export_engine.measure",
            threads=threads,
            log=job.run / "bench.log",
            engine=engine,
            run=job.run,
            data=job.data,
        )
        slow, usual, fast = found["rate"]
        rate = f"{usual:,.0f} ({slow:,.0f} to {fast:,.0f})"
        least, middle, most = found["milliseconds"]
        latency = f"{middle:.2f} ({most:.2f} to {least:.2f})"
        print(f"{engine:18} {rate:>26} {latency:>26} {found['megabytes']:5.0f} MB", flush=True)
    for engine in ENGINES:
        megabytes = service_megabytes(job, engine)
        print(f"make serve ENGINE={engine:5}: {megabytes:.0f} MB after {REQUESTS} requests")


def service_megabytes(job: Job, engine: str) -> float:
    """Return the memory of a service's processes, in MB, after it answered some requests."""
    with open_rows(lmdb_of(job.data, "query")) as (keys, read):
        rows = range(0, len(keys), max(1, len(keys) // REQUESTS))
        pictures = [read([row])[0][0] for row in list(rows)[:REQUESTS]]
    with running_server([*sys.argv[1:], "--engine", engine]) as (port, server):
        for picture in pictures:
            file = cv2.imencode(".png", picture.transpose(1, 2, 0))[1].tobytes()
            answer = httpx.post(f"http://127.0.0.1:{port}/api/search", files={"picture": file})
            answer.raise_for_status()
        processes = [psutil.Process(server.pid), *psutil.Process(server.pid).children(True)]
        return sum(each.memory_full_info().pss for each in processes) / 1e6


if __name__ == "__main__":
    carry_out(main)
