"""A trained run's net by either engine: Caffe, or ONNX Runtime with what `make export` made.

ENGINE says which. CAFFE_ENGINE is another thing: what computes the layers inside Caffe.
"""

from pathlib import Path

from tools.net.exported import ExportedNet
from tools.net.trained import TrainedNet
from tools.run import device
from tools.run.failure import Failure

ENGINES = ("caffe", "onnx")
PROCESS = {"caffe": "Caffe's process", "onnx": "ONNX Runtime's process"}


def choose(engine: str, wanted: str) -> tuple[list[int], str]:
    """Return the GPUs that a net runs on, [] for the CPU, and a sentence on what that is.

    engine, wanted: ENGINE and DEVICE. Raise Failure for what is not known, or not there.
    """
    if engine not in ENGINES:
        raise Failure(f"ENGINE={engine} is not known: {' or '.join(ENGINES)}")
    if engine == "caffe":
        return device.choose_all(wanted)
    if wanted not in ("auto", "cpu"):
        raise Failure(f"ENGINE=onnx computes on the CPU: leave DEVICE={wanted} out")
    return [], "the CPU, by ONNX Runtime"


def open_run(
    run: Path,
    *,
    engine: str,
    data: Path,
    batch: int,
    gpu: int | None = None,
    threads: int | None = None,
) -> TrainedNet | ExportedNet:
    """Open the trained net of a run's folder, as TrainedNet.of_run does, by an engine.

    threads: of ONNX Runtime, None for as many as cores; Caffe's are its process's.
    """
    if engine == "onnx":
        return ExportedNet.of_run(run, threads=threads)
    return TrainedNet.of_run(run, data=data, batch=batch, gpu=gpu)
