import json
import math
import re
import shutil
from html import unescape

import pytest

from eval.baselines import lsh
from eval.baselines.methods import BASELINES, Baseline
from eval.baselines.table import lines
from eval.files import InputError
from eval.pages.figures import PLACEHOLDERS
from eval.pages.paper import page, pictures
from eval.pages.paper.charts import charts
from eval.pages.paper.groups import group_runs
from eval.pages.paper.kept import kept_figures
from eval.pages.paper.page import write_paper
from eval.pages.paper.tables import accuracy_table, map_table, retrieval_table
from eval.protocol import measure, metrics_path
from eval.run_folders import find_runs
from eval.summary import figures_of, write_metrics
from tests.eval.baselines.learn import learn_baselines
from tests.eval.pages.page import Page
from tests.eval.samples import picture, write_features, write_run, write_sample, write_several

COST = {
    "machine": {"cpu": "a processor", "cores": 2},
    "rows": [
        {
            "name": "hamming-64",
            "title": "Hamming, 64 bits",
            "one_core": 2e-10,
            "all_cores": 1e-10,
            "faiss_one_core": None,
            "faiss_all_cores": None,
        }
    ],
}


def write_ssdh(folder, bits, dataset="mnist", net="lenet", **run):
    folder.mkdir()
    write_sample(folder / "codes.h5", bits=bits, dataset=dataset, net=net)
    write_metrics(folder / "metrics.json", measure(folder / "codes.h5"))
    write_run(folder / "run.json", bits=bits, dataset=dataset, net=net, **run)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """SSDH runs of 12 and 48 bits, a finetune run with baselines, and a run without figures."""
    folder = tmp_path_factory.mktemp("runs")
    write_ssdh(folder / "mnist-lenet-12", 12)
    write_ssdh(folder / "mnist-lenet-48", 48)
    write_ssdh(folder / "cifar10-alexnet-48", 48, "cifar10", "alexnet", from_scratch=False)
    (folder / "mnist-lenet-16").mkdir()
    write_run(folder / "mnist-lenet-16" / "run.json", bits=16, dataset="mnist")
    tuned = folder / "mnist-lenet-finetune"
    tuned.mkdir()
    write_features(tuned / "features.h5")
    write_run(tuned / "run.json", bits=None, dataset="mnist", method="finetune")
    learn_baselines(tuned, 12)
    return find_runs(folder)


@pytest.fixture(scope="module")
def written(runs, tmp_path_factory):
    return write_paper(
        tmp_path_factory.mktemp("paper"), runs, lambda run, *row: picture(*row), COST
    )


def test_the_page_is_whole_and_self_contained(written):
    html = written.read_text()
    page = Page(html)
    assert page.open == []
    assert page.headings[0] == "h1" and set(page.headings[1:]) == {"h2", "h3"}
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert all(image["alt"] for image in page.images)
    assert not any(placeholder in html for placeholder in PLACEHOLDERS.values())


