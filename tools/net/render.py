"""Templates under prototxt/ to the prototxt that Caffe reads.

A net's template holds its layers up to the features; that of the method, in a folder of the net's,
what comes behind them: the second is put after the first. A template is a Caffe file with a few
$placeholders. Every placeholder must get a value, and the result is parsed with Caffe's own
protobuf text format before anybody uses it.
"""

import string

from tools.run.job import PROTOTXT, nets, stop

METHODS = {"ssdh": "SSDH", "kevinnet": "KevinNet", "finetune": "Finetune"}  # and their $method
FILES = ("train_val.prototxt", "deploy.prototxt", "solver.prototxt")


def written(value):
    """Return a value as a prototxt has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return format(value, "g") if isinstance(value, float) else value


def fill(text, values, name):
    """Return a template's text with its placeholders filled; stop where one has no value."""
    values = {key: written(value) for key, value in values.items()}
    try:
        return string.Template(text).substitute(values)
    except KeyError as missing:
        stop(f"{name} has the placeholder ${missing.args[0]}, which nothing gives a value")
    except ValueError as error:
        stop(f"{name}: {error}")


def render(net, values, method="ssdh"):
    """Return {file name: text} of a net's three files under a method, unparsed."""
    values = values | nets()["nets"][net].get(method, {}) | {"method": METHODS[method]}
    files = {}
    for name in FILES:
        paths = [PROTOTXT / net / name, PROTOTXT / net / method / name]
        text = "".join(path.read_text() for path in paths if path.exists())
        files[name] = fill(text, values, f"prototxt/{net}/{name}")
    return files


def cut_at_codes(deploy):
    """Drop what lies behind a deploy net's codes (a NetParameter), as the released files end there.

    Return the names of the layers before and behind the codes: the latent layer, the classifier.
    """
    sigmoid = [layer.type for layer in deploy.layer].index("Sigmoid")
    (latent,) = deploy.layer[sigmoid].bottom
    (classifier,) = [layer.name for layer in deploy.layer[sigmoid:] if layer.type == "InnerProduct"]
    del deploy.layer[sigmoid + 1 :]
    return latent, classifier


def parse(text, name):
    """Return the NetParameter or SolverParameter of a prototxt; stop where it is not valid."""
    from caffe.proto import caffe_pb2
    from google.protobuf import text_format

    kind = "SolverParameter" if "solver" in name else "NetParameter"
    try:
        return text_format.Parse(text, getattr(caffe_pb2, kind)())
    except text_format.ParseError as error:
        stop(f"{name} is not a valid {kind}: line {error}")
