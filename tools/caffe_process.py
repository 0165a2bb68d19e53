"""Run a module that uses Caffe in a child process.

Caffe ends its process on a failed CHECK and writes its log to stderr. In a child, the log goes to a file
and the death becomes a sentence.
"""

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

from tools.job import REPO, stop

PR_SET_PDEATHSIG = 1


def environment(threads):
    """Return the child's environment: its OpenBLAS threads, and where Caffe finds the Python layers."""
    paths = [str(REPO), str(REPO / "python_layers"), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "OPENBLAS_NUM_THREADS": str(threads),
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PYTHONUNBUFFERED": "1",
    }


def last_words(log):
    """Return the failed CHECK or Python's error line at the end of a log file, or ''."""
    lines = Path(log).read_text(errors="replace").splitlines()
    fatal = [line for line in lines if line.startswith("F") and "] " in line]
    if fatal:
        return fatal[-1].split("] ", 1)[1]
    errors = [line for line in lines if "Error: " in line and not line.startswith(" ")]
    return errors[-1] if errors else ""


def run(module, arguments, threads, log):
    """Run `python -m module arguments` with stderr into the file log (appended); return its exit code.

    The child gets file descriptor 3, this process's stderr, for its progress bar. SIGTERM and SIGINT are
    left to the child, which ends in its own time. Where the child dies of a signal, stop with a sentence.
    """

    def die_with_parent():
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        os.dup2(terminal, 3)

    terminal = os.dup(2)
    with open(log, "ab") as stderr:
        child = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stderr=stderr,
            env=environment(threads),
            pass_fds=(3,) if terminal == 3 else (3, terminal),
            preexec_fn=die_with_parent,
        )
    signal.signal(signal.SIGTERM, lambda *_: child.send_signal(signal.SIGTERM))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to the child as well
    code = child.wait()
    if code < 0:
        words = last_words(log)
        name = signal.Signals(-code).name
        stop(f"Caffe's process died of {name}{': ' + words if words else ''} (its log: {log})")
    return code
