"""The exported net in 8 bits by ONNX Runtime, and what that costs: `make export INT8=1`.

Convolutions and fully connected layers get uint8 activations and int8 weights, a scale a channel.
Weights keep 7 bits: on processors without VNNI, 8 overflow in the sum of two products.
"""

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_prep.lmdb_reader import open_rows
from eval.codes import create_codes, read_codes
from eval.protocol import RELEASE_K, measure
from tools.net.exported import open_session, run_session
from tools.net.trained import BATCH, Outputs
from tools.run import device
from tools.run.data import SPLITS, lmdb_of
from tools.run.failure import Failure

CALIBRATION = 500  # training pictures, at most, that the ranges of activations are taken from
FIGURES = ("accuracy", "map", f"map_at_{RELEASE_K}")


def quantize(source: Path, out: Path, training: np.ndarray) -> None:
    """Write a model in 8 bits; training: pictures to calibrate on, uint8 n x C x H x W.

    Raise Failure where a disk takes no more, of which ONNX Runtime says one thing or another.
    """
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            rows = training.transpose(0, 2, 3, 1)
            self.batches = iter(rows[at : at + BATCH] for at in range(0, len(rows), BATCH))

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.batches, None)
            return None if batch is None else {"picture": batch}

    root, level = logging.getLogger(), logging.getLogger().level
    root.setLevel(logging.CRITICAL)  # it advises to do what is done here
    fused = out.with_suffix(".fused.onnx")
    try:
        quantization.quant_pre_process(source, fused, skip_symbolic_shape=True)
        quantization.quantize_static(
            fused,
            out,
            Reader(),
            op_types_to_quantize=["Conv", "Gemm"],
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
        )
    except Exception as error:  # of many kinds, none of them of a common base
        said = next(iter(str(error).splitlines()), type(error).__name__)
        raise Failure(
            f"ONNX Runtime cannot write the net in 8 bits ({said}): is there room in {out.parent} "
            f"and in {tempfile.gettempdir()} for twice the {source.stat().st_size / 1e6:.0f} MB of "
            f"{source.name}? Free some space, or leave INT8=1 out"
        ) from None
    finally:
        root.setLevel(level)
    fused.unlink()


def codes_of(model: Path, data: Path, like: Path, out: Path) -> None:
    """Write the codes file of a model over both splits of a data folder.

    like: the codes file of the same rows by the float net.
    """
    there = read_codes(like)
    session = open_session(model, device.threads())
    splits = {"database": there.database, "query": there.query}
    facts = {
        name: getattr(there, name)
        for name in ("bits", "class_names", "dataset", "net", "net_fingerprint", "row_order")
    }
    keys = {name: [key.decode() for key in split.keys] for name, split in splits.items()}
    labels = {name: split.labels for name, split in splits.items()}
    facts["classifier"] = there.query.predictions is not None
    with create_codes(out, labels=labels, keys=keys, **facts) as write:
        for split in SPLITS:
            with open_rows(lmdb_of(data, split)) as (rows, read):
                for at in range(0, len(rows), BATCH):
                    pictures, _ = read(range(at, min(at + BATCH, len(rows))))
                    found: Outputs = run_session(session, pictures, features=False)
                    write(split, at, found.latent, found.probabilities)


def compare(float_codes: Path, int8_codes: Path) -> dict[str, dict]:
    """Return the evaluator's figures of both nets' codes, and how many bits differ."""
    measured = {"float": measure(float_codes), "int8": measure(int8_codes)}
    figures = {name: {key: metrics[key] for key in FIGURES} for name, metrics in measured.items()}
    there, here = read_codes(float_codes), read_codes(int8_codes)
    for split in SPLITS:
        differ = getattr(there, split).codes ^ getattr(here, split).codes
        figures["int8"][f"{split}_bits_differ"] = int(np.unpackbits(differ).sum())
        figures["int8"][f"{split}_bits"] = len(differ) * there.bits
    return figures


def table(figures: dict[str, dict], sizes: dict[str, int]) -> Iterator[str]:
    """Yield the lines of a table; sizes: of the models, in bytes."""
    yield f"{'':6} {'accuracy':>8} {'mAP':>7} {'mAP@1000':>8}  size of the model"
    for name, of_net in figures.items():
        accuracy, whole, top = (of_net[key] for key in FIGURES)
        correct = f"{accuracy:8.4f}" if accuracy is not None else f"{'-':>8}"
        yield f"{name:6} {correct} {whole:7.4f} {top:8.4f}  {sizes[name] / 1e6:.2f} MB"
    of_net = figures["int8"]
    differ = sum(of_net[f"{split}_bits_differ"] for split in SPLITS)
    yield f"{differ:,} of {sum(of_net[f'{split}_bits'] for split in SPLITS):,} bits differ"
