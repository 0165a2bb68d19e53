"""Iterations per second of the training loop beside `caffe train` and PyTorch: `make bench-train`.

Rows of each net, run in turn, several times over: `caffe train` on the net without the two loss
layers and with them, this project's loop with them, by the engine that is the default here, on all
cores and on one, and by Caffe's own, and PyTorch on the same net, batch, terms and update, which
has its batch in memory where the others read an LMDB. Then the forward pass alone, by `caffe time`
and in PyTorch. NET= measures one net alone. Tests and snapshots are off. Times of the loops come
from the stamps of the lines "Iteration N" that Caffe itself writes into each log.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
from google.protobuf import text_format

from data_prep.manifest import data_folder
from data_prep.prepare import prepare
from eval.tables import LOSS_TERMS
from tools.bench.torch_venv import PYTHON, install_torch
from tools.net import preprocess, render
from tools.run import child, device
from tools.run.failure import Failure, carry_out
from tools.run.job import REPO
from tools.run.nets import Net, net_of
from tools.run.variables import parse

METHOD = "ssdh"
ALTERNATIONS = 5
# measured in each run, behind as many that warm up
ITERATIONS = {"lenet": 200, "cifar_small": 60, "alexnet": 6, "efficientnet_lite0": 2}
PICTURES = {"lenet": 1000, "cifar_small": 1000, "alexnet": 64, "efficientnet_lite0": 500}
DATASET, CLASSES = "digits", 10
OURS = "this loop, with them"


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
    (folder / "snapshots").mkdir()
    (folder / "train_val.prototxt").write_text(text_format.MessageToString(param))
    (folder / "solver.prototxt").write_text(text_format.MessageToString(solver))


def seconds_between(log: str, first: int, last: int) -> float:
    """Return the seconds from Caffe's line "Iteration first" to "Iteration last" in a log."""
    stamps = {}
    for line in log.splitlines():
        found = re.match(r"I\d+ (\d+):(\d+):([\d.]+) .*\] Iteration (\d+)[ ,]", line)
        if found and int(found[4]) not in stamps:
            stamps[int(found[4])] = int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3])
    return (stamps[last] - stamps[first]) % 86400


def environment(engine: str) -> dict[str, str]:
    """Return the environment of a Caffe process that computes by an engine."""
    paths = [str(REPO / "python_layers"), *(path for path in sys.path if path)]
    return child.environment(device.threads()) | {
        "PYTHONPATH": os.pathsep.join(paths),
        "GLOG_logtostderr": "1",  # and no files in the folder for temporary ones
        "CAFFE_ENGINE": engine,
    }


def caffe(folder: Path, engine: str, *arguments: str) -> str:
    """Run Caffe's own command in a folder; return its log."""
    command = [str(device.prefix() / "bin" / "caffe"), *arguments]
    done = subprocess.run(
        command, env=environment(engine), stderr=subprocess.PIPE, cwd=REPO, check=True, text=True
    )
    (folder / "caffe.log").write_text(done.stderr)
    return done.stderr


def caffe_train(net: Net, folder: Path, engine: str) -> float:
    """Return the iterations per second of `caffe train` on a folder's solver."""
    log = caffe(folder, engine, "train", "-solver", str(folder / "solver.prototxt"))
    return rate_of(log, ITERATIONS[net.name])


def caffe_forward(net: Net, folder: Path, engine: str) -> float:
    """Return the forward passes per second of `caffe time` on a folder's net."""
    model = ["-model", str(folder / "train_val.prototxt"), "-phase", "TRAIN"]
    log = caffe(folder, engine, "time", *model, "-iterations", str(ITERATIONS[net.name]))
    return 1000 / float(re.search(r"Average Forward pass: ([\d.]+) ms", log)[1])


