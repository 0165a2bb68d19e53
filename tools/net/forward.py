"""A trained net over pictures: its deploy net, filled, and partitions of a split of the data.

What a Dask worker runs stands here, so that it can be imported there.
"""

from contextlib import ExitStack
from functools import lru_cache

import numpy as np
from threadpoolctl import threadpool_limits

from data_prep.lmdb_reader import open_rows
from tools.net import preprocess, render, weights
from tools.run import device

BATCH = 100
KEPT_OPEN = ExitStack()  # LMDBs, until the process ends


def code_blob(run):
    """Return the blob of the codes' activations in a run's deploy net, None without a latent layer.

    It is what the net's only Sigmoid layer gives.
    """
    net = render.parse((run / "deploy.prototxt").read_text(), "deploy.prototxt")
    blobs = [layer.top[0] for layer in net.layer if layer.type == "Sigmoid"]
    return blobs[0] if blobs else None


def load_net(run, caffemodel, batch):
    """Return (net, transform) of a run's folder: its deploy net, filled, and pictures -> input.

    transform takes uint8, n x C x H x W, BGR, and gives float32, n x C x S x S.
    """
    import caffe

    net = caffe.Net(str(run / "deploy.prototxt"), caffe.TEST)
    weights.fill(net, caffemodel)
    net.blobs["data"].reshape(batch, *net.blobs["data"].data.shape[1:])
    net.reshape()
    train_val = render.parse((run / "train_val.prototxt").read_text(), "train_val.prototxt")
    param = preprocess.transform_param(train_val)
    mean = preprocess.mean_image(param.mean_file)
    return net, lambda pictures: preprocess.transform(pictures, mean, param.crop_size, param.scale)


def forward(net, inputs, blobs, into="data"):
    """Return [float32, n x size] for each named blob, of n inputs, at most one batch, put into one.

    The batch is always whole, padded with zeros: a picture's numbers never depend on how many
    follow it.
    """
    data = net.blobs[into].data
    data[: len(inputs)] = inputs
    data[len(inputs) :] = 0
    net.forward()
    return [net.blobs[blob].data[: len(inputs)].reshape(len(inputs), -1).copy() for blob in blobs]


def own_gpu(gpus):
    """Return the GPU of this process, None for the CPU; worker processes take one in turn."""
    if len(gpus) < 2:
        return gpus[0] if gpus else None
    from distributed import get_worker

    return gpus[get_worker().name % len(gpus)]


@lru_cache(maxsize=1)
def worker_net(run, caffemodel, mark, threads):
    """Return load_net's result, made once in each process; mark tells retrained weights apart."""
    threadpool_limits(threads, "blas")  # a Dask worker was not started with our environment
    return load_net(run, caffemodel, BATCH)


@lru_cache(maxsize=2)
def worker_reader(lmdb, inode):
    """Return open_rows' (keys, read), opened once in each process; inode tells a rebuilt LMDB."""
    return KEPT_OPEN.enter_context(open_rows(lmdb))


def partition(run, caffemodel, mark, gpus, threads, lmdb, start, stop_row, blobs):
    """Return (labels, [outputs of each blob]) of the rows start to stop_row of an LMDB."""
    device.activate(own_gpu(gpus))  # Caffe's mode is the thread's, and workers have several
    net, transform = worker_net(run, caffemodel, mark, threads)
    _, read = worker_reader(lmdb, (lmdb / "data.mdb").stat().st_ino)
    labels, outputs = [], []
    for first in range(start, stop_row, BATCH):
        pictures, found = read(range(first, min(first + BATCH, stop_row)))
        labels.append(found)
        outputs.append(forward(net, transform(pictures), blobs))
    return np.concatenate(labels), [np.concatenate(parts) for parts in zip(*outputs, strict=True)]
