"""Outputs and gradients of every net by both engines of a CPU: `python -m tools.bench.engines`.

Each net of prototxt/ computes one batch of noise by oneDNN's layers and by Caffe's own, and by
Caffe's own once more with every number of the batch changed by one part in a million. The last is
what rounding alone may do: where two numbers of a pooling's window, or a number and a ReLU's zero,
are all but equal, the gradient goes another way.
"""

import tempfile
from pathlib import Path

import numpy as np

from tools.run import child, device
from tools.run.failure import Failure, carry_out
from tools.run.nets import nets
from tools.run.variables import parse

BATCH = 4
MOVED = 1e-6


def computed(net: str, engine: str, moved: float, folder: Path) -> dict[str, np.ndarray]:
    """Return a net's blobs and gradients by an engine, see engines_child.compute."""
    out = folder / f"{net}-{engine}-{moved}.npz"
    child.call(
        "tools.bench.engines_child.compute",
        threads=device.threads(),
        log=folder / "caffe.log",
        variables={"CAFFE_ENGINE": engine},
        name=net,
        batch=BATCH,
        moved=moved,
        out=out,
    )
    with np.load(out) as file:
        found = dict(file)
    out.unlink()
    return found


def furthest(
    expected: dict[str, np.ndarray], actual: dict[str, np.ndarray], kind: str
) -> tuple[float, str]:
    """Return the largest difference of a kind of arrays, relative to the array's largest value.

    kind: "blob" or "gradient". Return the array's name, too.
    """
    differences = (
        (np.abs(actual[name] - value).max() / max(np.abs(value).max(), 1e-7), name)
        for name, value in expected.items()
        if name.startswith(kind)
    )
    return max(differences)


def main() -> None:
    """Print the table."""
    parse(__doc__, ())
    if device.engine() == "caffe":
        raise Failure("this Caffe has one engine: build it with libdnnl-dev, and USE_DNNL unset")
    print(
        f"batch {BATCH}; largest differences from Caffe's own engine, by an array's largest value"
    )
    print(f"{'net':20}{'by':32}{'outputs':>10}{'gradients':>12}  furthest gradient")
    with tempfile.TemporaryDirectory() as folder:
        for net in nets():
            expected = computed(net, "caffe", 0, Path(folder))
            rows = {"oneDNN": ("dnnl", 0), "Caffe's own, input moved 1e-6": ("caffe", MOVED)}
            for row, (engine, moved) in rows.items():
                actual = computed(net, engine, moved, Path(folder))
                outputs, _ = furthest(expected, actual, "blob")
                gradients, name = furthest(expected, actual, "gradient")
                where = name.removeprefix("gradient ")
                print(f"{net:20}{row:32}{outputs:10.1e}{gradients:12.1e}  {where}", flush=True)


if __name__ == "__main__":
    carry_out(main)
