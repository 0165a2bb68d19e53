"""A process that answers messages, started anew where it ends: whatever goes wrong is a Refused."""

import logging
import os
import time
from contextlib import suppress
from multiprocessing import Pipe
from typing import Any

from tools.run import child
from tools.run.failure import writing
from tools.serve.limits import Refused

LOG = logging.getLogger("serve")
START_SECONDS = 120  # for Caffe to be imported, and a net to be made ready
RETRY_SECONDS = 0.5  # after a start that failed


class Ended(Exception):
    """The process ended, or was ended, with a message in hand; str(): a clause on how."""


class Worker:
    """A process behind a connection; one thread at a time may use it."""

    def __init__(self, title: str, function: str, **options: Any) -> None:
        """Name a function for child.start(), which gets `options`, and the end of a connection.

        title: of the process, in sentences. It sends a first message once it can answer others.
        """
        self.title = title
        self.function = function
        self.options = options
        self.starts = 0
        self.child = self.connection = None
        self.failed = -1e9  # time of the last start that failed

    def ask(self, message: object, seconds: float) -> Any:
        """Return the reply to a message; raise Ended where there is none in so many seconds.

        Raise Refused where the process cannot be started.
        """
        self.mend()
        try:
            self.connection.send(message)
            if self.connection.poll(seconds):
                return self.connection.recv()
        except (EOFError, OSError):
            pass
        raise Ended(self.end())

    def mend(self) -> None:
        """Start the process where there is none; raise Refused where it does not come up."""
        if self.child is not None and self.child.process.poll() is None:
            return
        if self.child is not None:
            self.end()
        if time.monotonic() - self.failed < RETRY_SECONDS:
            raise Refused(503, f"{self.title} does not start; the server's log says why.")
        try:
            self._start()
        except Exception as error:
            self.failed = time.monotonic()
            how = self.end() if self.child is not None else ""
            raise Refused(503, how or str(error)) from None
        self.starts += 1
        LOG.info("%s is %d", self.title, self.child.process.pid)

    def _start(self) -> None:
        """Start the process and wait until it can answer."""
        self.connection, theirs = Pipe()
        with theirs, writing():
            self.child = child.start(
                self.function,
                outlives=True,  # the thread that starts it
                keep=(theirs.fileno(),),
                connection=theirs.fileno(),
                **self.options,
            )
        if not self.connection.poll(START_SECONDS):
            self.child.process.kill()
        self.connection.recv()

    def end(self) -> str:
        """End the process, log how it ended, and return the sentence."""
        dead, self.child = self.child, None
        with suppress(OSError):
            self.connection.close()
        dead.process.kill()
        code = dead.process.wait()
        try:
            sentence = child.how_it_ended(dead, code).replace("Caffe's process", self.title, 1)
        except Exception as error:  # its log is gone, say
            sentence = f"{self.title} ended with {code}; its log cannot be read: {error}"
        with suppress(OSError):
            os.close(dead.request)
        LOG.error("%s", sentence)
        return sentence

    def close(self) -> None:
        """Let the process end by itself, as the end of the connection tells it to."""
        if self.child is None:
            return
        self.connection.close()
        self.child.process.wait()
        os.close(self.child.request)
        self.child = None
