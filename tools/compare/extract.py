"""A released net over the original pictures, into a codes file; run by tools/compare/__main__.py.

The net is a deploy file that ends at the codes, the release's own or ours, in V0, V1 or today's
syntax, filled with an unchanged caffemodel. A second net of one layer is the classifier, where the
caffemodel has it. Pictures are prepared as the release's MATLAB code did, or as Caffe's TEST phase.
"""

import argparse
import hashlib
import json
import sys
from collections import namedtuple
from pathlib import Path

import h5py
import numpy as np
from tqdm import tqdm

from data_prep import DataError, originals
from data_prep.dataset import subset
from data_prep.files import file_digest
from data_prep.picture import fit
from eval.codes import create_codes
from eval.files import write_atomically
from tools.codes.extract import SPLITS, check_activations
from tools.compare import matlab
from tools.net import preprocess, weights
from tools.net.forward import forward
from tools.run import child as caffe_process
from tools.run import device
from tools.run.job import stop

BATCH = 10  # the release's

Nets = namedtuple("Nets", "codes input latent classifier")  # classifier: None without one

CLASSIFIER = """
layer {{ name: "activations" type: "Input" top: "activations"
  input_param {{ shape {{ dim: {batch} dim: {bits} }} }} }}
layer {{ name: "{name}" type: "InnerProduct" bottom: "activations" top: "{name}"
  inner_product_param {{ num_output: {classes} }} }}
layer {{ name: "prob" type: "Softmax" bottom: "{name}" top: "prob" }}
"""


def load(deploy, caffemodel, bits, head, classes, folder):
    """Return the Nets of a deploy file and a caffemodel; stop where they do not fit.

    head: METHOD's names of the layers before and behind the codes. classes: their number in the
    data. folder: where the classifier's net is written.
    """
    import caffe

    latent_layer, classifier = head
    there = weights.shapes(weights.read(caffemodel))
    net = caffe.Net(str(deploy), caffe.TEST)
    sigmoids = [
        name
        for name, layer in zip(net._layer_names, net.layers, strict=True)
        if layer.type == "Sigmoid"
    ]
    if len(sigmoids) != 1:
        stop(f"{deploy} has {len(sigmoids)} Sigmoid layers; a net with codes has one")
    (latent,) = net.top_names[sigmoids[0]]
    size = net.blobs[latent].data.shape[1]
    if size != bits:
        stop(f"{deploy} is of {size} bits, and BITS={bits} is asked for")
    (layer,) = net.bottom_names[sigmoids[0]]
    if layer != latent_layer:
        stop(
            f"{deploy} has its codes on the layer {layer}, and this METHOD's are on "
            f"{latent_layer}: it is of another METHOD or NET"
        )
    if layer in there and there[layer][0][-2] != bits:
        stop(f"{caffemodel} is of {there[layer][0][-2]} bits, and BITS={bits} is asked for")
    weights.fill(net, caffemodel)
    (data,) = net.inputs
    net.blobs[data].reshape(BATCH, *net.blobs[data].data.shape[1:])
    net.reshape()
    head = None
    if classifier in there:
        if there[classifier][0][-2] != classes:
            stop(
                f"{caffemodel} tells {there[classifier][0][-2]} classes apart, and the data has "
                f"{classes}: it was trained on others"
            )
        path = folder / "classifier.prototxt"
        path.write_text(CLASSIFIER.format(batch=BATCH, bits=bits, name=classifier, classes=classes))
        head = caffe.Net(str(path), caffe.TEST)
        weights.fill(head, caffemodel)
    return Nets(net, data, latent, head)


def activations(nets, inputs):
    """Return (latent, probabilities or None) of n inputs, at most one batch; float32, n rows."""
    (latent,) = forward(nets.codes, inputs, [nets.latent], nets.input)
    if nets.classifier is None:
        return latent, None
    (probabilities,) = forward(nets.classifier, latent, ["prob"], "activations")
    return latent, probabilities


