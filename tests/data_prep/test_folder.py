"""One's own pictures: what is taken, said, and refused."""

import json
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

from data_prep.lmdb_reader import iterate, open_rows


def use_lists(images, **labels_of):
    """Write train.txt and test.txt for the class folders' pictures; labels by class name."""
    for split in ("train", "test"):
        paths = sorted(path.relative_to(images) for path in (images / split).rglob("*.png"))
        lines = [f"{path} {labels_of[path.parts[1]]}\n" for path in paths]
        (images / f"{split}.txt").write_text("".join(lines))


def nothing_made(tmp_path):
    """No folder of LMDBs, whole or begun."""
    return not list(tmp_path.glob("data/*/*x*")) and not list(tmp_path.glob("data/*/.*"))


def test_class_folders(prepare, own_pictures, tmp_path):
    made = prepare("folder", "--images", own_pictures)
    assert made.returncode == 0, made.stderr
    data = tmp_path / "data/folder-pets/12x3"
    manifest = json.loads((data / "manifest.json").read_text())
    assert manifest["dataset"] == "folder-pets"
    assert manifest["classes"] == ["cat", "dog"]
    assert manifest["counts"] == {"train": 8, "test": 4}
    assert "sorted paths under" in manifest["order"]
    with open_rows(data / "train_lmdb") as (keys, read):
        pictures, labels = read(range(8))
    ordered = sorted(f"train/{animal}/{n}.png" for animal in ("cat", "dog") for n in range(4))
    assert keys == [ordered[row] for row in np.random.RandomState(0).permutation(8)]
    for key, label, picture in zip(keys, labels, pictures, strict=True):
        assert label == ["cat", "dog"].index(key.split("/")[1])
        source = cv2.resize(cv2.imread(str(own_pictures / key)), (12, 12))
        np.testing.assert_array_equal(picture, source.transpose(2, 0, 1))


def test_list_files_keep_their_order(prepare, own_pictures, tmp_path):
    use_lists(own_pictures, cat=1, dog=0)
    (own_pictures / "train/cat/0.png").rename(own_pictures / "a cat.png")
    lines = (own_pictures / "train.txt").read_text().replace("train/cat/0.png", "a cat.png")
    absolute = f"{own_pictures / 'train/dog/3.png'} 0"
    lines = lines.replace("train/dog/3.png 0", absolute)
    (own_pictures / "train.txt").write_text(lines + "\n")
    (own_pictures / "classes.txt").write_text("dog\ncat\n")
    made = prepare("folder", "--images", own_pictures)
    assert made.returncode == 0, made.stderr
    assert "train.txt: sorted by class" not in made.stdout  # 1 before 0
    data = tmp_path / "data/folder-pets/12x3"
    manifest = json.loads((data / "manifest.json").read_text())
    assert manifest["classes"] == ["dog", "cat"]
    assert manifest["order"] == "the list files' own order"
    with open_rows(data / "train_lmdb") as (keys, read):
        assert keys == [line.rpartition(" ")[0] for line in lines.splitlines()]
        assert list(read(range(8))[1]) == [1, 1, 1, 1, 0, 0, 0, 0]


def test_a_list_sorted_by_class_is_said(prepare, own_pictures):
    use_lists(own_pictures, cat=0, dog=1)
    made = prepare("folder", "--images", own_pictures)
    assert made.returncode == 0, made.stderr
    assert f"{own_pictures / 'train.txt'}: sorted by class, and its order breaks" in made.stdout


def test_every_kind_of_picture_becomes_bgr_or_grey(prepare, own_pictures, smooth, tmp_path):
    rgb = Image.fromarray(smooth(100)[:, :, ::-1])
    rgba = rgb.copy()
    rgba.putalpha(Image.fromarray(smooth(101, channels=1)))
    kinds = {
        "grey.png": rgb.convert("L"),
        "rgba.png": rgba,
        "palette.png": rgb.quantize(256),
        "cmyk.jpg": rgb.convert("CMYK"),
        "bilevel.png": rgb.convert("1"),
        "upper.PNG": rgb,
        "some.webp": rgb,
    }
    for name, picture in kinds.items():
        picture.save(own_pictures / "train/cat" / name, lossless=True, quality=95)
    for channels in (1, 3):
        made = prepare("folder", "--images", own_pictures, channels=channels)
        assert made.returncode == 0, made.stderr
        seen = {}
        for _, key, _, picture in iterate(tmp_path / f"data/folder-pets/12x{channels}/train_lmdb"):
            seen[key.removeprefix("train/cat/")] = picture
        for name, picture in kinds.items():
            mode = "L" if channels == 1 else "RGB"
            plain = np.asarray(picture.convert("RGB").convert(mode))
            plain = plain if channels == 1 else plain[:, :, ::-1]
            expected = np.atleast_3d(cv2.resize(plain, (12, 12))).transpose(2, 0, 1)
            assert seen[name].shape == (channels, 12, 12)
            # CMYK passes through JPEG and a conversion that Pillow rounds otherwise
            limit = 12 if name == "cmyk.jpg" else 2
            assert np.abs(seen[name].astype(int) - expected).max() <= limit, name


