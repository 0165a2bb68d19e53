"""A few pictures of each class: a pretrained net's head beside a net from scratch.

`python -m tools.bench.few` takes 50, 100 and 500 training pictures of each class of CIFAR-10, drawn
by three seeds, and the whole test set. On them NET=efficientnet_lite0 trains its head (HEAD=1), and
NET=cifar_small all of it, in a tenth of its iterations and of the steps of its learning rate. A
table of accuracy and mAP (test pictures against the training pictures) is printed, and both are
drawn into RUNS/few. The features, and cifar_small's pictures, are of runs with all of CIFAR-10.
"""

import statistics
import tempfile
from pathlib import Path
from types import SimpleNamespace

import h5py
import lmdb
import numpy as np

from data_prep.lmdb_reader import records
from data_prep.mean_image import to_binaryproto, train_mean
from data_prep.picture import label_of
from eval.hdf5 import create_hdf5
from eval.pages.figures import Chart, Line, write_line_chart
from eval.protocol import measure
from tools.net import render
from tools.run import child, data, device
from tools.run.failure import Failure, carry_out
from tools.run.job import Job, job_of
from tools.run.variables import parse
from tools.train import features
from tools.train.identity import starting_weights

SIZES, SEEDS = (50, 100, 500), (1, 2, 3)
PART = 10  # of its iterations, one in so many: 14 epochs of 5,000 pictures, as of all 50,000
TESTS = 10_000
NAMES = {"efficientnet_lite0": "pretrained", "cifar_small": "from scratch"}
VARIABLES = ("DATA_ROOT", "RUNS", "BITS", "CIFAR10_ARCHIVE")


def main() -> None:
    """Train all, print the table, draw the chart."""
    values = parse(__doc__, VARIABLES)
    found: dict[tuple[str, int], list[dict]] = {}
    print(f"{'':20}{'a class':>8}  accuracy{'':19}mAP")
    for name in NAMES:
        job = job_for(name, values)
        for size in SIZES:
            of_size = found[name, size] = [trained(job, size, seed) for seed in SEEDS]
            cells = [spread([each[key] for each in of_size]) for key in ("accuracy", "map")]
            print(f"{NAMES[name]:20}{size:8}  {cells[0]:27}{cells[1]}", flush=True)
    out = Path(values.runs) / "few"
    out.mkdir(parents=True, exist_ok=True)
    draw(found, "accuracy", "accuracy", out / "accuracy")
    draw(found, "map", "mAP", out / "map")
    print(f"drawn: accuracy and map, .svg and .png, in {out}")


def draw(found: dict[tuple[str, int], list[dict]], key: str, word: str, path: Path) -> None:
    """Write the chart of a figure's mean over the seeds, for each net and size."""
    lines = [
        Line(NAMES[name], list(SIZES), [mean(found[name, size], key) for size in SIZES])
        for name in NAMES
    ]
    chart = Chart(
        title="A few pictures of CIFAR-10",
        x_label="training pictures of each class",
        y_label=f"{word} of 10,000 test pictures",
        lines=lines,
        limits=(0, 1),
        ticks=list(SIZES),
    )
    write_line_chart(path, chart)


def job_for(name: str, values: SimpleNamespace) -> Job:
    """Return the job of a net on all of CIFAR-10."""
    from tools.run.variables import value_of, variables

    wanted = ("METHOD", "DEVICE", "ITERS", "BATCH", "SEED", "SUBSET", "WEIGHTS", "RUN", "IMAGES")
    wanted = (*wanted, "LOSS", "ALPHA", "BETA", "GAMMA")
    others = {
        each.lower(): value_of(variables()[each], variables()[each].default) for each in wanted
    }
    others |= {"dataset": "cifar10", "net": name, "head": name == "efficientnet_lite0"}
    return job_of(SimpleNamespace(**vars(values) | others), values.bits[0])


def mean(metrics: list[dict], key: str) -> float:
    """Return the mean of a figure over the seeds."""
    return statistics.mean(each[key] for each in metrics)


def spread(values: list[float]) -> str:
    """Return the mean of some values, and the least and the greatest."""
    return f"{statistics.mean(values):.4f} ({min(values):.4f} to {max(values):.4f})"


