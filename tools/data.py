"""Make the data folder of a job, or say that it is there: `make data`."""

import os
import sys

from tools.job import parser, resolve


def main():
    args = parser(__doc__).parse_args()
    job = resolve(args)
    spec = job["spec"]
    command = [sys.executable, "-m", "data_prep", args.dataset, "--root", args.data_root]
    command += [
        "--side",
        str(spec["side"]),
        "--channels",
        str(spec["channels"]),
        "--mean",
        spec["mean"],
    ]
    command += ["--subset", str(job["subset"])] if job["subset"] else []
    command += ["--images", args.images] if args.images else []
    command += ["--cifar10-archive", args.cifar10_archive] if args.cifar10_archive else []
    os.execv(sys.executable, command)


if __name__ == "__main__":
    main()
