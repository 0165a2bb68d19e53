"""NUS-WIDE and MS COCO on small trees of their exact form, and what is refused of them."""

import json

import cv2
import msgspec
import numpy as np
import pytest

from data_prep import DataError, coco, nuswide, nuswide81
from data_prep.lmdb_reader import open_rows
from tools.run import data as data_of_run

PICTURES, CONCEPTS = 300, 9


@pytest.fixture
def nus(tmp_path, monkeypatch, smooth):
    """A NUS-WIDE of 300 pictures and 9 concepts, the last of which 4 have; and its labels."""
    images, random = tmp_path / "NUS-WIDE", np.random.RandomState(0)
    shares = np.array([0.3, 0.2, 0.25, 0.02, 0.15, 0.4, 0.1, 0.05, 0])
    labels = (random.rand(PICTURES, CONCEPTS) < shares).astype(np.uint8)
    labels[[5, 50, 100, 150], 8] = 1
    lines = []
    for row in range(PICTURES):
        folder = f"kind{row % 7}"
        (images / "Flickr" / folder).mkdir(parents=True, exist_ok=True)
        name = f"{row:04d}_{row * 77}.jpg"
        cv2.imwrite(str(images / "Flickr" / folder / name), smooth(row, 24, 32))
        lines.append(f"{folder}\\{name} \r\n")
    for folder in ("ImageList", "Groundtruth/AllLabels", "Groundtruth/TrainTestLabels"):
        (images / folder).mkdir(parents=True)
    (images / "ImageList/Imagelist.txt").write_text("".join(lines), newline="")
    for column in range(CONCEPTS):
        end = "\r\n" if column == 2 else "\n"
        text = "".join(f"{each}{end}" for each in labels[:, column])
        path = images / f"Groundtruth/AllLabels/Labels_concept{column}.txt"
        path.write_text(text, newline="")
    monkeypatch.setattr(nuswide, "PICTURES", PICTURES)
    monkeypatch.setattr(nuswide, "CONCEPTS", CONCEPTS)
    monkeypatch.setattr(nuswide, "USUAL", nuswide.Protocol(4, 20, 60, (5, 15)))
    monkeypatch.setattr(nuswide81, "WHOLE", nuswide.Protocol(9, 30, 60, (3, 4)))
    return images, labels


def check_split(listed, labels, queries, training, concepts):
    """The three splits are what the protocol says, with the labels of their pictures."""
    row_of = {f"Flickr/kind{row % 7}/{row:04d}_{row * 77}.jpg": row for row in range(PICTURES)}
    rows = {split: [row_of[key] for key in keys] for split, keys in listed.keys.items()}
    assert list(rows) == ["train", "test", "database"]
    assert listed.classes == [f"concept{column}" for column in concepts]
    assert len(rows["test"]) == queries and len(rows["train"]) == training
    labelled = np.flatnonzero(labels[:, concepts].any(axis=1)).tolist()
    assert sorted(rows["test"] + rows["database"]) == labelled
    assert set(rows["train"]) < set(rows["database"])
    for split, of_split in rows.items():
        assert of_split == sorted(of_split)
        np.testing.assert_array_equal(listed.labels[split], labels[of_split][:, concepts])


def test_nuswide_s_most_frequent_concepts(nus):
    images, labels = nus
    listed = nuswide.listing(images, False)
    frequent = sorted(np.argsort(-labels.sum(axis=0))[:4].tolist())
    assert frequent == [0, 1, 2, 5]
    check_split(listed, labels, 20, 60, frequent)
    assert (listed.labels["test"].sum(axis=0) >= 5).all()
    assert (listed.labels["train"].sum(axis=0) >= 15).all()
    again = nuswide.listing(images, False)
    assert (again.keys, again.sources) == (listed.keys, listed.sources)
    left = PICTURES - np.count_nonzero(labels[:, frequent].any(axis=1))
    assert listed.notes[0].startswith(f"{left} of 300 pictures have none of the 4 concepts")


def test_every_concept_is_trained_and_asked_for(nus):
    """Of the rarest, which four pictures have, two are queries and one is for training."""
    images, labels = nus
    listed = nuswide81.listing(images, False)
    check_split(listed, labels, 30, 60, list(range(CONCEPTS)))
    assert listed.labels["test"][:, 8].sum() >= 2 and listed.labels["train"][:, 8].sum() >= 1


