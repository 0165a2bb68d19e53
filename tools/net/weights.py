"""Caffemodels: where they come from, what is in them, and whether they fit a net.

Caffe copies weights by layer name, leaves a layer without a match at random in silence, and aborts
the process where shapes differ. So names and shapes are compared here first.
"""

import argparse
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from data_prep import DataError
from data_prep.download import download as fetch
from data_prep.files import file_digest
from tools.run.job import REPO, nets, stop, writing

FRESH = (  # layers that start at random unless the file has them in the same shape
    *("latent", "fc9", "latent_layer", "fc8_classification"),  # SSDH, SSDH VGG16
    *("fc8_kevin", "fc8_pascal"),  # KevinNet
)


def download(name):
    """Return the path of a model of nets.toml, in weights/, fetched and verified."""
    known = nets()
    entry = known["weights"][name]
    path = REPO / "weights" / entry["file"]
    if not path.exists():
        try:
            with writing("give a copy that you have, WEIGHTS=path"):
                fetch(entry["urls"], path, f"sha1:{entry['sha1']}")
        except DataError as error:
            users = [spec for spec in known["nets"].values() if spec["weights"] == name]
            ways = "a copy that you have (WEIGHTS=path)"
            if all(spec["fillers"] for spec in users):
                ways += ", or training from scratch (WEIGHTS=none)"
            stop(f"{error}. How to go on: {ways}")
    elif file_digest(path, "sha1") != entry["sha1"]:
        stop(
            f"{path} is not the model zoo's file, whose SHA-1 is {entry['sha1']}: remove it to "
            "fetch it again, or give it as WEIGHTS=path if it is what you want"
        )
    return path


def is_absent(weights):
    """Return whether WEIGHTS is a model by name that would have to be fetched."""
    known = nets()["weights"]
    return weights in known and not (REPO / "weights" / known[weights]["file"]).exists()


def find(weights):
    """Return the path of WEIGHTS ("none", a name in nets.toml, a path), None for "none".

    A model by name is downloaded, resumed and verified into weights/; a path must exist.
    """
    if weights == "none":
        return None
    known = nets()["weights"]
    if weights in known:
        return download(weights)
    path = Path(weights).resolve()
    if not path.is_file():
        stop(f"WEIGHTS={weights}: there is no such file; models known by name: {', '.join(known)}")
    return path


def read(path):
    """Return the NetParameter of a caffemodel; stop where it is empty, a web page or not one."""
    from caffe.proto import caffe_pb2
    from google.protobuf.message import DecodeError

    data = Path(path).read_bytes()
    if not data:
        stop(f"{path} is empty: an interrupted download? Get it again")
    if data.lstrip()[:1] == b"<":
        stop(f"{path} is a web page, not a caffemodel: download the file itself")
    try:
        model = caffe_pb2.NetParameter.FromString(data)
    except DecodeError:
        stop(f"{path} is not a whole caffemodel (truncated, or another kind of file): get it again")
    if not shapes(model):
        stop(f"{path} has no weights in any layer: it is not a trained caffemodel")
    return model


def blob_shape(blob):
    """Return a BlobProto's shape, of four axes in the legacy form."""
    if blob.HasField("shape"):
        return tuple(blob.shape.dim)
    return (blob.num, blob.channels, blob.height, blob.width)


def shapes(model):
    """Return {layer name: [shape, ...]} of a NetParameter, in today's, V1 or V0 syntax."""
    found = {}
    for layer in (*model.layer, *model.layers):
        blobs = layer.blobs or inner(layer).blobs
        if blobs:
            found[inner(layer).name] = [blob_shape(blob) for blob in blobs]
    return found


def inner(layer):
    """Return what holds a layer's name: V0 wraps one layer in another (`layers { layer {`)."""
    return layer.layer if hasattr(layer, "layer") and layer.HasField("layer") else layer


def same_shape(file_shape, net_shape):
    """Return whether Caffe copies the one into the other: equal behind a legacy shape's ones."""
    missing = len(file_shape) - len(net_shape)
    if len(file_shape) == 4 and missing > 0:
        return file_shape == (1,) * missing + tuple(net_shape)
    return tuple(file_shape) == tuple(net_shape)


def compare(file_shapes, net_shapes):
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


def net_shapes(net):
    """Return {layer name: [shape, ...]} of a caffe.Net."""
    return {name: [tuple(blob.data.shape) for blob in blobs] for name, blobs in net.params.items()}


def load_for_training(net, path):
    """Copy a caffemodel into a net to be trained; return a sentence that says what went where.

    The latent layer and the classifier start at random where the file has none of their shape; for
    any other layer that is an error.
    """
    model = read(path)
    loaded, absent, mismatched = compare(shapes(model), net_shapes(net))
    missing = [name for name in absent if name not in FRESH]
    wrong = [item for item in mismatched if item[0] not in FRESH]
    if missing:
        stop(f"{path} has no layer named {', '.join(missing)}: is it the model of another net?")
    if wrong:
        name, have, wanted = wrong[0]
        stop(f"{path}: layer {name} has the shapes {have}, but this net needs {wanted}")
    other = [name for name, _, _ in mismatched]
    with without_layers(path, model, other) as file:
        net.copy_from(str(file))
    check_finite(net, path)
    fresh = absent + other
    return f"loaded from {path}: {', '.join(loaded)}; starting fresh: {', '.join(fresh) or 'none'}"


def check_finite(net, path):
    """Stop where a net that was filled from path holds weights that are not finite."""
    for name, blobs in net.params.items():
        if not all(np.isfinite(blob.data).all() for blob in blobs):
            stop(f"{path} has weights that are not finite, in {name}: its training diverged")


@contextmanager
def without_layers(path, model, names):
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


def fill(net, path):
    """Copy a caffemodel into a net; stop where it does not fill every layer, by name and shape."""
    _, absent, mismatched = compare(shapes(read(path)), net_shapes(net))
    if absent:
        stop(f"{path} has no weights for the layer(s) {', '.join(absent)}: it is of another net")
    if mismatched:
        name, have, wanted = mismatched[0]
        stop(f"{path}: layer {name} has the shapes {have}, but this net needs {wanted}")
    net.copy_from(str(path))
    check_finite(net, path)


def main():
    p = argparse.ArgumentParser(description="Fetch and verify the pretrained weights of a net.")
    p.add_argument("net", choices=nets()["nets"])
    model = nets()["nets"][p.parse_args().net]["weights"]
    print(find(model) or "this net is trained from scratch: there are no weights to fetch")


if __name__ == "__main__":
    main()
