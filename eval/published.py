"""Published numbers beside ours, each with its net, features and protocol.

The CSV files of `published/` hold the numbers and where they stand. A difference is computed only
where method, net and its weights, loss weights, pictures, features and protocol are ours; every
other row says what is other or not stated (`differences`).
"""

import csv
from pathlib import Path

from eval.tables import LOSS_TERMS, METHODS, read_table

FOLDER = Path(__file__).with_name("published")
NET_NAMES = {  # what the CSV files call a net of ours that starts from ImageNet weights
    "alexnet": {"CaffeNet, fine-tuned", "CaffeNet, ImageNet-pretrained", "SSDH CaffeNet"},
    "vgg16": {"VGG16", "SSDH VGG16"},
    "vgg16_avg": {"SSDH VGG16-Avg"},
}
PRECISION_CURVES = ("cifar10", 48)  # data set and bits of the published precision-at-k curves
RELEASED_LOG_PICTURES = 200 * 50  # test_iter x test batch of the released solver and net
NETS = read_table("nets.toml")["nets"]
NET_WORDS = {net["published"] for net in NETS.values()}
LOSS_WEIGHTS = [term.variable.lower() for term in LOSS_TERMS.values() if term.variable]


def read_published(name: str) -> list[dict[str, str]]:
    """Return the rows of published/<name>.csv, each a dict of texts by column."""
    with open(FOLDER / f"{name}.csv", newline="") as file:
        return list(csv.DictReader(file))


def our_method(published: str) -> str | None:
    """Return the METHOD of a published method's name, None where it is none of methods.toml.

    "SSDH VGG16-Avg (released log)" is "ssdh": methods.toml says how each name begins.
    """
    for name, method in METHODS.items():
        if f"{published} ".startswith(f"{method.published} "):
            return name
    return None


def net_word(published: str) -> str:
    """Return the word that a published method's name has for its net, "" where it has none.

    "SSDH VGG16-Avg (released log)" has "VGG16-Avg": nets.toml lists these words, `published`.
    """
    return next((word for word in published.split() if word in NET_WORDS), "")


def compare(run: dict, metrics: dict, tests: list[dict[str, float]]) -> list[dict]:
    """Return the published numbers of the run's data set and code length, each beside ours.

    run: content of run.json. metrics: content of metrics.json. tests: of each test during
    training, `iteration` and the columns of train.csv that hold its figures.

    One dict a number: measure, method, net, protocol, published, ours, difference, differs, source.
    `differs` lists in words what is not the same; `difference` is None wherever there is any.
    """
    rows = [
        *accuracies(run, metrics),
        *maps(run, metrics),
        *_precisions(run, metrics),
        *_losses(run, tests),
    ]
    return [row | {"difference": difference(row)} for row in rows]


def difference(row: dict) -> float | None:
    """Return ours less the published number, where nothing differs and ours was measured."""
    same = not row["differs"] and row["ours"] is not None
    return row["ours"] - row["published"] if same else None


def precision_curves(run: dict, metrics: dict) -> dict[str, tuple[list[int], list[float]]]:
    """Return published precision-at-k curves (k, precision) by method, of the run's data and bits.

    run: content of run.json. metrics: content of metrics.json.
    """
    curves = {}
    for row in _precision_rows(run, metrics):
        ks, precisions = curves.setdefault(row["method"], ([], []))
        ks.append(int(row["k"]))
        precisions.append(float(row["precision"]))
    return curves


def published_maps(dataset: str, k: int | None) -> list[dict[str, str]]:
    """Return the rows of retrieval_map.csv with a data set's mAP@k, or whole rankings' where None.

    A row is of the whole ranking where it says of how many pictures that was.
    """
    return [
        row
        for row in read_published("retrieval_map")
        if row["dataset"] == dataset and row["k"] == (row["database"] if k is None else str(k))
    ]


def map_curves(dataset: str, k: int | None) -> dict[str, tuple[list[int], list[float]]]:
    """Return the published mAP@k of a data set as curves (bits, mAP) by method; k as there."""
    curves = {}
    for row in published_maps(dataset, k):
        bits, values = curves.setdefault(row["method"], ([], []))
        bits.append(int(row["bits"]))
        values.append(float(row["map_percent"]) / 100)
    return curves


def accuracies(run: dict, metrics: dict) -> list[dict]:
    """Return the accuracies that `compare` lists, without differences.

    Published accuracies without a code length are listed for every run, and for a net without codes
    (whose metrics have no `bits`) they alone.
    """
    ours = metrics["accuracy"]
    splits = {row["dataset"]: row for row in read_published("dataset_splits")}
    rows = []
    for row in read_published("classification_accuracy"):
        if row["dataset"] != run["settings"]["dataset"]:
            continue
        if row["bits"] not in ("", str(metrics.get("bits"))):
            continue
        if row["source"].startswith("SSDH slides"):
            split = splits[row["dataset"]]
            trained, tested = int(split["training_images"]), int(split["test_images"])
        else:  # a released log, whose net was trained on the whole training set
            trained, tested = int(splits[row["dataset"]]["training_images"]), RELEASED_LOG_PICTURES
        same = (trained, tested) == (metrics["database"], metrics["queries"])
        rows.append(
            _row(
                "accuracy",
                row,
                protocol=f"{trained:,} training, {tested:,} test pictures",
                published=float(row["accuracy_percent"]) / 100,
                ours=ours,
                differs=differences(run, row, "same" if same else "other protocol"),
            )
        )
    return rows


