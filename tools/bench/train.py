"""Iterations per second of the training loop beside `caffe train`: `make bench-train`.

Three rows a net, run in turn, several times over: `caffe train` on the net without the two loss
layers, `caffe train` on the net with them, and this project's loop with them. Tests and snapshots
are off. The first pair tells what the two layers cost, the second what the loop does. Times come
from the stamps of the lines "Iteration N" that Caffe itself writes into each log.
"""

import os
import re
import statistics
import subprocess
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

from google.protobuf import text_format

from data_prep.manifest import data_folder
from data_prep.prepare import prepare
from eval.tables import LOSS_TERMS
from tools.net import render
from tools.run import child, device
from tools.run.failure import carry_out
from tools.run.job import REPO
from tools.run.nets import Net, net_of
from tools.run.variables import parse

METHOD = "ssdh"
ALTERNATIONS = 5
ITERATIONS = {"lenet": 500, "alexnet": 6}  # measured in each run, behind as many that warm up
PICTURES = {"lenet": 1000, "alexnet": 64}
DATASET, CLASSES = "digits", 10


def make_data(net: Net, root: Path) -> Path:
    """Return the data folder of a net with a few of scikit-learn's digits."""
    asked = {"side": net.side, "channels": net.channels, "subset": PICTURES[net.name]}
    with open(os.devnull, "w") as quiet, redirect_stdout(quiet):
        prepare(dataset=DATASET, root=root, mean=net.mean, **asked)
    return data_folder(root, DATASET, **asked)


def write_run(net: Net, data: Path, folder: Path, with_layers: bool) -> None:
    """Write train_val.prototxt and solver.prototxt of a net into a folder.

    with_layers: with the terms of the loss that are layers of python_layers/.
    """
    files = render.render(
        net,
        METHOD,
        bits=48,
        classes=CLASSES,
        batch=net.batch,
        seed=42,
        iters=2 * ITERATIONS[net.name] + 1,
        data=data,
        folder=folder,
        **render.loss_weights(),
    )
    param = render.parse(files["train_val.prototxt"], "train_val.prototxt")
    if not with_layers:
        kept = [
            layer
            for layer in param.layer
            if not (layer.name in LOSS_TERMS and layer.type == "Python")
        ]
        del param.layer[:]
        param.layer.extend(kept)
    solver = render.parse(files["solver.prototxt"], "solver.prototxt")
    for field in ("test_iter", "test_interval", "snapshot"):
        solver.ClearField(field)
    solver.display = ITERATIONS[net.name]
    solver.snapshot_after_train = False
    folder.mkdir(parents=True)
    (folder / "snapshots").mkdir()
    (folder / "train_val.prototxt").write_text(text_format.MessageToString(param))
    (folder / "solver.prototxt").write_text(text_format.MessageToString(solver))


def seconds_between(log: Path, first: int, last: int) -> float:
    """Return the seconds from Caffe's line "Iteration first" to "Iteration last" in a log."""
    stamps = {}
    for line in log.read_text().splitlines():
        found = re.match(r"I\d+ (\d+):(\d+):([\d.]+) .*\] Iteration (\d+)[ ,]", line)
        if found and int(found[4]) not in stamps:
            stamps[int(found[4])] = int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3])
    return (stamps[last] - stamps[first]) % 86400


def caffe_train(net: Net, folder: Path, threads: int) -> Path:
    """Run `caffe train` on a folder's solver; return its log."""
    caffe = device.prefix() / "bin" / "caffe"
    paths = [str(REPO / "python_layers"), *(path for path in sys.path if path)]
    environment = child.environment(threads) | {"PYTHONPATH": os.pathsep.join(paths)}
    environment["GLOG_logtostderr"] = "1"  # and no files in the folder for temporary ones
    log = folder / "caffe.log"
    with open(log, "w") as file:
        command = [str(caffe), "train", "-solver", str(folder / "solver.prototxt")]
        subprocess.run(command, env=environment, stderr=file, cwd=REPO, check=True)
    return log


def our_loop(net: Net, folder: Path, threads: int) -> Path:
    """Run this project's training loop on a folder's solver; return its log."""
    log = folder / "train.log"
    with open(os.devnull, "w") as bar:
        child.call(
            "tools.train.loop.train",
            threads=threads,
            log=log,
            keep=(bar.fileno(),),
            variables={"SSDH_TERMINAL": str(bar.fileno())},
            run=folder,
            blobs=net.blobs(METHOD),
            gpus=[],
            start=0,
            caffemodel=None,
            pictures=1,
            classes=CLASSES,
            solvers=1,
            warnings=[],
        )
    return log


def measure(net: Net, root: Path) -> tuple[dict[str, list[float]], int]:
    """Return ({row: iterations a second of each alternation}, threads) of a net."""
    data, threads = make_data(net, root), device.threads()
    rows = {
        "caffe train, without the two layers": (caffe_train, False),
        "caffe train, with them": (caffe_train, True),
        "this loop, with them": (our_loop, True),
    }
    rates = {row: [] for row in rows}
    n = ITERATIONS[net.name]
    for turn in range(ALTERNATIONS):
        for row, (runner, with_layers) in rows.items():
            folder = root / f"{net.name}-{turn}-{row}"
            write_run(net, data, folder, with_layers)
            rates[row].append(n / seconds_between(runner(net, folder, threads), n, 2 * n))
    return rates, threads


def main() -> None:
    """Print the table of each net."""
    parse(__doc__, ())
    with tempfile.TemporaryDirectory() as folder:
        for net in map(net_of, ITERATIONS):
            rates, threads = measure(net, Path(folder))
            base = statistics.median(rates["caffe train, without the two layers"])
            print(
                f"{net.name}: CPU, {threads} OpenBLAS thread(s), batch {net.batch}, "
                f"{ALTERNATIONS} runs each"
            )
            print(f"  {'':36}{'it/s':>9}{'range':>20}{'ratio':>8}")
            for row, values in rates.items():
                middle = statistics.median(values)
                spread = f"{min(values):.3f} to {max(values):.3f}"
                print(f"  {row:36}{middle:9.3f}{spread:>20}{middle / base:8.3f}")


if __name__ == "__main__":
    carry_out(main)
