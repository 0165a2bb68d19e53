from itertools import product

import pytest

from eval.published import (
    accuracies,
    compare,
    differences,
    map_curves,
    net_word,
    our_method,
    precision_curves,
    read_published,
)


def a_run(dataset="cifar10", net="alexnet", bits=48, from_scratch=False, **settings):
    return {
        "settings": {"dataset": dataset, "net": net, "bits": bits, **settings},
        "from_scratch": from_scratch,
    }


def some_metrics(queries=10000, database=50000, bits=48):
    return {
        "accuracy": 0.9,
        "map": 0.92,
        "map_at_1000": 0.91,
        "bits": bits,
        "queries": queries,
        "database": database,
        "precision_at_k": {"k": [100, 1000], "precision": [0.93, 0.9]},
    }


def row_of(rows, measure, method):
    (row,) = [row for row in rows if (row["measure"], row["method"]) == (measure, method)]
    return row


def test_difference_where_net_features_and_protocol_are_the_same():
    rows = compare(a_run(), some_metrics(), [])
    ssdh = row_of(rows, "mAP@50000", "SSDH")
    assert (ssdh["ours"], ssdh["differs"]) == (0.92, [])
    assert ssdh["difference"] == pytest.approx(0.92 - 0.913361)
    kevinnet = row_of(compare(a_run(method="kevinnet"), some_metrics(), []), "mAP@1000", "KevinNet")
    assert kevinnet["difference"] == pytest.approx(0.91 - 0.8973)
    log = row_of(rows, "accuracy", "SSDH (released log at iteration 50000)")
    assert log["difference"] == pytest.approx(0.9 - 0.8989)


@pytest.mark.parametrize("run", [a_run(net="cifar_small"), a_run(from_scratch=True)])
def test_other_net(run):
    ssdh = row_of(compare(run, some_metrics(), []), "mAP@50000", "SSDH")
    assert ssdh["differs"] == ["other net"] and ssdh["difference"] is None


@pytest.mark.parametrize("sizes", [(1000, 50000), (10000, 5000)])
def test_other_protocol(sizes):
    rows = compare(a_run(), some_metrics(*sizes), [])
    for row in (
        row_of(rows, "mAP@50000", "SSDH"),
        row_of(rows, "accuracy", "SSDH (released log at iteration 50000)"),
    ):
        assert "other protocol" in row["differs"] and row["difference"] is None


def test_what_the_source_does_not_state_is_said():
    rows = compare(a_run(), some_metrics(), [])
    ksh = row_of(rows, "mAP@1000", "KSH")
    assert ksh["differs"] == [
        *("other method", "net not stated", "features not stated", "protocol not stated"),
    ]
    assert row_of(rows, "precision@1000", "ITQ")["difference"] is None


def test_only_the_run_s_data_set_and_code_length():
    rows = compare(a_run("mnist", bits=12), some_metrics(10000, 60000, bits=12), [])
    assert {row["measure"] for row in rows} == {"accuracy"}
    ssdh = row_of(rows, "accuracy", "SSDH")
    assert ssdh["published"] == pytest.approx(0.9925)
    assert ssdh["difference"] == pytest.approx(0.9 - 0.9925)
    assert compare(a_run("digits"), some_metrics(), []) == []


def test_losses_of_the_released_log_at_the_same_iteration():
    tests = [
        {"iteration": 0, "test_binarization": -0.001},
        {"iteration": 50000, "test_binarization": -0.115, "test_classification": 0.35},
    ]
    rows = compare(a_run(), some_metrics(), tests)
    losses = [row for row in rows if row["measure"] == "binarization loss" and not row["differs"]]
    assert [row["ours"] for row in losses] == [-0.115]  # the log's start is another recipe's
    assert losses[0]["difference"] == pytest.approx(-0.115 + 0.114405)
    early = compare(a_run(), some_metrics(), tests[:1])
    final = [row for row in early if row["protocol"] == "test at iteration 50,000"][0]
    assert final["differs"] == ["other protocol (ours: 0)"] and final["difference"] is None


def test_no_difference_where_a_figure_was_not_measured():
    metrics = {**some_metrics(), "accuracy": None}
    log = row_of(
        compare(a_run(), metrics, []), "accuracy", "SSDH (released log at iteration 50000)"
    )
    assert log["ours"] is log["difference"] is None


def test_curves_are_those_of_cifar10_at_48_bits():
    curves = precision_curves(a_run(), some_metrics())
    assert len(curves) == len(
        {row["method"] for row in read_published("precision_at_k_cifar10_48bit")}
    )
    assert curves["KSH"][0] == [100, 200, 400, 600, 800, 1000]
    assert precision_curves(a_run("mnist"), some_metrics()) == {}


