import subprocess

import pytest

from eval.files import write_atomically


def test_whole_file_gets_its_name(tmp_path):
    path = tmp_path / "figures.json"
    path.write_text("old")
    with write_atomically(path) as partial:
        partial.write_text("new")
        assert partial.parent == tmp_path
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "figures.json"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), write_atomically(path) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_goes_and_a_living_one_s_stays(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    left = tmp_path / f".codes.h5.partial-{ended.pid}"
    other, living = tmp_path / f".features.h5.partial-{ended.pid}", tmp_path / ".codes.h5.partial-1"
    for path in (left, other, living):
        path.write_bytes(b"half")
    with write_atomically(tmp_path / "codes.h5") as partial:
        partial.write_bytes(b"whole")
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "codes.h5", other, living])
