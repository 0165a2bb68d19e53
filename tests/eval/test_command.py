"""python -m eval, as a person runs it."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from eval.codes import read_codes
from eval.command import main
from eval.protocol import choose_queries, measure
from eval.records import read_metrics
from tests.eval import oracle
from tests.eval.samples import write_sample, write_several

ROOT = Path(__file__).parents[2]


def run_process(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "eval", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )


def run_eval(*arguments):
    """Run the command in this process, which has compiled and loaded everything."""
    main([str(argument) for argument in arguments])


@pytest.fixture
def path(tmp_path):
    write_sample(tmp_path / "codes.h5")
    return tmp_path / "codes.h5"


def share(path, rows):
    """Make the first `rows` queries part of the database, under the same keys."""
    with h5py.File(path, "a") as file:
        for name in ("codes", "latent", "labels", "probabilities", "key"):
            own, others = file["database"][name][:rows], file["query"][name][rows:]
            del file["query"][name]
            file["query"][name] = np.concatenate([own, others])
        for group in ("query", "database"):
            del file[group].attrs["row_order_sha256"]


def test_writes_metrics_beside_the_file_and_prints_a_summary(path):
    done = run_process(path)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((path.parent / "metrics.json").read_text())
    assert metrics == measure(path)
    ties = metrics["ties"]["map"]
    assert (
        f"{metrics['map']:.4f} (ties: {ties['expected']:.4f}, "
        f"{ties['worst']:.4f} to {ties['best']:.4f})"
    ) in done.stdout
    assert "Traceback" not in done.stderr


def test_bits_that_never_change_are_counted_and_said(path, capsys):
    """Where the database has them; those of a query alone do not matter."""
    run_eval(path)
    assert json.loads((path.parent / "metrics.json").read_text())["constant_bits"] == 0
    assert "never change" not in capsys.readouterr().out
    with h5py.File(path, "a") as file:
        latent, codes = file["database/latent"], file["database/codes"]
        changed = latent[:]
        changed[:, 2], changed[:, 9] = 0.9, 0.1
        latent[:], codes[:] = changed, np.packbits(changed > 0.5, axis=1)
    run_eval(path)
    assert json.loads((path.parent / "metrics.json").read_text())["constant_bits"] == 2
    assert re.search(
        r"codes of 12 bits \(\d+ distinct; 2 bits never change\)", capsys.readouterr().out
    )


def test_metrics_equal_the_double_loop(path):
    splits = write_sample(path)
    latent, _, labels = splits["database"]
    aps, precisions, radius, correct = [], [], [], []
    pooled = np.zeros((2, 13))
    for query, probabilities, label in zip(*splits["query"], strict=True):
        ranked = oracle.ranking((query > 0.5).tolist(), (latent > 0.5).tolist())
        relevance = [int(labels[row] == label) for row, _ in ranked]
        for hit, (_, distance) in zip(relevance, ranked, strict=True):
            pooled[:, distance] += (1, hit)
        near = [hit for hit, (_, d) in zip(relevance, ranked, strict=True) if d <= 2]
        aps.append(float(oracle.average_precision(relevance, 100)))
        precisions.append(
            [float(oracle.precision(relevance, k)) for k in (1, 2, 5, 10, 20, 50, 100)]
        )
        radius.append(sum(near) / len(near) if near else 0)
        correct.append(probabilities.argmax() == label)
    metrics = measure(path)
    assert metrics["map"] == pytest.approx(np.mean(aps), abs=1e-12)
    assert metrics["map_at_1000"] == metrics["map"]
    assert metrics["accuracy"] == pytest.approx(np.mean(correct), abs=1e-12)
    assert metrics["precision_radius_2"] == pytest.approx(np.mean(radius), abs=1e-12)
    assert metrics["precision_at_k"]["k"] == [1, 2, 5, 10, 20, 50, 100]
    np.testing.assert_allclose(
        metrics["precision_at_k"]["precision"], np.mean(precisions, axis=0), rtol=0, atol=1e-12
    )
    retrieved, relevant = pooled.cumsum(axis=1)
    np.testing.assert_allclose(
        metrics["precision_recall"]["recall"], relevant / relevant[-1], rtol=0, atol=1e-12
    )
    for precision, of, among in zip(
        metrics["precision_recall"]["precision"], relevant, retrieved, strict=True
    ):
        assert precision == (pytest.approx(of / among, abs=1e-12) if among else None)
    by_class = metrics["per_class"]
    assert sum(row["queries"] for row in by_class) == metrics["queries"] == 30
    assert sum(row["queries"] * row["map"] for row in by_class) / 30 == pytest.approx(np.mean(aps))


def test_another_k_or_a_subset_never_overwrites_the_full_figures(path, capsys):
    run_eval(path)
    full = (path.parent / "metrics.json").read_bytes()
    run_eval(path, "--k", 7)
    run_eval(path, "--k", 7, "--queries", 2)
    assert "2 queries a class, drawn with seed 0" in capsys.readouterr().out
    assert (path.parent / "metrics.json").read_bytes() == full
    assert "map_at_7" in json.loads((path.parent / "metrics-qall-k7.json").read_text())
    subset = json.loads((path.parent / "metrics-q2-k7.json").read_text())
    assert subset["queries"] == 8
    drawn_by = "numpy.random.RandomState"
    assert subset["subset"] == {"queries_per_class": 2, "seed": 0, "drawn_by": drawn_by}


def test_chosen_queries_are_the_same_under_every_numpy(path):
    """RandomState's draws are frozen; the rows were written down once."""
    labels = np.repeat([0, 1, 2], 40)
    assert choose_queries(labels, 3, path).tolist() == [20, 22, 25, 52, 53, 66, 86, 99, 104]


