"""make export: what is in the folder, what search.py says of it, and what is refused."""

import gzip
import hashlib
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile

import cv2
import numpy as np
import pytest
from PIL import Image

from data_prep.lmdb_reader import open_rows
from data_prep.picture import fit
from eval.protocol import measure
from tools.export import exporting, web
from tools.faults.trial import Room, breaking, compile_shim
from tools.run.failure import Failure
from tools.run.job import REPO

ALONE = """
import runpy, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {refused}:
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""
OURS = ["h5py", "caffe", "tools", "eval", "data_prep", "lmdb", "scipy", "onnx"]


@pytest.fixture
def pictures(exported, tmp_path):
    """Files of ten test pictures."""
    paths = []
    with open_rows(exported["--data-root"] / "digits" / "28x1" / "test_lmdb") as (_, read):
        for row in range(0, 100, 10):
            paths.append(tmp_path / f"{row}.png")
            cv2.imwrite(str(paths[-1]), read([row])[0][0, 0])
    return paths


@pytest.fixture
def elsewhere(exported, folder_of, tmp_path):
    """The export, moved out of its run, without any other file."""
    return shutil.copytree(folder_of(exported) / "export", tmp_path / "elsewhere" / "digits")


def search(folder, *arguments, refused=OURS):
    """Run an export's search.py, with nothing of ours to import."""
    return subprocess.run(
        [sys.executable, "-I", "-c", ALONE.format(refused=refused), folder / "search.py"]
        + [*map(str, arguments)],
        cwd=folder.parent,
        capture_output=True,
        text=True,
    )


