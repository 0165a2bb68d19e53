"""The features that HEAD=1 trains on: where they lie, and what the head's net is to read of them.

They lie beside the LMDBs, in `features-<net>-<fingerprint>/`: <split>-<number>.h5 with `data`, N x
F float32, and `label`, N float32, or N x L of 0 and 1 where a picture may have several (as Caffe's
HDF5Data layer reads them), of ROWS pictures in the LMDB's order, each as in Caffe's TEST phase. And
statistics.h5, with `mean` and `variance` of each feature over the training pictures, F float64. A
file is whole or absent, and one that is there is not made again (tools/train/extraction.py makes
them).
"""

import json
from pathlib import Path

import h5py
import numpy as np

from data_prep.files import file_digest
from eval.files import InputError, write_atomically
from eval.hdf5 import open_hdf5
from tools.net import preprocess, render
from tools.run import device, record
from tools.run.job import Job

ROWS = 5000  # pictures of a file: Caffe has one in memory at a time
STATISTICS = "statistics.h5"
SQUARES = 100  # of a picture's scaled features, summed: see prototxt/heads/features.prototxt
LEAST = 1e-3  # of the middle variance: a feature with less says nothing of the training pictures
LEFT_OUT = 1e30  # its variance, by which it is scaled to nothing


def folder_of(job: Job, manifest: dict, weights_sha256: str) -> Path:
    """Return the folder of a job's features, made or to be made; named by all that decides them."""
    files = render.render_job(job, classes=1, data="data", run="run", iters=0)
    parts = [
        *identity(files, job.blobs.features, job.net.name),
        *(
            weights_sha256,
            record.data_part(manifest),
            file_digest(job.data / "mean.binaryproto", "sha256"),
        ),
        *(device.build()["commit"], device.engine()),
    ]
    fingerprint = record.sha256_of_text(json.dumps(parts))
    return job.data / f"features-{job.net.name}-{fingerprint[:12]}"


def identity(files: dict[str, str], features: str, name: str = "") -> tuple[str, str]:
    """Return what rendered files say of features, by any method: the net up to them, its input.

    features: the blob. name: of the net, in place of the file's.
    """
    deploy, train_val = (
        render.parse(files[each], each) for each in ("deploy.prototxt", "train_val.prototxt")
    )
    render.cut_behind(deploy, features)
    deploy.name = name
    transform = preprocess.transform_param(train_val)
    transform.mirror = False  # no picture is mirrored here, whatever the TEST phase says
    return str(deploy), str(transform)


def files_of(folder: Path, split: str, count: int) -> list[Path]:
    """Return the paths of a split's files, which hold count pictures."""
    return [folder / f"{split}-{at // ROWS}.h5" for at in range(0, count, ROWS)]


def read(folder: Path, counts: dict) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance of each feature, float64 (F,), where all files are of these.

    counts: the numbers of pictures by split. Raise InputError, naming the file, where one is
    missing or damaged: Caffe would end its process. The numbers of the features are not looked at.
    """
    again = f"remove {folder}, and run the command again"
    with open_hdf5(folder / STATISTICS, again) as file:
        mean, variance = (file[name][:].astype(np.float64) for name in ("mean", "variance"))
    for split, count in counts.items():
        for at, path in enumerate(files_of(folder, split, count)):
            with open_hdf5(path, again) as file:
                if not _hold(file, min(ROWS, count - at * ROWS), mean.shape, variance.shape):
                    raise InputError(f"{path} and {STATISTICS} do not fit together; {again}")
    return mean, variance


def _hold(file: h5py.File, pictures: int, *of_statistics: tuple[int, ...]) -> bool:
    """Return whether a file has features and labels of so many pictures."""
    data, label = file["data"], file["label"]
    return (
        len(data) == len(label) == pictures
        and label.ndim in (1, 2)
        and {data.shape[1:]} == set(of_statistics)
        and {data.dtype, label.dtype} == {np.dtype(np.float32)}
    )


def write_inputs(run: Path, folder: Path, counts: dict) -> Path:
    """Write into a run's folder what head.prototxt reads: lists of files, and how to scale.

    folder: of the features. counts: the numbers of pictures by split. The lists have names within
    the folder, where the training goes: Caffe reads them up to a blank, which a path may have.
    Return the caffemodel that the training starts from, which has the layer `scale` alone. Raise
    InputError where the features are the same for all training pictures.
    """
    from caffe.proto import caffe_pb2

    mean, variance = read(folder, counts)
    if not variance.any():
        raise InputError(
            f"{folder} has the same features for every training picture, so that there is nothing "
            "to tell them apart by: look at the pictures, or take other WEIGHTS="
        )
    constant = variance < LEAST * np.median(variance[variance > 0])
    if constant.any():
        print(
            f"  {constant.sum()} of {len(constant)} features hardly differ between the training "
            "pictures, and are left out"
        )
    variance = np.where(constant, LEFT_OUT, variance)
    for split, count in counts.items():
        names = [path.name for path in files_of(folder, split, count)]
        with write_atomically(run / f"features_{split}.txt") as partial:
            partial.write_text("".join(f"{name}\n" for name in names))
    model = caffe_pb2.NetParameter(name="scale of features")
    layer = model.layer.add(name="scale", type="BatchNorm")
    for numbers in (mean, variance * len(mean) / SQUARES, np.ones(1)):
        blob = layer.blobs.add()
        blob.shape.dim.extend(numbers.shape)
        blob.data.extend(numbers.astype(np.float32).tolist())
    start = run / "start.caffemodel"
    with write_atomically(start) as partial:
        partial.write_bytes(model.SerializeToString())
    return start
