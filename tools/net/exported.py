"""An exported net, model.onnx, which answers as TrainedNet does, without Caffe: ENGINE=onnx."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from data_prep.files import file_digest
from eval.files import naming, read_json
from tools.net import preprocess
from tools.net.trained import Outputs
from tools.run import device, record
from tools.run.failure import Failure
from tools.run.nets import net_of

if TYPE_CHECKING:
    import onnxruntime

FOLDER = "export"  # in a run's folder
AGAIN = "run 'make export' again"


class ExportedNet:
    """The net of an export's folder, by ONNX Runtime on the CPU.

    net: its entry in nets.toml. caffemodel: what answers, for messages. mean: the mean image,
    float32. sizes: of latent, probabilities and features, None where it has no such output.
    """

    def __init__(self, folder: Path, *, threads: int) -> None:
        """Open model.onnx of a folder; raise Failure where there is none, or it was changed."""
        facts = read_facts(folder)
        for name in ("model.onnx", "mean.npy"):
            check_file(folder, name, facts)
        self.net = net_of(facts["net"])
        self.caffemodel = folder / "model.onnx"
        self.mean = np.load(folder / "mean.npy")
        self.session = open_session(self.caffemodel, threads)
        shapes = {each.name: each.shape for each in self.session.get_outputs()}
        self.sizes = tuple(
            shapes[name][1] if name in shapes else None
            for name in ("latent", "probabilities", "features")
        )

    @classmethod
    def of_run(cls, run: Path, *, threads: int | None = None) -> Self:
        """Open the export of a run's folder; raise Failure where it is of other weights."""
        folder, caffemodel = run / FOLDER, run / "model.caffemodel"
        exported = read_facts(folder)["net_fingerprint"]
        if exported != record.net_fingerprint(record.read_record(run), caffemodel):
            raise Failure(f"{folder} is of other weights than {caffemodel}: {AGAIN}")
        return cls(folder, threads=threads or device.threads())

    def resize(self, batch: int) -> None:
        """Take batches of so many pictures: any number is taken."""

    def read(self, source: Path | bytes) -> np.ndarray:
        """Return a picture as the net gets it; see preprocess.read_picture."""
        return preprocess.read_picture(source, self.net)

    def __call__(self, pictures: np.ndarray, *, features: bool = False) -> Outputs:
        """Return the outputs for pictures, uint8 n x C x H x W, BGR, as read() gives them."""
        return run_session(self.session, pictures, features=features)


def open_session(path: Path, threads: int) -> "onnxruntime.InferenceSession":
    """Return a session of an ONNX file on the CPU; raise Failure where it is none."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # beside other work
    try:
        return onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
    except Exception as error:  # of many kinds, none of them of a common base
        said = str(error).splitlines()[0]
        raise Failure(f"{path} cannot be run ({said}): {AGAIN}") from None


def run_session(
    session: "onnxruntime.InferenceSession", pictures: np.ndarray, *, features: bool
) -> Outputs:
    """Return a model's outputs for pictures, uint8 n x C x H x W, at most a batch or two."""
    there = {each.name for each in session.get_outputs()}
    names = ("latent", "probabilities", *(["features"] if features else []))
    wanted = [name for name in names if name in there]
    found = dict(
        zip(wanted, session.run(wanted, {"picture": pictures.transpose(0, 2, 3, 1)}), strict=True)
    )
    return Outputs(*(found.get(name) for name in ("latent", "probabilities", "features")))


def read_facts(folder: Path) -> dict[str, Any]:
    """Return codes.json of an export; raise Failure where there is none, InputError if damaged."""
    if not (folder / "codes.json").is_file():
        raise Failure(f"there is no export in {folder}: 'make export' makes it")
    path = folder / "codes.json"
    facts = read_json(path, ("net", "net_fingerprint", "sha256"), "'make export'")
    kinds = {"net": str, "net_fingerprint": str, "sha256": dict}
    if not all(isinstance(facts[name], kind) for name, kind in kinds.items()):
        raise Failure(f"{path} is damaged: {AGAIN}")
    return facts


def write_facts(folder: Path, facts: dict[str, Any]) -> None:
    """Write codes.json of an export, with the SHA-256 of the files that are there."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    facts = facts | {
        "sha256": {
            path.relative_to(folder).as_posix(): file_digest(path, "sha256")
            for path in files
            if path.name != "codes.json"
        }
    }
    with naming(folder / "codes.json"):
        (folder / "codes.json").write_text(json.dumps(facts, indent=1) + "\n")


def check_file(folder: Path, name: str, facts: dict[str, Any]) -> None:
    """Raise Failure where a file of an export is missing, or not what was exported."""
    path = folder / name
    if not path.is_file() or file_digest(path, "sha256") != facts["sha256"].get(name):
        raise Failure(f"{path} was changed after the export, or is missing: {AGAIN}")