def preparation(request, mean):
    """Return the function from a picture (a file's bytes, or pixels) to an input, C x S x S."""
    channels, side, _ = mean.shape
    crop, scale = request["crop"], request["scale"]
    if request["preprocessing"] == "matlab":
        transposed = request["method"] == "ssdh"
        return lambda source: matlab.transform(source, mean, crop, scale, transposed)

    def caffe_s(source):
        pixels = np.atleast_3d(fit(source, side, channels)).transpose(2, 0, 1)
        return preprocess.transform(pixels[None], mean, crop, scale)[0]

    return caffe_s


def run_split(split, nets, prepare, bar):
    """Return (latent, probabilities or None) of every picture of a Split, in its order."""
    latent, probabilities = [], []
    for start in range(0, len(split.keys), BATCH):
        rows = range(start, min(start + BATCH, len(split.keys)))
        inputs = []
        for row in rows:
            try:
                inputs.append(prepare(split.read(row)))
            except DataError as error:
                stop(f"{split.keys[row]} {error}; the release would have put zeros in its place")
        some, classes = activations(nets, np.stack(inputs))
        latent.append(some)
        probabilities.append(classes)
        bar.update(len(rows))
    return (
        np.concatenate(latent),
        np.concatenate(probabilities) if nets.classifier else None,
    )


def inputs_of(request, dataset):
    """Return [{role, file, sha256}] of every file that decides the codes."""
    files = [
        {
            "role": role,
            "file": Path(request[role]).name,
            "sha256": file_digest(request[role], "sha256"),
        }
        for role in ("caffemodel", "deploy", "mean")
    ]
    return files + [
        {"role": "data", "file": each["file"], "sha256": each["sha256"]} for each in dataset.sources
    ]


def is_there(out, mark):
    """Return whether a codes file that was made from the same is there."""
    if not out.exists():
        return False
    with h5py.File(out) as file:
        return file.attrs.get("net_fingerprint") == mark


def extract(request):
    """Write the codes file and its list of inputs, unless they are there already."""
    optional = {
        name: Path(request[name]) if request[name] else None for name in ("archive", "lists")
    }
    try:
        dataset = originals.load(request["dataset"], Path(request["raw"]), **optional)
    except DataError as error:
        stop(str(error))
    splits = {"database": dataset.train, "query": dataset.test}
    if request["subset"]:
        splits = {name: subset(split, request["subset"]) for name, split in splits.items()}
    out, files = Path(request["out"]), inputs_of(request, dataset)
    decides = {"files": files} | {
        name: request[name] for name in ("preprocessing", "method", "crop", "scale", "subset")
    }
    mark = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
    if is_there(out, mark):
        return
    nets = load(
        *(Path(request["deploy"]), Path(request["caffemodel"]), request["bits"]),
        *(request["head"], len(dataset.classes), out.parent),
    )
    prepare = preparation(request, preprocess.mean_image(request["mean"]))
    results, terminal = {}, caffe_process.terminal()
    for name in SPLITS:
        with tqdm(
            total=len(splits[name].keys),
            desc=f"{request['bits']} bits, {request['preprocessing']}, {name}",
            unit="picture",
            file=terminal,
            mininterval=0.5,
        ) as bar:
            results[name] = run_split(splits[name], nets, prepare, bar)
        check_activations(results[name][0], request["caffemodel"])
    probabilities = results["query"][1]
    with write_atomically(out.with_suffix(".json")) as partial:
        partial.write_text(json.dumps(files, indent=1) + "\n")
    with create_codes(
        out,
        bits=request["bits"],
        class_names=dataset.classes,
        dataset=request["dataset"],
        net=request["net"],
        net_fingerprint=mark,
        row_order=dataset.order,
        labels={name: split.labels for name, split in splits.items()},
        keys={name: split.keys for name, split in splits.items()},
        classifier=probabilities is not None,
    ) as write:
        for name, (latent, classes) in results.items():
            write(name, 0, latent, classes)


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("request", type=Path, help="a JSON file")
    args = p.parse_args()
    request = json.loads(args.request.read_text())
    device.activate(request["gpu"])
    try:
        extract(request)
    except RuntimeError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
