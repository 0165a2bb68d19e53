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


def folder_of(job: Job, manifest: dict, weights_sha256: str) -> Path:
    """Return the folder of a job's features, made or to be made; named by all that decides them."""
    files = render.render_job(job, classes=1, data="data", run="run", iters=0)
    deploy, train_val = (
        render.parse(files[name], name) for name in ("deploy.prototxt", "train_val.prototxt")
    )
    render.cut_behind(deploy, job.blobs.features)
    deploy.name = job.net.name
    parts = [
        *(str(deploy), str(preprocess.transform_param(train_val)), weights_sha256),
        *(record.data_part(manifest), file_digest(job.data / "mean.binaryproto", "sha256")),
        *(device.build()["commit"], device.engine()),
    ]
    fingerprint = record.sha256_of_text(json.dumps(parts))
    return job.data / f"features-{job.net.name}-{fingerprint[:12]}"


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

    folder: of the features. counts: the numbers of pictures by split. Return the caffemodel that
    the training starts from, which has the layer `scale` alone.
    """
    from caffe.proto import caffe_pb2

    mean, variance = read(folder, counts)
    for split, count in counts.items():
        paths = files_of(folder.resolve(), split, count)
        with write_atomically(run / f"features_{split}.txt") as partial:
            partial.write_text("".join(f"{path}\n" for path in paths))
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
