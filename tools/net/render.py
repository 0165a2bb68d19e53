"""Templates under prototxt/ to the prototxt that Caffe reads.

A net's template holds its layers up to the features; that of the method, in prototxt/heads/, what
comes behind them: the second is put after the first. How the classifier learns, LOSS=, fills
some of its placeholders; several labels a picture come from an LMDB of their own. HEAD=1 trains the
method's alone, behind prototxt/heads/features.prototxt, by a solver of its own. A template is a
Caffe file with a few $placeholders. Every placeholder must get a value, and the result is parsed
with Caffe's own protobuf text format before anybody uses it.
"""

import math
import re
import string
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.tables import CLASSIFICATIONS, LOSS_TERMS, METHODS, PROTOTXT, Classification, Method
from tools.run.failure import Failure
from tools.run.job import Job, weights_of
from tools.run.nets import Net, head

if TYPE_CHECKING:
    from google.protobuf.message import Message

FILES = ("train_val.prototxt", "deploy.prototxt", "solver.prototxt")
HEAD, FEATURES = "head.prototxt", "features.prototxt"  # of HEAD=1: the net, and what it begins with
ACCURACY, LABELS = "accuracy.prototxt", "labels.prototxt"  # of one label a picture, of several
LABEL_TOP = re.compile(r'^ *top: "label"\n', re.MULTILINE)
SCALED = "scaled"  # its blob below the latent layer
BIASES = {  # a classifier's first, where labels are on such a share of the pictures
    "zero": lambda share: 0,
    "log_odds": lambda share: math.log(share / (1 - share)),
    "sign": lambda share: (share > 0.5) - (share < 0.5),
    "mean": lambda share: 2 * share - 1,
}


def render_job(
    job: Job, *, classes: int, data: Path | str, run: Path | str, iters: int, share: float = 0.5
) -> dict[str, str]:
    """Return {file name: text} of a job's prototxt with the given paths and max_iter, unparsed.

    share: see render().
    """
    return render(
        job.net,
        job.method.name,
        loss=job.loss,
        head_alone=job.head,
        bits=job.bits,
        batch=job.batch,
        seed=job.seed,
        classes=classes,
        data=data,
        folder=run,
        iters=iters,
        share=share,
        **loss_weights(job.loss_weights),
    )


def loss_weights(by_term: dict[str, float] | None = None) -> dict[str, float]:
    """Return the placeholders of the loss weights, each 1 where none are given."""
    return {
        term.variable.lower(): float((by_term or {}).get(name, 1))
        for name, term in LOSS_TERMS.items()
        if term.variable
    }


def render(
    net: Net,
    method: str,
    *,
    loss: str = "",
    head_alone: bool = False,
    share: float = 0.5,
    **values: Any,
) -> dict[str, str]:
    """Return {file name: text} of a net's three files under a method, unparsed.

    loss: of classification.toml, "" for the first. head_alone: with head.prototxt, and the solver
    that trains it. share: of the training pictures that have a label, on average over the labels,
    where a picture may have several. values: of the placeholders that nets.toml and methods.toml
    leave open.
    """
    classification = CLASSIFICATIONS[loss or next(iter(CLASSIFICATIONS))]
    values = values | net.values(method)
    values["classification_layer"] = classification_layer(classification, METHODS[method])
    values["probability"] = classification.probability
    values["classifier_bias"] = BIASES[classification.bias](share)
    if "slice" in values:
        values["sliced"] = values["slice"] * values["bits"]
    if METHODS[method].targets:
        values["encoding_weight"] = values["bits"] ** 0.5
    folder, heads = PROTOTXT / net.name, PROTOTXT / "heads"

    def behind(name: str) -> str:
        text = (heads / method / name).read_text()
        with_accuracy = (
            name == FILES[0]
            and not classification.several
            and "classifier" in METHODS[method].names
        )
        return text + ((heads / ACCURACY).read_text() if with_accuracy else "")

    files = {}
    for name in FILES:
        where = f"prototxt/{net.name}/{name}"
        text = fill((folder / name).read_text(), values, where)
        if name == FILES[0] and classification.several:
            text = with_labels(text, (heads / LABELS).read_text(), values)
        files[name] = text + (fill(behind(name), values, where) if name != FILES[2] else "")
    if head_alone:
        in_turn = METHODS[method].targets  # each picture beside its own code
        values |= head()["values"] | {"features": SCALED, "shuffle": not in_turn}
        text = (heads / FEATURES).read_text() + behind(FILES[0])
        files[HEAD] = fill(text, values, f"prototxt/heads/{method}/{FILES[0]}")
        files[FILES[2]] = fill((heads / FILES[2]).read_text(), values, f"prototxt/heads/{FILES[2]}")
    return files


def classification_layer(classification: Classification, method: Method) -> str:
    """Return a classification's layer as a method's head has it.

    Where the head weighs no terms, Caffe takes a weight of 1 for a loss layer of its own and of 0
    for a Python layer.
    """
    unweighed = not weights_of(method) and 'type: "Python"' in classification.layer
    return f"{classification.layer} loss_weight: 1" if unweighed else classification.layer


def with_labels(text: str, labels: str, values: dict[str, Any]) -> str:
    """Return a net's train_val with Data layers for several labels a picture, as heads/ has them.

    text: filled, with a label among the tops of its own Data layers. labels: the template of the
    others, which take as many pictures at a time.
    """
    sizes = {
        ("train_pictures", "test_pictures")[rule.phase]: layer.data_param.batch_size
        for layer in parse(text, FILES[0]).layer
        if layer.type == "Data"
        for rule in layer.include
    }
    return LABEL_TOP.sub("", text) + fill(labels, values | sizes, f"prototxt/heads/{LABELS}")


def fill(text: str, values: dict[str, Any], name: str) -> str:
    """Return a template's text with its placeholders filled; raise Failure where one has none."""
    values = {key: written(value) for key, value in values.items()}
    try:
        return string.Template(text).substitute(values)
    except KeyError as missing:
        raise Failure(
            f"{name} has the placeholder ${missing.args[0]}, which nothing gives a value"
        ) from None
    except ValueError as error:
        raise Failure(f"{name}: {error}") from None


def written(value: Any) -> Any:
    """Return a value as a prototxt has it; a path stands between quotes there."""
    if isinstance(value, Path):
        return str(value).replace("\\", "\\\\").replace('"', '\\"')
    if isinstance(value, bool):
        return "true" if value else "false"
    return format(value, "g") if isinstance(value, float) else value


def cut_behind(deploy: "Message", blob: str) -> None:
    """Drop what lies behind a blob in a NetParameter, as the released deploy files end there."""
    made = max(place for place, layer in enumerate(deploy.layer) if blob in layer.top)
    del deploy.layer[made + 1 :]


def parse(text: str, name: str) -> "Message":
    """Return the NetParameter or SolverParameter of a prototxt; raise Failure where it is none."""
    from caffe.proto import caffe_pb2
    from google.protobuf import text_format

    kind = "SolverParameter" if "solver" in name else "NetParameter"
    try:
        return text_format.Parse(text, getattr(caffe_pb2, kind)())
    except text_format.ParseError as error:
        raise Failure(f"{name} is not a valid {kind}: line {error}") from None


def read(path: Path) -> "Message":
    """Return what parse() makes of a file; raise Failure where it is missing or not valid."""
    try:
        return parse(path.read_text(encoding="utf-8"), path.name)
    except FileNotFoundError:
        raise Failure(f"{path} does not exist; run 'make train'") from None
    except UnicodeDecodeError:
        raise Failure(f"{path} is damaged: it is no text") from None
