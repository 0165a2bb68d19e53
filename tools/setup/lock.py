"""Write requirements.lock and requirements-cuda.lock: pins with the SHA-256 of their files.

    .venv/bin/python -m tools.setup.lock

pip says which files it would take on Debian 12 (glibc 2.36) with CPython 3.11, on x86_64 and on
aarch64 (NVIDIA's are for x86_64 alone); it downloads what the index has no metadata of, and
installs nothing.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from eval.files import write_atomically
from tools.run.failure import Failure, carry_out
from tools.run.job import REPO

GLIBC = range(36, 16, -1)  # manylinux_2_36 down to manylinux_2_17
MADE = "made by `.venv/bin/python -m tools.setup.lock`, and what"
LOCKS = {  # the file with the pins: machines, and the head of its lock
    "requirements.txt": (
        ("x86_64", "aarch64"),
        "# The pins of requirements.txt with the SHA-256 of the wheels for CPython 3.11, x86_64 and"
        f"\n# aarch64; {MADE} make_venv.sh installs.\n",
    ),
    "requirements-cuda.txt": (
        ("x86_64",),
        "# The pins of requirements-cuda.txt with the SHA-256 of the wheels for x86_64;\n"
        f"# {MADE} install_caffe.sh installs.\n",
    ),
}


def main() -> None:
    """Write both locks."""
    for name in LOCKS:
        write_lock(name)


def write_lock(pins: str) -> None:
    """Ask pip for each machine about the pins of a file, and write their lock beside it."""
    machines, head = LOCKS[pins]
    found: dict[str, set[str]] = {}
    for machine in machines:
        for name, digest in chosen(machine, pins):
            found.setdefault(name, set()).add(digest)
    entries = [
        f"{name} \\\n" + " \\\n".join(f"    --hash=sha256:{each}" for each in sorted(digests))
        for name, digests in sorted(found.items())
    ]
    path = REPO / pins.replace(".txt", ".lock")
    with write_atomically(path) as partial:
        partial.write_text(head + "\n".join(entries) + "\n")
    print(f"{len(found)} packages in {path}")


def chosen(machine: str, pins: str) -> list[tuple[str, str]]:
    """Return (name==version, SHA-256) of each file that pip takes on a kind of machine."""
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in GLIBC]
    platforms += [f"manylinux2014_{machine}", f"linux_{machine}"]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        command = [
            *(sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"),
            *("--dry-run", "--ignore-installed", "--no-deps", "--report", str(report)),
            *("--target", folder, "--only-binary", ":all:"),
            *("--python-version", "3.11", "--implementation", "cp"),
            *(word for each in platforms for word in ("--platform", each)),
            *("--requirement", str(REPO / pins)),
        ]
        if subprocess.run(command).returncode:
            raise Failure(f"pip does not find every pin for {machine}; its words are above")
        installs = json.loads(report.read_text())["install"]
    return [
        (
            f"{each['metadata']['name'].lower().replace('_', '-')}=={each['metadata']['version']}",
            each["download_info"]["archive_info"]["hashes"]["sha256"],
        )
        for each in installs
    ]


if __name__ == "__main__":
    carry_out(main)
