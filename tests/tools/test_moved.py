"""A run and its data that were moved elsewhere: every later stage works, on what DATA_ROOT has."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_prep.lmdb_reader import open_rows
from eval.codes import read_codes
from tools.run.machine import machine
from tools.run.record import net_fingerprint, read_record
from tools.serve.encoder import Encoder


@pytest.fixture
def moved(trained, data_root, folder_of, tmp_path):
    """The options of a trained job in other folders than it was trained with."""
    shutil.copytree(data_root, tmp_path / "elsewhere")
    job = trained | {"--data-root": tmp_path / "elsewhere"}
    for name in ("train_val.prototxt", "solver.prototxt"):
        path = folder_of(job) / name
        text = path.read_text().replace(str(data_root), "/nowhere/data")
        path.write_text(text.replace('"/', '"/nowhere/'))
    assert "/nowhere/data" in (folder_of(job) / "train_val.prototxt").read_text()
    return job


def test_a_run_that_was_moved_with_its_data(
    moved, data_root, options, command, folder_of, tmp_path
):
    run = folder_of(moved)
    with open_rows(data_root / "digits" / "28x1" / "train_lmdb") as (_, read):
        pixels = read([7])[0][0]
    picture = tmp_path / "digit.png"
    cv2.imwrite(str(picture), pixels.transpose(1, 2, 0))
    again = command("tools.train", *options(moved))
    assert again.returncode == 0 and "is trained already" in again.stdout
    steps = [
        ("tools.codes", *options(moved), "--features", 1),
        ("tools.codes.pictures", *options(moved), "--images", picture),
        ("eval", run / "codes.h5"),
        ("tools.search.indexing", *options(moved), "--add", picture),
        ("tools.search", *options(moved), "--query", picture, "--grid", tmp_path / "grid.png"),
        ("tools.stages", "report", *options(moved)),  # whose own commands get the options
    ]
    for module, *arguments in steps:
        done = command(module, *arguments)
        assert done.returncode == 0, done.stderr
    (run.parent / "paper").mkdir()
    here = {key: machine()[key] for key in ("cpu", "cores")}
    costs = {"machine": here, "rows": []}
    (run.parent / "paper" / "distance_cost.json").write_text(json.dumps(costs))
    root = moved["--data-root"]
    done = command("tools.paper", "--runs", run.parent, "--data-root", root)
    assert done.returncode == 0, done.stderr
    encoder = Encoder(gpu=None, threads=1, log=tmp_path / "log", data_root=Path(root))
    try:
        fingerprint = net_fingerprint(read_record(run), run / "model.caffemodel")
        future = encoder.submit(run, fingerprint, picture.read_bytes(), features=False)
        codes = read_codes(run / "codes.h5").database.codes
        np.testing.assert_array_equal(future.result().codes[0], codes[7])
    finally:
        encoder.close()
    shutil.rmtree(root)
    done = command("tools.codes", *options(moved))
    assert done.returncode == 1 and str(root) in done.stderr
