"""The one way to fail: an exception that holds a sentence, which only a command turns into an exit.

data_prep's DataError and eval's InputError are of the same family: these packages know nothing of
tools/, so each has a name of its own for it.
"""

import errno
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from data_prep import DataError
from eval.files import InputError

FULL = (errno.ENOSPC, errno.EDQUOT)  # the disk, or what a user may have of it


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
        todo = "free some space" if error.errno in FULL else f"let uid {os.getuid()} write there"
        raise Failure(f"{file}{error.strerror}; {todo}, or {instead}") from None


def sentence_of(error: Exception) -> str:
    """Return the sentence of an error of the family, or of one that the system gave."""
    if not isinstance(error, OSError):
        return str(error)
    file = f"{error.filename}: " if error.filename else ""
    todo = "free some space" if error.errno in FULL else "mend that"
    why = error.strerror or " ".join(str(error).split())
    return f"{file}{why}; {todo}, then run the command again"


def of_hdf5(error: RuntimeError) -> OSError:
    """Return what the system said to HDF5, of which h5py makes a RuntimeError; raise any other."""
    said = re.search(r"filename = '([^']*)'.*?errno = (\d+)", str(error), re.DOTALL)
    if not said:
        raise error
    return OSError(int(said[2]), os.strerror(int(said[2])), said[1])


def carry_out(main: Callable[[], None]) -> None:
    """Run a command's main; end the process with a sentence and exit code 1 where it fails."""
    try:
        main()
    except (*FAMILY, OSError) as error:
        sys.exit(f"error: {sentence_of(error)}")
    except RuntimeError as error:
        print(f"error: {sentence_of(of_hdf5(error))}", file=sys.stderr)
        sys.stdout.flush()
        os._exit(1)  # HDF5 would try to write once more as the process ends, and crash
    except Interrupted as interrupted:
        sys.exit(interrupted.args[0])
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
