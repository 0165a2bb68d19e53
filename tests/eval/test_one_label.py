"""Pictures with one label have the metrics.json that they have always had, byte for byte.

The files in one_label/ were written by `python -m eval` before there were figures for several
labels; `constant_bits`, a line of its own, is newer. The codes that they are of are made by
SHA-256: no library's random numbers matter.
"""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from eval.codes import create_codes
from eval.command import main

BEFORE = Path(__file__).with_name("one_label")
ROWS = {"database": 90, "query": 25}
BITS, CLASSES = 6, 4


def drawn(name, rows, columns):
    """Numbers from 0 to 255, (rows, columns), that a name alone decides."""
    blocks = -(-rows * columns // 32)
    digests = b"".join(hashlib.sha256(f"{name} {i}".encode()).digest() for i in range(blocks))
    return np.frombuffer(digests, np.uint8)[: rows * columns].reshape(rows, columns)


def write_codes(path):
    labels = {name: drawn(f"{name} labels", rows, 1)[:, 0] % CLASSES for name, rows in ROWS.items()}
    with create_codes(
        path,
        bits=BITS,
        class_names=["ant", "bee", "cat", "dog"],
        dataset="drawn by SHA-256",
        net="none",
        net_fingerprint="none",
        row_order="as drawn",
        labels=labels,
        keys={name: [f"{name}/{row}" for row in range(rows)] for name, rows in ROWS.items()},
    ) as write:
        for name, rows in ROWS.items():
            centres = drawn("centres", CLASSES, BITS)[labels[name]].astype(np.float32)
            latent = (centres + drawn(f"{name} latent", rows, BITS)) / 512
            right = 128 * (labels[name][:, None] == np.arange(CLASSES))
            probabilities = (right + drawn(f"{name} probabilities", rows, CLASSES)) / 512
            write(name, 0, latent, probabilities.astype(np.float32))


@pytest.mark.parametrize(
    ("options", "name"), [((), "metrics.json"), (("--k", "20"), "metrics-qall-k20.json")]
)
def test_metrics_of_one_label_a_picture_are_those_of_before(tmp_path, options, name):
    write_codes(tmp_path / "codes.h5")
    main([str(tmp_path / "codes.h5"), *options])
    text = (tmp_path / name).read_text()
    assert text.count('  "constant_bits": 0,\n') == 1
    assert text.replace('  "constant_bits": 0,\n', "") == (BEFORE / name).read_text()
