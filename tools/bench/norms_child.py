"""EfficientNet-Lite0 trained with BatchNorm layers of its own; runs in a Caffe child process."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tools.net import efficientnet, render, torch_file, weights
from tools.run.nets import net_of

if TYPE_CHECKING:
    from caffe.proto import caffe_pb2

METHOD, CLASSES, TESTS = "ssdh", 10, 10_000
AVERAGED = 0.95  # the share of what was, in the moving mean of a batch's statistics


def accuracy(
    *, folder: Path, data: Path, tensors: Path, norm: str, seed: int, iterations: int
) -> float:
    """Return the share of the test pictures whose class is right after a training.

    tensors: the original's .pth file. norm: "folded", "still" or "moving" (tools/bench/norms.py).
    """
    import caffe

    net, read = net_of("efficientnet_lite0"), torch_file.read_tensors(tensors.read_bytes(), tensors)
    files = render.render(
        net,
        METHOD,
        bits=48,
        classes=CLASSES,
        batch=net.batch,
        seed=seed,
        iters=iterations,
        data=data,
        folder=folder,
        **render.loss_weights(),
    )
    param = render.parse(files["train_val.prototxt"], "train_val.prototxt")
    model = caffe.proto.caffe_pb2.NetParameter.FromString(efficientnet.caffemodel(read, tensors))
    if norm != "folded":
        unfold(param, model, read, still=norm == "still")
    solver = render.parse(files["solver.prototxt"], "solver.prototxt")
    solver.test_interval, solver.snapshot = iterations + 1, 0
    solver.test_initialization = solver.snapshot_after_train = False
    for name, message in (("train_val", param), ("solver", solver)):
        (folder / f"{name}.prototxt").write_text(str(message))
    (folder / "start.caffemodel").write_bytes(model.SerializeToString())

    caffe.set_mode_cpu()
    caffe_solver = caffe.get_solver(str(folder / "solver.prototxt"))
    weights.load_for_training(caffe_solver.net, folder / "start.caffemodel")
    caffe_solver.step(iterations)
    tested = caffe_solver.test_nets[0]
    tested.share_with(caffe_solver.net)
    batch = tested.blobs["data"].num
    found = [float(tested.forward()["accuracy"]) for _ in range(TESTS // batch)]  # of a view
    return float(np.mean(found))


def unfold(
    param: "caffe_pb2.NetParameter",
    model: "caffe_pb2.NetParameter",
    tensors: dict[str, np.ndarray],
    *,
    still: bool,
) -> None:
    """Put BatchNorm and Scale behind each convolution that learns, with the original's numbers.

    param: the net. model: its weights, where the convolutions' become the original's.
    """
    names = {ours: theirs for ours, *theirs in efficientnet.convolutions(tensors)}
    layers, numbers = list(param.layer), {layer.name: layer for layer in model.layer}
    del param.layer[:]
    for layer in layers:
        added = param.layer.add()
        added.CopyFrom(layer)
        if layer.type != "Convolution" or not layer.param[0].lr_mult:
            continue
        convolution, norm = names[layer.name]
        added.convolution_param.bias_term = False
        del added.param[1:]
        in_place = {"bottom": layer.top, "top": layer.top}
        behind = param.layer.add(name=f"{layer.name}_norm", type="BatchNorm", **in_place)
        behind.batch_norm_param.eps = efficientnet.EPSILON
        behind.batch_norm_param.moving_average_fraction = AVERAGED
        if still:
            behind.batch_norm_param.use_global_stats = True
        for _ in range(3):
            behind.param.add(lr_mult=0, decay_mult=0)
        scale = param.layer.add(name=f"{layer.name}_scale", type="Scale", **in_place)
        scale.scale_param.bias_term = True
        for multiple in layer.param:
            scale.param.add(lr_mult=multiple.lr_mult, decay_mult=0)
        model.layer.remove(numbers[layer.name])
        weight = efficientnet.for_caffe(layer.name, tensors[f"{convolution}.weight"])
        efficientnet.add_layer(model, layer.name, "Convolution", (weight,))
        mean, variance, gamma, beta = (
            tensors[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        efficientnet.add_layer(model, behind.name, "BatchNorm", (mean, variance, np.ones(1)))
        efficientnet.add_layer(model, scale.name, "Scale", (gamma, beta))
