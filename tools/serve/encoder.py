"""The queue before the process with the net, and the thread that keeps that process alive.

Whatever waits in the queue when the net is free goes through the net together. Where the process
dies, what it held is answered with a sentence and another one is started.
"""

import logging
import queue
import threading
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tools.net.engines import PROCESS
from tools.serve.encoding import Encoded
from tools.serve.limits import QUEUE, QUICK_PIXELS, Refused
from tools.serve.worker import START_SECONDS, Ended, Worker

LOG = logging.getLogger("serve")
BATCH = 16  # pictures in one forward pass at most
BATCH_SECONDS = 120  # for one batch, a net's weights included
WATCH_SECONDS = 0.5  # between looks at an idle process
STOPPING = "The server is stopping."


class Waiting(NamedTuple):
    """A picture that waits for the net of a run, which has this fingerprint.

    features: whether they are wanted besides the latent activations and the probabilities.
    """

    run: Path
    fingerprint: str
    features: bool
    picture: bytes | np.ndarray
    future: Future


class Encoder:
    """The process with the net, Caffe's or ONNX Runtime's, behind a bounded queue."""

    def __init__(
        self,
        *,
        engine: str = "caffe",
        gpu: int | None,
        threads: int,
        log: Path,
        data_root: Path,
        warm: tuple[Path, str] | None = None,
    ) -> None:
        """Start the process; raise Refused where it does not come up.

        engine: ENGINE. warm: the run and the fingerprint of a net that is made ready first. gpu:
        its number, None for the CPU. threads: as many compute. log: the file of the process's log.
        data_root: DATA_ROOT, where the runs' mean images are.
        """
        self.worker = Worker(
            PROCESS[engine],
            "tools.serve.encoding.answer_messages",
            threads=threads,
            log=log,
            # larger pictures are decoded elsewhere; a header may say another size than the data
            variables={"OPENCV_IO_MAX_IMAGE_PIXELS": str(QUICK_PIXELS)},
            engine=engine,
            gpu=gpu,
            data_root=data_root,
            warm=warm,
            batch=BATCH,
        )
        self.queue = queue.Queue(maxsize=QUEUE)
        self.up = Future()  # of the first start
        self.closing = threading.Event()
        self.thread = threading.Thread(target=self._work, name="encoder", daemon=True)
        self.thread.start()
        self.up.result(2 * START_SECONDS)

    @property
    def starts(self) -> int:
        """Return how often the process was started."""
        return self.worker.starts

    def submit(
        self, run: Path, fingerprint: str, picture: bytes | np.ndarray, *, features: bool
    ) -> "Future[Encoded]":
        """Return a future of a picture's outputs; raise Refused where the queue is full.

        run: its folder. fingerprint: of the net that is meant. picture: a file's bytes, or what
        picture.read makes of them. features: whether they are wanted. The future raises Refused:
        422 for a picture that cannot be decoded, 503 where the process died.
        """
        waiting = Waiting(run, fingerprint, features, picture, Future())
        if self.closing.is_set():
            raise Refused(503, STOPPING)
        try:
            self.queue.put_nowait(waiting)
        except queue.Full:
            raise Refused(
                503, f"The server is busy: {QUEUE} pictures are waiting; try again in a second."
            ) from None
        return waiting.future

    def close(self) -> None:
        """Answer what is in the queue, then end the process."""
        self.closing.set()
        self.thread.join()

    def _work(self) -> None:
        """Answer whatever is submitted until close(): no error ends this thread."""
        try:
            self.worker.mend()
        except BaseException as error:  # of whatever kind, to whoever waits for this
            self.up.set_exception(error)
            return
        self.up.set_result(None)
        while (some := self._take()) or not self.closing.is_set():
            try:
                if some:
                    self._encode(some)
                else:
                    with suppress(Refused):  # the next picture is told, if it is still so
                        self.worker.mend()
            except BaseException:  # a fault of ours fails these pictures, not the thread
                LOG.exception("the encoder failed")
            for each in some:
                if not each.future.done():
                    _refuse(each, Refused(503, "The server made a mistake; see its log."))
        with suppress(Exception):
            self.worker.close()

    def _take(self) -> list[Waiting]:
        """Return the pictures that wait, at most BATCH; none where none came for a while."""
        some = []
        with suppress(queue.Empty):
            some.append(self.queue.get(timeout=WATCH_SECONDS))
            while len(some) < BATCH:
                some.append(self.queue.get_nowait())
        return some

    def _encode(self, some: list[Waiting]) -> None:
        """Send pictures to the process, those for one net together; settle their futures."""
        by_net = {}
        for each in some:
            if each.future.set_running_or_notify_cancel():
                by_net.setdefault((each.run, each.fingerprint, each.features), []).append(each)
        for (run, fingerprint, features), together in by_net.items():
            pictures = [each.picture for each in together]
            try:
                answers = self.worker.ask((run, fingerprint, pictures, features), BATCH_SECONDS)
                if isinstance(answers, str):
                    raise Refused(503, answers)
            except Refused as refused:
                answers = [refused] * len(together)
            except Ended:
                said = "died with this picture in hand and is started again. Send it once more."
                answers = [Refused(503, f"{self.worker.title} {said}")] * len(together)
            for each, answer in zip(together, answers, strict=True):
                if isinstance(answer, str):
                    answer = Refused(422, answer)
                if isinstance(answer, Refused):
                    _refuse(each, answer)
                else:
                    each.future.set_result(answer)


def _refuse(waiting: Waiting, refused: Refused) -> None:
    """Settle a picture's future, whoever may have given it up meanwhile."""
    with suppress(Exception):
        waiting.future.set_exception(refused)
