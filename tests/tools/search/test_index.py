"""A run's index: made from its codes, searched, changed, and never mistaken for another's."""

import resource
import subprocess
import tracemalloc
from functools import partial
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from data_prep.lmdb_reader import open_rows
from eval.codes import read_codes
from eval.hamming import nearest as eval_nearest
from tools.net.trained import Outputs
from tools.run.data import open_pictures
from tools.run.failure import Failure
from tools.search import adding
from tools.search.faiss_index import KINDS
from tools.search.index import (
    POOL,
    add,
    create,
    labels_of,
    nearest,
    open_index,
    picture_of,
    refine,
    remove,
)

REPO = Path(__file__).resolve().parents[3]


@pytest.fixture
def run(extracted, folder_of):
    """The folder of a run with codes and features and no index, the test's own."""
    return folder_of(extracted)


def first_database_rows(run, count):
    """(codes, probabilities, features) of the first database rows, from the run's files."""
    with h5py.File(run / "codes.h5") as codes, h5py.File(run / "features.h5") as features:
        database = codes["database"]
        return (
            database["codes"][:count],
            database["probabilities"][:count],
            features["database/features"][:count],
        )


def test_a_flat_index_ranks_as_eval_does(run):
    codes = read_codes(run / "codes.h5")
    index = create(run)
    assert index.kind == "flat"
    rows, distances = nearest(index, codes.query.codes, 100)
    for i, query in enumerate(codes.query.codes):
        expected_rows, expected = eval_nearest(query, codes.database.codes, 100)
        np.testing.assert_array_equal(rows[i], expected_rows)
        np.testing.assert_array_equal(distances[i], expected)
    np.testing.assert_array_equal(index.labels, codes.database.labels)
    np.testing.assert_array_equal(index.keys, codes.database.keys)
    assert isinstance(index.codes, np.memmap)


@pytest.mark.parametrize("kind", KINDS)
def test_a_category_is_searched_exactly_and_alone(run, kind):
    codes = read_codes(run / "codes.h5")
    index = create(run, kind)
    among = np.flatnonzero(codes.database.labels == 3)
    queries = codes.query.codes[:20]
    rows, distances = nearest(index, queries, len(among) + 5, category=3)
    assert (rows[:, len(among) :] == -1).all()
    assert (distances[:, len(among) :] == -1).all()
    for i, query in enumerate(queries):
        places, expected = eval_nearest(query, codes.database.codes[among], len(among))
        np.testing.assert_array_equal(rows[i, : len(among)], among[places])
        np.testing.assert_array_equal(distances[i, : len(among)], expected)
    rows, distances = nearest(index, queries, 4, category=99)
    assert (rows == -1).all()
    assert rows.shape == distances.shape == (20, 4)