def test_the_folder_and_what_it_says_of_itself(exported_run, folder_of):
    folder = folder_of(exported_run) / "export"
    facts = json.loads((folder / "codes.json").read_text())
    assert facts["bits"] == 16 and facts["classes"] == [str(digit) for digit in range(10)]
    assert facts["bit_order"] == "big" and facts["threshold"] == 0.5
    for name, digest in facts["sha256"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert {"model.onnx", "model.caffemodel", "index.faiss"} <= set(facts["sha256"])
    for engine in ("ONNX Runtime", "OpenCV DNN"):
        assert facts["parity"][engine]["bits"] == 16 * facts["parity"]["pictures"] == 16 * 355
        assert facts["parity"][engine]["bits_wrong"] == 0
        assert f"\n{engine} " in exported_run["said"]
    assert not list(folder.parent.glob(".export*"))


def test_eight_bits_are_measured_beside_the_float_net(exported_run, folder_of):
    folder = folder_of(exported_run) / "export"
    figures = json.loads((folder / "codes.json").read_text())["int8"]
    metrics = measure(folder.parent / "codes.h5")
    assert figures["float"]["map"] == metrics["map"]
    for name in ("accuracy", "map", "map_at_1000"):
        assert abs(figures["int8"][name] - figures["float"][name]) < 0.05
    assert 0 < figures["int8"]["query_bits_differ"] < 0.05 * figures["int8"]["query_bits"]
    small, whole = ((folder / f"model{of}.onnx").stat().st_size for of in (".int8", ""))
    assert small < 0.3 * whole
    assert f"int8   {figures['int8']['accuracy']:8.4f}" in exported_run["said"]
    assert not list(folder.glob("*.h5")) and not list(folder.glob("*fused*"))


@pytest.mark.parametrize("refused", [[*OURS, "cv2"], [*OURS, "PIL"]])
def test_search_py_says_what_make_search_says(
    exported, elsewhere, pictures, command, options, refused
):
    for path in pictures[:3]:
        there = command("tools.search", *options(exported), "--query", path, "--top", 12)
        expected = there.stdout[: there.stdout.index("answered in")]
        found = search(elsewhere, path, "--top", 12, refused=refused)
        assert (found.returncode, found.stdout) == (0, expected), found.stderr


def test_search_py_leaves_out_what_was_removed(exported, pictures, command, options, folder_of):
    there = command("tools.search", *options(exported), "--query", pictures[0], "--json", 1)
    first = json.loads(there.stdout)["neighbours"][0]["key"]
    for module, *more in (("tools.search.indexing", "--remove", first), ("tools.export",)):
        assert command(module, *options(exported), *more).returncode == 0
    there = command("tools.search", *options(exported), "--query", pictures[0])
    found = search(folder_of(exported) / "export", pictures[0])
    assert found.stdout == there.stdout[: there.stdout.index("answered in")]
    assert first not in found.stdout


@pytest.mark.parametrize("name", ["model.onnx", "index.faiss", "rows.npz"])
def test_search_py_refuses_what_was_changed(elsewhere, pictures, name):
    with open(elsewhere / name, "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x55")
    done = search(elsewhere, pictures[0])
    assert done.returncode == 1
    assert done.stderr == (
        f"error: {elsewhere / name} was changed after the export: run 'make export' again\n"
    )


def test_search_py_says_what_is_no_whole_export_and_no_number(elsewhere, pictures):
    done = search(elsewhere, pictures[0], "--top", 0)
    assert (done.returncode, done.stderr) == (1, "error: --top 0: give a number from 1 on\n")
    for name, content in (("codes.json", "{}"), ("codes.json", "{"), ("rows.npz", None)):
        (elsewhere / name).unlink()
        if content is not None:
            (elsewhere / name).write_text(content)
        done = search(elsewhere, pictures[0])
        assert done.returncode == 1
        assert done.stderr.startswith(f"error: {elsewhere} is no whole export (")
        assert done.stderr.endswith("): run 'make export' again\n") and "\n" not in done.stderr[:-1]


def test_search_py_names_a_picture_that_is_none(elsewhere, tmp_path):
    (tmp_path / "no.png").write_bytes(b"nothing")
    for refused in ([*OURS, "cv2"], OURS):
        done = search(elsewhere, tmp_path / "no.png", refused=refused)
        assert done.returncode == 1 and done.stderr.startswith(f"error: {tmp_path / 'no.png'} can")


@pytest.fixture(scope="module")
def by_pillow():
    """read_picture(), without OpenCV."""
    path = next(path for path in exporting.SEARCH if path.name == "read_picture.py")
    spec = importlib.util.spec_from_file_location("read_picture", path)
    module = importlib.util.module_from_spec(spec)
    present, sys.modules["cv2"] = sys.modules.get("cv2"), None
    try:
        spec.loader.exec_module(module)
    finally:
        sys.modules["cv2"] = present
    return module.read_picture


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["grey.png", "rgb.png", "rgba.png", "p.png", "rgb.jpg", "l.jpg"])
def test_pillow_reads_as_opencv_does(by_pillow, tmp_path, kind, channels):
    random = np.random.default_rng(3)
    smooth = cv2.resize(random.integers(0, 256, (6, 7, 4)).astype(np.uint8), (71, 53))
    picture = Image.fromarray(smooth, "RGBA")
    mode = {"grey": "L", "l": "L", "rgb": "RGB", "rgba": "RGBA", "p": "P"}[kind.split(".")[0]]
    picture.convert("RGB").convert(mode).save(tmp_path / kind)
    if mode == "RGBA":
        picture.save(tmp_path / kind)
    expected = np.atleast_3d(fit((tmp_path / kind).read_bytes(), 28, channels))
    found = by_pillow(str(tmp_path / kind), 28, channels)
    assert found.shape == expected.shape and found.dtype == np.uint8
    assert np.abs(found.astype(int) - expected).max() <= (2 if kind == "rgb.jpg" else 0)


