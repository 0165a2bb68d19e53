"""Every layer of every net on the CPU and on a GPU, and training: a child of gpu_check.py."""

import argparse
import ctypes
import sys
import tempfile
import time
from itertools import chain
from pathlib import Path

import caffe
import numpy as np
from caffe.proto import caffe_pb2
from google.protobuf import text_format

from data_prep.dataset import Split
from data_prep.lmdb_writer import write_lmdb
from data_prep.mean_image import to_binaryproto
from tools.net import render
from tools.run import device
from tools.run.job import nets, stop

BATCH = 4
BITS, CLASSES = 48, 10
TOLERANCE = 1e-3  # of the largest value: float32 sums in another order
FORWARD_ONLY = ("Accuracy", "Data")
PICTURES = 10  # in the LMDBs that the Data layers read
COMPUTE_CAPABILITY = (75, 76)  # cudaDevAttrComputeCapabilityMajor, ...Minor
STEPS = 50  # timed training steps, behind as many that warm up


def capability(gpu):
    """Return (major, minor) of a GPU's compute capability, by CUDA's own word."""
    cudart = ctypes.CDLL("libcudart.so.11.0")
    value, found = ctypes.c_int(), []
    for attribute in COMPUTE_CAPABILITY:
        error = cudart.cudaDeviceGetAttribute(ctypes.byref(value), attribute, gpu)
        if error:
            stop(f"CUDA does not tell GPU {gpu}'s compute capability (error {error}): nvidia-smi")
        found.append(value.value)
    return tuple(found)


def fits(major, minor, archs, ptx):
    """Return how a GPU runs code that was built for some architectures, None where it cannot.

    major, minor: its compute capability. archs: compute capabilities with machine code, as in
    CUDA_ARCHS (86). ptx: the one with PTX. Machine code runs on its own major version from its
    minor version on (CUDA C++ Programming Guide, "Binary Compatibility"), PTX on whatever is newer.
    """
    same = [arch for arch in archs if arch // 10 == major and arch % 10 <= minor]
    if same:
        return f"machine code for {max(same) / 10:.1f}"
    if major * 10 + minor >= ptx:
        return f"PTX of {ptx / 10:.1f}, compiled by the driver on the first run (minutes)"
    return None


def rendered(net, name, batch, data="data"):
    """Return the NetParameter of one of a net's files, over a data folder."""
    values = {"bits": BITS, "classes": CLASSES, "batch": batch, "seed": 42, "iters": 1}
    values |= {"alpha": 1.0, "beta": 1.0, "gamma": 1.0, "data": data, "folder": "run"}
    return render.parse(render.render(net, values)[name], f"prototxt/{net}/{name}")


def deploy(net, batch):
    """Return a net's deploy NetParameter for batches of so many pictures."""
    param = rendered(net, "deploy.prototxt", batch)
    param.layer[0].input_param.shape[0].dim[0] = batch
    return param


def without_data(net, batch):
    """Return a net's train_val NetParameter with Input layers in place of its LMDBs.

    batch: pictures in it.
    """
    spec = nets()["nets"][net]
    param = rendered(net, "train_val.prototxt", batch)
    layers = [layer for layer in param.layer if layer.type != "Data"]
    data = next(layer for layer in param.layer if layer.type == "Data")
    side = data.transform_param.crop_size or spec["side"]
    del param.layer[:]
    for name, shape in (("data", (batch, spec["channels"], side, side)), ("label", (batch,))):
        param.layer.append(input_layer(name, shape))
    param.layer.extend(layers)
    return param


def input_layer(name, shape):
    """Return the LayerParameter of an Input layer."""
    layer = caffe_pb2.LayerParameter(name=name, type="Input", top=[name])
    layer.input_param.shape.add().dim.extend(shape)
    return layer


def load(param, phase):
    """Return the caffe.Net of a NetParameter."""
    with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
        file.write(text_format.MessageToString(param))
        file.flush()
        return caffe.Net(file.name, phase)


def single_layers():
    """Yield (net, NetParameter of one layer and its inputs) for every different layer of all nets.

    Shapes are the net's own, for BATCH pictures.
    """
    seen = set()
    for net in nets()["nets"]:
        training = without_data(net, BATCH)
        files = [(training, caffe.TRAIN), (training, caffe.TEST), (deploy(net, BATCH), caffe.TEST)]
        for param, phase in files:
            blobs = load(param, phase).blobs
            for layer in param.layer:
                rules = [rule.phase for rule in layer.include]
                if layer.type == "Input" or (rules and phase not in rules):
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
                    yield net, alone


def write_pictures(data, side, channels):
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


def data_layers(folder):
    """Yield (net, NetParameter of one Data layer) for those of all nets, over LMDBs in a folder."""
    for net, spec in nets()["nets"].items():
        data = folder / f"{spec['side']}x{spec['channels']}"
        if not data.exists():
            write_pictures(data, spec["side"], spec["channels"])
        for layer in rendered(net, "train_val.prototxt", BATCH, str(data)).layer:
            if layer.type == "Data":
                alone = caffe_pb2.NetParameter(name=net, layer=[layer])
                alone.state.phase = layer.include[0].phase
                yield net, alone


def run_layer(param, gpu):
    """Return {what: array} of a single-layer net's outputs and gradients, on a GPU or the CPU.

    Inputs, weights and top gradients are the same at each call; gpu is None for the CPU.
    """
    device.activate(gpu)
    caffe.set_random_seed(1)
    net, layer = load(param, param.state.phase), param.layer[-1]
    rng = np.random.default_rng(1)
    for name in net.inputs:
        shape = net.blobs[name].data.shape
        values = rng.integers(0, CLASSES, shape) if name == "label" else rng.normal(size=shape)
        net.blobs[name].data[...] = values
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
        f"gradient of {name}": net.blobs[name].diff.copy() for name in net.inputs if name != "label"
    }
    for place, blob in enumerate(net.params.get(layer.name, [])):
        gradients[f"gradient of parameter {place}"] = blob.diff.copy()
    return outputs | gradients


