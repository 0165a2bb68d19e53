"""The one way to fail: an exception that holds a sentence, which only a command turns into an exit.

data_prep's DataError and eval's InputError are of the same family: these packages know nothing of
tools/, so each has a name of its own for it.
"""

import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from data_prep import DataError
from eval.files import FULL, InputError, system_sentence

FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


class Failure(Exception):
    """What was asked for cannot be done: one sentence with the file, what is wrong, what to do."""


class Interrupted(Exception):
    """A signal ended the work, which says so itself; args[0] is the exit code, 128 + the signal."""


FAMILY = (Failure, DataError, InputError)


@contextmanager
def writing(instead: str = "choose another folder (RUNS=)") -> Iterator[None]:
    """Raise a Failure where the block cannot write a file: which, why, what to do.

    instead: what helps where nothing can be written there.
    """
    try:
        yield
    except OSError as error:
        file = f"{error.filename}: " if error.filename else ""
        todo = "mend that"
        if error.errno in FULL:
            todo = "free some space"
        elif error.errno in FORBIDDEN:
            todo = f"let uid {os.getuid()} write there"
        why = error.strerror or " ".join(str(error).split())
        raise Failure(f"{file}{why}; {todo}, or {instead}") from None


def sentence_of(error: Exception) -> str:
    """Return the sentence of an error of the family, or of one that the system gave."""
    if not isinstance(error, OSError):
        return str(error)
    return system_sentence(error)


def carry_out(main: Callable[[], None]) -> None:
    """Run a command's main; end the process with a sentence and exit code 1 where it fails."""
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError:  # as of `| head`
        _drop_output()
        sys.exit(128 + signal.SIGPIPE)
    except (*FAMILY, OSError) as error:
        _drop_output()
        sys.exit(f"error: {sentence_of(error)}")
    except Interrupted as interrupted:
        sys.exit(interrupted.args[0])
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


def _drop_output() -> None:
    """Let go of what cannot be printed: Python would try again as the process ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
