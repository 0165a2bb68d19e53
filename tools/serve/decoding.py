"""Large pictures in, the net's small ones out; a process that ends itself over one that takes long.

Messages come from tools/serve/decoder.py, which starts this in a process of its own.
"""

import signal
from multiprocessing.connection import Connection

from data_prep import DataError
from tools.serve import picture


def answer_pictures(*, connection: int, seconds: float) -> None:
    """Answer the messages of a connection: send "ready", then a reply to each until it ends.

    connection: a file descriptor. A message is (content, net): a picture file's bytes and the entry
    in nets.toml. The reply is the picture, uint8 C x H x W, or a sentence: why not. seconds: of
    processor time, after which SIGPROF ends the process.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # the end of the connection ends this process
        signal.signal(number, signal.SIG_IGN)
    with Connection(connection) as pipe:
        pipe.send("ready")
        while True:
            try:
                content, net = pipe.recv()
            except (EOFError, ConnectionResetError):
                return
            signal.setitimer(signal.ITIMER_PROF, seconds)
            try:
                reply = picture.read(content, net)
            except DataError as error:
                reply = f"{error}."
            signal.setitimer(signal.ITIMER_PROF, 0)
            pipe.send(reply)
