"""requirements.lock has the pins of requirements.txt, and a hash for each."""

import re
from pathlib import Path

REPO = Path(__file__).resolve().parents[3]


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_lock_has_the_pins_and_their_hashes():
    lines = (REPO / "requirements.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and line[0] != "#")
    entries = re.findall(
        r"^([\w.-]+)==(\S+)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)$",
        (REPO / "requirements.lock").read_text(),
        re.MULTILINE,
    )
    assert {name: version for name, version, _ in entries} == {
        normal(name): version for name, version in pins.items()
    }
    assert "--require-hashes" in (REPO / "tools/setup/make_venv.sh").read_text()
