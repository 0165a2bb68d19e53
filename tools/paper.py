"""The paper's tables and figures from all runs of a folder, runs/paper/index.html: `make paper`.

Pictures come from the LMDBs that each run's net read. The cost of one distance is measured once on
a machine and kept in distance_cost.json.
"""

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path

import cv2

from data_prep import DataError
from data_prep.lmdb_reader import open_rows
from eval.bench.cost import distance_cost
from eval.files import InputError, read_json
from eval.pages.paper.page import write_paper
from eval.run_folders import find_runs
from eval.summary import write_metrics
from tools.codes.extract import SPLITS
from tools.net import render
from tools.run import record as runs

BIT_LENGTHS = (48, 64, 128)  # the paper's 64, and the code lengths of its tables around it


def measured_cost(path):
    """Return the costs in a file, measured first where it is none of this machine's."""
    here = {key: runs.machine()[key] for key in ("cpu", "cores")}
    if path.exists():
        cost = read_json(path, ["machine", "rows"], "make paper")
        if cost["machine"] == here:
            return cost
    cost = {"machine": here, "rows": distance_cost(BIT_LENGTHS)}
    write_metrics(path, cost)
    return cost


def data_folder(run):
    """Return the data folder that a run's train_val.prototxt reads."""
    path = run.folder / "train_val.prototxt"
    try:
        net = render.parse(path.read_text(), path.name)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; run make train") from None
    sources = [Path(layer.data_param.source) for layer in net.layer if layer.data_param.source]
    return sources[0].parent


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--runs", type=Path, required=True)
    args = p.parse_args()
    if not args.runs.is_dir():
        sys.exit(f"error: there is no folder {args.runs}: RUNS= is where the runs lie")
    out = args.runs / "paper"
    out.mkdir(parents=True, exist_ok=True)
    opened = {}
    with ExitStack() as stack:

        def picture(run, group, row):
            """Return the PNG of a row's picture, as it lies in the LMDB."""
            lmdb = data_folder(run) / f"{SPLITS[group]}_lmdb"
            if lmdb not in opened:
                if not lmdb.is_dir():
                    raise InputError(f"{lmdb} does not exist; run make data")
                opened[lmdb] = stack.enter_context(open_rows(lmdb))[1]
            pixels = opened[lmdb]([row])[0][0]
            return cv2.imencode(".png", pixels.transpose(1, 2, 0))[1].tobytes()

        try:
            found = find_runs(args.runs)
            page = write_paper(out, found, picture, measured_cost(out / "distance_cost.json"))
        except (InputError, DataError, OSError) as error:
            sys.exit(f"error: {error}")
    print(f"{len(found)} runs, {sum(run.metrics is not None for run in found)} with figures")
    print(f"page: {page}; figures: {page.parent / 'figures'}")


if __name__ == "__main__":
    main()
