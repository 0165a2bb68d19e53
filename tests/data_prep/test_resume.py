"""Builds that were killed or stopped go on behind what was committed; pictures left out."""

import errno
import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from data_prep import DataError, lmdb_writer
from data_prep.dataset import Split
from data_prep.lmdb_reader import count, iterate, open_rows
from data_prep.lmdb_writer import write_lmdb
from data_prep.picture import fit

pytestmark = pytest.mark.slow

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture
def small_commits(monkeypatch):
    """Commit every 20 or so of the fixtures' pictures at 16 x 16 x 3."""
    monkeypatch.setattr(lmdb_writer, "CHUNK_BYTES", 5 * 16 * 16 * 3)
    monkeypatch.setattr(lmdb_writer, "COMMIT_BYTES", 20 * 16 * 16 * 3)


def dying_after(split, reads):
    """Return the split with a reader that fails, as a killed process ends, after some reads.

    And their number, a value that the writer's processes share.
    """
    seen = multiprocessing.Value("i")

    def read(row):
        with seen.get_lock():
            if seen.value >= reads:
                raise InterruptedError
            seen.value += 1
        return split.read(row)

    return Split(split.keys, split.labels, read, split.origin), seen


@pytest.mark.parametrize("encoding", ["raw", "png", "jpeg"])
def test_an_interrupted_lmdb_is_continued_and_equal(tmp_path, split, small_commits, encoding):
    pictures = split(203)
    whole = write_lmdb(tmp_path / "whole", pictures, 16, 3, encoding, seed=1)
    for reads in (70, 60, 50):  # of each, some are committed
        before = count(tmp_path / "lmdb")
        dying, _ = dying_after(pictures, reads)
        with pytest.raises(InterruptedError):
            write_lmdb(tmp_path / "lmdb", dying, 16, 3, encoding, seed=1)
        assert before < count(tmp_path / "lmdb") < 203
    there = count(tmp_path / "lmdb")
    last, seen = dying_after(pictures, 203)
    assert write_lmdb(tmp_path / "lmdb", last, 16, 3, encoding, seed=1) == whole
    assert seen.value == 203 - there  # none of those that were committed
    assert count(tmp_path / "lmdb") == 203
    assert write_lmdb(tmp_path / "lmdb", dying_after(pictures, 0)[0], 16, 3, encoding, 1) == whole


def interrupted(path, split):
    """Write part of an LMDB of the split's 203 pictures."""
    with pytest.raises(InterruptedError):
        write_lmdb(path, dying_after(split(203), 90)[0], 16, 3, "raw", seed=1)
    assert 0 < count(path) < 203


def test_what_was_written_before_the_machine_went_down_is_not_trusted(
    tmp_path, split, small_commits, monkeypatch, capsys
):
    path, boot = tmp_path / "lmdb", tmp_path / "boot_id"
    interrupted(path, split)
    boot.write_text("another boot\n")
    monkeypatch.setattr(lmdb_writer, "BOOT", boot)
    pictures, seen = dying_after(split(203), 203)
    digest = write_lmdb(path, pictures, 16, 3, "raw", seed=1)
    assert (
        f"{path}: not all that was written reached the disk; starting anew"
        in capsys.readouterr().out
    )
    assert seen.value == 203
    assert digest == write_lmdb(tmp_path / "whole", split(203), 16, 3, "raw", seed=1)
    boot.write_text("a third one\n")  # all of it is on disk by now
    assert write_lmdb(path, dying_after(split(203), 0)[0], 16, 3, "raw", seed=1) == digest


def test_what_a_failing_disk_took_is_not_trusted(
    tmp_path, split, small_commits, monkeypatch, capsys
):
    path, calls = tmp_path / "lmdb", []

    def fdatasync(file):
        calls.append(file)
        if len(calls) > 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", fdatasync)
        with pytest.raises(OSError, match="Input/output error"):
            write_lmdb(path, split(203), 16, 3, "raw", seed=1)
    assert count(path) >= 40
    digest = write_lmdb(path, split(203), 16, 3, "raw", seed=1)
    assert "reached the disk; starting anew" in capsys.readouterr().out
    assert digest == write_lmdb(tmp_path / "whole", split(203), 16, 3, "raw", seed=1)


