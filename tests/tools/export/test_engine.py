"""ENGINE=onnx: codes, index, search and service by the exported net, and no Caffe in it."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import h5py
import httpx
import numpy as np
import psutil
import pytest

from data_prep.lmdb_reader import open_rows
from tools.net.exported import ExportedNet
from tools.run.failure import Failure

REPO = Path(__file__).resolve().parents[3]
ONNX = ("--engine", "onnx")


@pytest.fixture
def picture(exported, tmp_path):
    """A file of a test picture."""
    with open_rows(exported["--data-root"] / "digits" / "28x1" / "test_lmdb") as (_, read):
        cv2.imwrite(str(tmp_path / "digit.png"), read([7])[0][0, 0])
    return tmp_path / "digit.png"


def test_codes_of_both_splits_are_caffe_s(exported, folder_of, command, options):
    codes = folder_of(exported) / "codes.h5"
    shutil.copy(codes, codes.with_name("caffe.h5"))
    done = command("tools.codes", *options(exported), *ONNX, "--features", 1)
    assert done.returncode == 0, done.stderr
    assert "the CPU, by ONNX Runtime" in done.stdout
    with h5py.File(codes) as onnx, h5py.File(codes.with_name("caffe.h5")) as caffe:
        assert onnx.attrs["net_fingerprint"] == caffe.attrs["net_fingerprint"]
        for split in ("database", "query"):
            assert np.array_equal(onnx[split]["codes"], caffe[split]["codes"])
            for values in ("latent", "probabilities"):
                assert np.allclose(onnx[split][values], caffe[split][values], atol=1e-5)


def test_search_and_codes_of_a_picture(exported, picture, tmp_path, command, options):
    def asked(*engine):
        done = command("tools.search", *options(exported), "--query", picture, "--json", 1, *engine)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) | {"milliseconds": None}

    assert asked(*ONNX) == asked()
    out = {}
    for engine in ("caffe", "onnx"):
        done = command(
            *("tools.codes.pictures", *options(exported), "--pictures", picture),
            *("--out", tmp_path / engine, "--engine", engine),
        )
        assert done.returncode == 0, done.stderr
        out[engine] = (tmp_path / engine / "codes.csv").read_text()
    assert out["onnx"] == out["caffe"]


def test_a_picture_is_added_by_the_exported_net(exported, picture, command, options):
    added = command("tools.search.indexing", *options(exported), "--add", picture, *ONNX)
    assert added.returncode == 0, added.stderr
    asked = ("--query", picture, "--json", 1, "--top", 1000)
    done = command("tools.search", *options(exported), *asked)
    nearest = json.loads(done.stdout)["neighbours"]
    assert any(each["key"] == str(picture) and each["distance"] == 0 for each in nearest)


def test_the_service_has_no_caffe_in_any_process(exported, picture, command, options):
    server = subprocess.Popen(
        [sys.executable, "-m", "tools.serve", *map(str, options(exported)), *ONNX, "--port", "0"],
        cwd=REPO,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        said = "".join(_until_address(server))
        address = re.search(r"page is (\S+),", said)[1]
        answer = httpx.post(f"{address}/api/search", files={"picture": picture.read_bytes()}).json()
        processes = [psutil.Process(server.pid), *psutil.Process(server.pid).children(True)]
        maps = [each.path for process in processes for each in process.memory_maps()]
    finally:
        server.terminate()
        assert server.wait(timeout=40) == 0
    assert "by ONNX Runtime" in said
    done = command("tools.search", *options(exported), "--query", picture, "--json", 1)
    expected = json.loads(done.stdout)
    assert answer["code"] == expected["code"]
    keys = [[each["key"], each["distance"]] for each in expected["neighbours"]]
    assert [[each["key"], each["distance"]] for each in answer["neighbours"]] == keys
    assert any("onnxruntime" in path for path in maps)
    assert [path for path in maps if "caffe" in Path(path).name] == []


def _until_address(server):
    for line in server.stdout:
        yield line
        if "the page is" in line:
            return


def test_an_export_of_other_weights_or_a_changed_one_is_refused(
    exported, folder_of, picture, command, options
):
    folder = folder_of(exported) / "export"

    def refused():
        done = command("tools.search", *options(exported), "--query", picture, *ONNX)
        assert done.returncode == 1
        return done.stderr

    facts = json.loads((folder / "codes.json").read_text())
    other = facts | {"net_fingerprint": "0" * 33}
    (folder / "codes.json").write_text(json.dumps(other))
    assert f"error: {folder} is of other weights than" in refused()
    (folder / "codes.json").write_text(json.dumps(facts))
    with open(folder / "mean.npy", "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x55")
    with pytest.raises(
        Failure, match=r"mean\.npy was changed after the export, or is missing: run"
    ):
        ExportedNet.of_run(folder.parent)
    with open(folder / "model.onnx", "ab") as file:
        file.write(b"\x55")
    assert f"error: {folder / 'model.onnx'} was changed after the export" in refused()
    shutil.rmtree(folder)
    assert refused() == f"error: there is no export in {folder}: 'make export' makes it\n"


def test_what_goes_with_it_and_what_does_not(job, command, options, tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    for more, said in (
        (("--engine", "tvm"), "ENGINE=tvm is not known: caffe or onnx"),
        ((*ONNX, "--device", "gpu:0"), "ENGINE=onnx computes on the CPU"),
    ):
        done = command("tools.search", *options(job), "--query", tmp_path / "a.png", *more)
        assert done.returncode == 1 and done.stderr.startswith(f"error: {said}")
    done = command(
        *("tools.codes.pictures", *options(job), *ONNX),
        *("--pictures", tmp_path / "a.png", "--weights", tmp_path / "any.caffemodel"),
    )
    assert done.returncode == 1 and "WEIGHTS= another net" in done.stderr