def test_the_second_stage_orders_those_within_the_radius_by_their_features(run):
    codes = read_codes(run / "codes.h5")
    index = create(run)
    with h5py.File(run / "features.h5") as file:
        queries, database = file["query/features"][:20], file["database/features"][:]
    rows, distances = nearest(index, codes.query.codes[:20], POOL)
    found, euclidean = refine(index, rows, distances, queries, radius=1, top=30)
    for i, query in enumerate(queries):
        near = np.flatnonzero(
            np.unpackbits(codes.database.codes ^ codes.query.codes[i], axis=1).sum(axis=1) <= 1
        )
        away = np.sort(np.linalg.norm(database[near] - query, axis=1))[:30]
        count = len(away)
        assert set(found[i, :count]) <= set(near)
        np.testing.assert_allclose(euclidean[i, :count], away, rtol=1e-5)
        assert (found[i, count:] == -1).all()
        assert np.isinf(euclidean[i, count:]).all()
    (run / "features.h5").unlink()
    with pytest.raises(Failure, match="FEATURES=1"):
        refine(open_index(run), rows, distances, queries, radius=1, top=30)


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_come_and_go_without_a_rebuild(run, extracted, kind):
    index = create(run, kind)
    total = len(index.codes)
    codes, probabilities, features = first_database_rows(run, 4)
    pictures = np.arange(4 * 28 * 28, dtype=np.uint8).reshape(4, 1, 28, 28)
    keys = [f"/my/pictures/{'é' * 40}{i}.png" for i in range(4)]
    rows = {
        "codes": codes,
        "probabilities": probabilities,
        "features": features,
        "pictures": pictures,
    }
    assert add(run, keys, label=7, **rows) == 0
    two = {name: values[:2] for name, values in rows.items()}
    assert add(run, keys[:2], label=5, **two) == 2
    index = open_index(run)
    assert len(index.codes) == total + 6
    assert index.removed[total:].tolist() == [True, True, False, False, False, False]
    assert [key.decode() for key in index.keys[total:]] == keys + keys[:2]
    rows, distances = nearest(index, codes, total + 6)
    kept = [row for row in rows[0] if row >= 0]
    assert len(set(kept)) == len(kept)
    assert not index.removed[kept].any()
    if kind == "flat":
        assert len(kept) == total + 4
    at = kept.index(total + 4)
    assert distances[0, at] == 0
    rows, distances = nearest(index, codes[:1], 2000, category=5)
    assert {total + 4} <= set(rows[0][distances[0] == 0])
    found, euclidean = refine(index, rows, distances, features[:1], radius=0, top=2000)
    assert euclidean[0][found[0] == total + 4] == 0

    again = create(run, kind)
    assert len(again.codes) == total + 6
    other = create(run, "flat" if kind == "ivf" else "ivf")
    assert len(other.codes) == total + 6
    assert other.removed[total:].tolist() == index.removed[total:].tolist()

    data = extracted["--data-root"] / "digits" / "28x1"
    with open_rows(data / "train_lmdb") as (_, read):
        ninth = read([9])[0][0]
    with open_pictures(data) as read:
        read = partial(read, "database")
        np.testing.assert_array_equal(picture_of(other, total + 3, read), pictures[3])
        np.testing.assert_array_equal(picture_of(other, 9, read), ninth)

    with pytest.raises(Failure, match="has no picture nowhere"):
        remove(run, [keys[2], "nowhere"])
    first = other.keys[0].decode()
    assert remove(run, [keys[2], first]) == 2
    rows, _ = nearest(open_index(run), codes, total)
    assert not {0, total + 2} & set(rows.ravel())
    with pytest.raises(Failure, match="has no picture"):
        remove(run, [first])
    assert len(list(run.glob("index-*.faiss"))) == 1


def test_a_retrained_net_s_index_is_refused_then_made_anew(run, extracted, options, command):
    index = create(run)
    codes, probabilities, features = first_database_rows(run, 3)
    add(
        run,
        ["a.png", "b.png", "c.png"],
        label=-1,
        codes=codes,
        probabilities=probabilities,
        features=features,
        pictures=np.zeros((3, 1, 28, 28), np.uint8),
    )
    remove(run, ["c.png", index.keys[0].decode()])
    job = extracted | {"--iters": 70}
    assert command("tools.train", *options(job)).returncode == 0
    with pytest.raises(Failure, match="index.h5 holds codes of other weights"):
        open_index(run)
    with pytest.raises(Failure, match="codes.h5 holds codes of other weights"):
        create(run)
    assert command("tools.codes", *options(job)).returncode == 0
    done = command("tools.search.indexing", *options(job))
    assert done.returncode == 0, done.stderr
    assert "not in the new one, 2 pictures added and 1 removed: 'make index' with" in done.stdout
    index = open_index(run)
    assert index.fingerprint == read_codes(run / "codes.h5").net_fingerprint
    assert index.features is None
    assert "not in the new one" not in command("tools.search.indexing", *options(job)).stdout
    (run / "model.caffemodel").unlink()
    with pytest.raises(Failure, match="model.caffemodel does not exist: run 'make train'"):
        open_index(run)


def test_damage_is_said_and_a_new_index_mends_it(run):
    with pytest.raises(Failure, match="index.h5 does not exist: run 'make index'"):
        open_index(run)
    create(run)
    (whole,) = run.glob("index-*.faiss")
    content = whole.read_bytes()
    for damaged in (content[:13], content[:200], content[:20] + b"\xff" + content[21:]):
        whole.write_bytes(damaged)  # FAISS itself dies of some of them
        with pytest.raises(Failure, match="faiss is damaged: remove it and run 'make index'"):
            open_index(run)
    whole.unlink()
    with pytest.raises(Failure, match="is missing"):
        open_index(run)
    create(run)
    open_index(run)
    (run / "index.h5").write_bytes(b"\x89HDF not quite")
    for attempt in (open_index, create):
        with pytest.raises(Failure, match="index.h5 is damaged"):
            attempt(run)
    (run / "index.h5").unlink()
    create(run)
    assert len(list(run.glob("index-*.faiss"))) == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.pop("labels"),
        lambda file: file.attrs.pop("faiss"),
        lambda file: file.attrs.update({"kind": 7}),
        lambda file: file.attrs.update({"bits": 48}),
        lambda file: file["labels"].write_direct(np.full(len(file["labels"]), 99, np.int32)),
        lambda file: (file.pop("keys"), file.update({"keys": np.array([b"one"])})),
    ],
)
def test_an_index_file_that_lacks_something_is_said(run, damage):
    create(run)
    with h5py.File(run / "index.h5", "a") as file:
        damage(file)
    for attempt in (open_index, create):
        with pytest.raises(Failure, match="index.h5 is damaged"):
            attempt(run)


