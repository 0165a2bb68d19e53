"""What is read, and by whom: the targets that `make fuzz` damages."""

import gzip
import hashlib
import json
import multiprocessing
import os
import pickle
import shutil
import struct
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import h5py
import numpy as np
from scipy.io import savemat

from eval.hdf5 import create_hdf5
from tools.faults.forks import Forks
from tools.faults.stages import RUN as JOB
from tools.faults.stages import build, prepare
from tools.net.torch_file import MAGIC, VERSION
from tools.run import device


class Target(NamedTuple):
    """A file to damage, and who reads it; child: whether that may take the process with it."""

    name: str
    file: str
    read: Callable[[Path], object]
    child: bool


def read_list(base: Path) -> None:
    """Read a list of pictures."""
    from tools.codes.listing import list_pictures

    list_pictures(str(base / "list.txt"))


def read_folder_lists(base: Path) -> None:
    """Read a data set's lists."""
    from data_prep import folder

    folder.dataset(folder.listing(base / "lists", skip=False))


def read_run(base: Path) -> None:
    """Read run.json and metrics.json as `make paper` does."""
    from eval.run_folders import find_runs

    for run in find_runs(base / "evaluated/runs"):
        _ = run.settings, run.iters, run.method, run.title


def read_record(base: Path) -> None:
    """Read run.json as every later stage does."""
    from tools.run.data import folder_of
    from tools.run.job import read_job
    from tools.run.nets import net_of
    from tools.run.record import net_fingerprint, read_record
    from tools.train.identity import check_trained
    from tools.train.snapshots import model_of

    run = base / "evaluated/runs/run"
    content = read_record(run)
    settings = content["settings"]
    model_of(run, content)
    net_fingerprint(content, run / "model.caffemodel")
    folder_of(settings, base / "data")
    net_of(settings["net"]).blobs(settings["method"])
    folders = ("--data-root", f"{base}/data", "--runs", f"{base}/evaluated/runs")
    sys.argv = ["make", *JOB, *folders, "--iters", "20"]
    check_trained(read_job("")[0])


def serve(base: Path) -> None:
    """Open a run as the service does, and those beside it."""
    from contextlib import ExitStack

    from tools.serve.runs import open_runs

    with ExitStack() as files:
        open_runs(base / "indexed/runs/whole", base / "data", files)


def read_manifest(base: Path) -> None:
    """Read manifest.json as every command does."""
    from tools.run.data import read_manifest
    from tools.run.record import data_part

    content = read_manifest(base / "data/digits/28x1")
    data_part(content)
    _ = content["counts"]["test"], len(content["classes"]), content["order"]


def measure(base: Path) -> None:
    """Measure codes.h5."""
    from eval.protocol import measure

    measure(base / "evaluated/runs/run/codes.h5")


def read_features(base: Path) -> None:
    """Read features.h5 as `make eval` and `make baselines` do."""
    from eval.features import read_features, read_fingerprint

    path = base / "evaluated/runs/run/features.h5"
    read_fingerprint(path)
    read_features(path)


def search(base: Path) -> None:
    """Open index.h5 and search it."""
    from tools.search.index import create, nearest

    index = create(base / "evaluated/runs/run", "")
    nearest(index, index.codes[:1], 5)


def fill(base: Path) -> None:
    """Fill a net with a caffemodel."""
    from tools.net.trained import TrainedNet

    run = base / "evaluated/runs/run"
    TrainedNet.of_run(run, data=base / "data/digits/28x1", batch=10)


def resume(base: Path) -> None:
    """Look for the newest snapshot that is whole, as a resumed training does."""
    from tools.train.snapshots import newest_intact

    newest_intact(base / "evaluated/runs/run/snapshots")


def read_classes(base: Path) -> None:
    """List class folders whose names stand in a file, a line each."""
    from data_prep import folder

    root = base / "classes"
    shutil.rmtree(root, ignore_errors=True)
    for split in folder.SPLITS:
        (root / split).mkdir(parents=True)
        for name in (base / "names.txt").read_bytes().replace(b"\0", b"").split(b"\n"):
            place = os.path.join(os.fsencode(root / split), name.strip(b"/.").replace(b"/", b""))
            os.makedirs(place[:200], exist_ok=True)
            shutil.copy(base / "picture.png", os.path.join(place[:200], b"a.png"))
    folder.dataset(folder.listing(root, skip=False))


def read_picture(name: str) -> Callable[[Path], object]:
    """Return a reader of one picture as every net gets it."""

    def read(base: Path) -> None:
        from tools.net.preprocess import read_picture
        from tools.run.nets import net_of

        for net in ("lenet", "alexnet"):
            read_picture(base / name, net_of(net))

    return read


def read_archive(name: str) -> Callable[[Path], object]:
    """Return a reader of an archive of pictures, as CIFAR10_ARCHIVE is read."""

    def read(base: Path) -> None:
        from data_prep import cifar10
        from data_prep.dataset import check
        from data_prep.datasets import Source

        check(cifar10.load(Source(base, base / name)))

    return read


