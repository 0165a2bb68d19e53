"""Whether an exported net gives Caffe's answers: by numbers, by bits, and layer by layer."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import onnx
import onnxruntime

from tools.export.graph import Preparation
from tools.net.exported import open_session, run_session
from tools.net.trained import Outputs
from tools.run.failure import Failure
from tools.run.nets import Blobs

ALLOWED = 1e-4  # of the largest number of an output; and an activation's distance from 1/2
BATCH = 50
INPUTS = (
    10_000_000  # numbers into the net, for what it is measured on: all of MNIST's test pictures
)
OUTPUTS = ("latent", "features", "probabilities")
HEAD = f" {'latent':>9} {'features':>9} {'classes':>9}  bits that differ"  # of row()

Layers = dict[str, np.ndarray]  # of one picture: what each layer gives, in the net's order


class Made(NamedTuple):
    """What Caffe's process says of a net that it has written.

    outputs: Caffe's, for the pictures of the proof. blobs: of the net. tensors: {layer: its output
    in the graph}. writers: {blob: the layer that is the last to write it}.
    """

    outputs: Outputs
    blobs: Blobs
    tensors: dict[str, str]
    writers: dict[str, str]
    preparation: Preparation


def difference(reference: np.ndarray, other: np.ndarray) -> float:
    """Return the largest difference of two arrays, over the largest number of the first."""
    if not other.size:
        return 0.0
    away = float(np.abs(reference.astype(np.float64) - other).max())
    if np.isnan(away):
        return float("inf")
    largest = float(np.abs(reference).max())
    return away / largest if largest else away


def compare(reference: Outputs, other: Outputs) -> dict[str, float | int]:
    """Return the figures of two nets' outputs for the same pictures.

    latent, features, probabilities: difference(). bits: how many there are; bits_differ: of those;
    bits_wrong: of those, at an activation further than ALLOWED from 1/2.
    """
    figures = {
        name: difference(getattr(reference, name), getattr(other, name))
        for name in OUTPUTS
        if getattr(reference, name) is not None
    }
    if reference.latent is None:
        return figures
    differ = (reference.latent > 0.5) != (other.latent > 0.5)
    wrong = differ & (np.abs(reference.latent - 0.5) > ALLOWED)
    counts = {"bits": differ.size, "bits_differ": differ.sum(), "bits_wrong": wrong.sum()}
    return figures | {name: int(count) for name, count in counts.items()}


def is_same(figures: dict[str, float | int]) -> bool:
    """Return whether the figures of compare() are those of one and the same net."""
    return not figures.get("bits_wrong") and all(
        figures[name] <= ALLOWED for name in OUTPUTS if name in figures
    )


def worst_row(reference: Outputs, other: Outputs) -> int:
    """Return the picture whose activations differ most."""
    away = np.abs(reference.activations - other.activations).max(axis=1)
    return int(np.nan_to_num(away, nan=np.inf).argmax())


def first_departure(reference: Layers, other: Layers) -> tuple[str, float] | None:
    """Return the first layer whose outputs differ by more than is allowed, and by how much."""
    for layer, values in reference.items():
        if layer in other:
            away = difference(values, other[layer].reshape(values.shape))
            if away > ALLOWED:
                return layer, away
    return None


def prove(
    out: Path,
    pictures: np.ndarray,
    made: Made,
    caffe_layers: Callable[[np.ndarray], Layers],
    threads: int,
) -> dict[str, dict]:
    """Return the figures of an export's model.onnx and model.caffemodel, by the engine's name.

    pictures: uint8 n x C x H x W, those of made.outputs. caffe_layers: gives Caffe's layers for one
    picture. Raise Failure where an engine does not give Caffe's answers, with the first layer that
    departs.
    """
    cv2.setNumThreads(threads)
    opencv = read_opencv(out)
    engines = {
        "ONNX Runtime": by_onnx(out / "model.onnx", made, threads),
        "OpenCV DNN": (
            lambda some: run_opencv(opencv, made, prepared(some, made.preparation)),
            lambda picture: opencv_layers(
                out, made.tensors, prepared(picture[None], made.preparation)
            ),
        ),
    }
    if (out / "web" / "model.onnx").exists():
        engines["web/model.onnx"] = by_onnx(out / "web" / "model.onnx", made, threads)
    found = {}
    for engine, (run, layers) in engines.items():
        starts = range(0, len(pictures), BATCH)
        try:
            outputs = Outputs.join([run(pictures[at : at + BATCH]) for at in starts])
        except cv2.error as error:
            raise Failure(f"OpenCV cannot run this net: {error.err} ({error.func})") from None
        found[engine] = compare(made.outputs, outputs)
        if not is_same(found[engine]):
            picture = pictures[worst_row(made.outputs, outputs)]
            departure = first_departure(caffe_layers(picture), layers(picture))
            raise Failure(sentence(engine, found[engine], departure))
    return found


def by_onnx(
    path: Path, made: Made, threads: int
) -> tuple[Callable[[np.ndarray], Outputs], Callable[[np.ndarray], Layers]]:
    """Return what gives an ONNX file's outputs for pictures, and its layers for one picture."""
    session = open_session(path, threads)
    return (
        lambda some: run_session(session, some, features=True),
        lambda picture: onnx_layers(path, made.tensors, picture),
    )


