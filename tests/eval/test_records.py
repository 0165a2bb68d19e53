"""run.json, metrics.json, train.csv, codes.h5 and features.h5 damaged inside: a sentence each."""

import json
import os
import random

import h5py
import numpy as np
import pytest

from eval.classification import measure_classification
from eval.codes import read_codes
from eval.features import read_features, read_fingerprint
from eval.files import InputError, read_json, write_atomically
from eval.pages.report import write_report
from eval.protocol import measure, metrics_path
from eval.records import read_baseline, read_metrics, read_run_record
from eval.run_folders import find_runs, read_run
from eval.schema import misfit
from eval.summary import write_metrics
from eval.training_log import read_training, rows_until
from tests.eval.samples import picture, write_features, write_run, write_sample, write_training


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """The files of a run's folder, by name."""
    folder = tmp_path_factory.mktemp("whole")
    write_sample(folder / "codes.h5")
    write_features(folder / "features.h5")
    write_metrics(folder / "metrics.json", measure(folder / "codes.h5"))
    write_training(folder / "train.csv")
    write_run(folder / "run.json")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def folder(content, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    for name, data in content.items():
        (folder / name).write_bytes(data)
    return folder


def said_of(read, path):
    """The sentence that a reader raises, which names the file; None where it reads it."""
    try:
        read(path)
    except InputError as error:
        said = str(error)
        assert said.startswith(str(path)) and "\n" not in said and ";" in said, said
        return said
    return None


def set_in(path, value):
    """Change one value of a JSON file's content, by its keys and places."""

    def spoil(file):
        whole = there = json.loads(file.read_text())
        for key in path[:-1]:
            there = there[key]
        if value is Ellipsis:
            del there[path[-1]]
        else:
            there[path[-1]] = value
        file.write_text(json.dumps(whole))

    return spoil


def write(data):
    return lambda file: file.write_bytes(data)


NOT_JSON = [write(b"{"), write(b"\xff\xfe\x00"), write(b""), write(b"[" * 100_000)]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        *((spoil, "is no JSON") for spoil in NOT_JSON),
        (write(b"[]"), "is no JSON object"),
        (set_in(["settings"], ...), "lacks 'settings'"),
        (set_in(["settings"], []), "has no object as 'settings'"),
        (set_in(["settings", "dataset"], ["x"]), "has no text as 'settings.dataset'"),
        (set_in(["settings", "net"], ...), "lacks 'settings.net'"),
        (set_in(["settings", "bits"], "12"), "has no whole number as 'settings.bits'"),
        (set_in(["settings", "method"], 7), "has no text as 'settings.method'"),
        (set_in(["from_scratch"], "no"), "has no true or false as 'from_scratch'"),
        (set_in(["warnings"], None), "has no list as 'warnings'"),
        (set_in(["warnings"], [1]), "has no text as 'warnings[0]'"),
        (set_in(["model"], []), "has no object as 'model'"),
    ],
)
def test_run_json(folder, spoil, message):
    spoil(folder / "run.json")
    said = said_of(lambda path: read_run_record(path.parent), folder / "run.json")
    assert message in said and "remove it and run make train" in said


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        *((spoil, "is no JSON") for spoil in NOT_JSON),
        (set_in(["map"], "high"), "has no number as 'map'"),
        (set_in(["map"], float("nan")), "has no number as 'map'"),
        (set_in(["map"], True), "has no number as 'map'"),
        (set_in(["accuracy"], []), "has no number as 'accuracy'"),
        (set_in(["bits"], None), "has no whole number as 'bits'"),
        (set_in(["queries"], 1.5), "has no whole number as 'queries'"),
        (set_in(["ties"], ...), "lacks 'ties'"),
        (set_in(["ties", "map", "worst"], None), "has no number as 'ties.map.worst'"),
        (set_in(["ties", "map_at_1000"], ...), "lacks 'ties.map_at_1000'"),
        (set_in(["per_class", 1, "map_at_1000"], "x"), "no number as 'per_class[1].map_at_1000'"),
        (set_in(["per_class", 1, "class"], "\ud800"), "is no JSON"),
        (set_in(["k"], 7), "lacks 'map_at_7' or its ties"),
        (
            set_in(["precision_at_k", "precision"], []),
            "different lengths in 'precision_at_k'",
        ),
        (set_in(["precision_at_k", "k", 0], "1"), "has no whole number as 'precision_at_k.k[0]'"),
        (
            set_in(["precision_recall", "recall"], [1]),
            "different lengths in 'precision_recall'",
        ),
        (set_in(["per_class"], [{}]), "lacks 'per_class[0].class'"),
        (set_in(["subset"], 5), "has no null as 'subset'"),
    ],
)
def test_metrics_json(folder, spoil, message):
    spoil(folder / "metrics.json")
    said = said_of(lambda path: read_metrics(path, "make eval"), folder / "metrics.json")
    assert message in said and "remove it and run make eval" in said
    with pytest.raises(InputError, match="metrics.json"):
        write_report(folder, picture)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"iteration,loss\n1,\xff\xfe\n", "is damaged, no table of text"),
        (b"iteration,loss\n\x00,1\n", "train.csv"),
        (b'iteration,loss\n1,"' + b"9" * 200_000, "is damaged, no table of text"),
        (b"iteration,loss\n,1\n", "line 2: has no iteration"),
        (b"iteration,loss\ninf,1\n", "line 2: has no iteration"),
        (b"iteration,loss\n1\n2,x\n", "line 3: 'x' in column 'loss' is no number"),
        (b"", "has no column 'iteration'"),
    ],
)
def test_train_csv(folder, text, message):
    (folder / "train.csv").write_bytes(text)
    said = said_of(read_training, folder / "train.csv")
    assert message in said and "run make train again" in said


