import base64
import json
import re

import numpy as np
import pytest

from eval.codes import read_codes
from eval.files import InputError
from eval.pages.report import query_grid, write_report
from eval.protocol import measure
from eval.summary import write_metrics
from eval.training_log import read_training
from tests.eval.pages.page import Page
from tests.eval.samples import (
    TRAINING,
    picture,
    write_run,
    write_sample,
    write_several,
    write_training,
)


@pytest.fixture
def folder(tmp_path):
    write_sample(tmp_path / "codes.h5")
    write_metrics(tmp_path / "metrics.json", measure(tmp_path / "codes.h5"))
    write_training(tmp_path / "train.csv")
    write_run(tmp_path / "run.json")
    return tmp_path


def test_page_is_whole_and_self_contained(folder):
    path = write_report(folder, picture)
    assert path == folder / "report.html"
    page = Page(path.read_text())
    assert page.open == []
    assert page.headings[0] == "h1" and set(page.headings[1:]) == {"h2"}
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert len(page.images) == 4 * 11
    assert all(image["alt"] for image in page.images)
    assert sorted(folder.glob(".*")) == []


def test_page_shows_figures_provenance_and_warnings(folder):
    write_run(folder / "run.json", anything={"new": ["of", "later"]})
    page = Page(write_report(folder, picture).read_text())
    text = " ".join(page.text.split())
    metrics = json.loads((folder / "metrics.json").read_text())
    for name in ("map", "map_at_1000"):
        ties = metrics["ties"][name]
        assert f"{metrics[name]:.4f}" in text
        assert f"ties: {ties['expected']:.4f}, {ties['worst']:.4f} to {ties['best']:.4f}" in text
    assert "from scratch" in text
    assert "bit 3 never fires" in text
    assert "distinct codes 10,000" in text
    assert "caffe.commit 99bd997" in text
    assert "anything.new of, later" in text
    assert "settings.subset not set" in text
    assert "No number was published" in text


def test_from_scratch_is_said_only_where_it_holds(folder):
    write_run(folder / "run.json", from_scratch=False)
    assert "from scratch" not in Page(write_report(folder, picture).read_text()).text


def test_charts_only_of_what_was_logged(folder):
    titles = re.findall(
        r'role="img" aria-label="([^:"]+)', write_report(folder, picture).read_text()
    )
    assert titles == [
        "Classification loss",
        "Binarization loss",
        "Accuracy",
        "Precision at k",
        "Precision and recall by Hamming radius",
    ]


def test_same_run_gives_the_same_page(folder):
    first = write_report(folder, picture).read_bytes()
    assert write_report(folder, picture).read_bytes() == first


def test_grid_shows_the_pictures_of_its_rows(folder):
    codes = read_codes(folder / "codes.h5")
    grid = query_grid(codes, lambda split, row: f"{split} {row}".encode())
    assert [entry["label"] for entry in grid] == codes.class_names
    bits = [
        np.unpackbits(split.codes, axis=1).astype(int) for split in (codes.query, codes.database)
    ]
    for entry in grid:
        split, row = base64.b64decode(entry["picture"].split(",")[1]).decode().split()
        assert (
            split == "query" and codes.class_names[codes.query.labels[int(row)]] == entry["label"]
        )
        distances = np.abs(bits[0][int(row)] - bits[1]).sum(axis=1)
        order = np.argsort(distances, kind="stable")[:10]
        for found, expected in zip(entry["nearest"], order, strict=True):
            split, shown = base64.b64decode(found["picture"].split(",")[1]).decode().split()
            assert (split, int(shown)) == ("database", expected)
            assert found["distance"] == distances[expected]
            assert found["label"] == codes.class_names[codes.database.labels[expected]]
            assert found["right"] == (found["label"] == entry["label"])


def test_names_from_the_data_are_escaped(folder):
    write_run(folder / "run.json", dataset="<script>alert(1)</script>")
    assert "<script" not in write_report(folder, picture).read_text()


