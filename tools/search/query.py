"""One picture against a run's index; runs in a child process of tools/search/__main__.py."""

import argparse
import json
import time
from pathlib import Path

import faiss
import numpy as np

from data_prep import DataError
from data_prep.picture import decode, fit
from eval.codes import pack_latent
from eval.files import InputError, write_atomically
from tools.net.forward import code_blob, forward, load_net
from tools.run import device
from tools.run import record as runs
from tools.run.job import nets, stop
from tools.search.index import POOL, nearest, open_index, refine

CLASSES_SHOWN = 3


def read_picture(path, spec):
    """Return a picture file as the net gets it, uint8 C x H x W, BGR; stop where it is none."""
    try:
        pixels = fit(path.read_bytes(), spec["side"], spec["channels"])
    except OSError as error:
        stop(f"{path} cannot be read: {error.strerror}")
    except DataError as error:
        stop(f"{path} {error}")
    return np.atleast_3d(pixels).transpose(2, 0, 1)


def find(index, code, features, top, category, radius):
    """Return (rows, Hamming distances, Euclidean distances or None) of one query, nearest first.

    code: packed uint8 (1, bytes). features: (1, F). radius: of the second stage's candidates, or
    None for the codes alone. Fewer than `top` where there are fewer.
    """
    rows, distances = nearest(index, code, top if radius is None else POOL, category)
    rows, distances, euclidean = rows[0], distances[0], None
    if radius is not None:
        hamming = dict(zip(rows.tolist(), distances.tolist(), strict=True))
        rows, euclidean = refine(index, rows[None], distances[None], features, radius, top)
        rows, euclidean = rows[0][rows[0] >= 0], euclidean[0][rows[0] >= 0]
        distances = np.array([hamming[row] for row in rows.tolist()], np.int32)
    return rows[rows >= 0], distances[distances >= 0], euclidean


def described(index, code, probabilities, rows, distances, euclidean):
    """Return the answer to one query as what JSON has: classes, code, neighbours."""
    names = index.class_names
    neighbours = [
        {
            "rank": rank + 1,
            "row": int(row),
            "key": index.keys[row].decode(),
            "label": names[index.labels[row]] if index.labels[row] >= 0 else None,
            "distance": int(distances[rank]),
            **({} if euclidean is None else {"euclidean": round(float(euclidean[rank]), 4)}),
        }
        for rank, row in enumerate(rows)
    ]
    return {
        "classes": [
            {"name": names[c], "probability": round(float(probabilities[c]), 6)}
            for c in np.argsort(-probabilities, kind="stable")
        ],
        "code": "".join(map(str, np.unpackbits(code[0])[: index.bits])),
        "net_fingerprint": index.fingerprint,
        "neighbours": neighbours,
    }


def table(query, answer):
    """Return the answer as lines for a terminal."""
    classes = answer["classes"][:CLASSES_SHOWN]
    yield f"{query}: " + ", ".join(f"{c['name']} {c['probability']:.1%}" for c in classes)
    fine = any("euclidean" in found for found in answer["neighbours"])
    columns = f"{'rank':>4} {'distance':>8} " + (f"{'euclidean':>9} " if fine else "")
    yield f"{columns} {'class':16} key"
    for found in answer["neighbours"]:
        columns = f"{found['rank']:4} {found['distance']:8} "
        columns += f"{found['euclidean']:9.3f} " if fine else ""
        yield f"{columns} {found['label'] or '-':16} {found['key']}"


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("run", type=Path)
    p.add_argument("data", type=Path)
    p.add_argument("picture", type=Path)
    p.add_argument("--top", type=int, required=True)
    p.add_argument("--category", default="")
    p.add_argument("--radius", type=int)
    p.add_argument("--grid", type=Path)
    p.add_argument("--json", action="store_true")
    p.add_argument("--gpu", type=int)
    args = p.parse_args()
    device.activate(args.gpu)
    faiss.omp_set_num_threads(1)  # one query gains nothing from more, and would wait for them
    spec = nets()["nets"][runs.read(args.run)["settings"]["net"]]
    net, transform = load_net(args.run, args.run / "model.caffemodel", 1)
    times = [time.perf_counter()]
    try:
        index = open_index(args.run)
        category = None
        if args.category:
            if args.category not in index.class_names:
                known = ", ".join(index.class_names)
                stop(f"CATEGORY={args.category} is not known; there are {known}")
            category = index.class_names.index(args.category)
        times.append(time.perf_counter())
        picture = read_picture(args.picture, spec)
        times.append(time.perf_counter())
        blobs = [code_blob(args.run), "prob", spec["features"]]
        latent, probabilities, features = forward(net, transform(picture[None]), blobs)
        code = pack_latent(latent)
        times.append(time.perf_counter())
        found = find(index, code, features, args.top, category, args.radius)
    except InputError as error:
        stop(str(error))
    answer = described(index, code, probabilities[0], *found)
    times.append(time.perf_counter())
    took = (1000 * np.diff([*times, times[-1]])).round(2).tolist()
    took[-1] = round(1000 * (times[-1] - times[0]), 2)
    names = ("index", "picture", "net", "search", "total")
    answer["milliseconds"] = dict(zip(names, took, strict=True))
    if args.json:
        print(json.dumps({"query": str(args.picture)} | answer))
    else:
        print(*table(args.picture, answer), sep="\n")
        if not answer["neighbours"]:
            print(f"no picture lies within {args.radius} bits: widen it with RADIUS=")
        print(
            "answered in {total} ms after the net was loaded: index {index}, picture {picture}, "
            "net {net}, search {search}".format(**answer["milliseconds"])
        )
    if args.grid:
        from tools.search.grid import draw_grid, open_pictures  # matplotlib takes its time

        with open_pictures(index, args.data) as read:
            shown = [read(found["row"]) for found in answer["neighbours"]]
        query = decode(args.picture.read_bytes(), 3)
        with write_atomically(args.grid) as partial:
            partial.write_bytes(draw_grid(query, shown, answer))


if __name__ == "__main__":
    main()