def test_chosen_queries_are_a_fixed_draw_of_each_class(path):
    labels = read_codes(path).query.labels
    chosen = choose_queries(labels, 3, path)
    assert np.bincount(labels[chosen]).tolist() == [3, 3, 3, 3]
    np.testing.assert_array_equal(chosen, choose_queries(labels, 3, path))
    several = (np.random.default_rng(0).random((50, 5)) < 0.4).astype(np.uint8)
    chosen = choose_queries(several, 4, path)
    assert len(chosen) == 20 and (several[chosen].sum(axis=0) >= 4).all()


def test_leave_one_out_ranks_the_other_rows(path):
    share(path, 30)
    refused = run_process(path)
    assert refused.returncode == 1
    assert "30 query pictures are also in the database; pass --leave-one-out" in refused.stderr
    assert refused.stderr.startswith("error: ") and refused.stderr.count("\n") == 1
    metrics = measure(path, leave_one_out=True)
    codes = read_codes(path)
    bits = [np.unpackbits(split.codes, axis=1) for split in (codes.query, codes.database)]
    aps = []
    for own, label in enumerate(codes.query.labels):
        ranked = oracle.ranking(bits[0][own].tolist(), bits[1].tolist(), own)
        relevance = [int(codes.database.labels[row] == label) for row, _ in ranked]
        aps.append(float(oracle.average_precision(relevance, len(relevance))))
    assert metrics["map"] == pytest.approx(np.mean(aps), abs=1e-12)
    assert metrics["leave_one_out"] is True


def repeat_a_key(path):
    share(path, 30)
    with h5py.File(path, "a") as file:
        file["database/key"][50] = file["database/key"][0]


def drop_keys(path):
    with h5py.File(path, "a") as file:
        del file["query/key"]