def test_files_that_are_no_pictures_are_said(prepare, own_pictures):
    hidden = ("train/cat/.DS_Store", "train/.x/a.png", "train/cat/.ipynb_checkpoints/a.png")
    for path in (*hidden, "train/dog/Thumbs.db", "test/README"):
        (own_pictures / path).parent.mkdir(exist_ok=True)
        (own_pictures / path).write_text("no picture")
    made = prepare("folder", "--images", own_pictures)
    assert made.returncode == 0, made.stderr
    assert f"{own_pictures}: left out 2 files that are not pictures: test/README" in made.stdout
    assert "8 + 4 pictures" in made.stdout


def test_linked_folders_are_followed_and_cycles_left(prepare, own_pictures, tmp_path):
    cat = own_pictures / "train/cat"
    (cat / "deep").mkdir()
    (cat / "0.png").rename(cat / "deep/0.png")
    (cat / "deep").rename(tmp_path / "deep")
    (cat / "more").symlink_to(tmp_path / "deep")
    cat.rename(tmp_path / "cats")
    cat.symlink_to(tmp_path / "cats")
    (tmp_path / "deep/back").symlink_to(tmp_path / "cats")
    (tmp_path / "cats/self").symlink_to(".")
    (own_pictures / "test/dog/up").symlink_to("..")
    (own_pictures / "test/dog/root").symlink_to("/")
    made = prepare("folder", "--images", own_pictures)
    assert made.returncode == 0, made.stderr
    assert "8 + 4 pictures" in made.stdout
    with open_rows(tmp_path / "data/folder-pets/12x3/train_lmdb") as (keys, _):
        assert "train/cat/more/0.png" in keys


def test_changed_pictures_never_pass_for_the_old(prepare, refused, own_pictures, smooth):
    assert prepare("folder", "--images", own_pictures).returncode == 0
    assert prepare("folder", "--images", own_pictures).returncode == 0
    cv2.imwrite(str(own_pictures / "train/cat/new.png"), smooth(50))
    message = refused(prepare("folder", "--images", own_pictures))
    assert "folder-pets/12x3 was made with sources pets (SHA-256" in message


def write(text):
    return lambda path: path.write_text(text)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-200])


def copy_to_test(path):
    shutil.copy(path, path.parents[2] / "test/dog/again.png")


def remove_class(path):
    shutil.rmtree(path.parents[2] / "test/cat")


def empty_class(path):
    (path.parents[2] / "train/bird").mkdir()


def empty_split(path):
    shutil.rmtree(path.parents[2] / "test")
    (path.parents[2] / "test").mkdir()


def no_split(path):
    shutil.rmtree(path.parents[2] / "test")


def long_name(path):
    for name in ("a" * 250, "b" * 250):
        path.parent.joinpath(name).mkdir()
        path = path.rename(path.parent / name / path.name)


def odd_name(path):
    path.rename(path.with_name("line\nbreak.png"))


def directory(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            write(""),
            "train/cat/1.png is empty; replace it or remove it, or leave such pictures out",
        ),
        (write("GIF89a"), "train/cat/1.png cannot be decoded (damaged, cut short"),
        (truncate, "train/cat/1.png cannot be decoded (damaged, cut short"),
        (copy_to_test, "1 test pictures are training pictures too, such as test/dog/again.png (te"),
        (remove_class, "class 0 (cat) has no test pictures"),
        (empty_class, "class 0 (bird) has no train pictures"),
        (empty_split, "the test split is empty"),
        (no_split, "needs train/<class>/ and test/<class>/ folders, or train.txt and test.txt"),
        (long_name, "bytes and LMDB takes 511; shorten its name"),
        (odd_name, r"line\nbreak.png' is not printable UTF-8 text; rename it"),
    ],
)
def test_spoilt_folders_are_refused(prepare, refused, own_pictures, tmp_path, spoil, message):
    spoil(own_pictures / "train/cat/1.png")
    assert message in refused(prepare("folder", "--images", own_pictures))
    assert nothing_made(tmp_path)


