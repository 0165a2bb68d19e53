"""Published numbers beside ours, each with its net, features and protocol.

The CSV files of `published/` hold the numbers and where they stand. A difference is computed only
where net, features and protocol are ours; every other row says what is other or not stated.
"""

import csv
from pathlib import Path

FOLDER = Path(__file__).with_name("published")
NET_NAMES = {  # as the CSV files call our nets, where these start from ImageNet weights
    "alexnet": {"CaffeNet, fine-tuned", "CaffeNet, ImageNet-pretrained", "SSDH CaffeNet"},
    "vgg16": {"VGG16", "SSDH VGG16"},
    "vgg16_avg": {"SSDH VGG16-Avg"},
}
PRECISION_CURVES = ("cifar10", 48)  # data set and bits of the published precision-at-k curves
RELEASED_LOG_PICTURES = 200 * 50  # test_iter x test batch of the released solver and net


def read_published(name: str) -> list[dict[str, str]]:
    """Rows of published/<name>.csv."""
    with open(FOLDER / f"{name}.csv", newline="") as file:
        return list(csv.DictReader(file))


def compare(run: dict, metrics: dict, tests: list[dict[str, float]]) -> list[dict]:
    """Published numbers of the run's data set and code length, each beside ours.

    run: content of run.json. metrics: content of metrics.json. tests: of each test during
    training, `iteration` and the columns of train.csv that hold its figures. Returns one
    dict a number: measure, method, net, protocol, published, ours, difference, differs, source;
    `difference` is None wherever `differs` (a list of words) is not empty.
    """
    rows = [
        *accuracies(run, metrics),
        *maps(run, metrics),
        *_precisions(run, metrics),
        *_losses(run, tests),
    ]
    return [row | {"difference": difference(row)} for row in rows]


def difference(row: dict) -> float | None:
    """Ours less the published number, where nothing differs and ours was measured."""
    same = not row["differs"] and row["ours"] is not None
    return row["ours"] - row["published"] if same else None


def precision_curves(run: dict, metrics: dict) -> dict[str, tuple[list[int], list[float]]]:
    """Published precision-at-k curves (k, precision) by method, for the run's data and bits."""
    curves = {}
    for row in _precision_rows(run, metrics):
        ks, precisions = curves.setdefault(row["method"], ([], []))
        ks.append(int(row["k"]))
        precisions.append(float(row["precision"]))
    return curves


def map_curves(dataset: str, k: int) -> dict[str, tuple[list[int], list[float]]]:
    """Published mAP@k of a data set (bits, mAP) by method."""
    curves = {}
    for row in read_published("retrieval_map"):
        if (row["dataset"], row["k"]) == (dataset, str(k)):
            bits, values = curves.setdefault(row["method"], ([], []))
            bits.append(int(row["bits"]))
            values.append(float(row["map_percent"]) / 100)
    return curves


def accuracies(run: dict, metrics: dict) -> list[dict]:
    """The accuracies that `compare` lists, without differences; a net without codes has no bits."""
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
                differs=_other_net(run, row) + ([] if same else ["other protocol"]),
            )
        )
    return rows


def maps(run: dict, metrics: dict) -> list[dict]:
    """The mAPs that `compare` lists, without differences."""
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
            protocol_differs = [] if same else ["other protocol"]
        else:
            split = "split not stated"
            protocol_differs = ["protocol not stated"]
        features = [] if row["features"] == "learned" else ["features not stated"]
        rows.append(
            _row(
                f"mAP@{k}",
                row,
                protocol=split,
                published=float(row["map_percent"]) / 100,
                ours=ours,
                differs=_other_net(run, row) + features + protocol_differs,
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
            differs=["net not stated", "protocol not stated"],
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
        if (row["dataset"], row["bits"]) != (settings["dataset"], str(settings["bits"])):
            continue
        iteration = int(row["iteration"])
        test = at.get(iteration, tests[-1])
        other = [] if iteration in at else [f"other protocol (ours: {test['iteration']:,.0f})"]
        for term in ("classification", "binarization", "balance"):
            rows.append(
                _row(
                    f"{term} loss",
                    {"method": "released log", **row},
                    protocol=f"test at iteration {iteration:,}",
                    published=float(row[term]),
                    ours=test.get(f"test_{term}"),
                    differs=_other_net(run, row) + other,
                )
            )
    return rows


def _other_net(run: dict, row: dict[str, str]) -> list[str]:
    if not row["net"]:
        return ["net not stated"]
    net = "SSDH VGG16-Avg" if "VGG16-Avg" in row.get("method", "") else row["net"]
    names = set() if run["from_scratch"] else NET_NAMES.get(run["settings"]["net"], set())
    return [] if net in names else ["other net"]


def _row(measure: str, row: dict[str, str], **rest) -> dict:
    return {
        "measure": measure,
        "method": row["method"],
        "net": row.get("net") or "not stated",
        "source": row["source"],
        **rest,
    }
