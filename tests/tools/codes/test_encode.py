"""Codes and features of any pictures, as `make codes IMAGES=...` makes them."""

import csv
import resource
import shutil
import signal

import caffe
import cv2
import h5py
import numpy as np
import pytest
from caffe.proto import caffe_pb2
from PIL import Image

from data_prep.lmdb_reader import open_rows
from eval.codes import read_codes
from tools.codes.listing import list_pictures

pytestmark = pytest.mark.slow


@pytest.fixture
def pictures(tmp_path, data_root):
    """A folder with a test digit in each colour mode, twelve others, and their pixels."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    with open_rows(data_root / "digits" / "28x1" / "test_lmdb") as (_, read):
        digits = read(range(13))[0][:, 0]
    grey = Image.fromarray(digits[0])
    for name, picture in {
        "grey.png": grey,
        "rgba.png": grey.convert("RGBA"),
        "palette.png": grey.convert("P"),
        "cmyk.jpg": grey.convert("CMYK"),
    }.items():
        picture.save(folder / name, quality=100)
    for row in range(1, 13):
        cv2.imwrite(str(folder / f"z{row:02}.png"), digits[row])
    return folder


def encode(command, options, job, pictures, out, *more):
    return command(
        "tools.codes.pictures", *options(job), "--pictures", pictures, "--out", out, *more
    )


def test_every_kind_of_picture_by_a_trained_run(
    trained, pictures, options, command, tmp_path, folder_of
):
    done = command("tools.codes", *options(trained), "--features", 1)
    assert done.returncode == 0, done.stderr
    expected = read_codes(folder_of(trained) / "codes.h5")
    out = tmp_path / "out"
    done = encode(command, options, trained, pictures, out)
    assert done.returncode == 0, done.stderr
    with (
        h5py.File(out / "pictures.h5") as made,
        h5py.File(folder_of(trained) / "features.h5") as run,
    ):
        keys = [key.decode().rpartition("/")[2] for key in made["key"]]
        assert keys == sorted(keys)
        assert keys[:4] == ["cmyk.jpg", "grey.png", "palette.png", "rgba.png"]
        rows = [0] * 4 + list(range(1, 13))
        features = run["query/features"][:][rows]
        np.testing.assert_array_equal(made["codes"][1:], expected.query.codes[rows][1:])
        np.testing.assert_allclose(made["features"][1:], features[1:], rtol=0, atol=1e-4)
        assert features.std() > 0
        assert np.abs(made["features"][0] - features[0]).max() < 0.1 * np.abs(features).max()
        assert made["latent"].shape == (16, 16)
        assert made.attrs["bits"] == 16
        assert made.attrs["feature_blob"] == "ip1"
        bits = np.unpackbits(made["codes"][:], axis=1)
        best = made["probabilities"][:].argmax(axis=1)
        table = made["features"][:]
    with open(out / "codes.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["code"] for line in lines] == ["".join(map(str, row)) for row in bits]
    assert [line["class"] for line in lines] == [str(label) for label in best]
    with open(out / "features.csv", newline="") as file:
        header, *lines = csv.reader(file)
    assert header[:2] == ["picture", "ip1_0"]
    np.testing.assert_array_equal(np.array([line[1:] for line in lines], np.float32), table)


def test_a_caffemodel_with_and_without_its_classifier(
    trained, pictures, options, command, tmp_path, folder_of
):
    whole = folder_of(trained) / "model.caffemodel"
    model = caffe_pb2.NetParameter.FromString(whole.read_bytes())
    (classifier,) = [layer for layer in model.layer if layer.name == "fc9"]
    model.layer.remove(classifier)
    cut = tmp_path / "cut.caffemodel"
    cut.write_bytes(model.SerializeToString())
    job = trained | {"--run": "none"}
    codes = []
    for weights in (whole, cut):
        done = encode(
            command, options, job | {"--weights": weights}, pictures, tmp_path / weights.stem
        )
        assert done.returncode == 0, done.stderr
        with h5py.File(tmp_path / weights.stem / "pictures.h5") as made:
            codes.append(made["codes"][:])
            assert ("probabilities" in made) == (weights is whole)
            assert made.attrs["caffemodel"] == weights.name
    np.testing.assert_array_equal(*codes)
    assert len(np.unique(codes[0], axis=0)) > 5
    assert (tmp_path / "cut/codes.csv").read_text().startswith("picture,code\n")

    net = caffe.Net(str(folder_of(trained) / "deploy.prototxt"), str(whole), caffe.TEST)
    net.params["latent"][0].reshape(8, net.params["latent"][0].shape[1])
    net.params["latent"][1].reshape(8)
    other = tmp_path / "eight.caffemodel"
    net.save(str(other))
    done = encode(command, options, job | {"--weights": other}, pictures, tmp_path / "eight")
    assert done.returncode == 1
    assert f"{other}: layer latent has the shapes [(8, " in done.stderr
    assert not (tmp_path / "eight/pictures.h5").exists()


def test_a_bad_file_is_named_or_left_out(trained, pictures, options, command, tmp_path):
    (pictures / "text.jpg").write_text("not a picture")
    (pictures / "list.txt").write_text("z01.png\ngone.png\ntext.jpg\nz02.png\n")
    out = tmp_path / "out"
    done = encode(command, options, trained, pictures / "list.txt", out)
    assert done.returncode == 1
    assert f"{pictures}/gone.png cannot be read: No such file or directory" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (out / "pictures.h5").exists()
    done = encode(command, options, trained, pictures / "list.txt", out, "--skip", 1)
    assert done.returncode == 0, done.stderr
    assert "2 of 4 pictures could not be read and were left out" in done.stdout
    assert f"left out: {pictures}/text.jpg cannot be decoded" in done.stdout
    with h5py.File(out / "pictures.h5") as made:
        assert [key.decode() for key in made["key"]] == [
            f"{pictures}/z01.png",
            f"{pictures}/z02.png",
        ]


def test_default_folders_never_take_each_other_s_place(
    trained, pictures, options, command, tmp_path, folder_of
):
    def encode(images):
        return command("tools.codes.pictures", *options(trained), "--pictures", images)

    broken = pictures / "z03\n.png"
    (pictures / "z03.png").rename(broken)
    assert encode(pictures).returncode == 0
    made = tmp_path / "pictures/pictures-run/pictures.h5"
    with h5py.File(made) as file:
        assert str(broken) in [key.decode() for key in file["key"]]
    before = made.read_bytes()
    other = tmp_path / "other/pictures"
    other.mkdir(parents=True)
    (pictures / "grey.png").rename(other / "grey.png")
    refused = encode(other)
    assert refused.returncode == 1
    assert f"{made.parent} holds the codes of {pictures} by {folder_of(trained)}" in refused.stderr
    assert "name another one, OUT=" in refused.stderr
    assert made.read_bytes() == before
    assert encode(pictures).returncode == 0  # the same pictures' codes may be made anew
    with h5py.File(made) as file:
        assert len(file["key"]) == 15


def test_out_keeps_the_codes_of_another_picture(trained, pictures, options, command, tmp_path):
    out = tmp_path / "out"
    assert encode(command, options, trained, pictures / "z01.png", out).returncode == 0
    before = {path: path.read_bytes() for path in out.iterdir()}
    assert {path.name for path in before} > {"pictures.h5", "codes.csv", "features.csv"}
    refused = encode(command, options, trained, pictures / "z02.png", out)
    assert refused.returncode == 1
    assert f"{out} holds the codes of {pictures}/z01.png by" in refused.stderr
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    (out / "pictures.h5").write_bytes(b"damaged")
    refused = encode(command, options, trained, pictures / "z01.png", out)
    assert refused.returncode == 1
    assert f"error: {out}/pictures.h5 cannot be read as HDF5" in refused.stderr


@pytest.mark.parametrize("limit", [3_000, 30_000])
def test_a_disk_that_fails_is_said(trained, pictures, options, command, tmp_path, limit):
    """A limit on the size of a file stands in for the disk; HDF5 would end the process."""

    def full():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    (pictures / "list.txt").write_text("z01.png\n" * 12)
    out = tmp_path / "out"
    done = command(
        *("tools.codes.pictures", *options(trained), "--pictures", pictures / "list.txt"),
        *("--out", out),
        preexec_fn=full,
    )
    assert done.returncode == 1
    assert "File too large; mend that, then run the command again" in done.stderr, done.stderr
    assert str(out) in done.stderr
    assert [path.name for path in out.iterdir()] == ["caffe.log"]


def test_a_damaged_manifest_is_said(trained, pictures, options, command, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(trained["--data-root"], root)
    manifest = root / "digits/28x1/manifest.json"
    manifest.write_text(manifest.read_text().replace('"classes"', '"cats"'))
    job = trained | {"--data-root": root}
    done = encode(command, options, job, pictures / "z01.png", tmp_path / "out")
    assert done.returncode == 1
    assert f"error: {manifest}: 'classes' is missing" in done.stderr


def test_a_folder_that_cannot_be_written_is_said(trained, pictures, options, command, tmp_path):
    (tmp_path / "file").write_text("")
    for out, words in [("file", "File exists"), ("file/codes", "Not a directory")]:
        done = encode(command, options, trained, pictures, tmp_path / out)
        assert done.returncode == 1
        assert f"error: {tmp_path / out}: {words}; name another folder" in done.stderr
        assert "Traceback" not in done.stderr


def test_no_model_no_mean_and_no_pictures_are_said(job, pictures, options, command, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    for change, images, words in [
        ({}, pictures, "there is no trained net in"),
        ({}, empty, "there is no picture in this folder"),
        ({}, tmp_path / "gone", "there is no such list, folder or picture"),
        ({"--weights": "none"}, pictures, "WEIGHTS=none has no codes"),
        (
            {"--weights": pictures / "grey.png", "--data-root": empty},
            pictures,
            "mean.binaryproto is missing, the mean image for NET=lenet: run 'make data'",
        ),
    ]:
        done = encode(command, options, job | change, images, tmp_path / "out")
        assert done.returncode == 1
        assert words in done.stderr
        assert "Traceback" not in done.stderr


def test_lists_take_labels_and_spaces(pictures):
    (pictures / "grey.png").rename(pictures / "a grey 7")
    absolute = pictures / "z03.png"
    listed = pictures / "list"
    lines = f"z01.png 3\r\na grey 7\n\n{absolute} 12\nz02.png\n"
    listed.write_text(lines, encoding="utf-8-sig", newline="")
    assert list_pictures(str(listed)) == [
        *(pictures / name for name in ("z01.png", "a grey 7")),
        absolute,
        pictures / "z02.png",
    ]
    assert list_pictures(str(absolute)) == [absolute]
    assert len(list_pictures(str(pictures))) == 15


def test_linked_folders_are_followed_and_hidden_ones_are_not(pictures, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (pictures / "grey.png").rename(tmp_path / "elsewhere/grey.png")
    (pictures / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/back").symlink_to(pictures)
    (pictures / ".ipynb_checkpoints").mkdir()
    shutil.copy(pictures / "z01.png", pictures / ".ipynb_checkpoints")
    found = list_pictures(str(pictures))
    assert len(found) == 16
    assert pictures / "more/grey.png" in found
