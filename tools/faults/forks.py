"""Commands forked from a Python that has the libraries already: their import is most of the time.

    python -m tools.faults.forks

loads LIBRARIES, reads requests from stdin, a line of JSON each, and forks for each a process that
is from there on what `python -m module arguments` would be: in a session of its own, with an
environment and a stderr of its own. All that is of this repository is imported there. It answers on
stdout with two numbers a request: the process's id, and the status that it ended with.
"""

import importlib
import json
import os
import runpy
import select
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

LIBRARIES = (
    *(
        "numpy",
        "h5py",
        "cv2",
        "lmdb",
        "tqdm",
        "numba",
        "scipy.linalg",
        "sklearn.datasets",
        "PIL.Image",
    ),
    *("matplotlib.backends.backend_agg", "jinja2", "faiss", "google.protobuf.text_format", "onnx"),
    *("onnxruntime", "multiprocessing.pool", "concurrent.futures.process"),
)
NUMBER = struct.Struct("<i")


class Fork:
    """A command that runs, with what is needed of subprocess.Popen."""

    def __init__(self, pid: int, answers: int) -> None:
        """Begin with the process's id, and where its status will be read."""
        self.pid, self.returncode, self._answers = pid, None, answers

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code; raise TimeoutExpired where there is none after some seconds."""
        if not select.select([self._answers], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(str(self.pid), timeout)
        self.returncode = os.waitstatus_to_exitcode(read_number(self._answers))
        return self.returncode


class Forks:
    """The process that forks, ended with the block."""

    def __init__(self, environment: dict[str, str]) -> None:
        """Start it, with an environment."""
        from tools.run.job import REPO  # not in the process that forks: it is of this repository

        self._process = subprocess.Popen(
            [sys.executable, "-m", "tools.faults.forks"],
            cwd=REPO,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it, which its stdin's end does."""
        self._process.stdin.close()
        self._process.wait()

    def start(self, arguments: Sequence[str], environment: dict[str, str], stderr: Path) -> Fork:
        """Start `python -m` arguments, whose stderr goes to a file."""
        request = {"arguments": arguments, "environment": environment, "stderr": str(stderr)}
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        answers = self._process.stdout.fileno()
        return Fork(read_number(answers), answers)


def read_number(file: int) -> int:
    """Return the next number that was answered."""
    return NUMBER.unpack(os.read(file, NUMBER.size))[0]


def serve() -> dict | None:
    """Fork for each request, and return it in the process that was forked; None at their end."""
    answers = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for line in iter(sys.stdin.buffer.readline, b""):
        pid = os.fork()
        if not pid:
            os.setsid()
            os.close(answers)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            return json.loads(line)
        while os.getsid(pid) != pid:  # until then a kill of its group would be one of ours
            time.sleep(0.001)
        os.write(answers, NUMBER.pack(pid))
        os.write(answers, NUMBER.pack(os.waitpid(pid, 0)[1]))
    return None


def become(request: dict) -> None:
    """Run a request's command in this process."""
    os.environ.clear()
    os.environ.update(request["environment"])
    stderr = os.open(request["stderr"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(stderr, 2)
    os.close(stderr)
    runpy.run_path(str(Path(__file__).with_name("hook") / "sitecustomize.py"))
    module, *sys.argv[1:] = request["arguments"]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    for library in LIBRARIES:
        importlib.import_module(library)
    if asked := serve():
        become(asked)
