"""A net's training iterations in PyTorch on a CPU; runs in a venv of its own that has only torch.

Reads a JSON object from stdin: "layers" (the net from its data to its classifier, each with its
"type" and the numbers that its prototxt has; "trained" is false where it stays as it is, and an
"Eltwise" adds what came "back" layers before), "codes" (which of them gives the codes),
"shape" (of a batch), "solver" (Caffe's type), "rate", "momentum", "decay", "threads", "iterations".
Prints one with the milliseconds of an iteration: "forward", and "training" with backward pass and
update; as many run before. The batch is drawn once and stays in memory: nothing is read, decoded or
cropped.
"""

import json
import sys
import time

import torch
from torch import nn
from torch.nn import functional


def module(layer: dict, x: torch.Tensor) -> nn.Module:
    """Return PyTorch's module for a layer whose bottom is x; KeyError where it has none."""
    kind = layer["type"]
    window = [layer.get(name) for name in ("kernel", "stride", "pad")]
    makers = {
        "Convolution": lambda: nn.Conv2d(
            x.shape[1], layer["outputs"], *window, groups=layer["group"], bias=layer["bias"]
        ),
        "InnerProduct": lambda: nn.Linear(x.shape[1], layer["outputs"]),
        "Flatten": nn.Flatten,
        "MAX": lambda: nn.MaxPool2d(*window, ceil_mode=True),
        "AVE": lambda: nn.AvgPool2d(*window, ceil_mode=True),
        "global": lambda: nn.AdaptiveAvgPool2d(1),
        "LRN": lambda: nn.LocalResponseNorm(
            layer["size"], layer["alpha"], layer["beta"], layer["k"]
        ),
        "BatchNorm": lambda: nn.BatchNorm2d(x.shape[1]),  # with the Scale layer behind it
        "ReLU": lambda: nn.ReLU(inplace=True),
        "Clip": lambda: nn.Hardtanh(layer["low"], layer["high"]),
        "Eltwise": nn.Identity,
        "Sigmoid": nn.Sigmoid,
        "Dropout": nn.Dropout,
    }
    return makers[kind]()


class Net(nn.Module):
    """A row of layers, of which an Eltwise adds what an earlier one gave."""

    def __init__(self, layers: list[dict], x: torch.Tensor) -> None:
        """Make the modules, for pictures like x."""
        super().__init__()
        self.layers, self.parts = layers, nn.ModuleList()
        made = [x]
        for layer in layers:
            self.parts.append(module(layer, made[-1]))
            self.parts[-1].requires_grad_(layer.get("trained", True))
            made.append(self.step(len(self.parts) - 1, made))

    def step(self, at: int, made: list[torch.Tensor]) -> torch.Tensor:
        """Return what a layer gives, after made, what all before it gave."""
        x = self.parts[at](made[-1])
        return x + made[-1 - self.layers[at]["back"]] if "back" in self.layers[at] else x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the last layer gives."""
        made = [x]
        for at in range(len(self.parts)):
            made.append(self.step(at, made))
        return made[-1]


def losses(codes: torch.Tensor, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the sum of the three terms, as python_layers/ssdh_losses.py has them."""
    n, k = codes.shape
    return (
        functional.cross_entropy(scores, labels)
        - ((codes - 0.5) ** 2).sum() / (2 * n * k)
        + ((codes.mean(1) - 0.5) ** 2).sum() / (2 * n)
    )


def main() -> None:
    job = json.load(sys.stdin)
    torch.set_num_threads(job["threads"])
    torch.manual_seed(42)
    pictures = torch.randn(job["shape"])
    labels = torch.arange(len(pictures)) % 10
    below = Net(job["layers"][: job["codes"] + 1], pictures)
    above = Net(job["layers"][job["codes"] + 1 :], below(pictures))
    parameters = [p for net in (below, above) for p in net.parameters() if p.requires_grad]
    weights = [p for p in parameters if p.dim() > 1]
    others = [p for p in parameters if p.dim() == 1]
    groups = [
        {"params": weights, "weight_decay": job["decay"]},
        {"params": others, "lr": 2 * job["rate"]},
    ]
    if job["solver"] == "Adam":
        optimizer = torch.optim.Adam(groups, lr=job["rate"])
    else:
        optimizer = torch.optim.SGD(groups, lr=job["rate"], momentum=job["momentum"])
    seconds = {"forward": 0.0, "training": 0.0}
    for iteration in range(2 * job["iterations"]):
        began = time.perf_counter()
        codes = below(pictures)
        loss = losses(codes, above(codes), labels)
        forward = time.perf_counter()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()
        if iteration >= job["iterations"]:
            seconds["forward"] += forward - began
            seconds["training"] += time.perf_counter() - began
    print(json.dumps({name: 1e3 * s / job["iterations"] for name, s in seconds.items()}))


if __name__ == "__main__":
    main()