def test_a_training_that_goes_on_takes_the_rows_that_it_keeps(folder):
    path = folder / "train.csv"
    path.write_text("iteration,seconds\n0,1\n10,2\n20,\n")
    assert [row["iteration"] for row in rows_until(path, 10)] == ["0", "10"]
    path.write_text("iteration,seconds\nten,2\n")
    said = said_of(lambda path: rows_until(path, 10), path)
    assert "'ten' in column 'iteration' is no number; remove it, and the same command" in said
    path.unlink()
    assert rows_until(path, 10) == []


def attribute(name, value):
    def spoil(path):
        with h5py.File(path, "a") as file:
            del file.attrs[name]
            if value is not None:
                file.attrs[name] = value

    return spoil


def replace(name, value):
    def spoil(path):
        with h5py.File(path, "a") as file:
            del file[name]
            if isinstance(value, str):
                file.create_group(name)
            else:
                file[name] = value

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (attribute("bits", "twelve"), "attribute 'bits' is 'twelve', but must be a number"),
        (attribute("bits", np.nan), "attribute 'bits' is nan, but must be from 1 to 65534"),
        (attribute("bits", [12, 12]), "must be a number"),
        (attribute("bit_order", 7), "bit_order is None, but must be 'big'"),
        (attribute("class_names", "cat"), "'class_names' is no list of texts"),
        (attribute("class_names", 7), "'class_names' is no list of texts"),
        (attribute("class_names", [1, 2, 3, 4]), "'class_names' is no list of texts"),
        (replace("query/codes", "group"), "'query/codes' is no rows"),
        (replace("query/labels", 3), "'query/labels' is no rows"),
        (replace("query", 3), "has no 'query/codes'"),
        (replace("database/key", np.zeros(100)), "'/database/key' must hold fixed-length strings"),
    ],
)
def test_codes_h5(folder, spoil, message):
    spoil(folder / "codes.h5")
    assert message in said_of(read_codes, folder / "codes.h5")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (attribute("blob", 7), "attribute 'blob' is no text"),
        (attribute("class_names", 7), "attribute 'class_names' is no text"),
        (attribute("net_fingerprint", [1]), "attribute 'net_fingerprint' is no text"),
        (replace("query/features", "group"), "'query/features' is no rows"),
        (replace("query/labels", np.full(40, -1)), "are no numbers of classes, from 0 up"),
        (replace("query/labels", np.full(40, 0.5)), "are no numbers of classes, from 0 up"),
    ],
)
def test_features_h5(folder, spoil, message):
    spoil(folder / "features.h5")
    assert message in said_of(read_features, folder / "features.h5")


