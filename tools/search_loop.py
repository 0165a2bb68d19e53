"""One picture against a run's codes; runs in a child process of tools/search.py."""

import argparse
from pathlib import Path

import numpy as np

from data_prep import DataError
from data_prep.picture import fit
from eval.codes import pack_latent, read_codes
from eval.files import InputError
from eval.hamming import nearest
from tools import device, runs
from tools.forward import forward, load_net
from tools.job import nets, stop


def code_of(run, caffemodel, picture, spec):
    """Return (code, probabilities) of a picture file: packed uint8 (bytes,) and float32 (C,)."""
    try:
        pixels = fit(picture.read_bytes(), spec["side"], spec["channels"])
    except OSError as error:
        stop(f"{picture} cannot be read: {error.strerror}")
    except DataError as error:
        stop(f"{picture} {error}")
    net, transform = load_net(run, caffemodel, 1)
    inputs = transform(np.atleast_3d(pixels).transpose(2, 0, 1)[None])
    latent, probabilities = forward(net, inputs, ["latent_sigmoid", "prob"])
    return pack_latent(latent)[0], probabilities[0]


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("run", type=Path)
    p.add_argument("picture", type=Path)
    p.add_argument("--top", type=int, required=True)
    p.add_argument("--gpu", type=int)
    args = p.parse_args()
    device.activate(args.gpu)
    caffemodel, record = args.run / "model.caffemodel", runs.read(args.run)
    try:
        codes = read_codes(args.run / "codes.h5")
    except InputError as error:
        stop(str(error))
    if codes.net_fingerprint != runs.net_fingerprint(record, caffemodel):
        stop(f"{args.run / 'codes.h5'} holds codes of other weights: run 'make codes' again")
    spec = nets()["nets"][record["settings"]["net"]]
    code, probabilities = code_of(args.run, caffemodel, args.picture, spec)
    best = np.argsort(-probabilities, kind="stable")[:3]
    names = codes.class_names
    print(f"{args.picture}: " + ", ".join(f"{names[c]} {probabilities[c]:.1%}" for c in best))
    rows, distances = nearest(code, codes.database.codes, args.top)
    print(f"{'rank':>4} {'distance':>8}  {'class':16} key")
    for rank, (row, distance) in enumerate(zip(rows, distances, strict=True), 1):
        label = names[codes.database.labels[row]]
        print(f"{rank:4} {distance:8}  {label:16} {codes.database.keys[row].decode()}")


if __name__ == "__main__":
    main()
