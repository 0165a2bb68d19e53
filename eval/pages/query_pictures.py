"""Queries that a page shows with their nearest pictures, as data URIs and names of classes."""

import base64
from collections.abc import Callable

import numpy as np

from eval.codes import Codes
from eval.hamming import nearest
from eval.ranking import shares_label

NEAREST_SHOWN = 10


def shown_queries(labels: np.ndarray, classes: int) -> np.ndarray:
    """Return the first query row of each class, of at most `classes` classes, evenly spaced.

    labels: (Q,) int32 or (Q, L) uint8 of 0 and 1. Returns (at most `classes`,) int64.
    """
    if labels.ndim == 1:
        first = np.unique(labels, return_index=True)[1]
    else:
        first = np.unique([np.argmax(of_label) for of_label in labels.T if of_label.any()])
    spaced = np.linspace(0, len(first) - 1, min(classes, len(first))).astype(int)
    return first[spaced]


def nearest_pictures(codes: Codes, query: int, picture: Callable[[str, int], bytes]) -> dict:
    """Return the row `query` of the queries, and the database pictures nearest to it.

    `picture(split, row)` gives the PNG bytes of a row of "query" or "database". The dict has
    picture (data URI), label, and `nearest`, dicts of picture, label, distance, right and shared:
    how many labels are, where pictures have several, else None.
    """
    label = codes.query.labels[query]
    right = shares_label(label, codes.database.labels)
    found = nearest(codes.query.codes[query], codes.database.codes, NEAREST_SHOWN)
    return {
        "picture": data_uri(picture("query", query)),
        "label": names(codes, label),
        "nearest": [
            {
                "picture": data_uri(picture("database", int(row))),
                "label": names(codes, codes.database.labels[row]),
                "distance": int(distance),
                "right": bool(right[row]),
                "shared": np.count_nonzero(label & codes.database.labels[row])
                if label.ndim
                else None,
            }
            for row, distance in zip(*found, strict=True)
        ],
    }


def names(codes: Codes, label: np.ndarray) -> str:
    """Return the class name of a label, or those of a row of 0 and 1."""
    if np.ndim(label) == 0:
        return codes.class_names[label]
    return ", ".join(codes.class_names[i] for i in np.flatnonzero(label)) or "no label"


def data_uri(png: bytes) -> str:
    """Return a PNG as an address that an img element shows."""
    return "data:image/png;base64," + base64.b64encode(png).decode()
