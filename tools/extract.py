"""Codes of both splits, from a run's trained net to its codes.h5: `make codes`.

A METHOD=finetune net has no codes: its features.h5 is written.
"""

import time

from tools import caffe_process, cluster, device, runs
from tools.job import parser, resolve, whole


def main():
    p = parser(__doc__)
    p.add_argument("--features", action="store_true", help="write features.h5 as well")
    cluster.add_options(p)
    args = p.parse_args()
    job = resolve(args)
    run, caffemodel = job["run"], job["run"] / "model.caffemodel"
    with_features = args.features or job["method"] == "finetune"
    gpu, where = device.choose(job["device"])
    print(f"extracting from {caffemodel} on {where}")
    threads = device.threads(job["spec"])
    arguments = [str(run), str(job["data"]), str(caffemodel), "--threads", str(threads)]
    arguments += ["--gpu", str(gpu)] if gpu is not None else []
    arguments += ["--features", job["spec"]["features"]] if with_features else []
    arguments += ["--scheduler", args.scheduler] if args.scheduler else []
    arguments += ["--workers", str(whole("WORKERS", args.workers, 1, 1024))] if args.workers else []
    log = run / "extract.log"
    log.unlink(missing_ok=True)
    began = time.monotonic()
    caffe_process.run("tools.extract_loop", arguments, threads, log)
    runs.add_stage(run, "codes", time.monotonic() - began)
    if job["method"] != "finetune":
        print(f"codes: {run / 'codes.h5'}")
    if with_features:
        print(f"features: {run / 'features.h5'}")


if __name__ == "__main__":
    main()