def test_a_jpeg_cut_short_is_refused(prepare, refused, own_pictures, smooth, tmp_path):
    # libjpeg alone would fill the rest of the picture with grey
    path = own_pictures / "train/dog/cut.jpg"
    cv2.imwrite(str(path), smooth(60, 200, 200))
    path.write_bytes(path.read_bytes()[:-400])
    message = refused(prepare("folder", "--images", own_pictures))
    assert f"{path} cannot be decoded (damaged, cut short" in message
    assert nothing_made(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train/cat/9.png 0", "train/cat/9.png: No such file or directory; correct the list"),
        ("train/cat/0.png", "line 9: 'train/cat/0.png' is not `path label`"),
        ("train/cat/0.png -1", "line 9: 'train/cat/0.png -1' is not `path label` with a label fr"),
        ("train/\0.png 1", r"line 9: 'train/\x00.png 1' is not `path label`"),
        ("train/cat/0.png 1.5", "line 9: 'train/cat/0.png 1.5' is not `path label`"),
        ("./train/cat/0.png 7", "class 2 (2) has no train pictures; add some, or remove the class"),
        ("train/cat/0.png 1", "train.txt, lines 1 and 9: both list train/cat/0.png; remove one"),
        ("train/cat/0.png 0", "train.txt, lines 1 and 9: both list train/cat/0.png; remove one"),
        ("new.png 13", "train.txt, line 9: the label 13 is too large for the 13 pictures of the l"),
        ("new.png 1699999999", "line 9: the label 1699999999 is too large for the 13 pictures"),
        ("new.png 99999999999", "line 9: the label 99999999999 is too large for the 13 pictures"),
        (f"new.png {'9' * 5000}", "9 is too large for the 13 pictures of the lists; number"),
        ("test/cat/0.png 0", "1 test pictures are training pictures too, such as test/cat/0.png"),
    ],
)
def test_spoilt_lists_are_refused(prepare, refused, own_pictures, tmp_path, line, message):
    use_lists(own_pictures, cat=0, dog=1)
    with open(own_pictures / "train.txt", "a") as file:
        file.write(f"{line}\n")
    assert message in refused(prepare("folder", "--images", own_pictures))
    assert nothing_made(tmp_path)


def test_lists_with_a_byte_order_mark(prepare, own_pictures, tmp_path):
    use_lists(own_pictures, cat=0, dog=1)
    (own_pictures / "classes.txt").write_text("cat\ndog\n")
    for name in ("train.txt", "test.txt", "classes.txt"):
        path = own_pictures / name
        path.write_text(path.read_text(), encoding="utf-8-sig")
    made = prepare("folder", "--images", own_pictures)
    assert made.returncode == 0, made.stderr
    manifest = json.loads((tmp_path / "data/folder-pets/12x3/manifest.json").read_text())
    assert manifest["classes"] == ["cat", "dog"]


def test_more_labels_than_class_names(prepare, refused, own_pictures, tmp_path):
    use_lists(own_pictures, cat=0, dog=1)
    (own_pictures / "classes.txt").write_text("cat\n")
    message = refused(prepare("folder", "--images", own_pictures))
    assert "train/dog/0.png has label 1, outside 0..0; correct its label" in message
    assert nothing_made(tmp_path)


def test_lists_that_are_not_text(prepare, refused, own_pictures):
    use_lists(own_pictures, cat=0, dog=1)
    (own_pictures / "test.txt").write_bytes(b"\xff\xfe\x00")
    message = refused(prepare("folder", "--images", own_pictures))
    assert f"{own_pictures / 'test.txt'}: not UTF-8 text" in message


def test_no_such_folder(prepare, refused, tmp_path):
    message = refused(prepare("folder", "--images", tmp_path / "nowhere"))
    assert "nowhere: there is no such folder of pictures" in message
