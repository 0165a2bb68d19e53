"""What is in a caffemodel, and whether it fits a net.

Caffe copies weights by layer name, leaves a layer without a match at random in silence, and aborts
the process where shapes differ. So names and shapes are compared here first.
"""

import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eval.tables import METHODS
from tools.run.failure import Failure
from tools.run.nets import nets

if TYPE_CHECKING:
    import caffe
    from caffe.proto import caffe_pb2

Shapes = dict[str, list[tuple[int, ...]]]  # of each layer's blobs, by the layer's name
LEGACY = ("num", "channels", "height", "width")
MOST_LISTED = 20  # layers by name in a sentence


class LegacyShape(tuple):
    """A blob's shape in the legacy form: four axes, of which Caffe takes leading ones for none."""

    __slots__ = ()


def fresh_layers() -> set[str]:
    """Return the layers that start at random unless the file has them in the same shape.

    They are the layers behind the features that the heads of all nets and methods name.
    """
    return {
        values[layer]
        for net in nets().values()
        for method, values in net.methods.items()
        for layer in METHODS[method].names
    }


def read(path: Path | str) -> "caffe_pb2.NetParameter":
    """Return the NetParameter of a caffemodel; raise Failure where it is none, and say why."""
    from caffe.proto import caffe_pb2
    from google.protobuf.message import DecodeError

    data = Path(path).read_bytes()
    if not data:
        raise Failure(f"{path} is empty: an interrupted download? Get it again")
    if data.lstrip()[:1] == b"<":
        raise Failure(f"{path} is a web page, not a caffemodel: download the file itself")
    try:
        model = caffe_pb2.NetParameter.FromString(data)
    except DecodeError:
        raise Failure(
            f"{path} is not a whole caffemodel (truncated, or another kind of file): get it again"
        ) from None
    if not shapes(model):
        raise Failure(f"{path} has no weights in any layer: it is not a trained caffemodel")
    check_whole(model, path)
    return model


def check_whole(model: "caffe_pb2.NetParameter", path: Path | str) -> None:
    """Raise Failure where a blob holds more or fewer numbers than its shape says: Caffe aborts."""
    for name, blobs in layers_of(model):
        for blob in blobs:
            count = len(blob.double_data) or len(blob.data)
            if count != math.prod(blob_shape(blob)):
                raise Failure(
                    f"{path} is damaged: the layer {name} has {count} numbers in a blob of shape "
                    f"{tuple(blob_shape(blob))}; get it again"
                )


def blob_shape(blob: "caffe_pb2.BlobProto") -> tuple[int, ...]:
    """Return a BlobProto's shape, a LegacyShape where it has any of the legacy form's fields.

    Caffe too takes those before the field shape (Blob::ShapeEquals in blob.cpp).
    """
    if any(blob.HasField(name) for name in LEGACY):
        return LegacyShape(getattr(blob, name) for name in LEGACY)
    return tuple(blob.shape.dim)


def shapes(model: "caffe_pb2.NetParameter") -> Shapes:
    """Return {layer name: [shape, ...]} of a NetParameter, in today's, V1 or V0 syntax."""
    return {name: [blob_shape(blob) for blob in blobs] for name, blobs in layers_of(model) if blobs}


def layers_of(
    model: "caffe_pb2.NetParameter",
) -> Iterator[tuple[str, "Sequence[caffe_pb2.BlobProto]"]]:
    """Yield each layer's name and blobs of a NetParameter, in today's, V1 or V0 syntax."""
    for layer in (*model.layer, *model.layers):
        yield inner(layer).name, layer.blobs or inner(layer).blobs


def inner(
    layer: "caffe_pb2.LayerParameter | caffe_pb2.V1LayerParameter",
) -> "caffe_pb2.LayerParameter | caffe_pb2.V1LayerParameter | caffe_pb2.V0LayerParameter":
    """Return what holds a layer's name: V0 wraps one layer in another (`layers { layer {`)."""
    return layer.layer if hasattr(layer, "layer") and layer.HasField("layer") else layer


def same_shape(file_shape: Sequence[int], net_shape: Sequence[int]) -> bool:
    """Return whether Caffe copies the one into the other: equal behind a legacy shape's ones.

    A shape that the file states in today's form must be equal: Caffe aborts the process otherwise.
    """
    missing = len(file_shape) - len(net_shape)
    if isinstance(file_shape, LegacyShape) and missing > 0:
        return tuple(file_shape) == (1,) * missing + tuple(net_shape)
    return tuple(file_shape) == tuple(net_shape)