@pytest.mark.parametrize("name", ["codes.h5", "features.h5"])
def test_any_bytes_of_an_hdf5_file_may_be_damaged(folder, content, name):
    """Bytes flipped at random places: read as it was meant, or one sentence that names the file."""
    path, dice, refused = folder / name, random.Random(0), 0
    readers = {
        "codes.h5": (read_codes, measure_classification),
        "features.h5": (read_features, read_fingerprint, measure_classification),
    }
    for trial in range(120):
        data = bytearray(content[name])
        reach = len(data) if trial % 2 else 4096  # headers stand first
        for _ in range(dice.choice((1, 4, 64))):
            data[dice.randrange(reach)] = dice.randrange(256)
        path.write_bytes(data[: dice.choice((len(data), len(data), dice.randrange(len(data))))])
        for read in readers[name]:
            refused += said_of(read, path) is not None
    assert refused > 60


def test_what_is_no_regular_file_is_neither_read_nor_replaced(folder):
    for name in ("pipe", "device", "folder"):
        path = folder / name
        make = {
            "pipe": os.mkfifo,
            "folder": os.mkdir,
            "device": lambda p: p.symlink_to("/dev/zero"),
        }
        make[name](path)
        for read in (
            read_codes,
            read_features,
            read_fingerprint,
            read_training,
            lambda path: read_json(path, (), "make x"),
            lambda path: write_atomically(path).__enter__(),
        ):
            assert "is no regular file" in said_of(read, path)
    assert (folder / "pipe").is_fifo() and (folder / "device").is_symlink()


def test_figures_of_queries_that_were_drawn_otherwise_are_as_if_not_there(folder):
    path = metrics_path(folder / "codes.h5", per_class=2)
    write_metrics(path, measure(folder / "codes.h5", per_class=2))
    assert [each["queries"] for each in read_run(folder).subsets] == [8]
    set_in(["subset", "drawn_by"], ...)(path)
    assert read_run(folder).subsets == ()


def test_a_damaged_run_is_left_out_and_named(folder):
    (folder / "run.json").write_text("{")
    with pytest.raises(InputError, match="run.json is no JSON"):
        find_runs(folder.parent)
    left_out = []
    assert find_runs(folder.parent, left_out.append) == []
    assert [str(folder / "run.json") in str(error) for error in left_out] == [True]


def test_patterns():
    pattern = {"a": int, "b?": [{"c": (None, float)}]}
    for right in ({"a": 1}, {"a": 1, "b": []}, {"a": 1, "b": [{"c": None}, {"c": 2}], "d": 0}):
        assert misfit(right, pattern) is None
    assert misfit([], pattern) == "is no object"
    assert misfit({"a": True}, pattern) == "has no whole number as 'a'"
    assert misfit({"a": 1, "b": [{"c": 1}, {"c": "x"}]}, pattern) == "has no null as 'b[1].c'"


def test_a_curve_that_is_none_is_said(folder):
    metrics = json.loads((folder / "metrics.json").read_text())
    ties = metrics["ties"]["map"]
    baseline = {
        "method": "ITQ",
        "learned_on": {
            "run": "r",
            "blob": "b",
            "dimensions": 2,
            "net_fingerprint": None,
            "source_sha256": "",
        },
        "ties": {"map": ties},
        **{name: metrics[name] for name in ("bits", "map", "map_at_1000", "precision_at_k")},
    }
    path = folder / "itq-12.json"
    for curve, says in ((None, ""), ([7], "has no curve as 'precision_recall'")):
        path.write_text(json.dumps(baseline | {"precision_recall": curve}))
        assert not says and read_baseline(path) or says in said_of(read_baseline, path)


def test_a_baseline_s_result(folder):
    (folder / "itq-12.json").write_text('{"method": "ITQ"}')
    assert "lacks 'learned_on'; remove it and run make baselines" in said_of(
        read_baseline, folder / "itq-12.json"
    )
