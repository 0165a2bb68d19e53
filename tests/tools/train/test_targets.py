"""METHOD=cnnh, cnnh_plus and dnnh on digits: codes to learn beside their pictures; every stage."""

import json
import shutil
import subprocess
import sys

import caffe
import cv2
import h5py
import numpy as np
import pytest

from data_prep.lmdb_reader import labels_of, open_rows
from tests.tools.run.jobs import make_job
from tools.run.failure import Failure
from tools.train import stage_one, targets

CLASSES = {"classes": ["cat", "dog", "owl"]}


@pytest.fixture(scope="module")
def run_of(data_root, tmp_path_factory, command, options, folder_of):
    """A function that gives (the options of a job, its folder, what was said) of a method's run.

    It is trained once, and has its codes and metrics.
    """
    runs, there = tmp_path_factory.mktemp("methods"), {}

    def trained(method):
        if method not in there:
            job = {
                "--dataset": "digits",
                "--net": "lenet",
                "--bits": 16,
                "--device": "cpu",
                "--data-root": data_root,
                "--runs": runs,
                "--run": method,
                "--method": method,
                "--iters": 300,
                "--batch": 32,
            }
            done = command("tools.train", *options(job))
            assert done.returncode == 0, done.stderr
            for words in (("tools.codes", *options(job)), ("eval", folder_of(job) / "codes.h5")):
                made = command(*words)
                assert made.returncode == 0, made.stderr
            there[method] = job, folder_of(job), done.stdout
        return there[method]

    return trained


@pytest.mark.slow
@pytest.mark.parametrize("method", ["cnnh", "cnnh_plus", "dnnh"])
def test_codes_are_learned_and_reported(run_of, method, command, options):
    job, run, _ = run_of(method)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["map"] > 0.8
    with h5py.File(run / "codes.h5") as file:
        bits = np.unpackbits(file["database/codes"][:], axis=1, count=16)
        assert bits.any(axis=0).all() and not bits.all(axis=0).any()
        assert ("probabilities" in file["query"]) == (method == "cnnh_plus")
    assert (metrics["accuracy"] is not None) == (method == "cnnh_plus")
    page = command("tools.report", *options(job))
    assert page.returncode == 0, page.stderr


@pytest.mark.slow
def test_a_batch_has_the_codes_of_its_pictures(run_of, data_root):
    """Twice through all pictures, whose number is no multiple of the batch's; and its loss."""
    _, run, said = run_of("cnnh")
    labels = labels_of(data_root / "digits" / "28x1" / "train_lmdb")
    *_, (codes, _) = stage_one.approximate_codes(labels, 16, 42)
    assert f"stage 1: {len(labels):,} codes from the labels" in said
    assert len(labels) % 32
    net, at = caffe.Net(str(run / "train_val.prototxt"), caffe.TRAIN), 0
    while at < 2 * len(labels):
        net.forward()
        rows = np.arange(at, at + 32) % len(labels)
        np.testing.assert_array_equal(net.blobs["label"].data, labels[rows])
        target = net.blobs["target"].data[..., 0, 0]
        np.testing.assert_array_equal(target, codes[rows] > 0)
        latent = net.blobs["hash"].data.astype(float)
        entropy = (np.logaddexp(0, latent) - target * latent).mean()  # of a bit, whatever BITS
        assert net.blobs["encoding"].data.item() == pytest.approx(entropy, rel=1e-4)
        at += 32