def difference(one, other):
    """Return the largest difference of two arrays, as a share of the first one's largest value."""
    return float(np.abs(one - other).max() / max(np.abs(one).max(), 1e-30))


def dropout_is_right(param, result):
    """Return whether a dropout layer's outputs and gradients are inputs that were kept or zeroed.

    Which ones is each device's own chance; that about the right share was kept is checked.
    """
    layer = param.layer[-1]
    kept = result[f"output {layer.top[0]}"] != 0
    gradient = result[f"gradient of {layer.bottom[0]}"] != 0
    share = 1 - layer.dropout_param.dropout_ratio
    return bool((kept == gradient).all() and abs(kept.mean() - share) < 5 / np.sqrt(kept.size))


def compare(gpu, layers):
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


def train_steps(net, gpu, steps):
    """Return (images a second, loss before, loss after) of a net's training on one random batch.

    Runs 2 x steps iterations and times the second half.
    """
    device.activate(gpu)
    caffe.set_random_seed(1)
    batch = nets()["nets"][net]["batch"]
    with tempfile.TemporaryDirectory() as folder:
        train_val, solver_file = (
            Path(folder) / name for name in ("net.prototxt", "solver.prototxt")
        )
        train_val.write_text(text_format.MessageToString(without_data(net, batch)))
        solver_file.write_text(
            f'net: "{train_val}" base_lr: 0.001 lr_policy: "fixed" momentum: 0.9 random_seed: 42 '
            f'snapshot_after_train: false snapshot_prefix: "{folder}/s" max_iter: 1000000'
        )
        solver = caffe.get_solver(str(solver_file))
    rng = np.random.default_rng(1)
    blobs = solver.net.blobs
    blobs["data"].data[...] = rng.normal(scale=50, size=blobs["data"].data.shape)
    blobs["label"].data[...] = rng.integers(0, CLASSES, batch)
    solver.step(1)
    before = blobs["classification"].data.item()
    solver.step(max(1, steps - 1))
    blobs["classification"].data.item()  # waits for the device
    began = time.monotonic()
    solver.step(steps)
    after = blobs["classification"].data.item()
    return batch * steps / (time.monotonic() - began), before, after


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("gpu", type=int)
    args = p.parse_args()
    device.activate(args.gpu)  # where that fails, it fails before all else
    (major, minor), build = capability(args.gpu), device.build()
    how = fits(major, minor, build["archs"], build["ptx"])
    if how is None:
        stop(
            f"GPU {args.gpu} has compute capability {major}.{minor}, and this Caffe was built for "
            f"{build['archs']}: build it with CUDA_ARCHS={major}{minor}"
        )
    print(f"GPU {args.gpu}: compute capability {major}.{minor}, {how}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        wrong = compare(args.gpu, chain(single_layers(), data_layers(Path(folder))))
    speed, before, after = train_steps("alexnet", args.gpu, STEPS)
    print(f"alexnet, training: {speed:.0f} images a second; loss {before:.3f}, then {after:.3f}")
    if not (np.isfinite(after) and after < before):
        wrong.append(f"alexnet does not learn one batch: loss {before:.3f}, then {after:.3f}")
    if wrong:
        print("\n".join(wrong), file=sys.stderr)
        stop(f"GPU {args.gpu} and the CPU differ in {len(wrong)} results; the first is {wrong[0]}")
    print(f"GPU {args.gpu} agrees with the CPU within {TOLERANCE} in every layer")


if __name__ == "__main__":
    main()
