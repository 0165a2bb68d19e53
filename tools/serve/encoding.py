"""Pictures in, a net's outputs out, until the connection ends; the service's process with the net.

Messages come from tools/serve/encoder.py, which starts this in a process of its own.
"""

import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from data_prep import DataError
from tools.net.engines import open_run
from tools.net.exported import ExportedNet
from tools.net.trained import Outputs, TrainedNet
from tools.run import device, record
from tools.run.data import folder_of
from tools.run.failure import FAMILY, Failure, sentence_of
from tools.serve import picture

FAR = 0.25  # of the range from black to white, between a picture and its like


@dataclass(frozen=True)
class Encoded(Outputs):
    """A net's outputs for one picture.

    negative: whether the picture, inverted, would be far more as the training pictures are.
    """

    negative: bool = False


def answer_messages(
    *,
    connection: int,
    engine: str,
    gpu: int | None,
    data_root: Path,
    warm: tuple[Path, str] | None,
    batch: int,
) -> None:
    """Answer the messages of a connection: send "ready", then a reply to each until it ends.

    connection: a file descriptor. engine: ENGINE. data_root: DATA_ROOT, for the runs' mean images.
    warm: the run and the fingerprint of a net that is made ready for up to `batch` pictures before
    that. A message is (run, fingerprint, pictures, features): the run's folder, its net's
    fingerprint, the bytes of picture files or what picture.read made of them, whether their
    features are wanted. The reply is encode()'s list, or a sentence where the net cannot be used.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # whoever stops the service lets it drain:
        signal.signal(number, signal.SIG_IGN)  # the end of the connection ends this process
    if engine == "caffe":
        device.activate(gpu)
    opened = {}
    with Connection(connection) as pipe:
        if warm:
            with suppress(*FAMILY):  # whoever asks for it is told
                opened[warm] = open_net(warm[0], data_root, warm[1], engine, gpu)
                warm_up(opened[warm], batch)
        pipe.send("ready")
        while True:
            try:
                run, fingerprint, pictures, features = pipe.recv()
            except (EOFError, ConnectionResetError):
                return
            try:
                if (run, fingerprint) not in opened:
                    opened[run, fingerprint] = open_net(run, data_root, fingerprint, engine, gpu)
                reply = encode(opened[run, fingerprint], pictures, features)
            except (*FAMILY, OSError) as error:
                reply = f"{sentence_of(error)}."
            pipe.send(reply)


def open_net(
    run: Path, data_root: Path, fingerprint: str, engine: str, gpu: int | None
) -> TrainedNet | ExportedNet:
    """Return the net of a run's folder; raise Failure where its fingerprint is another one."""
    content = record.read_record(run)
    if record.net_fingerprint(content, run / "model.caffemodel") != fingerprint:
        raise Failure(f"{run.name} was trained again: make its index anew and restart the server")
    data = folder_of(content["settings"], data_root)
    return open_run(run, engine=engine, data=data, batch=1, gpu=gpu)


def warm_up(net: TrainedNet | ExportedNet, batch: int) -> None:
    """Make a net ready for each number of pictures up to batch, so that no request waits for it.

    Each makes layers of its own the first time, and the largest takes the memory of all.
    """
    for size in range(1, batch + 1):
        net.resize(size)
    for size in (batch, 1):
        net.resize(size)
        net(np.zeros((size, net.net.channels, net.net.side, net.net.side), np.uint8))


def encode(
    net: TrainedNet | ExportedNet, pictures: Sequence[bytes | np.ndarray], features: bool
) -> list[Encoded | str]:
    """Return for each picture its outputs, of one row, or a sentence: why not.

    pictures: file's bytes, or what picture.read made of them. Those that can be decoded go through
    the net together.
    """
    answers, inputs = [None] * len(pictures), []
    for place, each in enumerate(pictures):
        try:
            inputs.append(picture.read(each, net.net) if isinstance(each, bytes) else each)
        except DataError as error:
            answers[place] = f"{error}."
    if not inputs:
        return answers
    net.resize(len(inputs))
    outputs = net(np.stack(inputs), features=features)
    rows = iter(range(len(inputs)))
    for place, answer in enumerate(answers):
        if answer is None:
            row = next(rows)
            answers[place] = row_of(outputs, row, net, inputs[row])
    return answers


def row_of(
    outputs: Outputs, row: int, net: TrainedNet | ExportedNet, pixels: np.ndarray
) -> Encoded:
    """Return the outputs of one picture of several, uint8 C x H x W."""
    columns = (outputs.latent, outputs.probabilities, outputs.features)
    return Encoded(
        *(None if column is None else column[row : row + 1] for column in columns),
        negative=is_negative(float(pixels.mean()), float(net.mean.mean())),
    )


def is_negative(brightness: float, usual: float) -> bool:
    """Return whether a picture is far from the usual brightness, 0 to 255, and inverted is not."""
    away, inverted = abs(brightness - usual), abs(255 - brightness - usual)
    return away > FAR * 255 and inverted < away / 2
