"""Commands forked from a Python that has the libraries already: their import is most of the time.

tools/faults/forker.py is that Python's side.
"""

import json
import os
import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tools.run.job import REPO


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
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tools.faults.forker"],
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

    def start(
        self,
        arguments: Sequence[str],
        environment: dict[str, str],
        stderr: Path,
        stdout: Path = Path(os.devnull),
    ) -> Fork:
        """Start `python -m` arguments on this process's cores; stderr and stdout go to files."""
        files = {"stdout": str(stdout), "stderr": str(stderr)}
        cores = sorted(os.sched_getaffinity(0))
        request = {"arguments": arguments, "environment": environment, "cores": cores, **files}
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        answers = self._process.stdout.fileno()
        return Fork(read_number(answers), answers)


def read_number(file: int) -> int:
    """Return the next number that was answered."""
    return int.from_bytes(os.read(file, 4), sys.byteorder)
