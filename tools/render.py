"""Templates under prototxt/ to the prototxt that Caffe reads.

A template is a Caffe file with a few $placeholders. Every placeholder must get a value, and the
result is parsed with Caffe's own protobuf text format before anybody uses it.
"""

import string

from tools.job import PROTOTXT, stop

FILES = ("train_val.prototxt", "deploy.prototxt", "solver.prototxt")


def values(job, classes, test_pictures, data, folder, iters):
    """Return the value of every placeholder.

    data and folder are the paths written into the files, iters what solver.prototxt has as
    max_iter: the fingerprint renders with fixed ones, since none of the three decides the weights.
    """
    return {
        "data": data,
        "folder": folder,
        "iters": iters,
        "classes": classes,
        "test_pictures": test_pictures,
        **{key: job[key] for key in ("bits", "batch", "seed", "alpha", "beta", "gamma")},
    }


def fill(text, values, name):
    """Return a template's text with its placeholders filled; stop where one has no value."""
    values = {key: format(v, "g") if isinstance(v, float) else v for key, v in values.items()}
    try:
        return string.Template(text).substitute(values)
    except KeyError as missing:
        stop(f"{name} has the placeholder ${missing.args[0]}, which nothing gives a value")
    except ValueError as error:
        stop(f"{name}: {error}")


def render(net, values):
    """Return {file name: text} of a net's three files, unparsed."""
    files = {}
    for name in FILES:
        path = PROTOTXT / net / name
        files[name] = fill(path.read_text(), values, f"prototxt/{net}/{name}")
    return files


def parse(text, name):
    """Return the NetParameter or SolverParameter of a prototxt; stop where it is not valid."""
    from caffe.proto import caffe_pb2
    from google.protobuf import text_format

    kind = "SolverParameter" if "solver" in name else "NetParameter"
    try:
        return text_format.Parse(text, getattr(caffe_pb2, kind)())
    except text_format.ParseError as error:
        stop(f"{name} is not a valid {kind}: line {error}")
