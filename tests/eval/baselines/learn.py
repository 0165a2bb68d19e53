"""What `make baselines` leaves in a run, for tests."""

import pytest

from eval.baselines.__main__ import main as baselines


def learn_baselines(run, *bits):
    """Measure the baselines on a run's features, as the command does, KSH with few anchors."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eval.baselines.ksh.ANCHORS", 60)
        baselines([str(run), "--bits", *map(str, bits)])