def unreadable(split, rows):
    """Return the split with some rows' pictures empty."""
    bad = set(rows)
    return Split(
        split.keys,
        split.labels,
        lambda row: b"" if row in bad else split.read(row),
        split.origin,
    )


def test_left_out_pictures_and_an_interruption(tmp_path, split, small_commits, capfd):
    order = lmdb_writer.shuffled_rows(203, 1)
    bad = [*order[15:25], *order[38:41], order[202]]  # two whole chunks, and parts of others
    pictures = unreadable(split(203), bad)
    whole = write_lmdb(tmp_path / "whole", pictures, 16, 3, "raw", seed=1, skip=True)
    assert capfd.readouterr().err.count("left out: test pictures/train/") == 14
    with pytest.raises(InterruptedError):
        dying, _ = dying_after(pictures, 90)
        write_lmdb(tmp_path / "lmdb", dying, 16, 3, "raw", seed=1, skip=True)
    assert 0 < count(tmp_path / "lmdb") < 189
    assert write_lmdb(tmp_path / "lmdb", pictures, 16, 3, "raw", seed=1, skip=True) == whole
    kept = [row for row in range(203) if row not in bad]
    with open_rows(tmp_path / "lmdb") as (keys, read):
        assert keys == [pictures.keys[row] for row in kept]
        np.testing.assert_array_equal(read(range(189))[1], pictures.labels[kept])
    assert sorted(row for row, *_ in iterate(tmp_path / "lmdb")) == kept
    with pytest.raises(DataError, match="is empty; replace it"):
        write_lmdb(tmp_path / "strict", pictures, 16, 3, "raw", seed=1)


def test_what_stopped_at_a_bad_picture_goes_on_without_it(tmp_path, split, small_commits):
    bad = lmdb_writer.shuffled_rows(203, 1)[101]
    pictures = unreadable(split(203), [bad])
    with pytest.raises(DataError, match=f"train/{bad:08d} is empty; replace it or remove it"):
        write_lmdb(tmp_path / "lmdb", pictures, 16, 3, "raw", seed=1)
    assert 20 <= count(tmp_path / "lmdb") <= 100
    digest = write_lmdb(tmp_path / "lmdb", pictures, 16, 3, "raw", seed=1, skip=True)
    assert digest == write_lmdb(tmp_path / "whole", pictures, 16, 3, "raw", seed=1, skip=True)


@pytest.mark.parametrize("place", [7, 39])  # within a chunk, and a chunk's last
def test_what_was_left_out_is_looked_at_again(tmp_path, split, small_commits, place, capfd):
    bad = lmdb_writer.shuffled_rows(203, 1)[place]
    pictures = unreadable(split(203), [bad])
    with pytest.raises(InterruptedError):
        dying, _ = dying_after(pictures, 90)
        write_lmdb(tmp_path / "lmdb", dying, 16, 3, "raw", seed=1, skip=True)
    there = count(tmp_path / "lmdb")
    assert place <= there < 203
    with pytest.raises(
        DataError, match=rf"train/{bad:08d} is empty; .*\(SKIP=1 of make, --skip of"
    ):
        write_lmdb(tmp_path / "lmdb", pictures, 16, 3, "raw", seed=1)
    assert count(tmp_path / "lmdb") == there
    digest = write_lmdb(tmp_path / "lmdb", split(203), 16, 3, "raw", seed=1)
    assert "can be read now; starting anew" in capfd.readouterr().out
    assert digest == write_lmdb(tmp_path / "whole", split(203), 16, 3, "raw", seed=1)
    assert count(tmp_path / "lmdb") == 203


