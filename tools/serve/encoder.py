"""The queue before Caffe's process, and the thread that keeps that process alive.

Whatever waits in the queue when Caffe is free goes through the net together. Where the process
dies, what it held is answered with a sentence and another one is started.
"""

import logging
import queue
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from multiprocessing import Pipe
from typing import NamedTuple

from tools.run import child as caffe_process
from tools.serve.limits import PICTURE_PIXELS, QUEUE, Refused

LOG = logging.getLogger("serve")
BATCH = 16  # pictures in one forward pass at most
START_SECONDS = 120  # for Caffe to be imported
BATCH_SECONDS = 120  # for one batch, a net's weights included
WATCH_SECONDS = 0.5  # between looks at an idle process


class Job(NamedTuple):
    """A picture that waits: its run and net fingerprint, the blobs wanted besides the code's."""

    run: str
    mark: str
    picture: bytes
    blobs: tuple
    future: Future


class Encoder:
    """Caffe's process behind a bounded queue.

    gpu: a number or None. threads: OpenBLAS's. log: the file of Caffe's log. Starting raises
    Refused where the process does not come up.
    """

    def __init__(self, gpu, threads, log):
        self.gpu = gpu
        self.threads = threads
        self.log = log
        self.queue = queue.Queue(maxsize=QUEUE)
        self.starts = 0
        self.child = self.connection = None
        self.failed = -1e9  # time of the last start that failed
        self.up = Future()  # of the first start
        self.closing = threading.Event()
        self.thread = threading.Thread(target=self._work, name="encoder", daemon=True)
        self.thread.start()
        self.up.result()

    def submit(self, run, mark, picture, blobs):
        """Return a Future of [float32 array for each blob]; raise Refused where the queue is full.

        The future's Refused: 422 for a picture that cannot be decoded, 503 where Caffe died.
        """
        job = Job(str(run), mark, picture, tuple(blobs), Future())
        if self.closing.is_set():
            raise Refused(503, "The server is stopping.")
        try:
            self.queue.put_nowait(job)
        except queue.Full:
            raise Refused(
                503, f"The server is busy: {QUEUE} pictures are waiting; try again in a second."
            ) from None
        return job.future

    def close(self):
        """Answer what is in the queue, then end Caffe's process."""
        self.closing.set()
        self.thread.join()

    def _work(self):
        try:
            self._start()
        except Refused as refused:
            self.up.set_exception(refused)
            return
        self.up.set_result(None)
        while True:
            try:
                jobs = [self.queue.get(timeout=WATCH_SECONDS)]
            except queue.Empty:
                if self.closing.is_set():
                    break
                with suppress(Refused):  # the next picture is told, if it is still so
                    self._mend()
                continue
            while len(jobs) < BATCH and not self.queue.empty():
                jobs.append(self.queue.get_nowait())
            jobs = [job for job in jobs if job.future.set_running_or_notify_cancel()]
            for kind in dict.fromkeys((job.run, job.mark, job.blobs) for job in jobs):
                self._encode(*kind, [job for job in jobs if (job.run, job.mark, job.blobs) == kind])
        self.connection.close()
        if self.child is not None:
            self.child.wait()

    def _encode(self, run, mark, blobs, jobs):
        """Send jobs of one net to Caffe's process and settle their futures."""
        try:
            self._mend()
            self.connection.send((run, mark, [job.picture for job in jobs], blobs))
            if not self.connection.poll(BATCH_SECONDS):
                self.child.kill()
            answers = self.connection.recv()
            if isinstance(answers, str):
                raise Refused(503, answers)
        except Refused as refused:
            for job in jobs:
                job.future.set_exception(refused)
        except (EOFError, OSError):
            self._bury()
            sentence = "Caffe's process died with this picture in hand and is started again."
            for job in jobs:
                job.future.set_exception(Refused(503, f"{sentence} Send it once more."))
        except Exception:  # a fault of ours fails these pictures, not the thread
            LOG.exception("the encoder failed")
            for job in jobs:
                job.future.set_exception(Refused(500, "The server made a mistake; see its log."))
        else:
            for job, answer in zip(jobs, answers, strict=True):
                if isinstance(answer, str):
                    job.future.set_exception(Refused(422, answer))
                else:
                    job.future.set_result(answer)

    def _mend(self):
        """Start Caffe's process where it is gone; raise Refused where it does not come up."""
        if self.child is None or self.child.poll() is not None:
            if self.child is not None:
                self._bury()
            if time.monotonic() - self.failed < WATCH_SECONDS:
                raise Refused(503, "Caffe's process does not start; the server's log says why.")
            self._start()

    def _start(self):
        self.connection, theirs = Pipe()
        command = [sys.executable, "-m", "tools.serve.encode_loop", str(theirs.fileno())]
        command += ["--gpu", str(self.gpu)] if self.gpu is not None else []
        # OpenCV's own limit, for a file whose header says another size than its data
        variables = {"OPENCV_IO_MAX_IMAGE_PIXELS": str(PICTURE_PIXELS)}
        with open(self.log, "ab") as stderr:
            self.since = stderr.tell()
            self.child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stderr=stderr,
                env=caffe_process.environment(self.threads) | variables,
                pass_fds=(theirs.fileno(),),
            )
        theirs.close()
        try:
            if not self.connection.poll(START_SECONDS):
                self.child.kill()
            self.connection.recv()
        except (EOFError, OSError):
            self.failed = time.monotonic()
            raise Refused(503, self._bury()) from None
        self.starts += 1
        LOG.info("Caffe's process is %d", self.child.pid)

    def _bury(self):
        """Reap the process that died; log and return the sentence on how."""
        self.connection.close()
        self.child.kill()
        sentence = caffe_process.how_it_ended(self.child.wait(), self.log, self.since)
        LOG.error("%s", sentence)
        self.child = None
        return sentence
