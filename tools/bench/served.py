"""A run's server, started as `make serve` starts it, for what measures it or attacks it."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from tools.run.failure import Failure
from tools.run.job import REPO


@contextmanager
def running_server(
    arguments: list[str], log: IO | None = None
) -> Iterator[tuple[int, subprocess.Popen]]:
    """Yield a server's port and process; end it by SIGTERM.

    arguments: of the job. log: gets the server's stderr. Raise Failure where it does not start, or
    ends with another exit code than 0.
    """
    server = subprocess.Popen(
        [sys.executable, "-m", "tools.serve", *arguments, "--host", "127.0.0.1", "--port", "0"],
        cwd=REPO,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    )
    try:
        lines = iter(server.stdout.readline, "")
        port = next((int(m[1]) for m in (re.search(r":(\d+),", line) for line in lines) if m), None)
        if port is None:
            raise Failure("the server did not start; what it said is above")
        yield port, server
    finally:
        server.terminate()
        ended = server.wait()
    if ended:
        raise Failure(f"the server ended with {ended}")
