"""What a call asks for: the variables of `make`, resolved and checked, as one dict.

Every stage (data, train, codes, report) parses the same options, so that any of them can be run
alone.
"""

import argparse
import errno
import os
import sys
import tomllib
from contextlib import contextmanager
from pathlib import Path

from data_prep import DataError, manifest
from data_prep.datasets import name_of

REPO = Path(__file__).resolve().parents[2]
PROTOTXT = REPO / "prototxt"
FULL = (errno.ENOSPC, errno.EDQUOT)  # the disk, or what a user may have of it


def nets():
    """Return prototxt/nets.toml: {"nets": {name: {...}}, "weights": {name: {...}}}."""
    return tomllib.loads((PROTOTXT / "nets.toml").read_text())


def stop(message):
    """End the process with one sentence on stderr and exit code 1."""
    sys.exit(f"error: {message}")


@contextmanager
def writing(instead="choose another folder (RUNS=)"):
    """Stop with a sentence where the block cannot write a file: which, why, what to do.

    instead: what helps where nothing can be written there.
    """
    try:
        yield
    except OSError as error:
        file = f"{error.filename}: " if error.filename else ""
        todo = "free some space" if error.errno in FULL else f"let uid {os.getuid()} write there"
        stop(f"{file}{error.strerror}; {todo}, or {instead}")


def parser(description):
    """Return the parser of the options that all stages share; an empty value means the default."""
    p = argparse.ArgumentParser(description=description)
    for name in ("dataset", "net", "bits", "run"):
        p.add_argument(f"--{name}", required=True)
    p.add_argument("--method", default="ssdh")
    p.add_argument("--data-root", default="data")
    p.add_argument("--images", default="", help="the pictures of DATASET=folder, sun397, yahoo1m")
    p.add_argument("--cifar10-archive", default="")
    p.add_argument("--device", default="auto")
    p.add_argument("--seed", default="42")
    for name in ("iters", "batch", "subset", "weights"):
        p.add_argument(f"--{name}", default="", help="the net's own where empty")
    for term in ("alpha", "beta", "gamma"):
        p.add_argument(f"--{term}", default="1")
    return p


def methods(net):
    """Return the methods that a net has templates for."""
    return sorted(path.name for path in (PROTOTXT / net).iterdir() if path.is_dir())


def whole(name, text, low, high):
    """Return the whole number of an option; stop where it is none or out of range."""
    try:
        value = int(text)
    except ValueError:
        stop(f"{name}={text} is not a whole number")
    if str(value) != str(text):  # 048 would be another run than 48
        stop(f"{name}={text} is not written as a number usually is: {value}")
    if not low <= value <= high:
        stop(f"{name}={value} is out of range: {low} to {high}")
    return value


def number(name, text):
    """Return the number of an option; stop with a sentence where it is none or negative."""
    try:
        value = float(text)
    except ValueError:
        stop(f"{name}={text} is not a number")
    if not 0 <= value < 1e6:
        stop(f"{name}={text} is out of range: 0 or more")
    return value


def resolve(args):
    """Return the job of parsed options.

    Keys: dataset, net, method, bits (None without a latent layer), device, iters, seed (-1: by the
    clock), batch, subset (0: all), weights, alpha, beta, gamma, spec (the net's entry in
    nets.toml), data and run (folders, Path).
    """
    known = nets()["nets"]
    if args.net not in known:
        stop(f"NET={args.net} is not known; there are {', '.join(known)}")
    spec = known[args.net]
    if args.method not in methods(args.net):
        stop(f"NET={args.net} has no METHOD={args.method}; it has {', '.join(methods(args.net))}")
    name = args.dataset
    if name in ("folder", "sun397", "yahoo1m") and not args.images:
        stop(f"DATASET={name} needs IMAGES=, the folder with its pictures")
    name = name_of(name, args.images)
    job = {
        "dataset": name,
        "net": args.net,
        "method": args.method,
        "bits": None if args.method == "finetune" else whole("BITS", args.bits, 8, 1024),
        "device": args.device,
        "iters": whole("ITERS", args.iters or spec["iters"], 1, 10**8),
        "seed": whole("SEED", args.seed, -1, 2**31 - 1),
        "batch": whole("BATCH", args.batch or spec["batch"], 1, 10**5),
        "subset": whole("SUBSET", args.subset or 0, 0, 10**9),
        "weights": args.weights or spec["weights"],
        **{term: number(term.upper(), getattr(args, term)) for term in ("alpha", "beta", "gamma")},
        "spec": spec,
    }
    if args.method != "ssdh" and (job["alpha"], job["beta"], job["gamma"]) != (1, 1, 1):
        stop(f"ALPHA, BETA and GAMMA weigh the terms of METHOD=ssdh; {args.method} has only one")
    if job["weights"] == "none" and not spec["fillers"]:
        stop(
            f"NET={args.net} has no fillers, as in the release, so WEIGHTS=none would leave it all "
            f"zeros: take its default, {spec['weights']}, or WEIGHTS=path"
        )
    data = manifest.data_folder(
        args.data_root, name, spec["side"], spec["channels"], job["subset"] or None
    )
    job["data"] = data.resolve()
    job["run"] = Path(args.run).resolve()
    return job


def read_manifest(data):
    """Return a data folder's manifest.json; stop where there is no data, or it is damaged."""
    if not Path(data).is_dir():
        stop(f"there is no data in {data}: run 'make data' with the same variables first")
    try:
        return manifest.read_manifest(Path(data))
    except DataError as error:
        stop(str(error))