def test_records_of_another_split_are_never_continued(tmp_path, split):
    write_lmdb(tmp_path / "lmdb", split(20), 16, 3, "raw", seed=1)
    with pytest.raises(DataError, match="holds records of another data set; remove"):
        write_lmdb(tmp_path / "lmdb", split(20), 16, 3, "raw", seed=2)


def kill_when(process, reached):
    """Kill a build with SIGKILL as soon as reached() holds."""
    while not reached():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def holds_more_than(records, folder):
    """Whether a build that is still writing has committed more than so many records to an LMDB."""
    try:
        return (folder / "data.mdb").exists() and count(folder) > records
    except DataError:  # its map grew between being opened and being read
        return False


def test_killed_three_times_it_equals_an_undisturbed_build(start, prepare, tmp_path):
    folder = tmp_path / "data/digits/128x3"
    assert prepare("digits", side=128).returncode == 0
    manifest = json.loads((folder / "manifest.json").read_text())
    folder.rename(tmp_path / "undisturbed")
    train, test = (folder.parent / f".128x3.partial/{split}_lmdb" for split in ("train", "test"))

    kill_when(start(), (train / "data.mdb").exists)
    kill_when(start(), lambda: holds_more_than(600, train))
    there = count(train)
    kill_when(start(), (test / "data.mdb").exists)
    assert count(train) == 1442
    assert not folder.exists()

    last = prepare("digits", side=128)
    assert last.returncode == 0, last.stderr
    assert 600 < there < 1442
    assert f"{train}: 1442 of 1442 pictures are there; going on" in last.stdout
    assert json.loads((folder / "manifest.json").read_text()) == manifest
    assert [path.name for path in folder.parent.iterdir()] == ["128x3"]
    assert (folder / "mean.binaryproto").read_bytes() == (
        tmp_path / "undisturbed/mean.binaryproto"
    ).read_bytes()


def test_other_options_start_anew(start, prepare, tmp_path):
    folder = tmp_path / "data/digits/128x3"
    train = folder.parent / ".128x3.partial/train_lmdb"
    kill_when(start(), lambda: holds_more_than(600, train))
    other = prepare("digits", "--encoding", "png", side=128)
    assert other.returncode == 0, other.stderr
    assert "is of another build (encoding): starting anew" in other.stdout
    assert json.loads((folder / "manifest.json").read_text())["encoding"] == "png"


def test_what_says_whose_an_unfinished_build_is_may_be_damaged(prepare, tmp_path):
    partial = tmp_path / "data/digits/.28x1.partial"
    partial.mkdir(parents=True)
    (partial / "build.json").write_text("[]")
    made = prepare("digits", side=28)
    assert made.returncode == 0, made.stderr


@pytest.mark.parametrize("options", [[], ["--encoding", "png"]])
def test_a_damaged_unfinished_build_starts_anew(start, prepare, tmp_path, options):
    partial = tmp_path / "data/digits/.128x3.partial"
    file = partial / "train_lmdb/data.mdb"
    kill_when(start(), lambda: holds_more_than(600, file.parent))
    with open(file, "r+b") as database:
        database.write(b"x" * 8192)
    again = prepare("digits", *options, side=128)
    assert again.returncode == 0, again.stderr
    assert f"{partial} is damaged: starting anew" in again.stdout
    assert "1442 + 355 pictures" in again.stdout


