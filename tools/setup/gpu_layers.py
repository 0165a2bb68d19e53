"""Every layer of every net alone, on the CPU and on a GPU: how far their results are apart."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import caffe
import numpy as np
from caffe.proto import caffe_pb2
from google.protobuf import text_format

from data_prep.dataset import Split
from data_prep.lmdb_writer import write_lmdb
from data_prep.mean_image import to_binaryproto
from eval.tables import METHODS
from tools.net import render
from tools.run import device
from tools.run.nets import Blobs, Net, net_of, nets

METHOD, OTHERS_ON = "ssdh", "lenet"  # of every net; where the other methods' layers are tried
LABEL = Blobs._field_defaults["label"]  # of every net
BATCH = 4
BITS, CLASSES = 48, 10
TOLERANCE = 1e-3  # of the largest value: float32 sums in another order
FORWARD_ONLY = ("Accuracy", "Data")
NOTHING_TO_COMPARE = ("Input", "Silence")
PICTURES = 10  # in the LMDBs that the Data layers read

Layer = tuple[str, caffe_pb2.NetParameter]  # a net's name, and one of its layers as a net


def rendered(
    net: Net, name: str, batch: int, data: str | Path = "data", method: str = METHOD
) -> caffe_pb2.NetParameter:
    """Return the NetParameter of one of a net's files, over a data folder."""
    files = render.render(
        net,
        method,
        bits=BITS,
        classes=CLASSES,
        batch=batch,
        seed=42,
        iters=1,
        data=data,
        folder="run",
        **render.loss_weights(),
    )
    return render.parse(files[name], f"prototxt/{net.name}/{name}")


def deploy(net: Net, batch: int, method: str = METHOD) -> caffe_pb2.NetParameter:
    """Return a net's deploy NetParameter for batches of so many pictures."""
    param = rendered(net, "deploy.prototxt", batch, method=method)
    param.layer[0].input_param.shape[0].dim[0] = batch
    return param


def without_data(net: Net, batch: int, method: str = METHOD) -> caffe_pb2.NetParameter:
    """Return a net's train_val NetParameter with Input layers in place of its LMDBs.

    batch: pictures in it.
    """
    blobs = net.blobs(method)
    param = rendered(net, "train_val.prototxt", batch, method=method)
    layers = [layer for layer in param.layer if layer.type != "Data"]
    data = next(layer for layer in param.layer if layer.type == "Data")
    side = data.transform_param.crop_size or net.side
    del param.layer[:]
    for name, shape in (
        (blobs.data, (batch, net.channels, side, side)),
        (blobs.label, (batch,)),
        *([("target", (batch, BITS, 1, 1))] if METHODS[method].targets else []),
    ):
        param.layer.append(input_layer(name, shape))
    param.layer.extend(layers)
    return param


def input_layer(name: str, shape: Sequence[int]) -> caffe_pb2.LayerParameter:
    """Return the LayerParameter of an Input layer."""
    layer = caffe_pb2.LayerParameter(name=name, type="Input", top=[name])
    layer.input_param.shape.add().dim.extend(shape)
    return layer


def load(param: caffe_pb2.NetParameter, phase: int) -> caffe.Net:
    """Return the caffe.Net of a NetParameter."""
    with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
        file.write(text_format.MessageToString(param))
        file.flush()
        return caffe.Net(file.name, phase)


def single_layers() -> Iterator[Layer]:
    """Yield (net, NetParameter of one layer and its inputs) for every different layer of all nets.

    Shapes are the net's own, for BATCH pictures. Of the methods, METHOD is tried on every net.
    """
    seen = set()
    others = [method for method in net_of(OTHERS_ON).methods if method != METHOD]
    tried = [*((net, METHOD) for net in nets().values()), *((net_of(OTHERS_ON), m) for m in others)]
    for net, method in tried:
        training, deployed = without_data(net, BATCH, method), deploy(net, BATCH, method)
        files = [(training, caffe.TRAIN), (training, caffe.TEST), (deployed, caffe.TEST)]
        for param, phase in files:
            blobs = load(param, phase).blobs
            for layer in param.layer:
                rules = [rule.phase for rule in layer.include]
                if layer.type in NOTHING_TO_COMPARE or (rules and phase not in rules):
                    continue
                alone = caffe_pb2.NetParameter(name=layer.name, force_backward=True)
                alone.state.phase = phase
                for bottom in dict.fromkeys(layer.bottom):
                    alone.layer.append(input_layer(bottom, blobs[bottom].data.shape))
                alone.layer.append(layer)
                shapes = [tuple(blobs[bottom].data.shape) for bottom in layer.bottom]
                bare = caffe_pb2.LayerParameter()
                bare.CopyFrom(layer)
                for field in ("name", "bottom", "top", "include"):
                    bare.ClearField(field)
                key = (bare.SerializeToString(), str(shapes), phase)
                if key not in seen:
                    seen.add(key)
                    yield net.name, alone


