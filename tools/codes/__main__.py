"""Codes of both splits, from a run's trained net to its codes.h5: `make codes`.

A net without codes has its features.h5 written.
"""

import time

from tools.net import engines
from tools.run import child, cluster, device, record
from tools.run.failure import Failure, carry_out, writing
from tools.run.job import read_job


def main() -> None:
    """Extract the codes of the job's run, and with FEATURES its features."""
    job, values = read_job(__doc__, "FEATURES", "SCHEDULER", "WORKERS", "ENGINE")
    run, with_features = job.run, values.features or not job.method.codes
    gpus, device_sentence = engines.choose(values.engine, job.device)
    if len(gpus) > 1 and values.scheduler:
        raise Failure(
            f"DEVICE={job.device} with SCHEDULER=: give each worker its GPU where it is started "
            "(CUDA_VISIBLE_DEVICES) and say DEVICE=gpu:0"
        )
    print(f"extracting from {run / 'model.caffemodel'} on {device_sentence}")
    log = run / "extract.log"
    with writing():
        log.unlink(missing_ok=True)
    began = time.monotonic()
    workers = cluster.check_workers(values.workers)
    workers = workers or (len(gpus) if len(gpus) > 1 else 0)  # a process for each GPU
    threads = max(1, device.threads() // (workers or 1))
    child.call(
        "tools.codes.extract.extract",
        threads=threads,
        log=log,
        run=run,
        data=job.data,
        gpus=gpus,
        threads_of_net=threads,
        features=with_features,
        engine=values.engine,
        scheduler=values.scheduler,
        workers=workers,
    )
    record.set_seconds(run, "codes", time.monotonic() - began)
    if job.method.codes:
        print(f"codes: {run / 'codes.h5'}")
    if with_features:
        print(f"features: {run / 'features.h5'}")


if __name__ == "__main__":
    carry_out(main)
