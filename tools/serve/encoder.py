"""The queue before Caffe's process, and the thread that keeps that process alive.

Whatever waits in the queue when Caffe is free goes through the net together. Where the process
dies, what it held is answered with a sentence and another one is started.
"""

import logging
import os
import queue
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from multiprocessing import Pipe
from pathlib import Path
from typing import NamedTuple

from tools.net.trained import Outputs
from tools.run import child
from tools.run.failure import Failure, writing
from tools.serve.limits import PICTURE_PIXELS, QUEUE, Refused

LOG = logging.getLogger("serve")
BATCH = 16  # pictures in one forward pass at most
START_SECONDS = 120  # for Caffe to be imported, and a net to be made ready
BATCH_SECONDS = 120  # for one batch, a net's weights included
WATCH_SECONDS = 0.5  # between looks at an idle process


class Waiting(NamedTuple):
    """A picture that waits for the net of a run, which has this fingerprint.

    features: whether they are wanted besides the latent activations and the probabilities.
    """

    run: Path
    fingerprint: str
    features: bool
    picture: bytes
    future: Future


class Encoder:
    """Caffe's process behind a bounded queue."""

    def __init__(
        self,
        *,
        gpu: int | None,
        threads: int,
        log: Path,
        data_root: Path,
        warm: tuple[Path, str] | None = None,
    ) -> None:
        """Start the process; raise Refused where it does not come up.

        warm: the run and the fingerprint of a net that is made ready first. gpu: its number, None
        for the CPU. threads: as many compute. log: the file of Caffe's log. data_root: DATA_ROOT,
        where the runs' mean images are.
        """
        self.gpu = gpu
        self.threads = threads
        self.log = log
        self.data_root = data_root
        self.warm = warm
        self.queue = queue.Queue(maxsize=QUEUE)
        self.starts = 0
        self.child = self.connection = None
        self.failed = -1e9  # time of the last start that failed
        self.up = Future()  # of the first start
        self.closing = threading.Event()
        self.thread = threading.Thread(target=self._work, name="encoder", daemon=True)
        self.thread.start()
        self.up.result()

    def submit(
        self, run: Path, fingerprint: str, picture: bytes, *, features: bool
    ) -> "Future[Outputs]":
        """Return a future of a picture's outputs; raise Refused where the queue is full.

        run: its folder. fingerprint: of the net that is meant. features: whether they are wanted.
        The future raises Refused: 422 for a picture that cannot be decoded, 503 where Caffe died.
        """
        waiting = Waiting(run, fingerprint, features, picture, Future())
        if self.closing.is_set():
            raise Refused(503, "The server is stopping.")
        try:
            self.queue.put_nowait(waiting)
        except queue.Full:
            raise Refused(
                503, f"The server is busy: {QUEUE} pictures are waiting; try again in a second."
            ) from None
        return waiting.future

    def close(self) -> None:
        """Answer what is in the queue, then end Caffe's process."""
        self.closing.set()
        self.thread.join()

    def _work(self) -> None:
        try:
            self._start()
        except Exception as error:  # of whatever kind, to whoever waits for this
            self.up.set_exception(error)
            return
        self.up.set_result(None)
        while True:
            try:
                some = [self.queue.get(timeout=WATCH_SECONDS)]
            except queue.Empty:
                if self.closing.is_set():
                    break
                with suppress(Refused):  # the next picture is told, if it is still so
                    self._mend()
                continue
            while len(some) < BATCH and not self.queue.empty():
                some.append(self.queue.get_nowait())
            by_net = {}
            for each in some:
                if each.future.set_running_or_notify_cancel():
                    by_net.setdefault((each.run, each.fingerprint, each.features), []).append(each)
            for together in by_net.values():
                self._encode(together)
        self.connection.close()
        if self.child is not None:
            self.child.process.wait()
            os.close(self.child.request)

    def _encode(self, together: list[Waiting]) -> None:
        """Send pictures for one net to Caffe's process and settle their futures."""
        first, pictures = together[0], [each.picture for each in together]
        try:
            self._mend()
            self.connection.send((first.run, first.fingerprint, pictures, first.features))
            if not self.connection.poll(BATCH_SECONDS):
                self.child.process.kill()
            answers = self.connection.recv()
            if isinstance(answers, str):
                raise Refused(503, answers)
        except Refused as refused:
            for each in together:
                each.future.set_exception(refused)
        except (EOFError, OSError):
            self._bury()
            sentence = "Caffe's process died with this picture in hand and is started again."
            for each in together:
                each.future.set_exception(Refused(503, f"{sentence} Send it once more."))
        except Exception:  # a fault of ours fails these pictures, not the thread
            LOG.exception("the encoder failed")
            for each in together:
                each.future.set_exception(Refused(500, "The server made a mistake; see its log."))
        else:
            for each, answer in zip(together, answers, strict=True):
                if isinstance(answer, str):
                    each.future.set_exception(Refused(422, answer))
                else:
                    each.future.set_result(answer)

    def _mend(self) -> None:
        """Start Caffe's process where it is gone; raise Refused where it does not come up."""
        if self.child is None or self.child.process.poll() is not None:
            if self.child is not None:
                self._bury()
            if time.monotonic() - self.failed < WATCH_SECONDS:
                raise Refused(503, "Caffe's process does not start; the server's log says why.")
            self._start()

    def _start(self) -> None:
        self.connection, theirs = Pipe()
        try:
            with theirs, writing():
                self.child = child.start(
                    "tools.serve.encoding.answer_messages",
                    threads=self.threads,
                    log=self.log,
                    outlives=True,  # the thread that starts it
                    # OpenCV's own limit, for a file whose header says another size than its data
                    variables={"OPENCV_IO_MAX_IMAGE_PIXELS": str(PICTURE_PIXELS)},
                    keep=(theirs.fileno(),),
                    connection=theirs.fileno(),
                    gpu=self.gpu,
                    data_root=self.data_root,
                    warm=self.warm,
                    batch=BATCH,
                )
        except Failure as failure:
            self.failed = time.monotonic()
            raise Refused(503, str(failure)) from None
        try:
            if not self.connection.poll(START_SECONDS):
                self.child.process.kill()
            self.connection.recv()
        except (EOFError, OSError):
            self.failed = time.monotonic()
            raise Refused(503, self._bury()) from None
        self.starts += 1
        LOG.info("Caffe's process is %d", self.child.process.pid)

    def _bury(self) -> str:
        """Reap the process that died; log and return the sentence on how."""
        self.connection.close()
        self.child.process.kill()
        sentence = child.how_it_ended(self.child, self.child.process.wait())
        os.close(self.child.request)
        LOG.error("%s", sentence)
        self.child = None
        return sentence