def test_every_figure_is_there_as_svg_and_png(written):
    figures = written.parent / "figures"
    names = {path.stem for path in figures.iterdir()}
    assert names >= {
        "mnist-lenet-map-by-bits",
        "mnist-lenet-precision-at-k-12",
        "mnist-lenet-precision-radius-2",
        "mnist-lenet-quantization-error",
        "mnist-lenet-top-10",
        "mnist-lenet-classification",
        "cifar10-alexnet-precision-at-k-48",
    }
    for name in names:
        assert (figures / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        svg = (figures / f"{name}.svg").read_text()
        assert svg.rstrip().endswith("</svg>") and "var(--" not in svg


def test_numbers_are_those_of_the_runs_and_nothing_is_filled_in(runs, written):
    text = " ".join(unescape(Page(written.read_text()).text).split())
    for run in runs:
        assert run.folder.name in text
        if run.metrics:
            assert f"{run.metrics['accuracy']:.4f}" in text
    assert "no figures: " in text and "metrics.json does not exist" in text
    assert "Hamming, 64 bits 23 ps 200 ps 100 ps — —" in text
    assert "sun397" in text and "yahoo1m" in text


def test_accuracy_stands_beside_the_method_and_bits_it_belongs_to(runs):
    table = accuracy_table("mnist", runs)
    of = {(row["method"], row["bits"]): row for row in table}
    assert of["SSDH", 12]["run"] == "mnist-lenet-12"
    assert of["SSDH", 12]["published"] == pytest.approx(0.9925)
    assert of["SSDH", 12]["difference"] is None and "other net" in of["SSDH", 12]["differs"]
    assert of["SSDH", 32]["ours"] is None and of["SSDH", 32]["ours_expected"]
    assert of["AlexNet + Fine-tuning", None]["ours"] == 0.75
    assert of["AlexNet + Fine-tuning", None]["run"] == "mnist-lenet-finetune"
    assert not of["NIN + Dropout", None]["ours_expected"]
    assert of["SSDH", 16]["published"] is None and of["SSDH", 16]["ours"] is None


def test_a_difference_needs_the_same_net_and_protocol(runs):
    (run,) = [run for run in runs if run.folder.name == "cifar10-alexnet-48"]

    def row(queries, database):
        sizes = {"queries": queries, "database": database}
        same = run._replace(metrics={**run.metrics, **sizes})
        (found,) = [row for row in retrieval_table("cifar10", [same]) if row["method"] == "SSDH"]
        return found

    assert row(10000, 50000)["difference"] == pytest.approx(row(10000, 50000)["ours"] - 0.913361)
    assert row(1000, 50000)["difference"] is None
    assert row(1000, 50000)["differs"] == ["other protocol"]


def test_a_figure_of_the_published_queries_is_taken_where_there_is_one(runs):
    (run,) = [run for run in runs if run.folder.name == "cifar10-alexnet-48"]

    def metrics(queries, accuracy, subset=None):
        sizes = {"queries": queries, "database": 50_000}
        return {**run.metrics, **sizes, "accuracy": accuracy, "subset": subset}

    drawn = metrics(1000, 0.9, {"queries_per_class": 100, "seed": 0})
    run = run._replace(metrics=metrics(10_000, 0.8), subsets=(drawn,))
    of = {row["method"]: row for row in accuracy_table("cifar10", [run]) if row["bits"] == 48}
    assert of["SSDH"]["difference"] == pytest.approx(0.9 - 0.8959)
    assert of["SSDH"]["run"] == "cifar10-alexnet-48, 1,000 queries"
    log = of["SSDH (released log at iteration 50000)"]
    assert log["difference"] == pytest.approx(0.8 - 0.8989)
    assert log["run"] == "cifar10-alexnet-48"


def test_queries_drawn_from_earlier_codes_do_not_count(tmp_path):
    write_ssdh(tmp_path / "run", 12)
    codes = tmp_path / "run" / "codes.h5"
    write_metrics(metrics_path(codes, per_class=2), measure(codes, per_class=2))
    assert [each["subset"]["queries_per_class"] for each in find_runs(tmp_path)[0].subsets] == [2]
    write_sample(codes, bits=12, queries=41)
    write_metrics(tmp_path / "run" / "metrics.json", measure(codes))
    (run,) = find_runs(tmp_path)
    assert run.metrics and run.subsets == ()


def test_map_by_bits_leaves_missing_cells_empty(runs):
    (group,) = [group for group in group_runs(runs) if group.dataset == "mnist"]
    columns, table = map_table(group, "map")
    cells = {row["name"]: row["cells"] for row in table}
    assert columns == [12, 48]
    assert cells["ITQ"][1] is None
    folder = runs[0].folder.parent / "mnist-lenet-finetune" / "baselines"
    assert cells["ITQ"][0][0] == json.loads((folder / "itq-12.json").read_text())["map"]
    assert [row["name"] for row in table][0] == "SSDH"
    assert not any(row["published"] for row in table)


@pytest.mark.slow
def test_heads_alone_are_a_group_of_their_own(tmp_path):
    """And no row beside what a whole net was trained to give."""
    for name, others in (("whole", {}), ("head", {"head": True})):
        (tmp_path / name).mkdir()
        write_sample(tmp_path / name / "codes.h5")
        write_metrics(tmp_path / name / "metrics.json", measure(tmp_path / name / "codes.h5"))
        run = write_run(tmp_path / name / "run.json")
        run["settings"] |= others
        (tmp_path / name / "run.json").write_text(json.dumps(run))
    whole, head = group_runs(find_runs(tmp_path))
    assert (whole.title, head.title) == ("digits, lenet", "digits, lenet, heads alone trained")
    assert (whole.name, head.name) == ("digits-lenet", "digits-lenet-head")
    assert [[run.folder.name for run in group.runs] for group in (whole, head)] == [
        ["whole"],
        ["head"],
    ]


def test_two_more_baselines_are_two_lines_of_their_table(runs, tmp_path, monkeypatch):
    for name in ("mnist-lenet-12", "mnist-lenet-finetune"):
        shutil.copytree(runs[0].folder.parent / name, tmp_path / "runs" / name)
    there = [(baseline.name, baseline.style) for baseline in BASELINES.values()]
    for style, name in ((9, "Sixth"), (10, "Seventh")):
        baseline = Baseline(name, labels=False, learn=lsh.learn, style=style)
        monkeypatch.setitem(BASELINES, name.lower(), baseline)
    learn_baselines(tmp_path / "runs" / "mnist-lenet-finetune", 12)
    found = find_runs(tmp_path / "runs")
    (group,) = group_runs(found)
    chart = charts(group)["mnist-lenet-precision-at-k-12"]
    assert [(line.name, line.style) for line in chart.lines] == [
        *(("SSDH", 0), ("Seventh", 10), ("Sixth", 9)),
        *reversed(there),
        ("lenet-ft, Euclidean", 7),
    ]
    page = write_paper(tmp_path / "paper", found, lambda run, *row: picture(*row), COST)
    text = " ".join(Page(page.read_text()).text.split())
    names = ", ".join([*(name for name, _ in there), "Sixth", "Seventh"])
    assert f"{names} and Euclidean search work on" in text
    svg = (page.parent / "figures" / "mnist-lenet-precision-at-k-12.svg").read_text()
    assert "Sixth" in svg and "Seventh" in svg


def test_without_any_run_published_numbers_stand_alone(tmp_path):
    text = Page(write_paper(tmp_path, [], None, COST).read_text()).text
    assert "There is no run in this folder" in text
    assert "missing" in text and "89.30" not in text and "0.8930" in text
    assert {path.name for path in (tmp_path / "figures").glob("*.svg")} == {
        "cifar10-published-map-at-1000-by-bits.svg",
        "cifar10-published-map-by-bits.svg",
        "cifar10-published-precision-at-k-48.svg",
    }


def test_pictures_that_are_not_there_are_said(runs, tmp_path):
    def missing(run, split, row):
        raise InputError("the LMDB does not exist; run make data")

    of_mnist = [run for run in runs if run.folder.name == "mnist-lenet-12"]
    text = Page(write_paper(tmp_path, of_mnist, missing, COST).read_text()).text
    assert "Pictures of mnist, lenet are missing: the LMDB does not exist" in " ".join(text.split())
    assert not list((tmp_path / "figures").glob("*top-10*"))


def test_bars_are_shares_of_the_run_s_probabilities(written):
    shares = [
        float(width) for width in re.findall(r'<span style="width: ([\d.]+)%"', written.read_text())
    ]
    assert shares and max(shares) <= 100
    # four classes: the bars of one query are all there are
    assert all(
        math.isclose(sum(shares[i : i + 4]), 100, abs_tol=0.05) for i in range(0, len(shares), 4)
    )


def test_stale_metrics_do_not_count(runs, tmp_path):
    write_ssdh(tmp_path / "digits-lenet-12", 12, "digits")
    write_sample(tmp_path / "digits-lenet-12" / "codes.h5", bits=13, dataset="digits")
    (run,) = find_runs(tmp_path)
    assert run.metrics is None and "was not measured on the codes.h5 beside it" in run.why


def test_only_what_changed_is_drawn_again(runs, written, tmp_path):
    folder = shutil.copytree(written.parent, tmp_path / "paper")

    def write(of_runs):
        """What the page is and which figures were drawn."""
        before = {path.name: path.stat().st_mtime_ns for path in (folder / "figures").iterdir()}
        path = write_paper(folder, of_runs, lambda run, *row: picture(*row), COST)
        after = {path.name: path.stat().st_mtime_ns for path in (folder / "figures").iterdir()}
        return path.read_text(), {name for name in after if after[name] != before.get(name)}

    assert write(runs) == (written.read_text(), set())
    (folder / "figures/mnist-lenet-map-by-bits.png").unlink()
    changed = [
        run._replace(metrics=run.metrics | {"precision_radius_2": 0.123})
        if run.folder.name == "mnist-lenet-12"
        else run
        for run in runs
    ]
    page, drawn = write(changed)
    assert page != written.read_text()
    assert drawn == {
        f"mnist-lenet-{name}.{suffix}"
        for name in ("map-by-bits", "precision-radius-2")
        for suffix in ("svg", "png")
    }


def test_damaged_notes_have_all_drawn_again(tmp_path):
    made = []

    def write(path):
        made.append(path.name)
        for suffix in ("svg", "png"):
            path.with_name(f"{path.name}.{suffix}").write_text("a figure")

    for notes in (None, None, "{", "[]", '{"one": 7}'):
        if notes:
            (tmp_path / "figures.json").write_text(notes)
        with kept_figures(tmp_path / "figures") as draw:
            assert draw("one", [1, 2], write, lambda: "shown") == "shown"
    assert made == ["one"] * 4
    with kept_figures(tmp_path / "figures") as draw:
        draw("two", [1, 2], write)
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {"two"}


def test_what_is_damaged_is_left_out_and_named(runs, tmp_path, capsys, monkeypatch):
    for module, name in ((page, "write_line_chart"), (pictures, "write_figure")):
        monkeypatch.setattr(module, name, lambda *arguments: None)
    monkeypatch.setattr(page, "line_chart", lambda chart: "")
    for name in ("mnist-lenet-12", "mnist-lenet-48", "mnist-lenet-finetune"):
        shutil.copytree(runs[0].folder.parent / name, tmp_path / "runs" / name)
    (tmp_path / "runs/mnist-lenet-48/metrics.json").write_text('{"map": NaN}')
    (tmp_path / "runs/mnist-lenet-finetune/baselines/itq-12.json").write_text("{")
    (tmp_path / "runs/broken").mkdir()
    (tmp_path / "runs/broken/run.json").write_text('{"settings": []}')
    left_out = []
    found = find_runs(tmp_path / "runs", lambda error: left_out.append(str(error)))
    path = write_paper(tmp_path / "paper", found, lambda run, *row: picture(*row), COST, left_out)
    text = " ".join(Page(path.read_text()).text.split())
    said = capsys.readouterr().err.splitlines()
    for sentence in ("broken/run.json has no object as 'settings'", "itq-12.json is no JSON"):
        assert f"Left out: {tmp_path}" in text and sentence in text
        assert any(line.startswith("left out: ") and sentence in line for line in said)
    assert "mnist-lenet-48" in text and "metrics.json lacks 'codes_sha256'" in text
    assert "mnist-lenet-12" in text and "LSH" in text


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """SSDH runs of 12 and 16 bits whose pictures have several labels, and baselines beside them."""
    folder = tmp_path_factory.mktemp("several")
    for bits in (12, 16):
        run = folder / f"pairs-lenet-{bits}"
        run.mkdir()
        write_several(run / "codes.h5", bits=bits)
        write_metrics(run / "metrics.json", measure(run / "codes.h5"))
        write_run(run / "run.json", bits=bits, dataset="pairs")
    tuned = folder / "pairs-lenet-finetune"
    tuned.mkdir()
    write_features(tuned / "features.h5", several=True)
    write_run(tuned / "run.json", bits=None, dataset="pairs", method="finetune")
    learn_baselines(tuned, 12)
    return find_runs(folder)


def test_several_labels_have_graded_tables_charts_and_all_their_labels(several, tmp_path):
    path = write_paper(tmp_path, several, lambda run, *row: picture(*row), COST)
    text = " ".join(unescape(Page(path.read_text()).text).split())
    codes, tuned = several[0].metrics, several[-1]
    scores, graded = codes["classification"], codes["graded"]
    assert f"{scores['mean_average_precision']:.4f} {scores['micro_f1']:.4f}" in text
    ties = graded["ties"]["weighted_map"]
    assert f"{graded['weighted_map']:.4f} {ties['worst']:.4f} to {ties['best']:.4f}" in text
    for title in ("wmAP, whole ranking", "wmAP@1000", "NDCG@1000", "ACG@1000"):
        assert f"{title} by code length: pairs, lenet" in text
        columns, rows = map_table(group_runs(several)[0], title)
        assert columns == [12, 16]
        assert {row["name"] for row in rows} >= {"LSH", "CCA-ITQ", "KSH"}
    figures = {path.stem for path in (path.parent / "figures").iterdir()}
    assert {"pairs-lenet-wmap-by-bits", "pairs-lenet-ndcg-at-1000-by-bits"} <= figures
    bars = pictures.classifications(several[0], picture)
    assert any(", " in entry["label"] for entry in bars)
    for entry in bars:
        right = {bar["class"] for bar in entry["bars"] if bar["right"]}
        assert right == set(entry["label"].split(", "))
        above = {bar["class"] for bar in entry["bars"] if bar["share"] > 0.5}
        assert entry["right"] == (above == right)
    printed = lines(tuned, [12], several)
    assert "NDCG@1000" in printed[0] and "mAP@1000 NDCG@1000" in printed[0]
    ndcg = figures_of(several[0].metrics, "NDCG@1000")[0]
    assert f" {ndcg:.4f} " in next(line for line in printed if line.endswith("pairs-lenet-12"))
    assert not any(row["run"] == tuned.folder.name for row in accuracy_table("mnist", several))