def read_idx(base: Path) -> None:
    """Read an idx file, of which the checksum is known."""
    from data_prep import idx

    idx.parse(idx.read(base / "idx.gz", hashlib.md5(IDX).hexdigest()))


def read_lmdb(base: Path) -> None:
    """Read all pictures of an LMDB as extraction does, and as a look at its manifest does."""
    from data_prep.lmdb_reader import iterate, open_rows
    from tools.run.data import read_manifest

    data = base / "data/digits/28x1"
    read_manifest(data)
    with open_rows(data / "test_lmdb") as (keys, read):
        read(range(len(keys)))
    for _ in iterate(data / "test_lmdb"):
        pass


def read_mean(base: Path) -> None:
    """Read a data folder's mean image as a net does."""
    from tools.net.preprocess import mean_image

    mean_image(base / "data/digits/28x1/mean.binaryproto")


def read_matlab(name: str) -> Callable[[Path], object]:
    """Return a reader of a release's mean image."""

    def read(base: Path) -> None:
        from tools.compare.matlab import read_mean

        read_mean(base / name)

    return read


def read_release_lists(base: Path) -> None:
    """Read a release's lists of files and labels."""
    from data_prep.dataset import check
    from data_prep.originals import from_lists

    check(from_lists(base / "lists"))


def read_training_log(base: Path) -> None:
    """Read train.csv as the report does, and as a training that goes on."""
    from eval.training_log import read_training, rows_until

    read_training(base / RUN / "train.csv")
    rows_until(base / RUN / "train.csv", 20)


def read_baseline(base: Path) -> None:
    """Read a baseline's result."""
    from eval.records import read_baseline

    read_baseline(base / RUN / "baselines/itq-16.json")


def read_cost(base: Path) -> None:
    """Read the measured cost of a distance."""
    from eval.records import read_cost

    read_cost(base / "evaluated/runs/paper/distance_cost.json")


def read_figures(base: Path) -> None:
    """Read which figures of an earlier page there are."""
    from eval.pages.paper.kept import read_notes

    read_notes(base / "figures.json")


def read_build(base: Path) -> None:
    """Read what Caffe's build says of itself."""
    from tools.run import device

    os.environ["CAFFE_PREFIX"] = str(base)
    device.build()


def read_released(base: Path) -> None:
    """Read what is known of the released models that came."""
    from tools.compare import released

    released.FOLDER = base
    released.records()


def read_head_features(base: Path) -> None:
    """Read the features that HEAD=1 trains on, and check them before Caffe reads them."""
    from tools.train.features import read

    read(base / "features", {"train": 3, "test": 2})


def read_export(base: Path) -> None:
    """Open an export as ENGINE=onnx does."""
    from tools.net.exported import ExportedNet

    ExportedNet.of_run(base / "indexed/runs/run", threads=1)


def read_torch(base: Path) -> None:
    """Read tensors that torch saved."""
    from tools.net.torch_file import read_tensors

    path = base / "saved.pth"
    read_tensors(path.read_bytes(), path)


def read_prototxt(base: Path) -> None:
    """Read a run's prototxt before Caffe does."""
    from tools.net import preprocess, render

    preprocess.transform_param(render.read(base / RUN / "train_val.prototxt"))