def compare(file_shapes: Shapes, net_shapes: Shapes) -> tuple[list[str], list[str], list[tuple]]:
    """Return (loaded, absent, mismatched): names of the net's layers by what the file has for them.

    file_shapes, net_shapes: {layer name: [shape, ...]}. mismatched holds (name, file's, net's
    shapes).
    """
    loaded, absent, mismatched = [], [], []
    for name, wanted in net_shapes.items():
        have = file_shapes.get(name)
        if have is None:
            absent.append(name)
        elif len(have) == len(wanted) and all(map(same_shape, have, wanted)):
            loaded.append(name)
        else:
            mismatched.append((name, have, wanted))
    return loaded, absent, mismatched


def net_shapes(net: "caffe.Net") -> Shapes:
    """Return {layer name: [shape, ...]} of a caffe.Net."""
    return {name: [tuple(blob.data.shape) for blob in blobs] for name, blobs in net.params.items()}


def check_copies(net: "caffe.Net", model: "caffe_pb2.NetParameter", path: Path | str) -> None:
    """Raise Failure where a layer of the file has a net's layer's name and not its blobs.

    Caffe looks at every layer of the file, also at a second one of a name and at those of a net's
    layers that have no weights, and aborts the process.
    """
    there, names = net_shapes(net), set(net._layer_names)
    for name, blobs in layers_of(model):
        have, wanted = [blob_shape(blob) for blob in blobs], there.get(name, [])
        if name in names and not (len(have) == len(wanted) and all(map(same_shape, have, wanted))):
            raise Failure(
                f"{path}: a layer {name} has the shapes {have}, but this net needs {wanted}"
            )


def load_for_training(net: "caffe.Net", path: Path) -> str:
    """Copy a caffemodel into a net to be trained; return a sentence that says what went where.

    The layers behind the features start at random where the file has none of their shape; for any
    other layer that is an error.
    """
    model = read(path)
    loaded, absent, mismatched = compare(shapes(model), net_shapes(net))
    may_be_fresh = fresh_layers()
    missing = [name for name in absent if name not in may_be_fresh]
    wrong = [item for item in mismatched if item[0] not in may_be_fresh]
    if missing:
        raise Failure(
            f"{path} has no layer named {listed(missing)}: is it the model of another net?"
        )
    if wrong:
        name, have, wanted = wrong[0]
        raise Failure(f"{path}: layer {name} has the shapes {have}, but this net needs {wanted}")
    other = [name for name, _, _ in mismatched]
    with without_layers(path, model, other) as file:
        check_copies(net, model, path)
        net.copy_from(str(file))
    check_finite(net, path)
    fresh = absent + other
    return f"loaded from {path}: {listed(loaded)}; starting fresh: {', '.join(fresh) or 'none'}"


def serialized(net: "caffe.Net") -> bytes:
    """Return the caffemodel of a net; Caffe ends its process where it cannot write a file."""
    with open(os.memfd_create("caffemodel"), "rb") as memory:
        net.save(f"/proc/self/fd/{memory.fileno()}")
        return memory.read()


def listed(names: Sequence[str]) -> str:
    """Return names for a sentence: all of them, or the first and how many more there are."""
    if len(names) <= MOST_LISTED:
        return ", ".join(names)
    return f"{', '.join(names[:3])} and {len(names) - 3} more"


def check_finite(net: "caffe.Net", path: Path) -> None:
    """Raise Failure where a net that was filled from path holds weights that are not finite."""
    for name, blobs in net.params.items():
        if not all(np.isfinite(blob.data).all() for blob in blobs):
            raise Failure(
                f"{path} has weights that are not finite, in {name}: its training diverged"
            )


@contextmanager
def without_layers(
    path: Path, model: "caffe_pb2.NetParameter", names: Sequence[str]
) -> Iterator[Path | str]:
    """Yield the path of a caffemodel without some layers: the file itself where there are none."""
    if not names:
        yield path
        return
    for layer in (*model.layer, *model.layers):
        if inner(layer).name in names:  # renamed: a V0 file must keep what its next layer reads
            inner(layer).name += " (not taken)"
    with tempfile.NamedTemporaryFile(suffix=".caffemodel") as file:
        file.write(model.SerializeToString())
        file.flush()
        os.fsync(file.fileno())
        yield file.name


def fill(net: "caffe.Net", path: Path) -> None:
    """Copy a caffemodel into a net.

    Raise Failure where it does not fill every layer, by name and shape.
    """
    model = read(path)
    _, absent, mismatched = compare(shapes(model), net_shapes(net))
    if absent:
        raise Failure(
            f"{path} has no weights for the layer(s) {listed(absent)}: it is of another net"
        )
    if mismatched:
        name, have, wanted = mismatched[0]
        raise Failure(f"{path}: layer {name} has the shapes {have}, but this net needs {wanted}")
    check_copies(net, model, path)
    net.copy_from(str(path))
    check_finite(net, path)
