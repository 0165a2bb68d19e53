"""Bad inputs end with exit code 1 and one sentence that names what is wrong, and never hang.

`make test` has a seeded sample; `make faults` has the whole table (pytest --all-bad-inputs).
"""

import importlib
import os
import random
import re
import shutil
import signal
import stat
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.bad_inputs import of_search, rows
from tools.run.failure import carry_out

REPO = Path(__file__).resolve().parent.parent
SEED, SAMPLE, LONGEST = 0, 100, 30
BY_MAKE = {"tools.codes.pictures": (3, 20), "": (12, 40)}  # rows in make test, in make faults
SEARCHES = (3, 25)
TARGETS = {  # whose command is the first that speaks
    "tools.train": "train",
    "tools.data": "data",
    "tools.compare": "compare",
    "tools.codes.pictures": "codes",
}


def pytest_generate_tests(metafunc):
    table, whole = rows(), metafunc.config.getoption("--all-bad-inputs")
    chosen = random.Random(SEED)
    found = []
    if "row" in metafunc.fixturenames:
        found = table if whole else chosen.sample(table, SAMPLE)
    elif "made" in metafunc.fixturenames:
        of_make = [row for row in table if row.command in TARGETS]
        for command, counts in BY_MAKE.items():
            found += chosen.sample(
                [row for row in of_make if command in ("", row.command)], counts[whole]
            )
    elif "searched" in metafunc.fixturenames:
        found = chosen.sample(of_search(), SEARCHES[whole])
    name = next((name for name in ("row", "made", "searched") if name in metafunc.fixturenames), "")
    if name:
        metafunc.parametrize(name, found, ids=range(len(found)))


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


def make(target, given):
    """Run make without its set-up; return the exit code and what was said."""
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
    return min(done.returncode, 1), said


@pytest.mark.slow
def test_make_says_the_same(made, place):
    given = given_of(made, place)
    check(made, given, *make(TARGETS[made.command], given))


@pytest.fixture(scope="session")
def with_index(trained_run, options, command, folder_of, tmp_path_factory):
    """The variables of a trained run with an index, which no test changes."""
    runs = tmp_path_factory.mktemp("searched")
    shutil.copytree(folder_of(trained_run), runs / "run")
    job = trained_run | {"--runs": runs}
    for module in ("tools.codes", "tools.search.indexing"):
        done = command(module, *options(job))
        assert done.returncode == 0, done.stderr
    return {name[2:].replace("-", "_").upper(): str(value) for name, value in job.items()}


@pytest.mark.slow
def test_make_search_says_the_same(searched, with_index, place):
    cv2.imwrite(f"{place}/query.png", np.zeros((28, 28), np.uint8))
    given = with_index | given_of(searched, place) | with_index
    check(searched, given, *make("search", given))