def our_loop(net: Net, folder: Path, engine: str) -> float:
    """Return the iterations per second of this project's training loop on a folder's solver."""
    log = folder / "train.log"
    with open(os.devnull, "w") as bar:
        started = child.start(
            "tools.train.loop.train",
            threads=device.threads(),
            log=log,
            keep=(bar.fileno(),),
            variables={"SSDH_TERMINAL": str(bar.fileno()), "CAFFE_ENGINE": engine},
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
    os.close(started.request)
    if code := started.process.wait():
        raise Failure(child.how_it_ended(started, code))
    return rate_of(log.read_text(), ITERATIONS[net.name])


def one_core(net: Net, folder: Path, engine: str) -> float:
    """Return what our_loop does where this process, and so its child, may use one core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        return our_loop(net, folder, engine)
    finally:
        os.sched_setaffinity(0, cores)


def rate_of(log: str, iterations: int) -> float:
    """Return the iterations per second behind the first `iterations`, which warm up."""
    return iterations / seconds_between(log, iterations, 2 * iterations)


# ---- PyTorch ------------------------------------------------------------------------------------


def torch_layers(layers: "Iterable[caffe.proto.caffe_pb2.LayerParameter]") -> list[dict]:
    """Return a net's layers as tools/bench/torch_loop.py takes them, data and losses left out."""
    found, flat, made = [], False, {"data": 0}
    for layer in layers:
        if layer.type == "Convolution":
            p = layer.convolution_param
            entry = {
                "outputs": p.num_output,
                "kernel": p.kernel_size[0],
                "group": p.group,
                "stride": p.stride[0] if p.stride else 1,
                "pad": p.pad[0] if p.pad else 0,
                "bias": p.bias_term,
                "trained": not layer.param or any(each.lr_mult for each in layer.param),
            }
        elif layer.type == "Pooling":
            p = layer.pooling_param
            entry = {"kernel": p.kernel_size, "stride": p.stride, "pad": p.pad}
            entry["type"] = "global" if p.global_pooling else p.PoolMethod.Name(p.pool)
        elif layer.type == "LRN":
            p = layer.lrn_param
            entry = {"size": p.local_size, "alpha": p.alpha, "beta": p.beta, "k": p.k}
        elif layer.type == "InnerProduct":
            if not flat:
                found.append({"type": "Flatten"})
            flat, entry = True, {"outputs": layer.inner_product_param.num_output}
        elif layer.type == "Clip":
            entry = {"low": layer.clip_param.min, "high": layer.clip_param.max}
        elif layer.type == "Eltwise":  # of the layer before it and of an earlier one
            entry = {"back": len(found) - min(made[name] for name in layer.bottom)}
        elif layer.type in ("BatchNorm", "ReLU", "Sigmoid", "Dropout"):
            entry = {}
        else:
            continue
        found.append({"type": layer.type, **entry})
        made[layer.top[0]] = len(found)
    return found


def pytorch(net: Net, folder: Path, what: str) -> float:
    """Return PyTorch's iterations per second; what: "training", or "forward" alone."""
    param = render.read(folder / "train_val.prototxt")
    solver = render.read(folder / "solver.prototxt")
    layers = torch_layers(layer for layer in param.layer if not layer.include[:1])
    side = preprocess.transform_param(param).crop_size or net.side
    job = {
        "layers": layers,
        "codes": [layer["type"] for layer in layers].index("Sigmoid"),
        "shape": [net.batch, net.channels, side, side],
        "solver": solver.type,
        "rate": solver.base_lr,
        "momentum": solver.momentum,
        "decay": solver.weight_decay,
        "threads": device.threads(),
        "iterations": ITERATIONS[net.name],
    }
    done = subprocess.run(
        [PYTHON, REPO / "tools" / "bench" / "torch_loop.py"],
        env=child.environment(device.threads()),
        input=json.dumps(job),
        capture_output=True,
        check=True,
        text=True,
    )
    return 1000 / json.loads(done.stdout)[what]


# ---- the tables ---------------------------------------------------------------------------------

Row = tuple[Callable[[Net, Path, str], float], str, bool]  # runner, engine or what, both layers?


def rows_of(engine: str, with_torch: bool) -> dict[str, dict[str, Row]]:
    """Return the rows of both tables by name; the last of each is what its ratios are to."""
    training: dict[str, Row] = {
        "caffe train, without the two layers": (caffe_train, engine, False),
        "caffe train, with them": (caffe_train, engine, True),
        OURS: (our_loop, engine, True),
        "this loop, on one core": (one_core, engine, True),
    }
    forward: dict[str, Row] = {"caffe time": (caffe_forward, engine, True)}
    if engine != "caffe":
        training["this loop, Caffe's own engine"] = (our_loop, "caffe", True)
        forward["caffe time, Caffe's own engine"] = (caffe_forward, "caffe", True)
    if with_torch:
        training["PyTorch"] = (pytorch, "training", True)
        forward["PyTorch"] = (pytorch, "forward", True)
    return {"training": training, "forward pass": forward}


def measure(net: Net, rows: dict[str, Row], data: Path, root: Path) -> dict[str, list[float]]:
    """Return the iterations per second of each row in each alternation."""
    rates = {row: [] for row in rows}
    for _ in range(ALTERNATIONS):
        for row, (runner, by, with_layers) in rows.items():
            with tempfile.TemporaryDirectory(dir=root) as folder:
                write_run(net, data, Path(folder), with_layers)
                rates[row].append(runner(net, Path(folder), by))
    return rates


def best_seconds(work: Callable[[], object]) -> float:
    """Return the shortest of five calls, in seconds."""
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def limits() -> tuple[float, float]:
    """Return what this machine can do: GFLOP/s by a GEMM, GB/s by one core's copy."""
    matrix = np.ones((2048, 2048), np.float32)
    numbers = np.ones(1 << 26, np.float32)  # 256 MB, more than any cache
    copy = np.empty_like(numbers)
    flops = 2 * len(matrix) ** 3 / best_seconds(lambda: matrix @ matrix)
    moved = 2 * numbers.nbytes / best_seconds(lambda: np.copyto(copy, numbers))
    return flops / 1e9, moved / 1e9


def work_of(net: Net, data: Path, root: Path) -> float:
    """Return the GFLOP of an iteration's convolutions and products, forward and backward."""
    with tempfile.TemporaryDirectory(dir=root) as folder:
        write_run(net, data, Path(folder), with_layers=True)
        return child.call(
            "tools.bench.train_child.work",
            threads=device.threads(),
            log=Path(folder) / "caffe.log",
            prototxt=Path(folder) / "train_val.prototxt",
        )


def main() -> None:
    """Print the machine's limits, and the tables of each net."""
    only = parse(__doc__, ("NET",)).net
    if only and only not in ITERATIONS:
        raise Failure(f"NET={only} is not measured here: {', '.join(ITERATIONS)} are")
    engine, missing = device.engine(), install_torch()
    if missing:
        print(f"PyTorch: not installed ({missing})")
    gemm, copy = limits()
    print(
        f"this machine: {gemm:.0f} GFLOP/s by a GEMM, {copy:.1f} GB/s by one core's copy",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        for net in map(net_of, [only] if only else ITERATIONS):
            data = make_data(net, Path(folder))
            work = work_of(net, data, Path(folder))
            for table, rows in rows_of(engine, not missing).items():
                rates = measure(net, rows, data, Path(folder))
                base = statistics.median(rates[list(rows)[-1]])
                print(
                    f"{net.name}, {table}: CPU, engine {engine}, {device.threads()} thread(s), "
                    f"batch {net.batch}, {ALTERNATIONS} runs each"
                )
                print(f"  {'':36}{'it/s':>9}{'range':>20}{'ratio':>8}")
                for row, values in rates.items():
                    middle = statistics.median(values)
                    spread = f"{min(values):.3f} to {max(values):.3f}"
                    print(f"  {row:36}{middle:9.3f}{spread:>20}{middle / base:8.3f}", flush=True)
                if table == "training":
                    speed = work * statistics.median(rates[OURS])
                    print(
                        f"  {work:.2f} GFLOP an iteration in convolutions and products: this loop "
                        f"does {speed:.0f} GFLOP/s, {speed / gemm:.0%} of the GEMM's"
                    )


if __name__ == "__main__":
    carry_out(main)
