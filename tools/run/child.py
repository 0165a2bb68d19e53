"""Run a module that uses Caffe in a child process.

Caffe ends its process on a failed CHECK and writes its log to stderr. In a child, the log goes to
a file and the death becomes a sentence.
"""

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

from tools.run import device
from tools.run.job import REPO, stop, writing

PR_SET_PDEATHSIG = 1


def environment(threads):
    """Return the child's environment: OpenBLAS threads, and the way to the Python layers."""
    paths = [str(REPO), str(REPO / "python_layers"), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "OPENBLAS_NUM_THREADS": str(threads),
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PYTHONUNBUFFERED": "1",
    }


def terminal():
    """Return the person's terminal, a text file, in a process that run() started."""
    return os.fdopen(int(os.environ["SSDH_TERMINAL"]), "w", buffering=1)


def last_words(text):
    """Return the failed CHECK, or else the last error line, of a log's text, or ''."""
    lines = text.splitlines()
    fatal = [line for line in lines if line.startswith("F") and "] " in line]
    if fatal:
        return fatal[-1].split("] ", 1)[1]
    errors = [line for line in lines if "rror: " in line and not line.startswith(" ")]
    return errors[-1].split("rror: ", 1)[1] if errors else ""


def how_it_ended(code, log, since):
    """Return a clause on a Caffe process that ended with a code: how, and its last words.

    log: the file that its stderr was appended to, from byte `since` on.
    """
    words = last_words(Path(log).read_bytes()[since:].decode(errors="replace"))
    how = f"died of {signal.Signals(-code).name}" if code < 0 else "failed"
    words = device.advice(words) or words or "without a word"
    return f"Caffe's process {how}: {words} (log: {log})"


def run(module, arguments, threads, log, keep=()):
    """Run `python -m module arguments`, stderr appended to the file log.

    keep: file descriptors that the child holds open as well, such as a lock.
    The child's terminal() is this process's stderr, for its progress bar. SIGTERM and SIGINT are
    left to the child, which ends in its own time: this process then exits as the child did. Where
    the child fails or dies, stop with a sentence that has its last words.
    """

    bar = os.dup(2)
    with writing(), open(log, "ab") as stderr:
        before = stderr.tell()
        child = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stderr=stderr,
            env=environment(threads) | {"SSDH_TERMINAL": str(bar)},
            pass_fds=(bar, *keep),
            preexec_fn=lambda: ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM),
        )
    handlers = {
        signal.SIGTERM: lambda *_: child.send_signal(signal.SIGTERM),
        signal.SIGINT: signal.SIG_IGN,  # the terminal sends it to the child as well
    }
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    code = child.wait()
    for number, handler in previous.items():
        signal.signal(number, handler)
    if code in (128 + signal.SIGINT, 128 + signal.SIGTERM):
        sys.exit(code)
    if code in (-signal.SIGINT, -signal.SIGTERM):
        print(f"stopped by {signal.Signals(-code).name}", file=sys.stderr)
        sys.exit(128 - code)
    if code:
        stop(how_it_ended(code, log, before))
