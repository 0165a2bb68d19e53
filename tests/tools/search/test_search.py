"""A picture of one's own against a run's index, as `make search` does it."""

import json
import shutil

import cv2
import numpy as np
import pytest

from data_prep.files import file_digest
from data_prep.lmdb_reader import open_rows
from tools.run.record import read_record, write_record
from tools.search.answer import table
from tools.search.index import create


@pytest.fixture(scope="module")
def indexed(extracted_run, folder_of, data_root, tmp_path_factory):
    """(job, picture, its key): a run with features and index, and a database picture as a PNG."""
    folder = tmp_path_factory.mktemp("indexed")
    job = extracted_run | {"--runs": folder}
    shutil.copytree(folder_of(extracted_run), folder_of(job))
    create(folder_of(job))
    with open_rows(data_root / "digits" / "28x1" / "train_lmdb") as (keys, read):
        pixels = read([7])[0][0]
    cv2.imwrite(str(folder / "digit.png"), pixels.transpose(1, 2, 0))
    return job, folder / "digit.png", keys[7]


def test_a_database_picture_finds_itself(indexed, options, command, folder_of):
    job, picture, key = indexed
    log = folder_of(job) / "search.log"
    log.write_bytes(bytes(20_000))
    done = command("tools.search", *options(job), "--query", picture, "--top", 50)
    assert done.returncode == 0, done.stderr
    first, header, *rows, last = done.stdout.splitlines()
    assert first.startswith(str(picture))
    assert first.count("%") == 3
    assert header.split() == ["rank", "distance", "class", "key"]
    assert last.startswith("answered in ")
    assert len(rows) == 50
    distances = [int(row.split()[1]) for row in rows]
    assert distances == sorted(distances)
    at = [row.split()[3] for row in rows].index(key)
    assert distances[at] == 0
    assert log.stat().st_size < 20_000  # of the last search alone


def test_the_second_stage_a_category_json_and_a_grid(indexed, options, command, tmp_path):
    """A grey net takes colour and transparency; by features a picture is its own nearest."""
    job, picture, key = indexed
    grey = cv2.imread(str(picture), cv2.IMREAD_GRAYSCALE)
    colour, grid = tmp_path / "colour.png", tmp_path / "grid.png"
    cv2.imwrite(str(colour), cv2.cvtColor(grey, cv2.COLOR_GRAY2BGRA))
    asked = ("--query", colour, "--json", 1, "--fine", 1, "--grid", grid, "--top", 7)
    done = command("tools.search", *options(job), *asked)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    best = answer["neighbours"][0]
    assert (best["key"], best["distance"]) == (key, 0)
    assert best["euclidean"] < 1e-3
    away = [found["euclidean"] for found in answer["neighbours"]]
    assert away == sorted(away)
    assert max(found["distance"] for found in answer["neighbours"]) <= 2
    assert sum(found["probability"] for found in answer["classes"]) == pytest.approx(1, abs=1e-4)
    assert len(answer["code"]) == 16
    assert answer["milliseconds"]["total"] > 0
    drawn = cv2.imread(str(grid))
    assert min(drawn.shape[:2]) > 300
    assert len(np.unique(drawn)) > 10

    label = best["label"]
    other = next(c["name"] for c in answer["classes"] if c["name"] != label)
    asked = ("--query", picture, "--json", 1, "--category", other)
    done = command("tools.search", *options(job), *asked)
    found = json.loads(done.stdout)["neighbours"]
    assert len(found) == 10
    assert {each["label"] for each in found} == {other}


def test_bad_pictures_and_options_are_said(indexed, options, command, tmp_path):
    job, picture, _ = indexed
    text = tmp_path / "text.jpg"
    text.write_text("not a picture")
    for more, said in [
        (("--query", tmp_path / "gone.jpg"), "there is no such picture"),
        (("--query", text), "text.jpg cannot be decoded"),
        (("--query", picture, "--category", "cat"), "CATEGORY=cat is not known"),
        (("--query", picture, "--fine", 1, "--radius", 17), "RADIUS=17 is out of range"),
        (("--query", picture, "--grid", tmp_path / "no" / "grid.png"), "there is no such folder"),
    ]:
        done = command("tools.search", *options(job), *more)
        assert done.returncode == 1
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def test_no_index_and_an_index_of_other_weights_are_said(
    trained, options, command, folder_of, indexed
):
    run, picture = folder_of(trained), indexed[1]

    def search():
        done = command("tools.search", *options(trained), "--query", picture)
        assert done.returncode == 1
        return done.stderr

    assert "run 'make index'" in search()
    for name in ("index.h5", "codes.h5"):
        shutil.copy(folder_of(indexed[0]) / name, run / name)
    model = run / "model.caffemodel"
    changed = model.read_bytes() + b"\xf8\x3f\x00"  # a field that protobuf does not know
    model.unlink()
    model.write_bytes(changed)
    assert "is not what the training left" in search()
    content = read_record(run)
    content["model"]["sha256"] = file_digest(model, "sha256")  # as another training leaves it
    write_record(run, content)
    assert "holds codes of other weights" in search()


def test_several_labels_in_the_table_json_and_a_category(
    several, extracted_run, options, command, data_root, tmp_path
):
    job = extracted_run | {"--runs": several.parent}
    index = create(several)
    with open_rows(data_root / "digits" / "28x1" / "train_lmdb") as (_, read):
        cv2.imwrite(str(tmp_path / "digit.png"), read([7])[0][0].transpose(1, 2, 0))
    asked = ("--query", tmp_path / "digit.png", "--top", 200, "--category", "7")
    done = command("tools.search", *options(job), *asked, "--json", 1)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["neighbours"]
    assert all("7" in each["labels"] for each in found)
    assert {len(each["labels"]) for each in found} == {1, 2}
    for each in found:
        assert each["labels"] == index.label_names(each["row"])
        assert each["label"] == ", ".join(each["labels"])
    lines = list(table("digit.png", json.loads(done.stdout)))
    for each, line in zip(found, lines[2:], strict=True):
        assert f" {each['label']} " in line