IDX = bytes([0, 0, 8, 3, *(0, 0, 0, 4) * 3]) + bytes(range(64))
TORCH = (  # one tensor of 2 x 3 floats, as torch.save wrote it (tools/net/torch_file.py)
    b"".join(pickle.dumps(each, 2) for each in (MAGIC, VERSION, {"little_endian": True}))
    + b"\x80\x02ccollections\nOrderedDict\n)R(X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n"
    + b"((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0aX\x03\0\0\0cpuK\x06NtQ"
    + b"K\0K\x02K\x03\x86K\x03K\x01\x86\x89ccollections\nOrderedDict\n)RtRu."
    + pickle.dumps(["a"], 2)
    + struct.pack("<q", 6)
    + np.arange(6, dtype="<f4").tobytes()
)
RUN = "evaluated/runs/run"
TARGETS = [
    Target("list of pictures", "list.txt", read_list, False),
    Target("data set's list", "lists/train.txt", read_folder_lists, False),
    Target("names of classes", "lists/classes.txt", read_folder_lists, False),
    Target("class folders", "names.txt", read_classes, False),
    Target("release's list", "lists/train-file-list.txt", read_release_lists, False),
    Target("release's labels", "lists/train-label.txt", read_release_lists, False),
    Target("picture, PNG", "picture.png", read_picture("picture.png"), True),
    Target("picture, JPEG", "picture.jpg", read_picture("picture.jpg"), True),
    Target("archive, zip", "pictures.zip", read_archive("pictures.zip"), True),
    Target("archive, tar.gz", "pictures.tar.gz", read_archive("pictures.tar.gz"), True),
    Target("idx", "idx.gz", read_idx, False),
    Target("data.mdb", "data/digits/28x1/test_lmdb/data.mdb", read_lmdb, True),
    Target("mean.binaryproto", "data/digits/28x1/mean.binaryproto", read_mean, False),
    Target("mean, MATLAB 5", "mean5.mat", read_matlab("mean5.mat"), True),
    Target("mean, MATLAB 7.3", "mean7.mat", read_matlab("mean7.mat"), True),
    Target("run.json, paper", f"{RUN}/run.json", read_run, False),
    Target("run.json, stages", f"{RUN}/run.json", read_record, False),
    Target("run.json, service", "indexed/runs/run/run.json", serve, True),
    Target("metrics.json", f"{RUN}/metrics.json", read_run, False),
    Target("baseline's result", f"{RUN}/baselines/itq-16.json", read_baseline, False),
    Target("cost of a distance", "evaluated/runs/paper/distance_cost.json", read_cost, False),
    Target("figures.json", "figures.json", read_figures, False),
    Target("build.json", "build.json", read_build, True),
    Target("released sha256.json", "sha256.json", read_released, True),
    Target("train.csv", f"{RUN}/train.csv", read_training_log, False),
    Target("prototxt", f"{RUN}/train_val.prototxt", read_prototxt, False),
    Target("manifest.json", "data/digits/28x1/manifest.json", read_manifest, False),
    Target("codes.h5", f"{RUN}/codes.h5", measure, True),
    Target("features.h5", f"{RUN}/features.h5", read_features, True),
    Target("index.h5", f"{RUN}/index.h5", search, True),
    Target("index-….faiss", f"{RUN}/index-*.faiss", search, True),
    Target("model.caffemodel", f"{RUN}/model.caffemodel", fill, True),
    Target("solverstate", f"{RUN}/snapshots/iter_20.solverstate", resume, True),
    Target("features, HEAD=1", "features/train-0.h5", read_head_features, True),
    Target("their statistics", "features/statistics.h5", read_head_features, True),
    Target("export's codes.json", "indexed/runs/run/export/codes.json", read_export, True),
    Target("torch's tensors", "saved.pth", read_torch, True),
]


def set_up(base: Path, forks: Forks) -> None:
    """Make the good files that are damaged."""
    prepare(base, forks)
    names = sorted(path for path in (base / "pictures/train").rglob("*.png"))
    (base / "list.txt").write_text("".join(f"{name} 1\n" for name in names))
    shutil.copytree(base / "pictures", base / "lists")
    for split in ("train", "test"):
        found = sorted((base / "lists" / split).rglob("*.png"))
        lines = [
            f"{path.relative_to(base / 'lists')} {row % 10}\n" for row, path in enumerate(found)
        ]
        (base / "lists" / f"{split}.txt").write_text("".join(lines))
    (base / "lists/classes.txt").write_text("".join(f"class {row}\n" for row in range(10)))
    (base / "names.txt").write_text("cat\ndog\nhouse\n")
    for split in ("train", "test"):
        lines = (base / "lists" / f"{split}.txt").read_text().splitlines()
        for name, column in (("file-list", 0), ("label", 1)):
            text = "".join(f"{line.split()[column]}\n" for line in lines)
            (base / "lists" / f"{split}-{name}.txt").write_text(text)
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    for name in ("picture.png", "picture.jpg"):
        cv2.imwrite(str(base / name), picture)
    with tarfile.open(base / "pictures.tar.gz", "w:gz") as archive:
        for split in ("train", "test"):
            archive.add(base / "pictures" / split, split)
    (base / "idx.gz").write_bytes(gzip.compress(IDX))
    mean = np.zeros((8, 8, 3), np.float32)
    savemat(base / "mean5.mat", {"image_mean": mean})
    with h5py.File(base / "mean7.mat", "w") as file:
        file["mean_data"] = mean.T
    (base / "figures.json").write_text(json.dumps({"a": {"sha256": "0", "page": ""}}))
    shutil.copy(device.prefix() / "build.json", base)
    known = {"a.caffemodel": {"sha256": "0" * 64, "url": "", "date": "2024-01-01"}}
    (base / "sha256.json").write_text(json.dumps(known))
    shutil.copytree(base / "indexed/runs/run", base / "indexed/runs/whole")
    job = (*JOB, "--data-root", f"{base}/data", "--runs")
    build(forks, "tools.baselines", *job, f"{base}/evaluated/runs", "--baselines", "itq")
    build(forks, "tools.export", *job, f"{base}/indexed/runs")
    (base / "features").mkdir()
    for name, rows in (("train", 3), ("test", 2)):
        with create_hdf5(base / "features" / f"{name}-0.h5") as file:
            file["data"], file["label"] = np.ones((rows, 4), np.float32), np.ones(rows, np.float32)
    with create_hdf5(base / "features/statistics.h5") as file:
        file["mean"], file["variance"] = np.ones(4), np.ones(4)
    (base / "saved.pth").write_bytes(TORCH)
    read_child = multiprocessing.get_context("spawn").Process(target=search, args=(base,))
    read_child.start()
    read_child.join()
