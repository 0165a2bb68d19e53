"""Iterations per second of the training loop beside `caffe train`: `make bench-train`.

Three rows a net, run in turn, several times over: `caffe train` on the net without the two loss
layers, `caffe train` on the net with them, and this project's loop with them. Tests and snapshots
are off. The first pair tells what the two layers cost, the second what the loop does. Times come
from the stamps of the lines "Iteration N" that Caffe itself writes into each log.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf import text_format

from tools.net import render
from tools.run import child as caffe_process
from tools.run import device
from tools.run.job import REPO, nets

ALTERNATIONS = 5
ITERATIONS = {"lenet": 500, "alexnet": 6}  # measured in each run, behind as many that warm up
PICTURES = {"lenet": 1000, "alexnet": 64}
OURS = ("binarization", "balance")


def make_data(net, root):
    """Return the data folder of a net with a few of scikit-learn's digits."""
    spec = nets()["nets"][net]
    command = [sys.executable, "-m", "data_prep", "digits", "--root", str(root), "--subset"]
    command += [str(PICTURES[net]), "--side", str(spec["side"])]
    command += ["--channels", str(spec["channels"]), "--mean", spec["mean"]]
    subprocess.run(command, cwd=REPO, check=True, stdout=subprocess.DEVNULL)
    return root / "digits" / f"{spec['side']}x{spec['channels']}-{PICTURES[net]}"


def write_run(net, data, folder, with_layers):
    """Write train_val.prototxt and solver.prototxt of a net into a folder."""
    spec = nets()["nets"][net]
    values = {"data": data, "folder": folder, "classes": 10, "bits": 48, "batch": spec["batch"]}
    values |= {"seed": 42, "alpha": 1.0, "beta": 1.0, "gamma": 1.0}
    files = render.render(net, values | {"iters": 2 * ITERATIONS[net] + 1})
    param = render.parse(files["train_val.prototxt"], "train_val.prototxt")
    if not with_layers:
        kept = [layer for layer in param.layer if layer.name not in OURS]
        del param.layer[:]
        param.layer.extend(kept)
    solver = render.parse(files["solver.prototxt"], "solver.prototxt")
    for field in ("test_iter", "test_interval", "snapshot"):
        solver.ClearField(field)
    solver.display = ITERATIONS[net]
    solver.snapshot_after_train = False
    folder.mkdir(parents=True)
    (folder / "snapshots").mkdir()
    (folder / "train_val.prototxt").write_text(text_format.MessageToString(param))
    (folder / "solver.prototxt").write_text(text_format.MessageToString(solver))


def seconds_between(log, first, last):
    """Return the seconds from Caffe's line "Iteration first" to "Iteration last" in a log."""
    stamps = {}
    for line in log.read_text().splitlines():
        found = re.match(r"I\d+ (\d+):(\d+):([\d.]+) .*\] Iteration (\d+)[ ,]", line)
        if found and int(found[4]) not in stamps:
            stamps[int(found[4])] = int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3])
    return (stamps[last] - stamps[first]) % 86400


def caffe_train(folder, threads):
    """Run `caffe train` on a folder's solver; return its log."""
    caffe = device.prefix() / "bin" / "caffe"
    paths = [str(REPO / "python_layers"), *(path for path in sys.path if path)]
    environment = caffe_process.environment(threads) | {"PYTHONPATH": os.pathsep.join(paths)}
    environment["GLOG_logtostderr"] = "1"  # and no files in the folder for temporary ones
    log = folder / "caffe.log"
    with open(log, "w") as file:
        command = [str(caffe), "train", "-solver", str(folder / "solver.prototxt")]
        subprocess.run(command, env=environment, stderr=file, cwd=REPO, check=True)
    return log


def our_loop(folder, threads):
    """Run this project's training loop on a folder's solver; return its log."""
    log = folder / "train.log"
    (folder / "run.json").write_text("{}")
    with open(log, "w") as file, open(os.devnull, "w") as bar:
        subprocess.run(
            [sys.executable, "-m", "tools.train.loop", str(folder), "--pictures=1", "--classes=10"],
            env=caffe_process.environment(threads) | {"SSDH_TERMINAL": str(bar.fileno())},
            stderr=file,
            pass_fds=(bar.fileno(),),
            cwd=REPO,
            check=True,
        )
    return log


def measure(net, root):
    """Return ({row: iterations a second of each alternation}, threads) of a net."""
    data, threads = make_data(net, root), device.threads(nets()["nets"][net])
    rows = {
        "caffe train, without the two layers": (caffe_train, False),
        "caffe train, with them": (caffe_train, True),
        "this loop, with them": (our_loop, True),
    }
    rates = {row: [] for row in rows}
    for turn in range(ALTERNATIONS):
        for row, (runner, with_layers) in rows.items():
            folder = root / f"{net}-{turn}-{row}"
            write_run(net, data, folder, with_layers)
            n = ITERATIONS[net]
            rates[row].append(n / seconds_between(runner(folder, threads), n, 2 * n))
    return rates, threads


def main():
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for net in ITERATIONS:
            rates, threads = measure(net, Path(folder))
            base = statistics.median(rates["caffe train, without the two layers"])
            batch = nets()["nets"][net]["batch"]
            print(
                f"{net}: CPU, {threads} OpenBLAS thread(s), batch {batch}, {ALTERNATIONS} runs each"
            )
            print(f"  {'':36}{'it/s':>9}{'range':>20}{'ratio':>8}")
            for row, values in rates.items():
                middle = statistics.median(values)
                spread = f"{min(values):.3f} to {max(values):.3f}"
                print(f"  {row:36}{middle:9.3f}{spread:>20}{middle / base:8.3f}")


if __name__ == "__main__":
    main()
