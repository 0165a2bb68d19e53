"""What a command says where its own words cannot be written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.run.failure import Failure, writing

REPO = Path(__file__).resolve().parents[3]
COMMAND = [sys.executable, "-m", "tools.clean_run", "--run", "gone"]


def test_a_full_disk_behind_the_output_is_one_sentence():
    with open("/dev/full", "w") as full:
        done = subprocess.run(COMMAND, cwd=REPO, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == (
        "error: No space left on device; free some space, then run the command again\n"
    )


def test_a_reader_that_is_gone_is_no_failure_to_speak_of():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(COMMAND, cwd=REPO, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_an_error_without_a_number_is_said_in_its_own_words():
    """NumPy raises such, where a disk takes a part of an array."""
    said = "^12 requested and 0 written; mend that, or choose another"
    with pytest.raises(Failure, match=said), writing():
        raise OSError("12 requested and 0 written")