def test_training_reads_blank_cells_as_nan(folder):
    training = read_training(folder / "train.csv")
    assert training["iteration"].tolist() == [0, 50, 100]
    assert np.isnan(training["classification"][0]) and training["classification"][2] == 0.5
    assert np.isnan(training["balance"]).all()


def stale(folder):
    write_sample(folder / "codes.h5", bits=13)


def remove(name):
    return lambda folder: (folder / name).unlink()


def write(name, text):
    return lambda folder: (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (stale, "metrics.json was not measured on the codes.h5 beside it; run make eval"),
        (remove("run.json"), "run.json does not exist; run make train"),
        (remove("metrics.json"), "metrics.json does not exist; run make eval"),
        (remove("train.csv"), "train.csv does not exist; run make train"),
        (remove("codes.h5"), "codes.h5 does not exist"),
        (write("run.json", "{"), "run.json is no JSON"),
        (
            write("metrics.json", "{}"),
            "metrics.json lacks 'codes_sha256'; remove it and run make eval",
        ),
        (write("run.json", "{}"), "run.json lacks 'settings'; remove it and run make train"),
        (write("train.csv", "loss\n1\n"), "train.csv has no column 'iteration'"),
        (
            write("train.csv", "iteration,loss\n1,two\n"),
            "train.csv, line 2: 'two' in column 'loss'",
        ),
    ],
)
def test_bad_folder_is_named_in_one_sentence(folder, spoil, message):
    spoil(folder)
    with pytest.raises(InputError) as raised:
        write_report(folder, picture)
    assert message in str(raised.value) and "\n" not in str(raised.value)
    assert not (folder / "report.html").exists()


def test_long_training_is_drawn_as_means(folder):
    rows = [{"iteration": i, "classification": i % 2} for i in range(1, 20001)]
    write_training(folder / "train.csv", [*TRAINING, *rows])
    assert len(write_report(folder, picture).read_text()) < 300_000


def test_several_labels_are_shown_with_their_figures(folder):
    write_several(folder / "codes.h5")
    write_metrics(folder / "metrics.json", measure(folder / "codes.h5"))
    last = {"iteration": 100, "test_mean_ap": 0.8}
    write_training(folder / "train.csv", [{"iteration": 50, "test_mean_ap": 0.5}, last])
    html = write_report(folder, picture).read_text()
    page, metrics = Page(html), json.loads((folder / "metrics.json").read_text())
    text = " ".join(page.text.split())
    scores, graded = metrics["classification"], metrics["graded"]
    assert f"Mean average precision of the labels {scores['mean_average_precision']:.4f}" in text
    assert f"{scores['micro_f1']:.4f} macro: {scores['macro_f1']:.4f}" in text
    ties = graded["ties"]["weighted_map"]
    assert (
        f"wmAP, whole ranking {graded['weighted_map']:.4f} ties: {ties['expected']:.4f}, "
        f"{ties['worst']:.4f} to {ties['best']:.4f}"
    ) in text
    assert f"NDCG@1000 {graded['ndcg_at_k']['ndcg'][-1]:.4f}" in text and "2^r - 1" in text
    for title in ("Mean average precision of the labels", "NDCG at k", "ACG at k"):
        assert f'role="img" aria-label="{title}' in html
    for row in metrics["per_class"]:
        assert (
            f"{row['class']} {row['queries']} {row['average_precision']:.4f} {row['f1']:.4f}"
            in text
        )
    codes = read_codes(folder / "codes.h5")
    entry = query_grid(codes, picture)[0]
    shown = int(np.flatnonzero(codes.query.labels[:, 0])[0])
    carried = np.flatnonzero(codes.query.labels[shown])
    assert entry["label"] == ", ".join(f"class {label}" for label in carried)
    for found in entry["nearest"]:
        shared = set(found["label"].split(", ")) & set(entry["label"].split(", "))
        assert found["shared"] == len(shared) and found["right"] == bool(shared)
    assert "shared" in text
