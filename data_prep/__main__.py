"""Command line of data_prep; heavy imports wait until something has to be made."""

import argparse
import errno
import importlib
import os
import sys
import time
from pathlib import Path

from data_prep import DataError
from data_prep.files import file_digest, only_one
from data_prep.manifest import check_asked, data_folder, read_manifest

PICTURES = ("folder", "sun397", "yahoo1m")  # those made of a folder of pictures, --images
DATASETS = ("mnist", "cifar10", "fashion_mnist", "digits", *PICTURES)
ENCODINGS = {"sun397": "jpeg", "yahoo1m": "jpeg"}  # of 256x256 pictures, raw takes 21 and 221 GB


def main() -> int:
    """Run the command line; return the exit code."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # what it can't decode, we say ourselves
    args = parse()
    try:
        prepare(args)
    except DataError as error:
        print(f"data_prep: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        place = error.filename or args.root  # what fails while it is written has no name
        advice = "free some space" if error.errno == errno.ENOSPC else "mend that"
        print(
            f"data_prep: {place}: {error.strerror}; {advice}, or use another data root",
            file=sys.stderr,
        )
        return 1
    except ModuleNotFoundError as error:
        print(f"data_prep: {error}; run `make caffe`, which installs it", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("data_prep: interrupted; the same command goes on", file=sys.stderr)
        return 130
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="data_prep", description="Make a data set's LMDBs.")
    parser.add_argument("dataset", choices=DATASETS)
    parser.add_argument("--root", type=Path, required=True, help="where data sets are kept")
    parser.add_argument("--side", type=positive, required=True, help="pixels, as the net wants")
    parser.add_argument("--channels", type=int, choices=(1, 3), required=True)
    parser.add_argument("--mean", choices=("train", "imagenet"), required=True)
    parser.add_argument("--subset", type=positive, help="evenly spaced pictures of each split")
    parser.add_argument("--encoding", choices=("raw", "png", "jpeg"), help="default: raw, or jpeg")
    parser.add_argument("--images", type=Path, help=f"the folder of {', '.join(PICTURES)}")
    parser.add_argument("--skip", action="store_true", help="leave unreadable pictures out")
    parser.add_argument("--cifar10-archive", type=Path, help="binary version, or pictures")
    args = parser.parse_args()
    if (args.dataset in PICTURES) != (args.images is not None):
        parser.error(f"{', '.join(PICTURES)} need --images, and only they take them")
    if args.cifar10_archive and args.dataset != "cifar10":
        parser.error("--cifar10-archive is for cifar10")
    return args


def positive(text: str) -> int:
    """Return a whole number above zero, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above zero")
    return value


def prepare(args: argparse.Namespace) -> None:
    """Make the data folder, or return at once where it is there, made as asked."""
    name, asked = args.dataset, {"mean": args.mean}
    if args.encoding:
        asked["encoding"] = args.encoding
    if args.dataset in PICTURES:
        from data_prep import folder

        pictures = importlib.import_module(f"data_prep.{args.dataset}")
        name = folder.name(args.images) if args.dataset == "folder" else args.dataset
        listed = pictures.listing(args.images, args.skip)
        asked["sources"] = [folder.source(listed)]
    if args.cifar10_archive:
        if not args.cifar10_archive.is_file():
            raise DataError(f"{args.cifar10_archive}: there is no such archive; correct its path")
        digest = file_digest(args.cifar10_archive, "sha256")
        asked["sources"] = [{"file": args.cifar10_archive.name, "sha256": digest}]

    target = data_folder(args.root, name, args.side, args.channels, args.subset)
    if ready(target, asked):
        return
    with only_one(target.parent):
        if ready(target, asked):  # made by the process that we waited for
            return
        started = time.monotonic()
        raw = target.parent / "raw"
        if args.dataset not in PICTURES:
            from data_prep import originals

            dataset = originals.by_name(args.dataset, raw, args.cifar10_archive)
        else:
            dataset = pictures.load(listed, asked["sources"])
        for note in dataset.notes:
            print(note, flush=True)
        from data_prep.build import build  # and Caffe, a second's import

        build(
            target,
            name,
            dataset,
            side=args.side,
            channels=args.channels,
            mean=args.mean,
            encoding=args.encoding or ENCODINGS.get(name, "raw"),
            count=args.subset,
            skip=args.skip,
        )
    manifest = read_manifest(target)
    counts = manifest["counts"]
    seconds = time.monotonic() - started
    left_out = _left_out(manifest)
    print(f"{target}: {counts['train']} + {counts['test']} pictures in {seconds:.1f} s{left_out}")


def ready(target: Path, asked: dict) -> bool:
    """Tell whether the data folder is there; DataError where it was not made as asked."""
    if not target.is_dir():
        return False
    check_asked(target, read_manifest(target), asked)
    print(f"{target} is ready{_left_out(read_manifest(target))}")
    return True


def _left_out(manifest: dict) -> str:
    """Return the words that say how many pictures were left out, '' where none was."""
    number = sum(map(len, manifest.get("left_out", {}).values()))
    return f"; {number} unreadable ones were left out (manifest.json names them)" if number else ""


if __name__ == "__main__":
    sys.exit(main())
