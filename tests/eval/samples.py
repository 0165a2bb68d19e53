"""Small codes files and run folders, made of random numbers, for tests."""

import csv
import json

import cv2
import h5py
import numpy as np

from eval.codes import create_codes


def random_split(random, rows, bits, classes):
    """Latent (rows, bits), probabilities (rows, classes) and labels (rows,), loosely related."""
    labels = random.integers(classes, size=rows)
    centres = np.random.default_rng(0).random((classes, bits))
    latent = 0.6 * centres[labels] + 0.4 * random.random((rows, bits))
    probabilities = 0.7 * np.eye(classes)[labels] + random.random((rows, classes))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return latent.astype(np.float32), probabilities.astype(np.float32), labels


def several_split(random, rows, bits, classes):
    """The same with labels (rows, classes) of 0 and 1: of each picture one, two or three."""
    labels = (random.random((rows, classes)) < 0.25).astype(np.uint8)
    labels[np.arange(rows), random.integers(classes, size=rows)] = 1
    centres = np.random.default_rng(0).standard_normal((classes, bits))
    noise = random.standard_normal((rows, bits))
    latent = 1 / (1 + np.exp(-2 * (labels @ centres + 0.5 * noise)))
    probabilities = (0.6 * labels + random.random((rows, classes))) / 1.6
    return latent.astype(np.float32), probabilities.astype(np.float32), labels


def write_several(path, **options):
    """A codes file of pictures with several labels; returns its splits as `several_split` does."""
    return write_sample(path, split=several_split, **options)


def write_sample(
    path,
    queries=30,
    rows=100,
    bits=12,
    classes=4,
    dataset="digits",
    net="lenet",
    split=random_split,
):
    """A codes file with everything in it; returns its splits as `split` makes them."""
    random = np.random.default_rng(1)
    splits = {
        "database": split(random, rows, bits, classes),
        "query": split(random, queries, bits, classes),
    }
    with create_codes(
        path,
        bits=bits,
        class_names=[f"class {label}" for label in range(classes)],
        dataset=dataset,
        net=net,
        net_fingerprint="fingerprint of a test",
        row_order="the order of the test",
        labels={name: of_split[2] for name, of_split in splits.items()},
        keys={
            name: [f"{name}/é{i}" for i in range(len(of_split[2]))]
            for name, of_split in splits.items()
        },
    ) as write:
        for name, (latent, probabilities, _) in splits.items():
            for start in reversed(range(0, len(latent), 32)):
                part = slice(start, start + 32)
                write(name, start, latent[part], probabilities[part])
    return splits


def write_features(
    path,
    queries=40,
    rows=300,
    size=16,
    classes=4,
    fingerprint="fingerprint of a test",
    several=False,
):
    """A features file of clusters, one for each class; the figures of it are in metrics.json."""
    random = np.random.default_rng(2)
    centres = 2 * random.standard_normal((classes, size))
    with h5py.File(path, "w") as file:
        file.attrs["class_names"] = [f"class {label}" for label in range(classes)]
        facts = {
            "blob": "ip1",
            "dataset": "digits",
            "net": "lenet",
            "row_order": "the test's order",
        }
        file.attrs.update(facts | {"net_fingerprint": fingerprint})
        for name, count in (("database", rows), ("query", queries)):
            labels = random.integers(classes, size=count).astype(np.int32)
            of_picture = centres[labels]
            if several:
                labels = (random.random((count, classes)) < 0.4).astype(np.uint8)
                of_picture = labels @ centres
            features = of_picture + random.standard_normal((count, size))
            file[f"{name}/features"] = features.astype(np.float32)
            file[f"{name}/labels"] = labels
            file[f"{name}/key"] = np.array([f"{name}/{i}".encode() for i in range(count)])
    metrics = {
        "accuracy": 0.75,
        "queries": queries,
        "database": rows,
        "net_fingerprint": fingerprint,
    }
    path.with_name("metrics.json").write_text(json.dumps(metrics))


TRAINING = [
    {"iteration": 0, "classification": "", "test_accuracy": 0.1, "test_binarization": -0.01},
    {"iteration": 50, "classification": 1.2, "learning_rate": 0.01, "binarization": -0.05},
    {"iteration": 100, "classification": 0.5, "test_accuracy": 0.9, "distinct_codes": 10000},
]


def write_training(path, rows=TRAINING):
    columns = ["iteration", "learning_rate", "classification", "binarization", "balance"]
    columns += [
        "test_accuracy",
        "test_mean_ap",
        "test_classification",
        "test_binarization",
        "distinct_codes",
    ]
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def write_run(
    path, dataset="digits", net="lenet", bits=12, from_scratch=True, method="ssdh", **others
):
    run = {
        "command": "make train",
        "caffe": {"commit": "99bd997", "build": "CPU"},
        "settings": {
            "dataset": dataset,
            "net": net,
            "method": method,
            "bits": bits,
            "subset": None,
            "iters": 100,
        },
        "from_scratch": from_scratch,
        "warnings": ["bit 3 never fires"],
        **others,
    }
    path.write_text(json.dumps(run))
    return run


def picture(split, row):
    """A PNG whose grey level tells the row."""
    grey = np.full((8, 8), (row * 7 + (split == "query")) % 256, np.uint8)
    return cv2.imencode(".png", grey)[1].tobytes()
