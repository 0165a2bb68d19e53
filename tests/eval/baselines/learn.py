"""What `make baselines` leaves in a run, for tests."""

import pytest

from eval.baselines.__main__ import main as baselines

SMALL = {  # of the slow methods, so that a test takes a part of a second
    "bre.SWEEPS": 3,
    "fasthash.TREES": 10,
    "ksh.ANCHORS": 60,
    "mlh.EPOCHS": 4,
    "mlh.STEPS": 60,
    "mlh.VALIDATION_EPOCHS": 1,
}


def make_small(patch):
    """Let every method learn on little, while `patch` holds."""
    for name, value in SMALL.items():
        patch.setattr(f"eval.baselines.{name}", value)


def learn_baselines(run, *bits):
    """Measure the baselines on a run's features, as the command does, each on little."""
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        baselines([str(run), "--bits", *map(str, bits)])