def prepared(pictures: np.ndarray, preparation: Preparation) -> np.ndarray:
    """Return pictures, uint8 n x C x H x W, as a net without preprocessing gets them, float32."""
    mean, scale, (top, left, side) = preparation
    cropped = pictures[:, :, top : top + side, left : left + side]
    return (cropped - mean) * np.float32(scale)


def run_opencv(net: cv2.dnn.Net, made: Made, inputs: np.ndarray) -> Outputs:
    """Return OpenCV's outputs for prepared pictures."""
    blobs = (made.blobs.code, made.blobs.probabilities, made.blobs.features)
    net.setInput(inputs)
    found = iter(net.forward([made.writers[blob] for blob in blobs if blob]))
    return Outputs(
        *(next(found).reshape(len(inputs), -1).copy() if blob else None for blob in blobs)
    )


def read_opencv(out: Path) -> cv2.dnn.Net:
    """Return an export's net as OpenCV reads it."""
    return cv2.dnn.readNetFromCaffe(str(out / "model.prototxt"), str(out / "model.caffemodel"))


def opencv_layers(out: Path, names: Iterable[str], inputs: np.ndarray) -> Layers:
    """Return OpenCV's layers for one prepared picture, by a net that has not yet fused any."""
    net = read_opencv(out)
    net.enableFusion(False)
    net.setInput(inputs)
    there = set(net.getLayerNames())
    return {name: net.forward(name).copy() for name in names if name in there}


def onnx_layers(path: Path, tensors: dict[str, str], picture: np.ndarray) -> Layers:
    """Return ONNX Runtime's layers for one picture, uint8 C x H x W."""
    model = onnx.load(path)
    wanted = sorted(set(tensors.values()) - {each.name for each in model.graph.output})
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = list(tensors.values())
    found = session.run(names, {"picture": picture[None].transpose(0, 2, 3, 1)})
    return dict(zip(tensors, found, strict=True))


def sentence(engine: str, figures: dict, departure: tuple[str, float] | None) -> str:
    """Return the sentence on answers that are not Caffe's."""
    away = max(figures[name] for name in OUTPUTS if name in figures)
    bits = (
        f", {figures['bits_wrong']} bits at activations far from 1/2" if "bits" in figures else ""
    )
    where = "no single layer departs"
    if departure:
        where = f"the first layer that departs is {departure[0]}, by {departure[1]:.1e}"
    return (
        f"{engine} does not give Caffe's answers ({away:.1e} apart, {ALLOWED:.0e} is allowed"
        f"{bits}): {where}; nothing was exported"
    )


def table(found: dict[str, dict], pictures: int) -> list[str]:
    """Return the lines of the parity table, an engine a row."""
    return [
        f"beside Caffe, {pictures:,} pictures: the largest difference, over the largest number",
        f"{'':14}{HEAD}",
        *(f"{engine:14}{row(figures)}" for engine, figures in found.items()),
    ]


def row(figures: dict[str, float | int]) -> str:
    """Return the figures of compare() under HEAD."""
    cells = [f"{figures[name]:9.1e}" if name in figures else f"{'-':>9}" for name in OUTPUTS]
    bits = f"{figures['bits_differ']:,} of {figures['bits']:,}" if "bits" in figures else "-"
    return f" {' '.join(cells)}  {bits}"
