"""Skips are counted: with SSDH_SKIPS=checked, one that tests/allowed_skips.txt lacks is a failure.

tests/conftest.py takes these hooks over. Under pytest-xdist they do their work in the process that
collects the results of the others.
"""

import os
import re
from pathlib import Path

ALLOWED = Path(__file__).with_name("allowed_skips.txt")
refused = []  # (test, reason) of each skip that is not allowed


def allowed_reasons(text):
    """Patterns of reasons, one a line; lines that begin with # and blank ones are for people."""
    lines = (line.strip() for line in text.splitlines())
    return [re.compile(line) for line in lines if line and not line.startswith("#")]


def note(report):
    """Note a report's skip where no pattern allows its whole reason."""
    if os.environ.get("SSDH_SKIPS") != "checked" or not report.skipped:
        return
    if hasattr(report, "wasxfail") or not isinstance(report.longrepr, tuple):
        return
    reason = report.longrepr[2].removeprefix("Skipped: ")
    patterns = allowed_reasons(ALLOWED.read_text())
    if not any(pattern.fullmatch(reason) for pattern in patterns):
        refused.append((report.nodeid, reason))


def pytest_runtest_logreport(report):
    note(report)


def pytest_collectreport(report):
    note(report)


def pytest_sessionfinish(session):
    if refused and session.exitstatus == 0:
        session.exitstatus = 1


def pytest_terminal_summary(terminalreporter):
    if not refused:
        return
    terminalreporter.section(f"skips that {ALLOWED.name} does not allow")
    for test, reason in refused:
        terminalreporter.line(f"{test}: {reason}")
