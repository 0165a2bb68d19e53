"""Run a function that uses Caffe in a process of its own, by its name and keyword values.

Caffe ends its process on a failed CHECK and writes its log to stderr. In a child, the log goes to
a file and the death becomes a sentence. tools/run/child_main.py is the child's side.
"""

import ctypes
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from tools.run import device
from tools.run.failure import Failure, Interrupted, writing
from tools.run.job import REPO

PR_SET_PDEATHSIG = 1
DISK = "LMDB dies so where a disk is full or broken: look at df and dmesg"
WITHOUT_WORDS = {signal.SIGSEGV: DISK, signal.SIGBUS: DISK}  # what a death may come from


class Child(NamedTuple):
    """A child that was started: its process, its log, and where its own words begin in that.

    request: the file descriptor of what was asked of it, and then of its outcome.
    """

    process: subprocess.Popen
    log: Path
    since: int
    request: int


def call(function: str, *, threads: int, log: Path, keep: Iterable[int] = (), **values: Any) -> Any:
    """Return what a function of another process returns.

    function: "package.module.name"; it gets the keyword `values`, which are pickled, as its result
    is. threads: as many compute. log: the file that the child's stderr is appended to. keep: file
    descriptors that the child holds open as well, such as a lock. The child's terminal() is this
    process's stderr, for its progress bar. SIGTERM and SIGINT are left to the child, which ends in
    its own time. Raise Failure with the function's own sentence where it fails, or with one on how
    the process died; raise Interrupted where a signal ended it.
    """
    with writing():
        child = start(function, threads=threads, log=log, keep=keep, **values)
    handlers = {
        signal.SIGTERM: lambda *_: child.process.send_signal(signal.SIGTERM),
        signal.SIGINT: signal.SIG_IGN,  # the terminal sends it to the child as well
    }
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    code = child.process.wait()
    for number, handler in previous.items():
        signal.signal(number, handler)
    with os.fdopen(child.request, "rb") as file:
        file.seek(0)
        outcome = file.read()
    if code == 0:
        return pickle.loads(outcome)
    if code in (128 + signal.SIGINT, 128 + signal.SIGTERM):
        raise Interrupted(code)
    if code in (-signal.SIGINT, -signal.SIGTERM):
        print(f"stopped by {signal.Signals(-code).name}", file=sys.stderr)
        raise Interrupted(128 - code)
    raise Failure(outcome.decode() if outcome and code == 1 else how_it_ended(child, code))


def start(
    function: str,
    *,
    threads: int,
    log: Path,
    keep: Iterable[int] = (),
    variables: dict[str, str] | None = None,
    outlives: bool = False,
    **values: Any,
) -> Child:
    """Start a function as call() does, and return at once.

    variables: of the child's environment besides this process's. outlives: do not end the child
    with the thread that called this.
    """
    request = os.memfd_create("request")
    os.write(request, pickle.dumps((function, values)))
    bar = os.dup(2)
    with open(log, "ab") as stderr:
        since = stderr.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", "tools.run.child_main", str(request)],
            stdin=subprocess.DEVNULL,
            stderr=stderr,
            env=environment(threads) | {"SSDH_TERMINAL": str(bar)} | (variables or {}),
            pass_fds=(request, bar, *keep),
            preexec_fn=None if outlives else _end_with_parent,
        )
    os.close(bar)
    return Child(process, log, since, request)


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def environment(threads: int) -> dict[str, str]:
    """Return a child's environment: its threads, and the way to the Python layers.

    OpenMP's run oneDNN's layers, OpenBLAS's Caffe's own. Where the person says nothing else, those
    of OpenMP that wait for work soon sleep: beside other processes, ones that spin take the time
    of those they wait for, and a net was 4 to 5 times slower.
    """
    paths = [str(REPO), str(REPO / "python_layers"), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        **({} if "OMP_WAIT_POLICY" in os.environ else {"GOMP_SPINCOUNT": "1000"}),
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads)),
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PYTHONUNBUFFERED": "1",
    }


def terminal() -> TextIO:
    """Return the person's terminal, a text file, in a process that start() started."""
    return os.fdopen(os.dup(int(os.environ["SSDH_TERMINAL"])), "w", buffering=1)


def how_it_ended(child: Child, code: int) -> str:
    """Return a clause on a child that ended without an outcome: how, and its last words."""
    said = last_words(child.log.read_bytes()[child.since :].decode(errors="replace"))
    how = f"died of {signal.Signals(-code).name}" if code < 0 else "failed"
    said = device.advice(said) or said or WITHOUT_WORDS.get(-code, "without a word")
    return f"Caffe's process {how}: {said} (log: {child.log})"


def last_words(text: str) -> str:
    """Return the failed CHECK, or else the last error line, of a log's text, or ''."""
    lines = text.splitlines()
    fatal = [line for line in lines if line.startswith("F") and "] " in line]
    if fatal:
        return fatal[-1].split("] ", 1)[1]
    errors = [line for line in lines if "rror: " in line and not line.startswith(" ")]
    return errors[-1].split("rror: ", 1)[1] if errors else ""
