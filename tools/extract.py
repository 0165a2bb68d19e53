"""Codes of both splits, from a run's trained net to its codes.h5: `make codes`."""

import time

from tools import caffe_process, device, runs
from tools.job import parser, resolve


def main():
    p = parser(__doc__)
    p.add_argument("--features", action="store_true", help="write features.h5 as well")
    args = p.parse_args()
    job = resolve(args)
    run, caffemodel = job["run"], job["run"] / "model.caffemodel"
    gpu, where = device.choose(job["device"])
    print(f"extracting codes of {caffemodel} on {where}")
    arguments = [str(run), str(job["data"]), str(caffemodel)]
    arguments += ["--gpu", str(gpu)] if gpu is not None else []
    arguments += ["--features", job["spec"]["features"]] if args.features else []
    (run / "extract.log").unlink(missing_ok=True)
    began = time.monotonic()
    threads = device.threads(job["spec"])
    caffe_process.run("tools.extract_loop", arguments, threads, run / "extract.log")
    runs.add_stage(run, "codes", time.monotonic() - began)
    print(f"codes: {run / 'codes.h5'}")


if __name__ == "__main__":
    main()