def test_unreadable_pictures_are_left_out_when_asked(prepare, refused, own_pictures, tmp_path):
    (own_pictures / "train/cat/1.png").write_bytes(b"")
    (own_pictures / "test/dog/0.png").write_text("GIF89a")
    assert "is empty; replace it or remove it" in refused(
        prepare("folder", "--images", own_pictures)
    )
    made = prepare("folder", "--images", own_pictures, "--skip")
    assert made.returncode == 0, made.stderr
    assert "7 + 3 pictures" in made.stdout
    assert "; 2 unreadable ones were left out" in made.stdout
    assert made.stderr.count("left out: ") == 2
    manifest = json.loads((tmp_path / "data/folder-pets/12x3/manifest.json").read_text())
    assert manifest["counts"] == {"train": 7, "test": 3}
    assert manifest["left_out"] == {"train": ["train/cat/1.png"], "test": ["test/dog/0.png"]}
    again = prepare("folder", "--images", own_pictures)
    assert again.stdout.endswith("12x3 is ready; 2 unreadable ones were left out (manifest.json nam"
                                 "es them)\n")  # fmt: skip


def test_a_build_begun_with_skip_and_ended_without(prepare, refused, own_pictures, tmp_path):
    bad = own_pictures / "train/cat/1.png"
    whole = {path: path.read_bytes() for path in [bad, *(own_pictures / "test/dog").iterdir()]}

    def write(path, content):
        """Size and time of change, by which a build knows its pictures, stay the same."""
        time_of_change = path.stat().st_mtime_ns
        path.write_bytes(content)
        os.utime(path, ns=(time_of_change, time_of_change))

    for path, content in whole.items():
        write(path, bytes(len(content)))
    stopped = prepare("folder", "--images", own_pictures, "--skip")
    assert "(dog) has no test pictures" in stopped.stderr  # both LMDBs are there
    assert f"{bad} cannot be decoded" in refused(prepare("folder", "--images", own_pictures))
    for path, content in whole.items():
        write(path, content)
    made = prepare("folder", "--images", own_pictures)
    assert made.returncode == 0, made.stderr
    assert made.stdout.count("can be read now; starting anew") == 2
    data = tmp_path / "data/folder-pets/12x3"
    manifest = json.loads((data / "manifest.json").read_text())
    assert manifest["counts"] == {"train": 8, "test": 4}
    assert manifest["left_out"] == {"train": [], "test": []}
    assert [count(data / f"{split}_lmdb") for split in ("train", "test")] == [8, 4]


def test_a_class_that_is_left_out_whole_is_refused(prepare, own_pictures):
    for path in (own_pictures / "test/dog").iterdir():
        path.write_bytes(b"")
    message = prepare("folder", "--images", own_pictures, "--skip").stderr
    assert message.endswith(
        "class 1 (dog) has no test pictures; add some, or remove the class and number the labels "
        "without gaps\n"
    )


def test_a_listed_picture_that_is_missing(prepare, refused, own_pictures):
    for split in ("train", "test"):
        paths = sorted((own_pictures / split).rglob("*.png"))
        lines = [f"{path.relative_to(own_pictures)} {int('dog' in str(path))}\n" for path in paths]
        (own_pictures / f"{split}.txt").write_text("".join(lines))
    (own_pictures / "train/cat/1.png").unlink()
    message = refused(prepare("folder", "--images", own_pictures))
    assert "train/cat/1.png: No such file or directory; correct the list or the file" in message
    made = prepare("folder", "--images", own_pictures, "--skip")
    assert made.returncode == 0, made.stderr
    assert "7 + 4 pictures" in made.stdout


def test_pictures_keep_their_memory_until_they_are_on_disk(
    tmp_path, split, small_commits, monkeypatch
):
    """A slow disk and many pictures left out: chunks that hold little, and wait for long."""
    pictures = unreadable(split(603), [row for row in range(603) if row % 5])
    put = lmdb_writer._put

    def slow(transaction, pairs):
        time.sleep(0.01)
        put(transaction, pairs)

    monkeypatch.setattr(lmdb_writer, "_put", slow)
    write_lmdb(tmp_path / "lmdb", pictures, 16, 3, "raw", seed=1, skip=True)
    records = list(iterate(tmp_path / "lmdb"))
    assert len(records) == 121
    for row, _, _, pixels in records:
        assert np.array_equal(pixels, fit(pictures.read(row), 16, 3).transpose(2, 0, 1))
