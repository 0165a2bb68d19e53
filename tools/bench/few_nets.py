"""A trained net's codes of a data folder, measured; runs in a Caffe child process."""

from pathlib import Path

import h5py
import numpy as np

from data_prep.lmdb_reader import iterate
from eval.codes import create_codes
from tools.net import render
from tools.net.trained import BATCH, Outputs, TrainedNet, forward
from tools.run.data import SPLITS
from tools.run.nets import Blobs, Net


def encode(run: Path, caffemodel: Path, data: Path, net: Net, blobs: Blobs) -> Path:
    """Write codes.h5 of both splits of a data folder into a run's folder; return its path."""
    trained = TrainedNet(run, caffemodel, data=data, net=net, blobs=blobs, batch=BATCH, gpu=None)
    labels, outputs, keys = {}, {}, {}
    for group, split in SPLITS.items():
        rows = sorted(iterate(data / f"{split}_lmdb"), key=lambda row: row[0])
        keys[group] = [key for _, key, *_ in rows]
        labels[group] = np.array([label for _, _, label, _ in rows], np.int32)
        pictures = [picture for *_, picture in rows]
        starts = range(0, len(rows), BATCH)
        outputs[group] = Outputs.join(
            [trained(np.stack(pictures[at : at + BATCH])) for at in starts]
        )
    return write_codes(run / "codes.h5", net.name, keys, labels, outputs)


def write_codes(path: Path, net: str, keys: dict, labels: dict, outputs: dict) -> Path:
    """Write a codes file of outputs by group; return its path."""
    facts = {"dataset": "cifar10", "net": net, "net_fingerprint": "", "row_order": "as drawn"}
    names = [str(label) for label in range(outputs["query"].probabilities.shape[1])]
    bits = outputs["query"].latent.shape[1]
    with create_codes(path, bits=bits, class_names=names, labels=labels, keys=keys, **facts) as to:
        for group, found in outputs.items():
            to(group, 0, found.latent, found.probabilities)
    return path


def encode_features(run: Path, caffemodel: Path, data: Path, net: Net, blobs: Blobs) -> Path:
    """Write codes.h5 of features by a trained head.prototxt; return its path.

    data: the folder of the features (tools/train/features.py).
    """
    import caffe

    text = (run / render.HEAD).read_text()
    param = render.parse(text, render.HEAD)
    labels, outputs, keys = {}, {}, {}
    for group, split in SPLITS.items():
        parts = []
        for path in sorted(data.glob(f"{split}-*.h5")):
            with h5py.File(path) as file:
                parts.append((file["data"][:], file["label"][:].astype(np.int32)))
        found, labels[group] = map(np.concatenate, zip(*parts, strict=True))
        keys[group] = [f"{split}-{row}" for row in range(len(found))]
        head = type(param)()
        head.CopyFrom(param)
        del head.layer[:]
        head.layer.add(name="data", type="Input", top=["data"])
        head.layer[0].input_param.shape.add(dim=found.shape)
        kept = ("scale", blobs.latent, blobs.code, blobs.classifier)
        head.layer.extend(layer for layer in param.layer if layer.name in kept)
        head.layer.add(
            name="prob", type="Softmax", bottom=[blobs.classifier], top=[blobs.probabilities]
        )
        path = run / f"{group}.prototxt"
        path.write_text(str(head))
        caffe_net = caffe.Net(str(path), str(caffemodel), caffe.TEST)
        latent, probabilities = forward(caffe_net, found, [blobs.code, blobs.probabilities])
        outputs[group] = Outputs(latent, probabilities, None)
    return write_codes(run / "codes.h5", net.name, keys, labels, outputs)
