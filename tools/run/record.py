"""A run's record: run.json in its folder, and the fingerprint of what decides its result.

The fingerprint covers what decides the trained weights and nothing else: the rendered prototxt
(seed included; paths, comments and max_iter left out), the starting weights, the number of batches
in an update, the data's contents, the mean image, Caffe's commit, the engine where it is not
Caffe's own, and the code of the Python layers where the net has one, and of stage 1 where that
makes the codes that the net is to learn. Runs from before a part was
recorded are known by the parts that they have.
"""

import hashlib
import json
import re
from pathlib import Path

from data_prep.files import file_digest
from eval.files import InputError, read_json, write_atomically
from eval.schema import misfit
from eval.tables import LOSS_TERMS
from tools.run import device
from tools.run.failure import Failure
from tools.run.job import REPO, WEIGHTS_OF_LOSSES, Job

DECIDING = (
    *("dataset", "net", "method", "bits", "seed", "batch", "subset", "head", "loss"),
    *(variable.lower() for variable in WEIGHTS_OF_LOSSES),
)
PARTS = {  # of run.json, as eval.schema has patterns
    "settings": {"dataset": str, "net": str, "method?": str, "iters?": int},
    "fingerprint": {"sha256": str, "parts": dict},
    "model?": dict,
    "weights?": {"source?": str, "sha256?": str},
    "engine?": str,
    "stages?": dict,
    "warnings?": [str],
}
MODEL = {"iters": int, "sha256": str}
TARGETS = "target_lmdb"  # in a net that learns codes, which tools/train/stage_one.py makes
# of settings that are older than these variables
BEFORE = {"method": "ssdh", "head": False, "loss": "softmax"}


def fingerprint_of(
    files: dict[str, str],
    data: Path,
    manifest: dict,
    *,
    weights_sha256: str,
    solvers: int,
    engine: str,
    statistics: str = "",
) -> dict:
    """Return {"sha256": ..., "parts": {name: SHA-256}}.

    files: {name: text} of the prototxt, rendered with fixed paths and max_iter. data: the folder of
    the manifest, with the mean image. weights_sha256 may be "none". solvers: batches in an update.
    engine, statistics: as device's functions of these names give them; the latter counts where the
    net has a BatchNorm layer.
    """
    parts = {}
    for name, text in files.items():
        lines = (line.partition("#")[0].strip() for line in text.splitlines())
        parts[name] = sha256_of_text("\n".join(line for line in lines if line))
    parts["weights"] = weights_sha256
    parts["solvers"] = str(solvers)
    parts["data"] = data_part(manifest)
    parts["mean"] = file_digest(data / "mean.binaryproto", "sha256")
    parts["caffe"] = device.build()["commit"]
    if engine != "caffe":  # what it was when the first fingerprints were made
        parts["engine"] = engine
    if statistics and 'type: "BatchNorm"' in files["train_val.prototxt"]:
        parts["statistics"] = statistics
    if TARGETS in files["train_val.prototxt"]:
        parts["stage_one.py"] = file_digest(REPO / "tools" / "train" / "stage_one.py", "sha256")
    for module in sorted(set(re.findall(r'module: "(\w+)"', files["train_val.prototxt"]))):
        parts[f"{module}.py"] = file_digest(REPO / "python_layers" / f"{module}.py", "sha256")
    return {"sha256": sha256_of_text(json.dumps(parts, sort_keys=True)), "parts": parts}


def data_part(manifest: dict) -> str:
    """Return the part of a fingerprint that the contents of the data are, by their manifest."""
    contents = {key: manifest[key] for key in ("lmdb_sha256", "mean", "classes")}
    return sha256_of_text(json.dumps(contents, sort_keys=True))