def test_what_papers_measured_on_whole_rankings_stands_apart_from_the_first_1000():
    """Of CNNH's and DNNH's own tables; the CVPRW 2015 README has some as of the first 1,000."""
    whole = map_curves("cifar10", None)
    assert whole["DNNH"][0] == [12, 24, 32, 48]
    assert whole["DNNH"][1] == pytest.approx([0.552, 0.566, 0.558, 0.581])
    assert whole["SSDH"] == ([48], [pytest.approx(0.913361)])
    first = map_curves("cifar10", 1000)
    assert "DNNH" not in first
    for method in ("CNNH", "CNNH+"):
        at = dict(zip(*whole[method], strict=True))
        assert sorted(at) == [12, 24, 32, 48]
        assert dict(zip(*first[method], strict=True)) == {bits: at[bits] for bits in (12, 32, 48)}
    ours = compare(a_run(method="cnnh", bits=24), some_metrics(bits=24), [])
    row = row_of(ours, "mAP@59000", "CNNH")
    assert row["ours"] == 0.92  # of the whole ranking
    assert {"other net", "other protocol"} <= set(row["differs"]) and row["difference"] is None


def test_names_of_published_methods_tell_method_and_net():
    rows = read_published("classification_accuracy") + read_published("retrieval_map")
    found = {row["method"]: (our_method(row["method"]), net_word(row["method"])) for row in rows}
    assert {name: of for name, of in found.items() if of != (None, "")} == {
        "AlexNet + Fine-tuning": ("finetune", ""),
        "CNNH": ("cnnh", ""),
        "CNNH+": ("cnnh_plus", ""),
        "DNNH": ("dnnh", ""),
        "KevinNet": ("kevinnet", ""),
        "SSDH": ("ssdh", ""),
        "SSDH (released log at iteration 50000)": ("ssdh", ""),
        "SSDH VGG16 (released log)": ("ssdh", "VGG16"),
        "SSDH VGG16-Avg (released log)": ("ssdh", "VGG16-Avg"),
    }


@pytest.mark.parametrize(("net", "method"), [("vgg16", "VGG16"), ("vgg16_avg", "VGG16-Avg")])
def test_the_two_vgg_nets_are_told_apart(net, method):
    """The released logs' accuracies; both rows name VGG16 as their net."""
    run = a_run(net=net)
    metrics = {"accuracy": 0.9, "bits": 48, "database": 50_000, "queries": 10_000}
    same = [row["method"] for row in accuracies(run, metrics) if not row["differs"]]
    assert same == [f"SSDH {method} (released log)"]


SAME = {"method": "ssdh", "net": "alexnet", "weights": "caffenet", "subset": 0}
SAME |= {"alpha": 1, "beta": 1, "gamma": 1}
OTHER = {  # what is not the same, and what the rows then say
    "method": ("kevinnet", "other method"),
    "net": ("vgg16", "other net"),
    "weights": ("path/to/other.caffemodel", "other weights"),
    "subset": (100, "subset of the pictures"),
    "beta": (0, "other loss weights"),
}
PROTOCOLS = (0, 10)  # queries fewer, and iterations of the test later, than the published


@pytest.mark.parametrize("changed", list(product((False, True), repeat=len(OTHER))))
@pytest.mark.parametrize("fewer", PROTOCOLS)
def test_one_rule_decides_for_every_kind_of_row(changed, fewer):
    settings, said = dict(SAME), set()
    for (name, (value, sentence)), differs in zip(OTHER.items(), changed, strict=True):
        if differs:
            settings[name] = value
            said.add(sentence)
    if settings["method"] == "kevinnet":
        said.discard("other loss weights")  # of one term
    if settings["net"] == "vgg16" and settings["weights"] == "caffenet":
        said.add("other weights")  # its own are VGG's
    run = a_run(**settings)
    tests = [{"iteration": 50_000 + fewer, "test_balance": 0.5}]
    rows = compare(run, some_metrics(queries=10_000 - fewer), tests)
    of_ssdh = [
        row_of(rows, "accuracy", "SSDH (released log at iteration 50000)"),
        row_of(rows, "mAP@50000", "SSDH"),
        next(row for row in rows if row["measure"] == "balance loss"),
    ]
    for row in of_ssdh:
        protocols = [word for word in row["differs"] if word.startswith("other protocol")]
        assert bool(protocols) == bool(fewer)
        assert set(row["differs"]) - set(protocols) == said, row["measure"]
        assert (row["difference"] is None) == bool(row["differs"])


def test_a_run_without_those_settings_is_an_older_one_of_ssdh():
    row = {"method": "SSDH", "net": "CaffeNet, fine-tuned"}
    assert differences(a_run(), row, "same") == []
    assert differences(a_run(weights=None, method="ssdh"), row, "same") == []
    assert differences(a_run(from_scratch=True, weights="none"), row, "same") == ["other net"]


def test_the_released_log_s_start_is_of_another_net():
    tests = [{"iteration": 0, "test_classification": 2.3}]
    rows = [row for row in compare(a_run(), some_metrics(), tests) if "loss" in row["measure"]]
    start = [row for row in rows if row["protocol"] == "test at iteration 0"]
    assert len(start) == 3
    assert all(row["differs"] == ["other net"] and "another recipe" in row["net"] for row in start)
