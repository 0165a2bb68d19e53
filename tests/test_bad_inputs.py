"""Bad inputs end with exit code 1 and one sentence that names what is wrong, and never hang.

`make test` has a seeded sample; `make faults` has the whole table (pytest --all-bad-inputs).
"""

import importlib
import os
import random
import re
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from tests.bad_inputs import rows
from tools.run.failure import carry_out

REPO = Path(__file__).resolve().parent.parent
SEED, SAMPLE, BY_MAKE, LONGEST = 0, 100, 15, 30
TARGETS = {  # whose command is the first that speaks
    "tools.train": "train",
    "tools.data": "data",
    "tools.compare": "compare",
}


def pytest_generate_tests(metafunc):
    table = rows()
    chosen = random.Random(SEED)
    sample = chosen.sample(table, SAMPLE)
    by_make = chosen.sample([row for row in table if row.command in TARGETS], BY_MAKE)
    if "row" in metafunc.fixturenames:
        row = table if metafunc.config.getoption("--all-bad-inputs") else sample
        metafunc.parametrize("row", row, ids=range(len(row)))
    elif "made" in metafunc.fixturenames:
        metafunc.parametrize("made", by_make, ids=range(len(by_make)))


@pytest.fixture
def place(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "fifo")
    if os.geteuid() == 0:
        os.mknod(tmp_path / "device", stat.S_IFCHR | 0o666, os.makedev(1, 7))  # /dev/full
    else:
        (tmp_path / "device").symlink_to("/dev/full")
    return tmp_path


def given_of(row, place):
    values = {"DATASET": "digits", "DATA_ROOT": f"{place}/data", "RUNS": f"{place}/runs"}
    values |= row.others | {row.variable: row.value}
    return {name: value.replace("{tmp}", str(place)) for name, value in values.items()}


def check(row, given, code, said):
    assert code in (0, 1), said
    assert "Traceback" not in said and "usage:" not in said
    assert not re.search(r"Caffe's process (failed|died)", said)
    if code:
        assert len(re.findall(r"^error: ", said, re.MULTILINE)) == 1, said
    if row.wrong:
        assert code == 1
        value = given[row.variable]
        assert row.variable in said or value[:60] in said or repr(value)[1:60] in said
    assert not (REPO / "gone").exists()


def late(*_):
    raise AssertionError(f"it hangs, for {LONGEST} s")


def test_a_bad_value_is_one_sentence(row, place, monkeypatch, capfd):
    given = given_of(row, place)
    for name in [name for name in os.environ if name.startswith("SSDH_")]:
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(f"SSDH_{name}", value)
    monkeypatch.setattr("sys.argv", [row.command])
    module = (
        row.command if row.command.endswith(("data", "pictures")) else f"{row.command}.__main__"
    )
    main = importlib.import_module(module).main
    previous = signal.signal(signal.SIGALRM, late)
    signal.alarm(LONGEST)
    code, words = 0, ""
    try:
        carry_out(main)
    except SystemExit as ended:
        code, words = (1, ended.code) if isinstance(ended.code, str) else (ended.code or 0, "")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
    check(row, given, code, f"{capfd.readouterr().err}{words}")


@pytest.mark.slow
def test_make_says_the_same(made, place):
    given = given_of(made, place)
    target = TARGETS[made.command]
    there = ("venv", "caffe", *(["data"] if target == "train" else []))
    words = ["make", *(f"--old-file={each}" for each in there), target]
    words += map("=".join, given.items())
    done = subprocess.run(
        [os.fsencode(word) for word in words],
        cwd=REPO,
        capture_output=True,
        timeout=10 * LONGEST,
    )
    said = done.stderr.decode(errors="surrogateescape")
    said = "\n".join(line for line in said.split("\n") if not line.startswith("make: "))
    check(made, given, min(done.returncode, 1), said)
