"""Codes of both splits, from a run's trained net to its codes.h5: `make codes`.

A METHOD=finetune net has no codes: its features.h5 is written.
"""

import time

from tools.run import child as caffe_process
from tools.run import cluster, device
from tools.run import record as runs
from tools.run.job import parser, resolve, stop, whole, writing


def main():
    p = parser(__doc__)
    p.add_argument("--features", action="store_true", help="write features.h5 as well")
    cluster.add_options(p)
    args = p.parse_args()
    job = resolve(args)
    run, caffemodel = job["run"], job["run"] / "model.caffemodel"
    with_features = args.features or job["method"] == "finetune"
    gpus, where = device.choose_all(job["device"])
    if len(gpus) > 1 and args.scheduler:
        stop(
            f"DEVICE={job['device']} with SCHEDULER=: give each worker its GPU where it is started "
            "(CUDA_VISIBLE_DEVICES) and say DEVICE=gpu:0"
        )
    print(f"extracting from {caffemodel} on {where}")
    threads = device.threads(job["spec"])
    arguments = [str(run), str(job["data"]), str(caffemodel), "--threads", str(threads)]
    arguments += ["--gpus", *map(str, gpus)]
    arguments += ["--features", job["spec"]["features"]] if with_features else []
    arguments += ["--scheduler", args.scheduler] if args.scheduler else []
    workers = args.workers or (len(gpus) if len(gpus) > 1 else "")  # a process for each GPU
    arguments += ["--workers", str(whole("WORKERS", workers, 1, 1024))] if workers else []
    log = run / "extract.log"
    with writing():
        log.unlink(missing_ok=True)
    began = time.monotonic()
    caffe_process.run("tools.codes.extract", arguments, threads, log)
    runs.add_stage(run, "codes", time.monotonic() - began)
    if job["method"] != "finetune":
        print(f"codes: {run / 'codes.h5'}")
    if with_features:
        print(f"features: {run / 'features.h5'}")


if __name__ == "__main__":
    main()
