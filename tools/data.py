"""Make the data folder of a job, or say that it is there: `make data`."""

import sys
from pathlib import Path

from data_prep import DataError
from data_prep.prepare import prepare
from tools.run.job import parser, resolve, stop


def main() -> None:
    p = parser(__doc__)
    p.add_argument("--encoding", default="", help="raw, png or jpeg")
    p.add_argument("--skip", default="", help="1: leave unreadable pictures out")
    args = p.parse_args()
    job = resolve(args)
    try:
        prepare(
            dataset=args.dataset,
            root=Path(args.data_root),
            side=job["spec"]["side"],
            channels=job["spec"]["channels"],
            mean=job["spec"]["mean"],
            subset=job["subset"] or None,
            images=Path(args.images) if args.images else None,
            archive=Path(args.cifar10_archive) if args.cifar10_archive else None,
            encoding=args.encoding or None,
            skip=args.skip == "1",
        )
    except DataError as error:
        stop(str(error))
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