def sha256_of_text(text: str) -> str:
    """Return the SHA-256 of a text, hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def net_fingerprint(record: dict, caffemodel: Path) -> str:
    """Return what tells a trained net from any other: its run's fingerprint and its weights'.

    Raise Failure where the caffemodel is not the one that the training left.
    """
    digest = file_digest(caffemodel, "sha256")
    if record.get("model", {}).get("sha256", digest) != digest:
        raise Failure(
            f"{caffemodel} is not what the training left (damaged, or another file): 'make train' "
            "with the same variables makes it again"
        )
    return f"{record['fingerprint']['sha256'][:16]}-{digest[:16]}"


def settings_of(job: Job) -> dict:
    """Return the job's variables as run.json keeps them."""
    return {
        "dataset": job.dataset,
        "net": job.net.name,
        "method": job.method.name,
        "bits": job.bits,
        "seed": job.seed,
        "batch": job.batch,
        "subset": job.subset,
        "head": job.head,
        "loss": job.loss,
        **{
            term.variable.lower(): job.loss_weights[name]
            for name, term in LOSS_TERMS.items()
            if term.variable
        },
        "weights": job.weights,
        "iters": job.iters,
        "device": job.device,
    }


def read_record(run: Path) -> dict:
    """Return run.json of a run's folder; raise InputError where it is missing or damaged."""
    needed = ("settings", "fingerprint")
    record = read_json(run / "run.json", needed, "'make clean-run' and 'make train'")
    if not _has_its_parts(record):
        raise InputError(
            f"{run / 'run.json'} is damaged: a part of it is not what a run's record has there; "
            "remove it and run 'make clean-run' and 'make train'"
        )
    record["settings"] = BEFORE | record["settings"]
    return record


def _has_its_parts(record: dict) -> bool:
    """Return whether what is read from a run.json is of the kind that a training writes."""
    if misfit(record, PARTS) or record.get("model") and misfit(record["model"], MODEL):
        return False
    parts, seconds = record["fingerprint"]["parts"], record.get("stages", {})
    return (
        all(isinstance(part, str) for part in parts.values())
        and parts.get("solvers", "1").isdecimal()
        and all(misfit(each, float) is None for each in seconds.values())
    )


def read_if_there(run: Path) -> dict:
    """Return run.json of a run's folder, {} where there is none; else as read_record."""
    return read_record(run) if (run / "run.json").exists() else {}


def write_record(run: Path, record: dict) -> None:
    """Write run.json, whole or not at all."""
    with write_atomically(run / "run.json") as partial:
        partial.write_text(json.dumps(record, indent=1) + "\n")


def set_seconds(run: Path, stage: str, seconds: float) -> None:
    """Write a stage's seconds into run.json: of one that was done from its beginning."""
    record = read_record(run)
    record.setdefault("stages", {})[stage] = round(seconds, 1)
    write_record(run, record)


def add_seconds(run: Path, stage: str, seconds: float) -> None:
    """Add to a stage's seconds in run.json: of one that went on."""
    set_seconds(run, stage, read_record(run).get("stages", {}).get(stage, 0) + seconds)


def known_as(there: dict, here: dict) -> bool:
    """Return whether a run's fingerprint is this one, in all the parts that it has.

    Without the part statistics, they were those of every batch.
    """
    names = {*there["parts"], "statistics"}
    return all(here["parts"].get(name) == there["parts"].get(name) for name in names)


def check_same(job: Job, fingerprint: dict) -> None:
    """Raise Failure where the run's folder holds a run with another fingerprint: what differs."""
    there = read_if_there(job.run)
    if not there or known_as(there["fingerprint"], fingerprint):
        return
    asked = settings_of(job)
    had = asked | there["settings"]  # an older record may lack a variable
    differs = [
        f"{key.upper()}={had[key]} there, {key.upper()}={asked[key]} here"
        for key in (*DECIDING, "weights")
        if had[key] != asked[key]
    ]
    if not differs:
        parts, here = there["fingerprint"]["parts"], fingerprint["parts"]
        differs = [
            f"{parts[key]} batches an update there, {here[key]} here (DEVICE)"
            if key == "solvers"
            else f"the engine {parts[key]} there, {here.get(key, 'caffe')} here (CAFFE_ENGINE)"
            if key == "engine"
            else "BatchNorm keeps other statistics (DEVICE)"
            if key == "statistics"
            else f"the {key} has changed"
            for key in dict.fromkeys([*parts, "statistics"])
            if parts.get(key) != here.get(key)
        ]
    raise Failure(
        f"{job.run} holds another run ({'; '.join(differs)}). "
        "Give this one a name with RUN=name, or remove that one with 'make clean-run'"
    )
