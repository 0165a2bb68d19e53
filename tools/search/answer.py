"""The pictures that are nearest to a query, and how an answer is written down."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tools.search.index import POOL, Index, nearest, refine

CLASSES_SHOWN = 3
LIKELY = 0.5  # a label of several is said of a picture from here on; one class alone can be above


def counted(number: int, thing: str) -> str:
    """Return a number of things, as it is said."""
    return f"{number:,} {thing}{'s' * (number != 1)}"


class Found(NamedTuple):
    """Rows of an index, nearest to one query first.

    rows: (m,) int64. distances: (m,) int32, Hamming, in bits. euclidean: (m,) float32 of the second
    stage, else None.
    """

    rows: np.ndarray
    distances: np.ndarray
    euclidean: np.ndarray | None


def find(
    index: Index,
    code: np.ndarray,
    *,
    top: int,
    category: int | None = None,
    radius: int | None = None,
    features: np.ndarray | None = None,
) -> Found:
    """Return the `top` rows nearest to one query, fewer where there are fewer.

    code: packed uint8, (1, bytes). category: a class number, to look at its pictures alone. radius:
    of the second stage's candidates, in bits, with the query's features, float32 (1, F); None for a
    search by the code alone.
    """
    rows, distances = nearest(index, code, top if radius is None else POOL, category)
    if radius is None:
        return Found(rows[0][rows[0] >= 0], distances[0][rows[0] >= 0], None)
    hamming = dict(zip(rows[0].tolist(), distances[0].tolist(), strict=True))
    rows, euclidean = refine(index, rows, distances, features, radius=radius, top=top)
    rows, euclidean = rows[0][rows[0] >= 0], euclidean[0][rows[0] >= 0]
    return Found(rows, np.array([hamming[row] for row in rows.tolist()], np.int32), euclidean)


def bits_of(code: np.ndarray, bits: int) -> str:
    """Return a packed code, (bytes,) uint8, as its 0s and 1s."""
    return "".join(map(str, np.unpackbits(code, count=bits)))


def classes_of(index: Index, probabilities: np.ndarray | None) -> list[dict]:
    """Return the classes with their probabilities, (1, C) float32, the most probable first.

    None where probabilities is None: the net has no classifier.
    """
    if probabilities is None:
        return []
    return [
        {"name": index.class_names[label], "probability": float(probabilities[0, label])}
        for label in np.argsort(-probabilities[0], kind="stable")
    ]


def likely(classes: list[dict], least: int = 1) -> list[dict]:
    """Return the first of classes_of(): all that are likely, and at least so many."""
    return classes[: max(least, sum(each["probability"] > LIKELY for each in classes))]


def neighbours_of(index: Index, found: Found) -> list[dict]:
    """Return what there is to say of each row: rank, row, key, label and distances.

    label: the class's name, or those of all labels, with commas between them; None for a picture
    that was added without one. labels: the names, a list. euclidean: None in a search by the code
    alone.
    """
    return [
        {
            "rank": place + 1,
            "row": row,
            "key": index.keys[row].decode(),
            "label": ", ".join(index.label_names(row)) or None,
            "labels": index.label_names(row),
            "distance": int(found.distances[place]),
            "euclidean": None if found.euclidean is None else float(found.euclidean[place]),
        }
        for place, row in enumerate(found.rows.tolist())
    ]


def describe(
    index: Index, code: np.ndarray, probabilities: np.ndarray | None, found: Found
) -> dict:
    """Return the answer to one query as `make search JSON=1` prints it, rounded.

    code: (bytes,) uint8. probabilities: (1, C) float32, None where the net has no classifier.
    """
    classes, neighbours = classes_of(index, probabilities), neighbours_of(index, found)
    for each in classes:
        each["probability"] = round(each["probability"], 6)
    for each in neighbours:
        euclidean = each.pop("euclidean")
        if euclidean is not None:
            each["euclidean"] = round(euclidean, 4)
    return {
        "classes": classes,
        "code": bits_of(code, index.bits),
        "net_fingerprint": index.fingerprint,
        "neighbours": neighbours,
    }


def table(query: str, answer: dict) -> Iterator[str]:
    """Yield an answer of describe() as lines for a terminal."""
    classes = likely(answer["classes"], CLASSES_SHOWN)
    named = ", ".join(f"{c['name']} {c['probability']:.1%}" for c in classes)
    yield f"{query}: {named or 'no classes, as the net has no classifier'}"
    fine = any("euclidean" in found for found in answer["neighbours"])
    columns = f"{'rank':>4} {'distance':>8} " + (f"{'euclidean':>9} " if fine else "")
    yield f"{columns} {'class':16} key"
    for found in answer["neighbours"]:
        columns = f"{found['rank']:4} {found['distance']:8} "
        columns += f"{found['euclidean']:9.3f} " if fine else ""
        yield f"{columns} {found['label'] or '-':16} {found['key']}"
