"""Make the data folder of a job, or say that it is there: `make data`."""

import os
import sys

from tools.run.job import parser, resolve


def main():
    p = parser(__doc__)
    p.add_argument("--encoding", default="", help="raw, png or jpeg")
    p.add_argument("--skip", default="", help="1: leave unreadable pictures out")
    args = p.parse_args()
    job = resolve(args)
    given = {
        "--root": args.data_root,
        "--side": job["spec"]["side"],
        "--channels": job["spec"]["channels"],
        "--mean": job["spec"]["mean"],
        "--subset": job["subset"],
        "--images": args.images,
        "--cifar10-archive": args.cifar10_archive,
        "--encoding": args.encoding,
    }
    flags = ["--skip"] if args.skip == "1" else []
    words = [str(word) for option, value in given.items() if value for word in (option, value)]
    command = [sys.executable, "-m", "data_prep", args.dataset, *words, *flags]
    os.execv(sys.executable, command)


if __name__ == "__main__":
    main()
