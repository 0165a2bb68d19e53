"""Pictures in, activations out, until the connection ends; the service's process with Caffe.

Messages come from tools/serve/encoder.py, which starts this in a process of its own.
"""

import argparse
import signal
from multiprocessing.connection import Connection
from pathlib import Path

import cv2
import numpy as np

from data_prep import DataError
from data_prep.picture import fit
from tools.net.forward import code_blob, forward, load_net
from tools.run import device
from tools.run import record as runs
from tools.run.job import nets


def open_net(run, mark):
    """Return (net, transform, spec, blob of the codes' activations) of a run's folder.

    ValueError where its net is not mark's.
    """
    record, caffemodel = runs.record_of(run), run / "model.caffemodel"
    if runs.net_fingerprint(record, caffemodel) != mark:
        raise ValueError(
            f"{run.name} was trained again: make its index anew and restart the server"
        )
    spec = nets()["nets"][record["settings"]["net"]]
    return *load_net(run, caffemodel, 1), spec, code_blob(run)


def encode(opened, pictures, blobs):
    """Return for each picture file's bytes its latent activations and the blobs, or a sentence.

    Each is a list of arrays.
    """
    net, transform, spec, code = opened
    answers, inputs = [None] * len(pictures), []
    for place, picture in enumerate(pictures):
        try:
            pixels = fit(picture, spec["side"], spec["channels"])
        except DataError as error:
            answers[place] = f"The picture {error}."
        except cv2.error:
            answers[place] = "The picture cannot be decoded: it is damaged, or far too large."
        else:
            inputs.append(transform(np.atleast_3d(pixels).transpose(2, 0, 1)[None]))
    if not inputs:
        return answers
    if net.blobs["data"].data.shape[0] != len(inputs):
        net.blobs["data"].reshape(len(inputs), *net.blobs["data"].data.shape[1:])
        net.reshape()
    rows = zip(*forward(net, np.concatenate(inputs), [code, *blobs]), strict=True)
    return [answer or list(next(rows)) for answer in answers]


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("connection", type=int, help="a file descriptor")
    p.add_argument("--gpu", type=int)
    args = p.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):  # whoever stops the service lets it drain:
        signal.signal(number, signal.SIG_IGN)  # the end of the connection ends this process
    device.activate(args.gpu)
    opened = {}
    with Connection(args.connection) as connection:
        connection.send("ready")
        while True:
            try:
                run, mark, pictures, blobs = connection.recv()
            except (EOFError, ConnectionResetError):
                return
            try:
                if (run, mark) not in opened:
                    opened[run, mark] = open_net(Path(run), mark)
                answers = encode(opened[run, mark], pictures, blobs)
            except ValueError as error:
                answers = f"{error}."  # to all of them
            connection.send(answers)


if __name__ == "__main__":
    main()