def test_what_a_kill_has_left_goes_with_the_next_call(run):
    """The name of FAISS's file is another each time, so that no later write has that name."""
    create(run)
    (used,) = run.glob("index-*.faiss")
    ended = subprocess.Popen(["true"])
    ended.wait()
    left = [run / f".index-0123.faiss.partial-{ended.pid}", run / "index-4567.faiss"]
    for path in left:
        path.write_bytes(b"half")
    create(run)
    assert not any(path.exists() for path in left) and used.exists()


@pytest.mark.parametrize("limit", [100, 20_000])
def test_a_full_disk_is_said_and_the_index_stays_as_it_was(run, extracted, options, command, limit):
    """A limit on the size of a file stands in for the disk: of FAISS's file, of index.h5."""
    index = create(run)

    def full():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    job = options(extracted)
    done = command("tools.search.indexing", *job, "--index", "ivf", preexec_fn=full)
    assert done.returncode == 1
    assert done.stderr == (
        f"error: {run}/index.h5 cannot be written: File too large; mend that and run 'make index' "
        "again\n"
    )
    assert open_index(run).kind == index.kind
    assert len(list(run.glob("index-*.faiss"))) == 1


def test_the_commands_make_grow_and_shrink_it(run, extracted, options, command, tmp_path):
    job = options(extracted)
    done = command("tools.search.indexing", *job)
    assert done.returncode == 0, done.stderr
    pictures = len(read_codes(run / "codes.h5").database.codes)
    assert f"flat, {pictures:,} pictures of 16 bits" in done.stdout
    folder = tmp_path / "mine"
    (folder / "deeper").mkdir(parents=True)
    with open_rows(extracted["--data-root"] / "digits" / "28x1" / "test_lmdb") as (_, read):
        for name, picture in zip(["a.png", "deeper/b.PNG"], read([3, 4])[0], strict=True):
            assert cv2.imwrite(str(folder / name), picture.transpose(1, 2, 0))
    (folder / "notes.txt").write_text("not a picture")
    before = len(open_index(run).codes)
    done = command("tools.search.indexing", *job, "--add", folder, "--label", "4")
    assert done.returncode == 0, done.stderr
    index = open_index(run)
    keys = [str(folder / "a.png"), str(folder / "deeper/b.PNG")]
    assert [key.decode() for key in index.keys[before:]] == keys
    assert index.labels[before:].tolist() == [4, 4]
    with h5py.File(run / "codes.h5") as codes, h5py.File(run / "features.h5") as features:
        np.testing.assert_array_equal(index.codes[before:], codes["query/codes"][3:5])
        found = features["query/features"][3:5]
        np.testing.assert_allclose(index.added_features, found, rtol=1e-5, atol=1e-6)
    listed = tmp_path / "gone.txt"
    listed.write_text("\n".join([*keys, "", " "]) + "\n")
    done = command("tools.search.indexing", *job, "--remove", f"@{listed}")
    assert done.returncode == 0, done.stderr
    assert "removed 2 pictures" in done.stdout

    (tmp_path / "latin.txt").write_bytes("größe.png\n".encode("latin-1"))
    (folder / "broken.jpg").write_text("not a picture")
    latin = tmp_path / "\udcfc.png"
    latin.write_bytes(b"not looked at")
    for more, said in [
        (("--index", "tree"), "INDEX=tree is not known"),
        (("--remove", "gone.png"), "has no picture gone.png"),
        (("--remove", "\udcfc.png"), "has no picture \ufffd.png"),
        (("--remove", "@gone"), "REMOVE=@gone: No such file"),
        (("--remove", f"@{folder}"), f"REMOVE=@{folder}: not a list"),
        (("--remove", f"@{tmp_path}/latin.txt"), "latin.txt: not a list in UTF-8"),
        (("--add", "gone"), "there is no such file or folder"),
        (("--add", latin), "its name is not UTF-8"),
        (("--add", folder), "broken.jpg cannot be decoded"),
        (("--add", folder / "a.png", "--label", "cat"), "LABEL=cat is not"),
    ]:
        done = command("tools.search.indexing", *job, *more)
        assert done.returncode == 1
        assert said in done.stderr
        assert "Traceback" not in done.stderr
    assert len(open_index(run).codes) == before + 2


