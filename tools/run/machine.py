"""What run.json says of where a run was made: machine, commit, command."""

import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

from tools.run import device
from tools.run.job import REPO
from tools.run.variables import variables


def machine() -> dict:
    """Return what run.json says of the machine."""
    model = platform.processor()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": model,
        "cores": device.threads(),
        "memory_gib": round(memory / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def git_commit() -> str:
    """Return the repository's commit, "+changes" behind it where files differ.

    An image has no repository: there it is what the build said, SSDH_COMMIT, or "unknown".
    """
    git = ["git", "-C", str(REPO)]
    head = [*git, "rev-parse", "HEAD"]
    try:
        commit = subprocess.run(head, capture_output=True, text=True, check=True).stdout.strip()
        dirty = subprocess.run([*git, "diff", "--quiet", "HEAD"], capture_output=True).returncode
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("SSDH_COMMIT", "unknown")
    return commit + ("+changes" if dirty else "")


def command() -> str:
    """Return the command line that made this run, as a shell takes it."""
    if "SSDH_COMMAND" not in os.environ:
        return shlex.join(sys.orig_argv)
    given = [
        f"{name}={os.environ[f'SSDH_{name}']}"
        for name in variables()
        if f"SSDH_{name}" in os.environ
    ]
    return shlex.join([*os.environ["SSDH_COMMAND"].split(), *given])
