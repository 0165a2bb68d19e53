"""The counting of skips: what is not on the list ends a session with exit code 1."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.skips import ALLOWED, allowed_reasons

REPO = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.slow

TESTS = """
import pytest

def test_that_runs(): pass

@pytest.mark.xfail
def test_that_fails(): assert False

@pytest.mark.skipif(True, reason="there is a GPU")
def test_of_a_gpu(): pass

def test_of_something_else(): pytest.skip({reason!r})
"""


@pytest.fixture
def session(tmp_path):
    """Run a session whose last test skips for some reason; return the finished process."""

    def run(reason, *arguments, **variables):
        (tmp_path / "test_some.py").write_text(TESTS.format(reason=reason))
        (tmp_path / "pytest.ini").write_text("[pytest]\n")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.skips", *arguments, tmp_path]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
        environment |= {"PYTHONPATH": str(REPO), "SSDH_SKIPS": "", **variables}
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    return run


@pytest.mark.parametrize("arguments", [(), ("-n", "2")])
def test_a_skip_that_is_not_allowed_fails_the_session(session, arguments):
    done = session("no shared data beside the repository", *arguments, SSDH_SKIPS="checked")
    assert done.returncode == 1
    said = "test_some.py::test_of_something_else: no shared data beside the repository"
    assert done.stdout.count(said) == 1
    assert "skips that allowed_skips.txt does not allow" in done.stdout
    assert "test_of_a_gpu" not in done.stdout


def test_allowed_ones_pass_and_without_the_check_all(session):
    assert session("only root can mount a disk", SSDH_SKIPS="checked").returncode == 0
    done = session("no shared data beside the repository")
    assert done.returncode == 0 and "not allow" not in done.stdout


def test_the_list_allows_no_missing_data_and_ci_checks_it():
    reasons = allowed_reasons(ALLOWED.read_text())
    assert len(reasons) > 10
    for reason in ("no shared data beside the repository", "there is a GPU, or not", ""):
        assert not any(pattern.fullmatch(reason) for pattern in reasons)
    assert "SSDH_SKIPS=checked make test" in (REPO / ".ci/run").read_text()