def trained(job: Job, size: int, seed: int) -> dict:
    """Return the metrics of a job's net, trained on so many pictures of each class."""
    with tempfile.TemporaryDirectory(prefix="few-") as scratch:
        run, pictures = Path(scratch) / "run", Path(scratch) / "data"
        (run / "snapshots").mkdir(parents=True)
        pictures.mkdir()
        start = few_features(job, size, seed, pictures, run) if job.head else None
        if not job.head:
            few_pictures(job, size, seed, pictures)
        classes = len(data.read_manifest(job.data)["classes"])
        iters = job.iters if job.head else job.iters // PART
        files = render.render_job(job, classes=classes, data=pictures, run=run, iters=iters)
        solver = render.parse(files["solver.prototxt"], "solver.prototxt")
        solver.random_seed, solver.test_interval = seed, 0
        solver.stepvalue[:] = [step // PART for step in solver.stepvalue]
        for name, text in files.items():
            (run / name).write_text(str(solver) if name.startswith("solver") else text)
        child.call(
            "tools.train.loop.train",
            threads=device.threads(),
            log=run / "train.log",
            run=run,
            blobs=job.blobs,
            gpus=[],
            start=0,
            caffemodel=start,
            pictures=TESTS,
            classes=classes,
            solvers=job.net.solvers,
            inputs=pictures if job.head else None,
            warnings=[],
        )
        codes = child.call(
            "tools.bench.few_nets." + ("encode_features" if job.head else "encode"),
            threads=device.threads(),
            log=run / "codes.log",
            run=run,
            caffemodel=run / "snapshots" / f"iter_{iters}.caffemodel",
            data=pictures,
            net=job.net,
            blobs=job.blobs,
        )
        return measure(codes)


def drawn(labels: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Return the rows of so many pictures of each class, in a random order."""
    random = np.random.default_rng(seed)
    rows = [
        random.choice(np.flatnonzero(labels == label), size, replace=False)
        for label in np.unique(labels)
    ]
    return random.permutation(np.concatenate(rows))


def few_features(job: Job, size: int, seed: int, folder: Path, run: Path) -> Path:
    """Write a few of the kept features, and all of the test pictures', into a folder.

    Return the caffemodel that the training in a run's folder starts from.
    """
    manifest = data.read_manifest(job.data)
    kept = features.folder_of(job, manifest, starting_weights(job)[1])
    if not (kept / features.STATISTICS).exists():
        raise Failure(
            f"{kept} has no features yet: make train DATASET=cifar10 NET={job.net.name} HEAD=1"
        )
    parts = []
    for path in features.files_of(kept, "train", manifest["counts"]["train"]):
        with h5py.File(path) as file:
            parts.append((file["data"][:], file["label"][:]))
    found, labels = map(np.concatenate, zip(*parts, strict=True))
    rows = drawn(labels, size, seed)
    with create_hdf5(folder / "train-0.h5") as file:
        file["data"], file["label"] = found[rows], labels[rows]
    for path in features.files_of(kept, "test", TESTS):
        (folder / path.name).symlink_to(path)
    few = found[rows].astype(np.float64)
    with create_hdf5(folder / features.STATISTICS) as file:
        file["mean"], file["variance"] = few.mean(0), few.var(0)
    return features.write_inputs(run, folder, {"train": len(rows), "test": TESTS})


def few_pictures(job: Job, size: int, seed: int, folder: Path) -> None:
    """Make a data folder of a few training pictures, with all test pictures."""
    whole = list(records(job.data / "train_lmdb"))
    rows = drawn(np.array([label_of(value) for _, value in whole]), size, seed)
    with (
        lmdb.open(str(folder / "train_lmdb"), map_size=1 << 30) as env,
        env.begin(write=True) as to,
    ):
        for at, row in enumerate(rows):
            key = whole[row][0].split(b"_", 1)[1]
            to.put(b"%08d_" % at + key, whole[row][1])
    (folder / "test_lmdb").symlink_to(job.data / "test_lmdb")
    mean_image = to_binaryproto(train_mean(folder / "train_lmdb"))
    (folder / "mean.binaryproto").write_bytes(mean_image)


if __name__ == "__main__":
    carry_out(main)
