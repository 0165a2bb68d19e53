"""The paper's tables and figures from all runs of a folder, runs/paper/index.html: `make paper`.

Pictures come from the LMDBs of each run's data, below DATA_ROOT. The cost of one distance is
measured once on a machine and kept in distance_cost.json.
"""

import sys
from contextlib import ExitStack, suppress
from pathlib import Path

import cv2

from eval.bench.cost import distance_cost
from eval.files import InputError
from eval.pages.paper.page import write_paper
from eval.records import read_cost
from eval.run_folders import Run, find_runs
from eval.summary import write_metrics
from tools.run.data import folder_of, lmdb_of, open_pictures
from tools.run.failure import Failure, carry_out
from tools.run.machine import machine
from tools.run.variables import parse

BIT_LENGTHS = (48, 64, 128)  # the paper's 64, and the code lengths of its tables around it


def main() -> None:
    """Write the page of all runs in RUNS, and each of its figures."""
    values = parse(__doc__, ("RUNS", "DATA_ROOT"))
    runs, data_root = Path(values.runs), Path(values.data_root)
    if not runs.is_dir():
        raise Failure(f"there is no folder {runs}: RUNS= is where the runs lie")
    out = runs / "paper"
    out.mkdir(parents=True, exist_ok=True)
    opened = {}
    with ExitStack() as stack:

        def picture(run: Run, group: str, row: int) -> bytes:
            """Return the PNG of a row's picture, as it lies in the LMDB."""
            data = folder_of(run.settings, data_root)
            if data not in opened:
                if not lmdb_of(data, group).is_dir():
                    raise InputError(f"{lmdb_of(data, group)} does not exist; run make data")
                opened[data] = stack.enter_context(open_pictures(data))
            pixels = opened[data](group, row)
            return cv2.imencode(".png", pixels.transpose(1, 2, 0))[1].tobytes()

        left_out = []
        found = find_runs(runs, lambda error: left_out.append(str(error)))
        cost = measured_cost(out / "distance_cost.json")
        page = write_paper(out, found, picture, cost, left_out)
    for run in found:
        if run.metrics is None:
            print(f"no figures of {run.folder.name}: {run.why}", file=sys.stderr)
    print(f"{len(found)} runs, {sum(run.metrics is not None for run in found)} with figures")
    print(f"page: {page}; figures: {page.parent / 'figures'}")


def measured_cost(path: Path) -> dict:
    """Return the costs in a file, measured first where it is none of this machine's."""
    here = {key: machine()[key] for key in ("cpu", "cores")}
    with suppress(InputError):  # missing or damaged
        cost = read_cost(path)
        if cost["machine"] == here:
            return cost
    cost = {"machine": here, "rows": distance_cost(BIT_LENGTHS)}
    write_metrics(path, cost)
    return cost


if __name__ == "__main__":
    carry_out(main)
