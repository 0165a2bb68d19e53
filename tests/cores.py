"""Which cores a test may use: each of several workers has its own."""

import os
from contextlib import contextmanager

CORES = os.sched_getaffinity(0)


def take_share():
    """Leave this worker its share of the cores: threads that share one wait for one another."""
    name, count = (os.environ.get(f"PYTEST_XDIST_WORKER{end}") for end in ("", "_COUNT"))
    if name and (share := sorted(CORES)[int(name.removeprefix("gw")) :: int(count)]):
        os.sched_setaffinity(0, share)


@contextmanager
def on_all_cores():
    """Give what is started in the block all cores of the machine."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, CORES)
    yield
    os.sched_setaffinity(0, own)
