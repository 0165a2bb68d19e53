"""The features of a data set's pictures by a pretrained net; runs in a Caffe child process."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_prep.lmdb_reader import iterate
from eval.hdf5 import create_hdf5, open_hdf5
from tools.net import preprocess, render, weights
from tools.net.trained import BATCH, check_activations, forward
from tools.run import child, device
from tools.run.data import SPLITS
from tools.train.features import ROWS, STATISTICS, files_of


def extract(
    *,
    run: Path,
    folder: Path,
    data: Path,
    features: str,
    caffemodel: Path,
    counts: dict,
    gpu: int | None,
) -> None:
    """Write what is missing of a folder of features (tools/train/features.py).

    run: with the prototxt. data: the folder of the LMDBs. features: the blob. counts: the numbers
    of pictures by split. gpu: its number, None for the CPU.
    """
    device.activate(gpu)
    import caffe

    param = preprocess.transform_param(render.read(run / "train_val.prototxt"))
    mean = preprocess.mean_image(data / "mean.binaryproto")
    net = caffe.Net(str(run / "deploy.prototxt"), caffe.TEST)
    print(weights.load_for_training(net, caffemodel), flush=True)
    net.blobs["data"].reshape(BATCH, *net.blobs["data"].shape[1:])
    net.reshape()
    for split in SPLITS.values():
        pictures = iterate(data / f"{split}_lmdb")
        with tqdm(
            total=counts[split],
            desc=f"features, {split}",
            unit="picture",
            file=child.terminal(),
            mininterval=0.5,
        ) as bar:  # closed where it fails, too: an error has a line of its own
            for path in files_of(folder, split, counts[split]):
                some = itertools.islice(pictures, ROWS)
                if path.exists():
                    bar.update(sum(1 for _ in some))
                    continue
                found, labels = [], []
                for batch, of_batch in batches(some):
                    inputs = preprocess.transform(batch, mean, param.crop_size, param.scale)
                    found.append(forward(net, inputs, [features])[0])
                    labels += of_batch
                    bar.update(len(batch))
                found = np.concatenate(found)
                check_activations(found, caffemodel)
                with create_hdf5(path) as file:
                    file["data"], file["label"] = found, np.array(labels, np.float32)
    if not (folder / STATISTICS).exists():
        mean, variance = statistics(files_of(folder, "train", counts["train"]))
        with create_hdf5(folder / STATISTICS) as file:
            file["mean"], file["variance"] = mean, variance


def batches(rows: Iterator[tuple]) -> Iterator[tuple[np.ndarray, list[int]]]:
    """Yield (pictures, uint8 n x C x H x W, labels) of lmdb_reader.iterate's rows, in batches."""
    while some := list(itertools.islice(rows, BATCH)):
        yield np.stack([picture for *_, picture in some]), [label for _, _, label, _ in some]


def statistics(paths: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance of each feature over some files, float64 (F,)."""
    count, total, squares = 0, 0.0, 0.0
    for path in paths:
        with open_hdf5(path, f"remove {path}, and run the command again") as file:
            found = file["data"][:].astype(np.float64)
        count, total = count + len(found), total + found.sum(0)
        squares = squares + (found**2).sum(0)
    mean = total / count
    return mean, np.maximum(squares / count - mean**2, 0)