def test_nuswide_from_its_files_to_lmdbs(prepare, nus, tmp_path):
    images, _ = nus
    made = prepare("nuswide", "--images", images)
    assert made.returncode == 0, made.stderr
    assert "the database is all but the queries" in made.stdout
    data = tmp_path / "data/nuswide/12x3"
    manifest = data_of_run.read_manifest(data)
    listed = nuswide.listing(images, False)
    assert manifest["encoding"] == "jpeg"
    for split, keys in listed.keys.items():
        assert manifest["counts"][split] == len(keys)
        with open_rows(data / f"{split}_lmdb") as (there, read):
            assert there == keys
            np.testing.assert_array_equal(read(range(len(keys)))[1], listed.labels[split])
    kept = (data / "database.txt").read_text().splitlines()
    assert kept[0].startswith("Flickr/kind") and len(kept) == len(listed.keys["database"])
    assert (data / "classes.txt").read_text().split() == listed.classes


def rewrite(name, change):
    return lambda images: (images / name).write_bytes(change((images / name).read_bytes()))


LIST, COLUMN = "ImageList/Imagelist.txt", "Groundtruth/AllLabels/Labels_concept3.txt"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda images: (images / LIST).unlink(),
            "Imagelist.txt: there is no such file; IMAGES is",
        ),
        (
            lambda images: (images / COLUMN).unlink(),
            "AllLabels: has 8 files Labels_<concept>.txt, w",
        ),
        (
            rewrite(LIST, lambda data: data[:-30]),
            "Imagelist.txt: lists 299 pictures, where NUS-WID",
        ),
        (rewrite(LIST, lambda data: data.replace(b"kind3", b"gone")), None),
        (
            rewrite(LIST, lambda data: data.replace(b"kind1\\0001_77.jpg", b"")),
            "Imagelist.txt, line 2: '' is no path",
        ),
        (
            rewrite(LIST, lambda data: data.replace(b"kind1\\0001_77", b"kind0\\0000_0")),
            "Imagelist.txt, lines 1 and 2: both list kind0/0000_0.jpg",
        ),
        (rewrite(COLUMN, lambda data: b"\n" + data), "concept3.txt, line 1: '' is neither 0 nor 1"),
        (
            rewrite(COLUMN, lambda data: data[:20] + b"2" + data[21:]),
            "concept3.txt, line 11: '2' is neither 0 nor 1; take the owner's file",
        ),
        (
            rewrite(COLUMN, lambda data: data[:20] + b"-1130179" + data[21:]),
            "concept3.txt, line 11: '-1130179' is neither 0 nor 1",
        ),
        (
            rewrite(COLUMN, lambda data: data[:-2]),
            "concept3.txt: has 299 lines for the 300 pictures",
        ),
        (rewrite(COLUMN, lambda data: data[:-1] + b"\r"), ""),
        (lambda images: (images / "Flickr").rename(images / "x"), "there is no folder Flickr with"),
    ],
)
def test_what_is_not_nuswide_is_refused(prepare, refused, nus, tmp_path, spoil, message):
    images, _ = nus
    spoil(images)
    if message == "":
        assert nuswide.listing(images, False).classes
        return
    said = refused(prepare("nuswide", "--images", images))
    assert (message or "No such file or directory; correct the list or the file") in said
    assert not list(tmp_path.glob("data/*/*x*"))


