"""The pictures nearest to a picture: python search.py photo.jpg [more.png ...] [--top 10].

Reads what lies beside it, and needs numpy, onnxruntime, faiss-cpu, and Pillow or OpenCV. It prints
what `make search` prints.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

import faiss
import numpy as np
import onnxruntime

try:
    import cv2
except ImportError:
    from PIL import Image, ImageOps

    cv2 = None

HERE = Path(__file__).resolve().parent
FILES = ("model.onnx", "index.faiss", "rows.npz")


def read(path: str, side: int, channels: int) -> np.ndarray:
    """Return a picture file as the net was trained with, uint8 side x side x channels, BGR."""
    if cv2:
        flag = cv2.IMREAD_COLOR if channels == 3 else cv2.IMREAD_GRAYSCALE
        picture = cv2.imread(path, flag)
        if picture is None:
            raise OSError("it is missing, or no picture")
        return np.atleast_3d(cv2.resize(picture, (side, side)))
    picture = Image.open(path)
    png = picture.format == "PNG"
    if channels == 1:
        picture.draft("L", picture.size)  # a JPEG's own grey
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I"):  # 16 bits
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if channels == 1 and picture.mode in ("1", "L", "LA"):
        return resized(np.asarray(picture.convert("L"))[..., None], side)
    colours = np.asarray(picture.convert("RGB"))[..., ::-1].astype(np.int32)
    if channels == 1:  # as OpenCV's readers, of which PNG's is libpng's own and does not round
        weights, half, shift = (
            ([3737, 19234, 9797], 0, 15) if png else ([1868, 9617, 4899], 8192, 14)
        )
        colours = (colours @ np.array(weights)[:, None] + half) >> shift
    return resized(colours, side)


def resized(picture: np.ndarray, side: int) -> np.ndarray:
    """Return what cv2.resize makes of a picture, H x W x C, to the last bit: uint8, side x side."""
    rows = picture.astype(np.int64)
    if picture.shape[:2] == (2 * side, 2 * side):
        quarters = rows[::2, ::2] + rows[1::2, ::2] + rows[::2, 1::2] + rows[1::2, 1::2]
        return ((quarters + 2) >> 2).astype(np.uint8)
    for axis in (1, 0):
        length = picture.shape[axis]
        at = ((np.arange(side) + 0.5) * (length / side) - 0.5).astype(np.float32)
        first = np.floor(at).astype(int)
        share = np.round((at - first) * np.float32(2048)).astype(np.int64)
        shares = np.round((1 - (at - first)) * np.float32(2048)).astype(np.int64), share
        if axis == 1:  # beyond the edge the last column counts alone, rows count twice
            outside = (first < 0) | (first >= length - 1)
            shares = np.where(outside, 2048, shares[0]), np.where(outside, 0, share)
        taken = [rows.take(np.clip(first + more, 0, length - 1), axis) for more in (0, 1)]
        left, right = (each[:, None] if axis else each[:, None, None] for each in shares)
        if axis == 1:
            rows = taken[0] * left + taken[1] * right
        else:
            rows = ((left * (taken[0] >> 4)) >> 16) + ((right * (taken[1] >> 4)) >> 16) + 2 >> 2
    return np.clip(rows, 0, 255).astype(np.uint8)


def main() -> None:
    """Print the classes and the nearest pictures of each picture that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", nargs="+")
    parser.add_argument("--top", type=int, default=10)
    asked = parser.parse_args()
    facts = json.loads((HERE / "codes.json").read_text())
    for name in FILES:
        if hashlib.sha256((HERE / name).read_bytes()).hexdigest() != facts["sha256"][name]:
            sys.exit(f"error: {HERE / name} was changed after the export: run 'make export' again")
    net = onnxruntime.InferenceSession(HERE / "model.onnx", providers=["CPUExecutionProvider"])
    there = {each.name for each in net.get_outputs()}
    wanted = [name for name in ("code", "probabilities") if name in there]
    index, rows = faiss.read_index_binary(str(HERE / "index.faiss")), np.load(HERE / "rows.npz")
    labels, keys, removed = (rows[name] for name in ("labels", "keys", "removed"))
    if facts["index"] == "flat":
        index.use_heap = False  # ties stand in the order of the rows
    for path in asked.pictures:
        try:
            picture = read(path, facts["picture"]["side"], facts["picture"]["channels"])
        except OSError as error:
            sys.exit(f"error: {path} cannot be read ({error}); name another picture")
        code, *probabilities = net.run(wanted, {"picture": picture[None]})
        code = np.pad(code, ((0, 0), (0, index.code_size - code.shape[1])))
        most = min(asked.top + int(removed.sum()), index.ntotal)
        distances, found = (each[0] for each in index.search(code, most))
        kept = [at for at in range(most) if found[at] >= 0 and not removed[found[at]]][: asked.top]
        said = [
            f"{facts['classes'][label]} {classes[0, label]:.1%}"
            for classes in probabilities
            for label in np.argsort(-classes[0], kind="stable")[:3]
        ]
        print(f"{path}: {', '.join(said) or 'no classes, as the net has no classifier'}")
        print(f"{'rank':>4} {'distance':>8}  {'class':16} key")
        for rank, at in enumerate(kept, 1):
            label = labels[found[at]]
            name = facts["classes"][label] if label >= 0 else "-"
            print(f"{rank:4} {distances[at]:8}  {name:16} {keys[found[at]].decode()}")


if __name__ == "__main__":
    main()
