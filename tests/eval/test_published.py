import pytest

from eval.published import (
    accuracies,
    compare,
    net_word,
    our_method,
    precision_curves,
    read_published,
)


def a_run(dataset="cifar10", net="alexnet", bits=48, from_scratch=False):
    return {
        "settings": {"dataset": dataset, "net": net, "bits": bits},
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
    assert row_of(rows, "mAP@1000", "KevinNet")["difference"] == pytest.approx(0.91 - 0.8973)
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
    assert ksh["differs"] == ["net not stated", "features not stated", "protocol not stated"]
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
    assert [row["ours"] for row in losses] == [-0.115, -0.001]
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


def test_names_of_published_methods_tell_method_and_net():
    rows = read_published("classification_accuracy") + read_published("retrieval_map")
    found = {row["method"]: (our_method(row["method"]), net_word(row["method"])) for row in rows}
    assert {name: of for name, of in found.items() if of != (None, "")} == {
        "AlexNet + Fine-tuning": ("finetune", ""),
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