@pytest.mark.parametrize("size", [(28, 28), (56, 56), (57, 56), (1, 1), (300, 11), (5, 90)])
def test_pillow_resizes_as_opencv_does(by_pillow, tmp_path, size):
    noise = np.random.default_rng(4).integers(0, 256, (*size, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "png")
    (tmp_path / "noise.png").write_bytes(buffer.getvalue())
    expected = fit(buffer.getvalue(), 28, 3)
    assert (by_pillow(str(tmp_path / "noise.png"), 28, 3) == expected).all()


def test_a_failed_proof_leaves_the_older_export(exported, folder_of, command, options):
    """A caffemodel that is not the training's, then a run without a net: a sentence each."""
    folder = folder_of(exported)
    before = (folder / "export" / "codes.json").read_bytes()
    with open(folder / "model.caffemodel", "ab") as file:
        file.write(b"\x55")
    done = command("tools.export", *options(exported))
    assert done.returncode == 1 and "is not what the training left" in done.stderr
    (folder / "model.caffemodel").unlink()
    done = command("tools.export", *options(exported))
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: there is no trained net in {folder}: run 'make train'")
    assert (folder / "export" / "codes.json").read_bytes() == before
    assert not list(folder.glob(".export*"))


def test_a_disk_that_breaks_while_a_net_is_written_is_said(
    exported, folder_of, command, options, tmp_path
):
    """Caffe would end its process where it cannot write the caffemodel, so that Python does."""
    run = folder_of(exported)
    before = (run / "export" / "codes.json").read_bytes()
    room = Room.new(tmp_path / "room", tmp_path, compile_shim(tmp_path))
    onnx_files = len(list((run / "export").rglob("model.onnx")))  # which are written before it
    below = {"SSDH_EIO_BELOW": str(run / ".export.partial-")}
    broken = breaking(room, room.counter("writes", bytes(4)), onnx_files) | below
    done = command("tools.export", *options(exported), env=os.environ | broken)
    assert done.returncode == 1
    assert "model.caffemodel: Input/output error" in done.stderr and "died" not in done.stderr
    assert (run / "export" / "codes.json").read_bytes() == before
    assert not list(run.glob(".export*"))


@pytest.mark.parametrize("size", ["1500k", "2500k"])
@pytest.mark.parametrize("full", ["TMPDIR", "out"])
def test_a_disk_that_is_full_while_a_net_is_put_into_8_bits_is_said(
    exported_run, folder_of, tmp_path, size, full
):
    """ONNX Runtime says it in C++, in Python, or not at all, and then reads half a model."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a disk")
    model = folder_of(exported_run) / "export" / "model.onnx"
    places = {"TMPDIR": tmp_path, "out": tmp_path} | {full: disk}
    script = """
import sys
from pathlib import Path
import numpy as np
from tools.export.quantize import quantize
from tools.run.failure import carry_out
model, out = map(Path, sys.argv[1:])
carry_out(lambda: quantize(model, out / "int8.onnx", np.zeros((100, 1, 28, 28), np.uint8)))
"""
    try:
        done = subprocess.run(
            [sys.executable, "-c", script, model, places["out"]],
            env=os.environ | {"TMPDIR": str(places["TMPDIR"])},
            cwd=REPO,
            capture_output=True,
            text=True,
        )
    finally:
        subprocess.run(["umount", disk], check=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ONNX Runtime cannot write the net in 8 bits (")
    assert done.stderr.count("\n") == 1


def test_a_runtime_for_the_page_that_is_damaged_is_fetched_again(tmp_path, monkeypatch):
    content = b"the runtime"
    monkeypatch.setattr(web, "FOLDER", tmp_path)
    monkeypatch.setattr(web, "FILES", {"a.js": hashlib.sha256(content).hexdigest()})
    (tmp_path / "a.js.gz").write_bytes(gzip.compress(content))
    assert web.runtime() == tmp_path
    monkeypatch.setenv("PATH", "")
    for damaged in (gzip.compress(content)[:-9], gzip.compress(b"another"), b"", b"no gzip"):
        (tmp_path / "a.js.gz").write_bytes(damaged)
        with pytest.raises(Failure, match="npm, which gives onnxruntime-web"):
            web.runtime()


def test_a_package_that_is_not_what_is_known_is_said(tmp_path):
    package = tmp_path / "a.tgz"
    for content in (b"", b"no archive", gzip.compress(bytes(10240))):
        package.write_bytes(content)
        with pytest.raises(Failure, match=r"onnxruntime-web@.* cannot be unpacked"):
            web.unpacked(package)
    with tarfile.open(package, "w:gz") as archive:
        for name in web.FILES:
            archive.add(__file__, f"package/dist/{name}")
    with pytest.raises(Failure, match="is not the file that is known by SHA-256"):
        web.unpacked(package)


def test_a_given_caffemodel_is_exported_without_an_index(exported, folder_of, command, options):
    given = folder_of(exported) / "model.caffemodel"
    job = exported | {"--run": "given", "--weights": given}
    done = command("tools.export", *options(job))
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (folder_of(job) / "export").iterdir()}
    assert {"model.onnx", "model.prototxt", "model.caffemodel", "mean.npy", "codes.json"} == names
    assert "0 of 5,680" in done.stdout
