"""Codes of picture files, into a run's index; runs in a child process of tools/search/add.py."""

import argparse
from pathlib import Path

import numpy as np
from tqdm import tqdm

from eval.codes import pack_latent
from eval.files import InputError
from tools.net.forward import BATCH, code_blob, forward, load_net
from tools.run import child as caffe_process
from tools.run import device
from tools.run import record as runs
from tools.run.job import nets, stop
from tools.search.add import pictures_of
from tools.search.index import add, open_index
from tools.search.query import read_picture


def add_files(run, files, label_name, terminal):
    """Add picture files to the index of a run; none where one of them can't be read."""
    index = open_index(run)
    if label_name and label_name not in index.class_names:
        stop(f"LABEL={label_name} is not known; there are {', '.join(index.class_names)}")
    label = index.class_names.index(label_name) if label_name else -1
    spec = nets()["nets"][runs.read(run)["settings"]["net"]]
    net, transform = load_net(run, run / "model.caffemodel", BATCH)
    blobs = [code_blob(run), "prob", spec["features"]]
    pictures, outputs = [], []
    with tqdm(total=len(files), unit="picture", file=terminal, mininterval=0.5) as bar:
        for at in range(0, len(files), BATCH):
            batch = np.stack([read_picture(file, spec) for file in files[at : at + BATCH]])
            pictures.append(batch)
            outputs.append(forward(net, transform(batch), blobs))
            bar.update(len(batch))
    latent, probabilities, features = (
        np.concatenate(parts) for parts in zip(*outputs, strict=True)
    )
    keys, codes = [str(file) for file in files], pack_latent(latent)
    replaced = add(run, keys, label, codes, probabilities, features, np.concatenate(pictures))
    print(f"added {len(files)} picture(s), {replaced} of them in place of older ones")


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("run", type=Path)
    p.add_argument("path", type=Path)
    p.add_argument("--label", default="")
    p.add_argument("--gpu", type=int)
    args = p.parse_args()
    device.activate(args.gpu)
    try:
        add_files(args.run, pictures_of(args.path), args.label, caffe_process.terminal())
    except InputError as error:
        stop(str(error))


if __name__ == "__main__":
    main()
