"""Command line of data_prep: ``python -m data_prep mnist --root data --side 28 ...``."""

import argparse
import sys
from pathlib import Path

from data_prep import DataError
from data_prep.datasets import DATASETS
from data_prep.manifest import MEANS
from data_prep.prepare import check_options, prepare


def main() -> int:
    """Make the data folder that the command line asks for; return the exit code."""
    options = vars(_parser().parse_args())
    try:
        check_options(**{name: options[name] for name in options.keys() - {"root", "skip"}})
    except DataError as error:
        print(f"data_prep: {error}", file=sys.stderr)
        return 2
    try:
        prepare(**options)
    except DataError as error:
        print(f"data_prep: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("data_prep: interrupted; the same command goes on", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    """Return the parser of the options that prepare takes, under their names there."""
    parser = argparse.ArgumentParser(prog="data_prep", description="Make a data set's LMDBs.")
    parser.add_argument("dataset", help=", ".join(DATASETS))
    parser.add_argument("--root", type=Path, required=True, help="where data sets are kept")
    parser.add_argument("--side", type=int, required=True, help="pixels, as the net wants")
    parser.add_argument("--channels", type=int, required=True, help="1 or 3")
    parser.add_argument("--mean", required=True, help=", ".join(MEANS))
    parser.add_argument("--subset", type=int, help="evenly spaced pictures of each split")
    parser.add_argument("--encoding", help="raw, png or jpeg; default: the data set's own")
    parser.add_argument("--images", type=Path, help="the folder of a data set made of pictures")
    parser.add_argument("--skip", action="store_true", help="leave unreadable pictures out")
    parser.add_argument(
        "--cifar10-archive", dest="archive", type=Path, help="binary version, or pictures"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
