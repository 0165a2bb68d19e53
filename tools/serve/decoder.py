"""The queue before a process that decodes large pictures, each within a time."""

import asyncio
from pathlib import Path

import numpy as np

from tools.run.nets import Net
from tools.serve.limits import DECODE_SECONDS, DECODES, PICTURE_PIXELS, Refused
from tools.serve.worker import Ended, Worker

WALL_SECONDS = 30  # for DECODE_SECONDS of processor time on a busy machine


class Decoder:
    """A process that is started with the first picture and started anew where one ended it."""

    def __init__(self, log: Path, seconds: float = DECODE_SECONDS) -> None:
        """Start nothing yet. log: the file of the process's log. seconds: for a picture."""
        self.worker = Worker(
            "The decoder",
            "tools.serve.decoding.answer_pictures",
            threads=1,
            log=log,
            variables={"OPENCV_IO_MAX_IMAGE_PIXELS": str(PICTURE_PIXELS)},
            seconds=seconds,
        )
        self.lock = asyncio.Lock()
        self.waiting = 0

    async def decode(self, content: bytes, net: Net) -> np.ndarray:
        """Return a picture file's bytes as picture.read does.

        Raise Refused: 422 where it cannot be decoded, 413 where that takes too long, 503 where
        too many wait.
        """
        if self.waiting >= DECODES:
            raise Refused(
                503, f"The server is busy: {DECODES} large pictures are waiting; try again."
            )
        self.waiting += 1
        try:
            async with self.lock:
                reply = await asyncio.to_thread(self.worker.ask, (content, net), WALL_SECONDS)
        except Ended:
            raise Refused(413, "The picture takes too long to decode.") from None
        finally:
            self.waiting -= 1
        if isinstance(reply, str):
            raise Refused(422, reply)
        return reply

    def close(self) -> None:
        """End the process."""
        self.worker.close()
