"""One's own pictures by their contents: what a repeated call finds, and what it costs."""

import json
import os
import time

import cv2
import numpy as np
import pytest

from data_prep import folder
from data_prep.lmdb_writer import write_lmdb
from data_prep.manifest import as_text, check_pictures


@pytest.fixture
def made(prepare, own_pictures, tmp_path):
    """A data folder of own pictures; its manifest's path."""
    assert prepare("folder", "--images", own_pictures).returncode == 0
    return tmp_path / "data/folder-pets/12x3/manifest.json"


def read(path):
    return json.loads(path.read_text())


def edit(path):
    """Replace a picture by another one of the same size in bytes, at the same time of change."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[-20] ^= 255
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert path.stat().st_size == status.st_size


def test_an_edit_of_the_same_size_is_found(prepare, refused, own_pictures, made):
    edit(own_pictures / "train/cat/1.png")
    said = refused(prepare("folder", "--images", own_pictures))
    assert "folder-pets/12x3 was made with sources pets (SHA-256" in said


def test_where_only_times_differ_the_signature_is_renewed(prepare, own_pictures, made):
    before = read(made)
    os.utime(own_pictures / "train/cat/1.png", (1, 1))
    again = prepare("folder", "--images", own_pictures)
    assert again.returncode == 0, again.stderr
    assert "times of change are others; reading their contents" in again.stdout
    after = read(made)
    assert after.pop("signature") != before.pop("signature")
    assert after == before
    assert "reading" not in prepare("folder", "--images", own_pictures).stdout
    assert [path.name for path in made.parent.glob(".*")] == []


def test_a_build_that_went_on_has_the_same_contents(prepare, own_pictures, made, tmp_path):
    """What was committed before is not decoded again, but counts with its content."""
    listed = folder.listing(own_pictures, False)
    assert read(made)["sources"] == listed.contents(None)
    known = {split: np.zeros((len(keys), 32), np.uint8) for split, keys in listed.keys.items()}
    for split in known:
        folder.reader(listed.root, listed.keys[split], known[split])(1)
    assert listed.contents(None, known) == listed.contents(None)


def test_what_the_writer_has_read_is_not_read_again(own_pictures, tmp_path):
    listed = folder.listing(own_pictures, False)
    expected = listed.contents(None)
    written = folder.dataset(listed)
    for name in folder.SPLITS:
        write_lmdb(tmp_path / name, getattr(written, name), 12, 3, "raw", 42)
    for path in own_pictures.rglob("*.png"):
        path.unlink()
    assert written.contents(None) == expected


def test_of_a_subset_only_the_kept_ones_are_read(prepare, refused, own_pictures, tmp_path):
    assert prepare("folder", "--images", own_pictures, "--subset", 3).returncode == 0
    manifest = read(tmp_path / "data/folder-pets/12x3-3/manifest.json")
    listed = folder.listing(own_pictures, False)
    kept = [listed.keys["train"][row] for row in (0, 2, 5)]
    edit(own_pictures / next(key for key in listed.keys["train"] if key not in kept))
    assert prepare("folder", "--images", own_pictures, "--subset", 3).returncode == 0
    edit(own_pictures / kept[1])
    assert "was made with sources" in refused(
        prepare("folder", "--images", own_pictures, "--subset", 3)
    )
    assert sum(manifest["labels"]["train"]) == 3


def test_an_older_manifest_knows_sizes_and_stays_ready(
    prepare, refused, own_pictures, made, smooth
):
    manifest = read(made)
    for name in ("signature", "labels"):
        del manifest[name]
    manifest["sources"] = folder.listing(own_pictures, False).sources
    assert manifest["sources"][0]["sha256_of"] == "split, path, label and size of each picture"
    made.write_text(as_text(manifest))
    os.utime(own_pictures / "train/cat/1.png", (1, 1))
    again = prepare("folder", "--images", own_pictures)
    assert again.returncode == 0 and "reading" not in again.stdout
    assert read(made) == manifest
    cv2.imwrite(str(own_pictures / "train/cat/1.png"), smooth(99, 50, 50))
    assert "was made with sources pets" in refused(prepare("folder", "--images", own_pictures))


def test_a_repeated_call_is_quick(tmp_path):
    """Of 4,000 pictures; five times as many take well under a second."""
    for split, count in (("train", 3_600), ("test", 400)):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            for row in range(count // 2):
                (tmp_path / split / name / f"{row}.png").touch()

    def look():
        listed = folder.listing(tmp_path, False)
        sizes = listed.signature["sizes_sha256"]
        manifest = {"signature": listed.signature, "subset": None}
        manifest["sources"] = [{"file": tmp_path.name, "sha256": sizes}]
        check_pictures(tmp_path, manifest, listed.sources, listed.signature, listed.contents)
        return listed

    listed = look()
    assert sum(map(len, listed.keys.values())) == 4_000
    began = time.process_time()
    look()
    assert time.process_time() - began < 0.3
