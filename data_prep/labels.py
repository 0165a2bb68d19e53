"""Several labels a picture: rows of 0 and 1, and the LMDB that they stand in beside the pictures'.

A Datum has room for one label. So `train_labels_lmdb`, beside `train_lmdb`, has under each
picture's key, and so in the pictures' order, a Datum of L x 1 x 1 bytes of 0 and 1, which Caffe's
Data layer gives as N x L x 1 x 1 numbers. The pictures' own Datums then have the label 0.
"""

from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError

from data_prep import DataError
from data_prep.caffe_proto import caffe_pb2


def labels_of(pictures: Path) -> Path:
    """Return the labels' LMDB of a pictures' one: ``train_labels_lmdb`` of ``train_lmdb``."""
    return pictures.with_name(f"{pictures.name.removesuffix('_lmdb')}_labels_lmdb")


def to_datum(labels: np.ndarray) -> bytes:
    """Return the serialized Datum of a picture's labels, (L,) uint8 of 0 and 1."""
    datum = caffe_pb2.Datum(channels=len(labels), height=1, width=1, data=labels.tobytes())
    return datum.SerializeToString()


def from_datum(value: bytes) -> np.ndarray:
    """Return the labels of a serialized Datum, (L,) uint8 of 0 and 1; DataError for another one."""
    try:
        datum = caffe_pb2.Datum.FromString(value)
        labels = np.frombuffer(datum.data, np.uint8)
        fits = (datum.channels, datum.height, datum.width) == (len(labels), 1, 1)
    except DecodeError:
        fits = False
    if not fits or not len(labels) or labels.max() > 1:
        raise DataError("holds a record that is no row of labels")
    return labels