def test_memory_does_not_grow_with_the_pictures_that_are_added(run, tmp_path, monkeypatch):
    """600 pictures of 256 x 256 are 118 MB: no more than a few batches of them are held at once."""
    index = create(run)
    classes, features = index.probabilities.shape[1], index.features.shape[1]

    class Net:
        """Stands in for a net of large pictures."""

        def read(self, path):
            return np.full((3, 256, 256), int(path.stem) % 256, np.uint8)

        def __call__(self, pictures, features):
            count = len(pictures)
            shapes = ((count, 16), (count, classes), (count, index.features.shape[1]))
            return Outputs(*(np.full(shape, 0.75, np.float32) for shape in shapes))

    monkeypatch.setattr(adding, "open_run", lambda *_, **__: Net())
    monkeypatch.setattr(adding, "BATCH", 20)
    monkeypatch.setenv("SSDH_TERMINAL", "2")
    files = [tmp_path / f"{number}.png" for number in range(600)]
    before = set(run.iterdir())
    tracemalloc.start()
    try:
        assert adding.add_pictures(run=run, data=tmp_path, files=files, label=3, gpu=None) == 0
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40e6
    assert {path.suffix for path in set(run.iterdir()) ^ before} == {".faiss"}  # a new one
    grown = open_index(run)
    assert grown.added_features.shape == (600, features)
    assert grown.added_pictures[599].min() == grown.added_pictures[599].max() == 599 % 256


def test_make_adds_a_picture_once(extracted, run, tmp_path):
    """The stage that makes the index first leaves ADD to what comes behind it."""
    picture = tmp_path / "a.png"
    assert cv2.imwrite(str(picture), np.full((28, 28), 255, np.uint8))
    variables = [f"{name[2:].upper().replace('-', '_')}={extracted[name]}" for name in extracted]
    done = subprocess.run(
        ["make", "index", *variables, f"ADD={picture}", "LABEL=4"],
        cwd=REPO,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    index = open_index(run)
    said = f"added 1 picture, 0 of them in place of older ones: {len(index.codes):,} pictures now"
    assert said in done.stdout
    assert len(index.codes) == index.base + 1
    assert not index.removed.any()


def test_pictures_with_several_labels_are_of_each_of_their_categories(several):
    codes = read_codes(several / "codes.h5")
    index = create(several)
    np.testing.assert_array_equal(index.labels, codes.database.labels)
    assert index.label_names(13) == sorted({str(codes.database.labels[13].argmax()), "3"})
    among = np.flatnonzero(codes.database.labels[:, 3])
    rows, distances = nearest(index, codes.query.codes[:5], 30, category=3)
    for i, query in enumerate(codes.query.codes[:5]):
        places, expected = eval_nearest(query, codes.database.codes[among], 30)
        np.testing.assert_array_equal(rows[i], among[places])
        np.testing.assert_array_equal(distances[i], expected)
    assert labels_of(index, "7, 2", "LABEL") == [0, 0, 1, 0, 0, 0, 0, 1, 0, 0]
    with pytest.raises(Failure, match="LABEL=cat is not known; there are 0, 1, 2"):
        labels_of(index, "7,cat", "LABEL")
    one, features = first_database_rows(several, 1), np.zeros((1, 1, 28, 28), np.uint8)
    parts = dict(zip(("codes", "probabilities", "features"), one, strict=True))
    for text in ("7,2", ""):
        label = labels_of(index, text, "LABEL")
        add(several, [f"labels {text}"], label=label, pictures=features, **parts)
    index = open_index(several)
    assert [index.label_names(len(index.keys) - at) for at in (2, 1)] == [["2", "7"], []]
    rows, _ = nearest(index, one[0], len(index.keys), category=2)
    assert len(index.keys) - 2 in rows and len(index.keys) - 1 not in rows


@pytest.mark.parametrize(
    "labels",
    [np.full((3, 10), 2, np.uint8), np.zeros((3, 11), np.uint8), np.zeros((3, 1, 1), "u1")],
)
def test_damaged_labels_of_an_index_are_said(several, labels):
    create(several)
    with h5py.File(several / "index.h5", "a") as file:
        rows = len(file.pop("labels"))
        file["labels"] = np.resize(labels, (rows, *labels.shape[1:]))
    with pytest.raises(Failure, match="is damaged, or no HDF5"):
        open_index(several)
