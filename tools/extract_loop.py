"""The extraction loop: a trained net over both splits, into codes.h5 and features.h5.

Runs in a child process of tools/extract.py. The deploy net gets each picture as Caffe's TEST phase
would (tools/preprocess.py); rows stand in the data set's own order, since ties in a ranking are
broken by it.
"""

import argparse
from contextlib import ExitStack
from pathlib import Path

import caffe
import h5py
import numpy as np
from tqdm import tqdm

from data_prep.lmdb_reader import open_rows
from eval.codes import create_codes
from eval.files import write_atomically
from tools import caffe_process, device, preprocess, render, runs, weights
from tools.job import read_manifest, stop

BATCH = 100
SPLITS = {"database": "train", "query": "test"}  # a group of codes.h5 and the split it comes from


def load_net(run, caffemodel, batch):
    """Return (net, transform) of a run's folder: its deploy net, filled, and pictures -> input.

    transform takes uint8, n x C x H x W, BGR, and gives float32, n x C x S x S.
    """
    net = caffe.Net(str(run / "deploy.prototxt"), caffe.TEST)
    weights.fill(net, caffemodel)
    net.blobs["data"].reshape(batch, *net.blobs["data"].data.shape[1:])
    net.reshape()
    train_val = render.parse((run / "train_val.prototxt").read_text(), "train_val.prototxt")
    param = preprocess.transform_param(train_val)
    mean = preprocess.mean_image(param.mean_file)
    return net, lambda pictures: preprocess.transform(pictures, mean, param.crop_size, param.scale)


def forward(net, inputs, blobs):
    """Return [float32, n x size] for each named blob, of n inputs, at most one batch.

    The batch is always whole, padded with zeros: a picture's numbers never depend on how many
    follow it.
    """
    data = net.blobs["data"].data
    data[: len(inputs)] = inputs
    data[len(inputs) :] = 0
    net.forward()
    return [net.blobs[blob].data[: len(inputs)].reshape(len(inputs), -1).copy() for blob in blobs]


def check_activations(latent, caffemodel):
    """Stop where the latent activations say nothing: not finite, or the same for every picture."""
    if not np.isfinite(latent).all():
        stop(f"{caffemodel} gives latent activations that are not finite: its training diverged")
    if len(latent) > 1 and (latent == latent[0]).all():
        stop(
            f"{caffemodel} gives every picture the same activations ({latent[0, 0]:.3f}, ...): "
            "untrained or collapsed weights, or a mean image of other pictures"
        )


def batches(net, transform, read, count, blobs):
    """Yield (start, labels, [outputs of each blob]) over the rows 0 to count, a batch at a time."""
    for start in range(0, count, BATCH):
        pictures, labels = read(range(start, min(start + BATCH, count)))
        yield start, labels, forward(net, transform(pictures), blobs)


def extract(run, data, caffemodel, gpu, feature_blob):
    """Write codes.h5 of a run, and features.h5 where feature_blob is given.

    features.h5 holds database/features and query/features, N x F float32, in the rows of codes.h5.
    """
    device.activate(gpu)
    record = runs.read(run)
    manifest = read_manifest(data)
    net, transform = load_net(run, caffemodel, BATCH)
    blobs = ["latent_sigmoid", "prob"] + ([feature_blob] if feature_blob else [])
    terminal = caffe_process.terminal()
    keys, labels, latent, probabilities = {}, {}, {}, {}
    with ExitStack() as stack:
        if feature_blob:
            partial = stack.enter_context(write_atomically(run / "features.h5"))
            feature_file = stack.enter_context(h5py.File(partial, "w"))
            feature_file.attrs["blob"] = feature_blob
            feature_file.attrs["net_fingerprint"] = net_fingerprint(record, caffemodel)
        for group, split in SPLITS.items():
            keys[group], read = stack.enter_context(open_rows(data / f"{split}_lmdb"))
            count = len(keys[group])
            found, activations, classes = [], [], []
            bar = stack.enter_context(
                tqdm(total=count, desc=group, unit="picture", file=terminal, mininterval=0.5)
            )
            for start, some, outputs in batches(net, transform, read, count, blobs):
                found.append(some)
                activations.append(outputs[0])
                classes.append(outputs[1])
                if feature_blob:
                    name, shape = f"{group}/features", (count, outputs[2].shape[1])
                    rows = feature_file.require_dataset(name, shape, np.float32)
                    rows[start : start + len(some)] = outputs[2]
                bar.update(len(some))
            labels[group] = np.concatenate(found)
            latent[group] = np.concatenate(activations)
            probabilities[group] = np.concatenate(classes)
            check_activations(latent[group], caffemodel)
    with create_codes(
        run / "codes.h5",
        bits=latent["query"].shape[1],
        class_names=manifest["classes"],
        dataset=record["settings"]["dataset"],
        net=record["settings"]["net"],
        net_fingerprint=net_fingerprint(record, caffemodel),
        row_order=manifest["order"],
        labels=labels,
        keys=keys,
    ) as write:
        for group in SPLITS:
            write(group, 0, latent[group], probabilities[group])


def net_fingerprint(record, caffemodel):
    """Return what tells a trained net from any other: its run's mark and its weights' SHA-256."""
    return f"{record['fingerprint']['sha256'][:16]}-{runs.sha256_of_file(caffemodel)[:16]}"


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("run", type=Path)
    p.add_argument("data", type=Path)
    p.add_argument("caffemodel", type=Path)
    p.add_argument("--gpu", type=int)
    p.add_argument("--features", default="")
    args = p.parse_args()
    extract(args.run, args.data, args.caffemodel, args.gpu, args.features)


if __name__ == "__main__":
    main()