@pytest.mark.parametrize(
    ("spoil", "arguments", "message"),
    [
        (lambda path: path.unlink(), (), "does not exist"),
        (lambda path: path.write_text("no HDF5"), (), "cannot be read as HDF5"),
        (lambda path: path.write_bytes(path.read_bytes()[:3000]), (), "cannot be read as HDF5"),
        (lambda path: None, ("--queries", 100), "100 queries a class were asked for, but class"),
        (drop_keys, ("--leave-one-out",), "has no keys"),
        (lambda path: share(path, 5), ("--leave-one-out",), "25 queries are not there"),
        (repeat_a_key, ("--leave-one-out",), "rows 0 and 50 have the key"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_no_metrics(path, spoil, arguments, message):
    spoil(path)
    with pytest.raises(SystemExit) as stopped:
        run_eval(path, *arguments)
    text = str(stopped.value)
    assert text.startswith("error: ") and message in text and str(path) in text
    assert "\n" not in text
    assert not list(path.parent.glob("*metrics*"))


@pytest.mark.parametrize("arguments", [("--k", 0), ("--queries", -1), ("--k", "many")])
def test_bad_numbers_are_refused(path, arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        run_eval(path, *arguments)
    assert stopped.value.code == 2
    assert f"argument {arguments[0]}" in capsys.readouterr().err
    assert not list(path.parent.glob("*metrics*"))


@pytest.mark.slow
def test_runs_from_a_checkout_where_nothing_can_be_written(path, tmp_path):
    # Numba finds no folder for its cache: files take the place of the ones it would make.
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT / "eval", checkout / "eval", ignore=shutil.ignore_patterns("__pycache__"))
    (checkout / "eval" / "__pycache__").touch()
    (tmp_path / "home").touch()
    done = subprocess.run(
        [sys.executable, "-m", "eval", path],
        capture_output=True,
        text=True,
        cwd=checkout,
        env={"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "home")},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((path.parent / "metrics.json").read_text()) == measure(path)


def test_several_labels_a_picture(tmp_path, capsys):
    splits = write_several(tmp_path / "codes.h5")
    metrics = measure(tmp_path / "codes.h5")
    assert metrics["relevance"] == "any shared label" and metrics["accuracy"] is None
    latent, _, labels = splits["database"]
    figures = []
    for query, _, carried in zip(*splits["query"], strict=True):
        ranked = oracle.ranking((query > 0.5).tolist(), (latent > 0.5).tolist())
        grades = [int((carried & labels[row]).sum()) for row, _ in ranked]
        figures.append(
            (
                oracle.average_precision([int(grade > 0) for grade in grades], 100),
                oracle.weighted_average_precision(grades, 100),
                oracle.ndcg(grades, 50),
                oracle.acg(grades, 50),
            )
        )
    graded = metrics["graded"]
    at = graded["ndcg_at_k"]["k"].index(50)
    found = (metrics["map"], graded["weighted_map"], graded["ndcg_at_k"]["ndcg"][at])
    found += (graded["acg_at_k"]["acg"][at],)
    np.testing.assert_allclose(found, np.mean(np.array(figures, float), axis=0), atol=1e-12)
    for row, label in zip(metrics["per_class"], range(4), strict=True):
        of_label = splits["query"][2][:, label] > 0
        assert (row["class"], row["queries"]) == (f"class {label}", of_label.sum())
        ap = np.mean([float(of_query[0]) for of_query in np.array(figures)[of_label]])
        assert row["map"] == pytest.approx(ap)
        assert {"average_precision", "f1"} < set(row) and row["accuracy"] is None
    run_eval(tmp_path / "codes.h5")
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
    text = capsys.readouterr().out
    for line in ("labels  ", "wmAP, whole ranking", "wmAP@1000  ", "NDCG@1000  ", "ACG@1000  "):
        assert f"\n{line}" in text
    run_eval(tmp_path / "codes.h5", "--k", 5)
    text = capsys.readouterr().out
    assert "\nmAP@5  " in text and "\nNDCG@5  " in text
    assert read_metrics(tmp_path / "metrics.json", "make eval") == metrics


def test_several_labels_without_probabilities(tmp_path):
    random = np.random.default_rng(2)
    path = tmp_path / "codes.h5"
    with h5py.File(path, "w") as file:
        file.attrs["bits"] = 8
        for name, rows in (("database", 60), ("query", 20)):
            file[f"{name}/codes"] = random.integers(256, size=(rows, 1), dtype=np.uint8)
            file[f"{name}/labels"] = (random.random((rows, 5)) < 0.3).astype(np.uint8)
    metrics = measure(path)
    assert metrics["classification"] is None and "f1" not in metrics["per_class"][0]
    assert 0 < metrics["map"] < 1 and metrics["graded"]["weighted_map"] > 0
