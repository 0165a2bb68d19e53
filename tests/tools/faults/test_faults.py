"""The fault campaign and the fuzzer, a handful of trials each."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tools.faults import fuzz
from tools.faults.forks import Forks
from tools.faults.stages import STAGES
from tools.faults.trial import (
    Room,
    breaking,
    compile_shim,
    in_session,
    judge,
    start,
    wait_for_session,
)

pytestmark = pytest.mark.slow


def test_one_trial_of_each_kind(command):
    done = command("tools.faults", "--quick")
    assert "data-folder" in done.stdout and "remove" in done.stdout
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_snapshot_that_the_disk_does_not_take_is_said(command, job, options, folder_of, tmp_path):
    """Caffe ends its process where it cannot write one, so that Python does."""
    snapshots = folder_of(job) / "snapshots"
    room = Room.new(tmp_path / "room", tmp_path, compile_shim(tmp_path))._replace(place=snapshots)
    broken = breaking(room, room.counter("writes", bytes(4)), 0)
    done = command("tools.train", *options(job | {"--iters": 5}), env=os.environ | broken)
    assert done.returncode == 1
    assert f"error: {snapshots}/iter_5.caffemodel: Input/output error" in done.stderr, done.stderr
    assert not list(snapshots.glob("iter_*"))
    done = command("tools.train", *options(job | {"--iters": 5}))
    assert done.returncode == 0, done.stderr


def test_features_that_the_disk_does_not_take_are_said_on_a_line_of_their_own(
    command, trained, options, folder_of, tmp_path
):
    """Behind the bar that shows how far their extraction has come."""
    data = shutil.copytree(trained["--data-root"], tmp_path / "data")
    room = Room.new(tmp_path / "room", tmp_path, compile_shim(tmp_path))._replace(place=data)
    broken = breaking(room, room.counter("writes", bytes(4)), 0)
    job = trained | {"--run": "head", "--head": 1, "--data-root": data}
    job["--weights"] = folder_of(trained) / "model.caffemodel"
    done = command("tools.train", *options(job), env=os.environ | broken)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if "error: " in line]
    assert line.startswith(f"error: {data}/digits/28x1/features-lenet-"), done.stderr
    assert "/train-0.h5: Input/output error" in line


def test_writes_fail_from_the_one_that_is_asked_for_in_all_processes_together(tmp_path):
    room = Room.new(tmp_path / "room", tmp_path, compile_shim(tmp_path))
    write = f"import os; f = os.open('{room.place}/x', os.O_WRONLY | os.O_CREAT); os.write(f, b'x')"
    environment = os.environ | breaking(room, room.counter("writes", bytes(4)), 2)
    codes = [
        subprocess.run(
            [sys.executable, "-c", write], env=environment, capture_output=True
        ).returncode
        for _ in range(4)
    ]
    assert codes == [0, 0, 1, 1]
    assert (room.scratch / "writes").read_bytes() == (4).to_bytes(4, sys.byteorder)


STOPPED = """
import sys
from pathlib import Path
from tools.faults.trial import Room, call
folder = Path(sys.argv[1])
print("begun", flush=True)
sleep = ("timeit", "-n1", "-r1", "-s", "import time", f"time.sleep({sys.argv[2]})")
print(call(sleep, Room.new(folder, folder, folder), 4, LD_PRELOAD=""), flush=True)
"""


def test_seconds_for_which_the_campaign_is_stopped_do_not_count(tmp_path):
    """Two campaigns at once: one whose command ends in time, and one whose command never would."""
    campaigns = []
    for sleeps, code in ((2, 0), (60, None)):
        (folder := tmp_path / str(sleeps)).mkdir()
        script = [sys.executable, "-c", STOPPED, folder, str(sleeps)]
        campaigns.append((subprocess.Popen(script, stdout=subprocess.PIPE, text=True), code))
    for campaign, _ in campaigns:
        campaign.stdout.readline()
    time.sleep(0.4)
    for sent, seconds in ((signal.SIGSTOP, 5), (signal.SIGCONT, 0)):
        for campaign, _ in campaigns:
            campaign.send_signal(sent)
        time.sleep(seconds)
    for campaign, code in campaigns:
        with campaign:
            assert campaign.stdout.read() == f"Ended(code={code}, said='', left=[])\n"


def test_a_forked_command_ends_as_one_of_its_own_would(tmp_path):
    commands = [
        ["tools.report", "--dataset", "nope"],
        ["eval"],
        ["timeit", "-n1", "-r1", "pass"],
        ["timeit", "-n1", "import os; os.kill(os.getpid(), 9)"],
        ["timeit", "-n1", "-r1", "import sys; sys.exit(str(sys.orig_argv))"],
    ]
    stderr = tmp_path / "stderr"
    with Forks(os.environ) as forks:
        for words in commands:
            ends = []
            for begin in (forks.start, start):
                process = begin(words, dict(os.environ), stderr)
                ends.append((process.wait(60), stderr.read_text(), process.pid))
                assert not in_session(process.pid)
            assert ends[0][:2] == ends[1][:2]
    assert not in_session(ends[0][2])


def test_a_process_that_outlives_its_session_is_found_and_ended():
    script = "sleep 60 & exec sleep 0"
    with subprocess.Popen(["sh", "-c", script], start_new_session=True) as command:
        pass
    (left,) = wait_for_session(command.pid, 0.2)
    assert not wait_for_session(command.pid) and not in_session(command.pid)
    assert left != command.pid


def test_what_counts_as_wrong():
    assert not judge(0, "") and not judge(1, "error: a disk is full")
    assert judge(1, "error: Caffe's process died of SIGSEGV: ...")
    for code, said in ((None, ""), (1, "Traceback\nerror: x"), (1, "no"), (-11, "error: x")):
        assert judge(code, said)


def test_stages_have_names_of_their_own():
    assert len({stage.name for stage in STAGES}) == len(STAGES)


def test_some_damaged_files(command, tmp_path):
    targets = ("list of pictures", "model.caffemodel")
    done = command("tools.faults.fuzz", "--examples", 5, "--keep", tmp_path, "--target", *targets)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(f"\n{target:20}" in done.stdout for target in targets)


def test_damage_is_damage():
    content = bytes(range(100))
    for kind in ("flip", "cut", "insert", "zero", "end"):
        assert fuzz.damaged(content, [(kind, 0.5, b"\x01\x02")]) != content
    assert fuzz.damaged(b'{"a": 1}', [("value", 0.0, b"\x00")]) == b'{"a": null}'
