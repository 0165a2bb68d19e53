"""One engine's speed on a run's test pictures; runs in a child process of its own."""

import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import psutil

from data_prep.lmdb_reader import open_rows
from tools.net.exported import FOLDER, open_session, read_facts, run_session
from tools.net.trained import TrainedNet
from tools.run import device
from tools.run.data import lmdb_of

BATCH = 100
SECONDS = 4  # for each of the two figures, after a warm-up of a quarter
SPREAD = 5  # parts of that time, whose slowest and fastest are said


def measure(*, engine: str, run: Path, data: Path) -> dict:
    """Return an engine's pictures a second, milliseconds for one, and this process's MB.

    engine: one of OPENED. Each figure is (slowest, median, fastest) of SPREAD parts.
    """
    with open_rows(lmdb_of(data, "query")) as (keys, read):
        pictures = read(range(min(BATCH, len(keys))))[0]
    together, alone = OPENED[engine](run, data)
    rates = [len(pictures) / each for each in timed(lambda: together(pictures))]
    latencies = [1000 * each for each in timed(lambda: alone(pictures[:1]))]
    memory = psutil.Process().memory_info().rss
    return {
        "rate": spread(rates),
        "milliseconds": spread(latencies),
        "megabytes": memory / 1e6,
    }


def timed(work: Callable[[], object]) -> list[float]:
    """Return the mean seconds of a call in each part of the time."""
    until = time.perf_counter() + SECONDS / 4
    while time.perf_counter() < until:
        work()
    found = []
    for _ in range(SPREAD):
        began, calls = time.perf_counter(), 0
        while (now := time.perf_counter()) < began + SECONDS / SPREAD:
            work()
            calls += 1
        found.append((now - began) / calls)
    return found


def spread(values: list[float]) -> tuple[float, float, float]:
    """Return the least, the median and the largest."""
    return min(values), float(np.median(values)), max(values)


Run = Callable[[np.ndarray], object]


def by_caffe(run: Path, data: Path) -> tuple[Run, Run]:
    """Return what runs whole batches, and single pictures."""
    return tuple(TrainedNet.of_run(run, data=data, batch=size) for size in (BATCH, 1))


def by_onnx(run: Path, data: Path, name: str = "model.onnx") -> tuple[Run, Run]:
    """Return the same of an exported file."""
    session = open_session(run / FOLDER / name, device.threads())
    return (lambda pictures: run_session(session, pictures, features=False),) * 2


def by_opencv(run: Path, data: Path) -> tuple[Run, Run]:
    """Return the same of OpenCV's DNN module, which gets prepared pictures."""
    folder = run / FOLDER
    cv2.setNumThreads(device.threads())
    net = cv2.dnn.readNetFromCaffe(str(folder / "model.prototxt"), str(folder / "model.caffemodel"))
    preparation, mean = read_facts(folder)["preparation"], np.load(folder / "mean.npy")
    top, left, side = (preparation["crop"][name] for name in ("top", "left", "side"))
    scale = np.float32(preparation["scale"])

    def forward(pictures: np.ndarray) -> np.ndarray:
        net.setInput((pictures[:, :, top : top + side, left : left + side] - mean) * scale)
        return net.forward()

    return forward, forward


OPENED = {
    "Caffe": by_caffe,
    "ONNX Runtime": by_onnx,
    "OpenCV DNN": by_opencv,
    "ONNX Runtime, int8": lambda run, data: by_onnx(run, data, "model.int8.onnx"),
}
