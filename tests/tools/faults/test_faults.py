"""The fault campaign and the fuzzer, a handful of trials each."""

import os

import pytest

from tools.faults import fuzz
from tools.faults.stages import STAGES
from tools.faults.trial import compile_shim, judge

pytestmark = pytest.mark.slow


def test_one_trial_of_each_kind(command):
    done = command("tools.faults", "--quick")
    assert "data-folder" in done.stdout and "remove" in done.stdout
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_snapshot_that_the_disk_does_not_take_is_said(command, job, options, folder_of, tmp_path):
    """Caffe ends its process where it cannot write one, so that Python does."""
    snapshots = folder_of(job) / "snapshots"
    broken = {
        "LD_PRELOAD": str(compile_shim(tmp_path)),
        "SSDH_EIO_BELOW": str(snapshots),
        "SSDH_EIO_AFTER": "0",
    }
    done = command("tools.train", *options(job | {"--iters": 5}), env=os.environ | broken)
    assert done.returncode == 1
    assert f"error: {snapshots}/iter_5.caffemodel: Input/output error" in done.stderr, done.stderr
    assert not list(snapshots.glob("iter_*"))
    done = command("tools.train", *options(job | {"--iters": 5}))
    assert done.returncode == 0, done.stderr


def test_what_counts_as_wrong():
    assert not judge(0, "") and not judge(1, "error: a disk is full")
    assert judge(1, "error: Caffe's process died of SIGSEGV: ...")
    for code, said in ((None, ""), (1, "Traceback\nerror: x"), (1, "no"), (-11, "error: x")):
        assert judge(code, said)


def test_stages_have_names_of_their_own():
    assert len({stage.name for stage in STAGES}) == len(STAGES)


@pytest.mark.parametrize("target", ["list of pictures", "model.caffemodel"])
def test_some_damaged_files(command, target, tmp_path):
    done = command("tools.faults.fuzz", "--examples", 5, "--target", target, "--keep", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_damage_is_damage():
    content = bytes(range(100))
    for kind in ("flip", "cut", "insert", "zero", "end"):
        assert fuzz.damaged(content, [(kind, 0.5, b"\x01\x02")]) != content
    assert fuzz.damaged(b'{"a": 1}', [("value", 0.0, b"\x00")]) == b'{"a": null}'
