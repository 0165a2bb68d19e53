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
from read_picture import read_picture

HERE = Path(__file__).resolve().parent
FILES = ("model.onnx", "index.faiss", "rows.npz")


def main() -> None:
    """Print the classes and the nearest pictures of each picture that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", nargs="+")
    parser.add_argument("--top", type=int, default=10)
    asked = parser.parse_args()
    if asked.top < 1:
        sys.exit(f"error: --top {asked.top}: give a number from 1 on")
    try:
        facts = json.loads((HERE / "codes.json").read_text())
        digests = {name: hashlib.sha256((HERE / name).read_bytes()).hexdigest() for name in FILES}
        changed = [name for name in FILES if digests[name] != facts["sha256"][name]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"error: {HERE} is no whole export ({error}): run 'make export' again")
    for name in changed:
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
            picture = read_picture(path, facts["picture"]["side"], facts["picture"]["channels"])
        except Exception as error:  # of many kinds, by what the file is
            sys.exit(f"error: {path} cannot be read ({error}); name another picture")
        code, *probabilities = net.run(wanted, {"picture": picture[None]})
        code = np.pad(code, ((0, 0), (0, index.code_size - code.shape[1])))
        most = min(asked.top + int(removed.sum()), index.ntotal)
        distances, found = (each[0] for each in index.search(code, most))
        kept = [at for at in range(most) if found[at] >= 0 and not removed[found[at]]]
        said = [
            f"{facts['classes'][label]} {classes[0, label]:.1%}"
            for classes in probabilities
            for label in np.argsort(-classes[0], kind="stable")[:3]
        ]
        print(f"{path}: {', '.join(said) or 'no classes, as the net has no classifier'}")
        print(f"{'rank':>4} {'distance':>8}  {'class':16} key")
        for rank, at in enumerate(kept[: asked.top], 1):
            label = labels[found[at]]
            carried = np.flatnonzero(label) if labels.ndim == 2 else [label] if label >= 0 else []
            name = ", ".join(facts["classes"][each] for each in carried) or "-"
            print(f"{rank:4} {distances[at]:8}  {name:16} {keys[found[at]].decode()}")


if __name__ == "__main__":
    main()