@pytest.mark.slow
def test_a_resumed_training_has_the_codes_that_it_began_with(
    run_of, command, options, folder_of, tmp_path
):
    """Those that are lost or damaged are made again, the same; others are refused."""
    job, run, _ = run_of("cnnh")
    job = job | {"--runs": tmp_path, "--run": "run", "--iters": 310}
    mine = shutil.copytree(run, folder_of(job))
    (mine / "target_lmdb" / "data.mdb").write_bytes(b"damaged")
    done = command("tools.train", *options(job))
    assert done.returncode == 0, done.stderr
    assert "resuming at iteration 300" in done.stderr and "stage 1:" in done.stdout
    facts = json.loads((mine / "targets.json").read_text())
    assert facts == json.loads((run / "targets.json").read_text())
    assert targets.digest(mine / "target_lmdb") == targets.digest(run / "target_lmdb")
    (mine / "targets.json").unlink()
    done = command("tools.train", *options(job | {"--iters": 315}))
    assert done.returncode == 0, done.stderr
    assert json.loads((mine / "targets.json").read_text()) == facts
    (mine / "targets.json").write_text(json.dumps(facts | {"sha256": "0" * 64}))
    done = command("tools.train", *options(job | {"--iters": 320}))
    assert done.returncode == 1
    assert "stage 1 gives other codes on this machine" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
    (mine / "targets.json").unlink()
    shutil.rmtree(mine / "target_lmdb")
    done = command("tools.train", *options(job | {"--iters": 320}))
    assert done.returncode == 1
    assert "has neither target_lmdb nor targets.json" in done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_a_net_without_a_classifier_is_searched_and_exported(
    run_of, command, options, tmp_path, data_root
):
    """By Caffe and by the export, which agree; added pictures too."""
    job, run, _ = run_of("dnnh")
    with open_rows(data_root / "digits" / "28x1" / "test_lmdb") as (_, read):
        cv2.imwrite(str(tmp_path / "digit.png"), read([3])[0][0, 0])
    made = command("tools.search.indexing", *options(job), "--add", tmp_path / "digit.png")
    assert made.returncode == 0, made.stderr
    assert "added 1 picture" in made.stdout
    grid = ("--query", tmp_path / "digit.png", "--grid", tmp_path / "grid.png", "--top", 3)
    found = command("tools.search", *options(job), *grid)
    assert found.returncode == 0, found.stderr
    assert "digit.png: no classes, as the net has no classifier" in found.stdout
    exported = command("tools.export", *options(job), "--int8", 1)
    assert exported.returncode == 0, exported.stderr
    facts = json.loads((run / "export" / "codes.json").read_text())
    assert facts["classes"] == [str(digit) for digit in range(10)]
    for figures in facts["parity"].values():
        if isinstance(figures, dict):
            assert figures["bits_wrong"] == 0 and "probabilities" not in figures
    script = [sys.executable, run / "export" / "search.py", tmp_path / "digit.png"]
    alone = subprocess.run(script, capture_output=True, text=True)
    assert alone.returncode == 0, alone.stderr
    found = command("tools.search", *options(job), "--query", tmp_path / "digit.png")
    assert alone.stdout.splitlines() == found.stdout.splitlines()[:-1]


@pytest.mark.parametrize(
    ("method", "counts", "more", "words"),
    [
        ("cnnh", [0, 90, 0], {}, "all training pictures of mnist are of the class dog"),
        ("dnnh", [50, 0, 0], {}, "all training pictures of mnist are of the class cat"),
        ("cnnh_plus", [20, 20, 7], {}, "codes of 48 bits from how 47 training pictures compare"),
        ("dnnh", [20, 20, 7], {}, "codes of 48 bits from how 47 training pictures compare"),
        ("dnnh", [1] * 60, {}, "no class of mnist has two training pictures"),
        ("dnnh", [5000, 5], {"BATCH": "32"}, "most batches of 32 pictures have none: BATCH=694"),
        ("dnnh", [90, 90, 90], {"BATCH": "2"}, "most batches of 2 pictures have none: BATCH=3"),
        ("dnnh", [9] * 300, {"BATCH": "16"}, "most batches of 16 pictures have none: BATCH=23"),
    ],
)
def test_what_cannot_be_learned_is_said(method, counts, more, words):
    manifest = CLASSES | {"labels": {"train": counts}}
    with pytest.raises(Failure, match=words):
        targets.check_classes(make_job(METHOD=method, **more), manifest)


def test_what_can_be_learned_passes():
    manifest = CLASSES | {"labels": {"train": [20, 20, 8]}}
    for method in ("ssdh", "cnnh", "cnnh_plus", "dnnh"):
        targets.check_classes(make_job(METHOD=method), manifest)
        targets.check_classes(make_job(METHOD=method), CLASSES)  # a manifest without counts
    targets.check_classes(make_job(METHOD="ssdh"), CLASSES | {"labels": {"train": [5, 0, 0]}})