def write_pictures(data: Path, side: int, channels: int) -> None:
    """Make a data folder of random pictures: two LMDBs and a mean image."""
    data.mkdir()
    rng = np.random.default_rng(1)
    pictures = rng.integers(0, 256, (PICTURES, side, side, channels), np.uint8)
    split = Split(
        keys=[f"{row:08d}" for row in range(PICTURES)],
        labels=np.arange(PICTURES, dtype=np.int32) % CLASSES,
        read=lambda row: pictures[row].squeeze(),
        origin="random pictures",
    )
    for name in ("train_lmdb", "test_lmdb"):
        write_lmdb(data / name, split, side, channels, "raw", seed=1)
    mean = rng.uniform(0, 255, (channels, side, side)).astype(np.float32)
    (data / "mean.binaryproto").write_bytes(to_binaryproto(mean))


def data_layers(folder: Path) -> Iterator[Layer]:
    """Yield (net, NetParameter of one Data layer) for those of all nets, over LMDBs in a folder."""
    for net in nets().values():
        data = folder / f"{net.side}x{net.channels}"
        if not data.exists():
            write_pictures(data, net.side, net.channels)
        for layer in rendered(net, "train_val.prototxt", BATCH, data).layer:
            if layer.type == "Data":
                alone = caffe_pb2.NetParameter(name=net.name, layer=[layer])
                alone.state.phase = layer.include[0].phase
                yield net.name, alone


def run_layer(param: caffe_pb2.NetParameter, gpu: int | None) -> dict[str, np.ndarray]:
    """Return {what: array} of a single-layer net's outputs and gradients, on a GPU or the CPU.

    Inputs, weights and top gradients are the same at each call; gpu is None for the CPU.
    """
    device.activate(gpu)
    caffe.set_random_seed(1)
    net, layer = load(param, param.state.phase), param.layer[-1]
    rng = np.random.default_rng(1)
    for name in net.inputs:
        shape = net.blobs[name].data.shape
        pairs = np.arange(np.prod(shape)).reshape(shape) // 2  # two pictures of each class
        net.blobs[name].data[...] = pairs if name == LABEL else rng.normal(size=shape)
    for blob in net.params.get(layer.name, []):
        blob.data[...] = rng.normal(scale=0.1, size=blob.data.shape)
        if layer.type == "BatchNorm":  # its running mean, variance and their factor
            blob.data[...] = np.abs(blob.data) + 1
    net.forward()
    outputs = {f"output {top}": net.blobs[top].data.copy() for top in layer.top}
    if layer.type in FORWARD_ONLY:
        return outputs
    for top in layer.top:
        if not net.blob_loss_weights[top]:  # a loss has its weight there
            net.blobs[top].diff[...] = rng.normal(size=net.blobs[top].diff.shape)
    net.backward()
    gradients = {
        f"gradient of {name}": net.blobs[name].diff.copy() for name in net.inputs if name != LABEL
    }
    for place, blob in enumerate(net.params.get(layer.name, [])):
        gradients[f"gradient of parameter {place}"] = blob.diff.copy()
    return outputs | gradients


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """Return the largest difference of two arrays, as a share of the first one's largest value."""
    return float(np.abs(one - other).max() / max(np.abs(one).max(), 1e-30))


def dropout_is_right(param: caffe_pb2.NetParameter, result: dict[str, np.ndarray]) -> bool:
    """Return whether a dropout layer's outputs and gradients are inputs that were kept or zeroed.

    Which ones is each device's own chance; that about the right share was kept is checked.
    """
    layer = param.layer[-1]
    kept = result[f"output {layer.top[0]}"] != 0
    gradient = result[f"gradient of {layer.bottom[0]}"] != 0
    share = 1 - layer.dropout_param.dropout_ratio
    return bool((kept == gradient).all() and abs(kept.mean() - share) < 5 / np.sqrt(kept.size))


def compare(gpu: int, layers: Iterable[Layer]) -> list[str]:
    """Print how far each layer type is from the CPU; return sentences for what is too far.

    layers: what single_layers and data_layers yield.
    """
    largest, wrong = {}, []
    for net, param in layers:
        layer = param.layer[-1]
        on_cpu, on_gpu = run_layer(param, None), run_layer(param, gpu)
        if layer.type == "Dropout" and param.state.phase == caffe.TRAIN:
            if not dropout_is_right(param, on_gpu):
                wrong.append(f"{net}/{layer.name} (Dropout): not the share that it should keep")
            largest.setdefault(layer.type, []).append(0.0)
            continue
        apart = {what: difference(on_cpu[what], on_gpu[what]) for what in on_cpu}
        largest.setdefault(layer.type, []).append(max(apart.values()))
        wrong += [
            f"{net}/{layer.name} ({layer.type}), {what}: {apart[what]:.1e} of the largest value"
            for what in apart
            if not apart[what] <= TOLERANCE
        ]
    print(f"{'layer type':18} {'tried':>5} {'largest difference':>19}")
    for kind, found in sorted(largest.items()):
        print(f"{kind:18} {len(found):5} {max(found):19.1e}")
    return wrong
