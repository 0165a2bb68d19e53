"""What the data_prep tests share: small pictures, own-picture folders, the shared archives."""

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_prep.__main__ import main
from data_prep.dataset import Split

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real data sets beside the repository; the test is skipped without it."""
    folder = REPO.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no shared data beside the repository")
    return folder


@pytest.fixture
def smooth():
    """Return a smooth seeded picture: smooth(seed, height, width, channels) -> uint8."""

    def make(seed, height=24, width=32, channels=3):
        shape = (5, 5, 3) if channels == 3 else (5, 5)
        noise = np.random.RandomState(seed).randint(0, 256, shape).astype(np.uint8)
        return cv2.resize(noise, (width, height))

    return make


@pytest.fixture
def split(smooth):
    """Return a split of arrays: split(count, channels, classes)."""

    def make(count, channels=3, classes=3):
        pictures = [smooth(row, channels=channels) for row in range(count)]
        labels = (np.arange(count) % classes).astype(np.int32)
        keys = [f"train/{row:08d}" for row in range(count)]
        return Split(keys, labels, pictures.__getitem__, "test pictures")

    return make


@pytest.fixture
def own_pictures(tmp_path, smooth):
    """A folder of own pictures: cat and dog, 4 training and 2 test pictures each."""
    images = tmp_path / "pets"
    seed = 0
    for name, count in (("train", 4), ("test", 2)):
        for animal in ("cat", "dog"):
            (images / name / animal).mkdir(parents=True)
            for number in range(count):
                seed += 1
                path = images / name / animal / f"{number}.png"
                cv2.imwrite(str(path), smooth(seed))
    return images


@pytest.fixture
def arguments(tmp_path):
    """Return the arguments of data_prep for a data set with its root in tmp_path/data."""

    def make(dataset, *more, side=12, channels=3, mean="train"):
        given = (dataset, "--root", tmp_path / "data", "--side", side, "--channels", channels)
        return [str(each) for each in (*given, "--mean", mean, *more)]

    return make


@pytest.fixture
def prepare(arguments, monkeypatch):
    """Run data_prep's main in this process, which spares the imports; return it as if finished."""

    def run(*dataset, **shape):
        monkeypatch.setattr(sys, "argv", ["data_prep", *arguments(*dataset, **shape)])
        with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as errors:
            code = main()
        return subprocess.CompletedProcess(sys.argv, code, out.getvalue(), errors.getvalue())

    return run


@pytest.fixture
def prepare_process(arguments, command):
    """Run data_prep as a command of its own; return the finished process."""

    def run(*dataset, env=os.environ, **shape):
        return command("data_prep", *arguments(*dataset, **shape), env=env)

    return run


@pytest.fixture
def start(arguments):
    """Start a build of the digits, 88 MB in three commits and more; return the running process."""

    def run():
        return subprocess.Popen(
            [sys.executable, "-m", "data_prep", *arguments("digits", side=128)],
            cwd=REPO,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return run


@pytest.fixture
def refused():
    """Check that a process ended with one sentence and no traceback; return the sentence."""

    def check(process):
        assert process.returncode == 1, process.stderr
        assert process.stderr.startswith("data_prep: ")
        assert process.stderr.count("\n") == 1, process.stderr
        return process.stderr

    return check