@pytest.fixture
def things(tmp_path, monkeypatch, smooth):
    """An MS COCO of 40 and 12 pictures and 3 categories with gaps in their ids; and its labels."""
    images, random = tmp_path / "coco", np.random.RandomState(1)
    categories = [{"supercategory": "x", "id": at, "name": name} for at, name in COCO.items()]
    (images / "annotations").mkdir(parents=True)
    labels = {}
    for split, size in (("train2017", 40), ("val2017", 12)):
        (images / split).mkdir()
        ids = random.permutation(10_000)[:size].tolist()
        marked, annotations = {}, []
        for at, each in enumerate(ids):
            cv2.imwrite(f"{images}/{split}/{each:012d}.jpg", smooth(len(labels) + each, 24, 32))
            marked[each] = (
                [] if at == 3 else random.choice(list(COCO), random.randint(1, 5)).tolist()
            )
            annotations += [
                {
                    "segmentation": [random.rand(8).tolist()],
                    "area": 12.5,
                    "iscrowd": 0,
                    "image_id": each,
                    "bbox": [1.0, 2.0, 3.0, 4.5],
                    "category_id": category,
                    "id": len(annotations) + number,
                }
                for number, category in enumerate(marked[each])
            ]
        random.shuffle(annotations)
        content = {
            "info": {"year": 2017},
            "licenses": [],
            "images": [
                {
                    "license": 4,
                    "file_name": f"{each:012d}.jpg",
                    "height": 24,
                    "width": 32,
                    "id": each,
                }
                for each in ids
            ],
            "annotations": annotations,
            "categories": categories,
        }
        (images / f"annotations/instances_{split}.json").write_text(json.dumps(content))
        labels[split] = {f"{split}/{each:012d}.jpg": set(of) for each, of in marked.items() if of}
    monkeypatch.setattr(coco, "SIZES", {"train": 40, "test": 12})
    monkeypatch.setattr(coco, "CATEGORIES", 3)
    return images, labels


COCO = {2: "bicycle", 1: "person", 90: "toothbrush"}


def test_coco_from_its_files_to_lmdbs(prepare, things, tmp_path):
    images, labels = things
    made = prepare("coco", "--images", images)
    assert made.returncode == 0, made.stderr
    assert "train2017: 1 of 40 pictures have no category and are left out" in made.stdout
    data = tmp_path / "data/coco/12x3"
    manifest = data_of_run.read_manifest(data)
    assert manifest["classes"] == ["person", "bicycle", "toothbrush"]
    assert manifest["counts"] == {"train": 39, "test": 11}
    for split, folder in coco.FOLDERS.items():
        with open_rows(data / f"{split}_lmdb") as (keys, read):
            assert keys == list(labels[folder])  # in the file's order
            found = read(range(len(keys)))[1]
        for key, row in zip(keys, found, strict=True):
            assert set(np.array([1, 2, 90])[row > 0]) == labels[folder][key]


def edit(change):
    def spoil(images):
        path = images / "annotations/instances_train2017.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return spoil


TRAIN = "annotations/instances_train2017.json"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda images: (images / TRAIN).unlink(), "train2017.json: there is no such file; IMAGES"),
        (
            lambda images: (images / TRAIN).write_text(""),
            "train2017.json: no annotations of MS COCO",
        ),
        (
            lambda images: (images / TRAIN).write_text("[1"),
            "train2017.json: no annotations of MS CO",
        ),
        (edit(lambda c: c.pop("images")), "Object missing required field `images`"),
        (edit(lambda c: c["images"][0].update(id="x")), "Expected `int`, got `str`"),
        (edit(lambda c: c["images"].pop()), "an annotation is of picture"),
        (
            edit(lambda c: c.update(images=[], annotations=[])),
            "has 0 pictures and 3 categories, whe",
        ),
        (edit(lambda c: c["categories"][0].update(id=1)), "lists a category twice"),
        (edit(lambda c: c["categories"].pop()), "is of picture"),
        (edit(lambda c: c["categories"][0].update(name="cat")), "both files have other categories"),
        (
            edit(lambda c: c["annotations"][0].update(image_id=77777)),
            "of picture 77777 and category",
        ),
        (edit(lambda c: c["images"][1].update(c["images"][0])), "lists a picture twice"),
        (edit(lambda c: c["images"][1].update(file_name="a\nb")), "is no printable text"),
    ],
)
def test_what_is_not_coco_is_refused(prepare, refused, things, tmp_path, spoil, message):
    images, _ = things
    spoil(images)
    assert message in refused(prepare("coco", "--images", images))
    assert not list(tmp_path.glob("data/*/*x*"))


def test_outlines_are_passed_over(things):
    images, _ = things
    found = msgspec.json.decode((images / TRAIN).read_bytes(), type=coco.Annotations)
    assert set(coco.Annotation.__struct_fields__) == {"image_id", "category_id"}
    assert len(found.annotations) > 39
    with pytest.raises(DataError, match="there is no such file"):
        coco.read(images / "annotations/instances_test2017.json")