def maps(run: dict, metrics: dict) -> list[dict]:
    """Return the mAPs that `compare` lists, without differences."""
    rows = []
    for row in read_published("retrieval_map"):
        if (row["dataset"], row["bits"]) != (run["settings"]["dataset"], str(metrics["bits"])):
            continue
        k = int(row["k"])
        ours = metrics["map"] if k >= metrics["database"] else metrics.get(f"map_at_{k}")
        stated = bool(row["queries"] and row["database"])
        if stated:
            split = f"{int(row['queries']):,} queries, {int(row['database']):,} pictures"
            sizes = (int(row["queries"]), int(row["database"]))
            same = sizes == (metrics["queries"], metrics["database"])
            protocol = "same" if same else "other protocol"
        else:
            split = "split not stated"
            protocol = "protocol not stated"
        rows.append(
            _row(
                f"mAP@{k}",
                row,
                protocol=split,
                published=float(row["map_percent"]) / 100,
                ours=ours,
                differs=differences(run, row, protocol),
            )
        )
    return rows


def _precisions(run: dict, metrics: dict) -> list[dict]:
    curve = metrics["precision_at_k"]
    last = curve["k"][-1]
    return [
        _row(
            f"precision@{last}",
            row,
            protocol="split not stated",
            published=float(row["precision"]),
            ours=curve["precision"][-1],
            differs=differences(run, row, "protocol not stated"),
        )
        for row in _precision_rows(run, metrics)
        if int(row["k"]) == last
    ]


def _precision_rows(run: dict, metrics: dict) -> list[dict[str, str]]:
    if (run["settings"]["dataset"], metrics["bits"]) != PRECISION_CURVES:
        return []
    return read_published("precision_at_k_cifar10_48bit")


def _losses(run: dict, tests: list[dict[str, float]]) -> list[dict]:
    if not tests:
        return []
    settings = run["settings"]
    at = {test["iteration"]: test for test in tests}
    rows = []
    for row in read_published("released_log_losses"):
        if (row["dataset"], row["bits"]) != (settings["dataset"], str(settings.get("bits"))):
            continue
        iteration = int(row["iteration"])
        test = at.get(iteration, tests[-1])
        there = "same" if iteration in at else f"other protocol (ours: {test['iteration']:,.0f})"
        for term in LOSS_TERMS:
            if term not in row:
                continue  # a term of ours that no release trained with
            rows.append(
                _row(
                    f"{term} loss",
                    {"method": "released log", **row},
                    protocol=f"test at iteration {iteration:,}",
                    published=float(row[term]),
                    ours=test.get(f"test_{term}"),
                    differs=differences(run, row, there),
                )
            )
    return rows


def differences(run: dict, row: dict[str, str], protocol: str) -> list[str]:
    """Return in what a run and a published row are not the same, [] where they may be compared.

    The one rule for rows of every kind. run: content of run.json. row: of one of the CSV files;
    where it names no method, its net's name begins with it. protocol: "same", or what is other.
    """
    settings = run["settings"]
    method = settings.get("method", "ssdh")  # run.json may be older than that variable
    net, scratch = settings["net"], run["from_scratch"]
    names = NET_NAMES.get(net, ())
    losses = METHODS[method].losses if method in METHODS else []
    default = NETS[net]["weights"] if net in NETS else settings.get("weights")
    weighed = any(settings.get(name, 1) != 1 for name in LOSS_WEIGHTS)
    found = {
        "other method": our_method(row.get("method") or row["net"]) != method,
        "net not stated": not row.get("net"),
        "other net": bool(row.get("net")) and (scratch or _published_net(row) not in names),
        "other weights": not scratch and (settings.get("weights") or default) != default,
        "head alone trained": bool(settings.get("head")),
        "other loss weights": len(losses) > 1 and weighed,
        "subset of the pictures": bool(settings.get("subset")),
        "features not stated": row.get("features", "learned") != "learned",
        protocol: protocol != "same",
    }
    return [name for name, differs in found.items() if differs]


def _published_net(row: dict[str, str]) -> str:
    """Return a row's net as NET_NAMES has it."""
    # That row's net is stated as VGG16; only the method's name tells that it is the other one.
    return "SSDH VGG16-Avg" if net_word(row.get("method", "")) == "VGG16-Avg" else row["net"]


def _row(measure: str, row: dict[str, str], **rest: object) -> dict:
    return {
        "measure": measure,
        "method": row["method"],
        "net": row.get("net") or "not stated",
        "source": row["source"],
        **rest,
    }
