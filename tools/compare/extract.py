"""A released net over the original pictures, into a codes file; runs in a Caffe child process."""

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_prep import DataError, originals
from data_prep.dataset import Dataset, Split, subset
from data_prep.files import file_digest
from eval.codes import create_codes, read_codes
from eval.files import InputError, write_atomically
from tools.compare.net import BATCH, ReleasedNet, activations, load
from tools.compare.preparation import preparation
from tools.net.trained import check_activations
from tools.run import child, device
from tools.run.failure import Failure
from tools.run.job import Job


def extract(
    *,
    job: Job,
    caffemodel: Path,
    deploy: Path,
    mean_file: Path,
    crop: int,
    scale: float,
    lists: Path | None,
    preprocessing: str,
    gpu: int | None,
    out: Path,
) -> list[dict]:
    """Write the codes file `out`, unless it is there; return [{role, file, sha256}] of its inputs.

    The list is kept beside it as JSON. deploy, caffemodel: see tools/compare/net.py. crop, scale:
    as preprocess.transform takes them. lists: the folder of the release's list files. mean_file,
    preprocessing: see tools/compare/preparation.py.
    """
    device.activate(gpu)
    dataset = originals.load(job.source, job.data.parent / "raw", job.archive, lists)
    splits = {"database": dataset.database or dataset.train, "query": dataset.test}
    if job.subset:
        splits = {group: subset(split, job.subset) for group, split in splits.items()}
    inputs = inputs_of(dataset, caffemodel=caffemodel, deploy=deploy, mean=mean_file)
    fingerprint = fingerprint_of(
        files=inputs,
        preprocessing=preprocessing,
        method=job.method.name,
        crop=crop,
        scale=scale,
        subset=job.subset,
        orientation="as stored",
    )
    if is_there(out, fingerprint):
        return inputs
    net = load(
        deploy,
        caffemodel,
        blobs=job.blobs,
        bits=job.bits,
        classes=len(dataset.classes),
        folder=out.parent,
    )
    prepare = preparation(
        preprocessing, job.method.name, mean_file=mean_file, crop=crop, scale=scale
    )
    results, terminal = {}, child.terminal()
    for group, split in splits.items():
        with tqdm(
            total=len(split.keys),
            desc=f"{job.bits} bits, {preprocessing}, {group}",
            unit="picture",
            file=terminal,
            mininterval=0.5,
        ) as bar:
            results[group] = run_split(split, net, prepare, bar)
        check_activations(results[group][0], caffemodel)
    with write_atomically(out.with_suffix(".json")) as partial:
        partial.write_text(json.dumps(inputs, indent=1) + "\n")
    with create_codes(
        out,
        bits=job.bits,
        class_names=dataset.classes,
        dataset=job.dataset,
        net=job.net.name,
        net_fingerprint=fingerprint,
        row_order=dataset.order,
        labels={group: split.labels for group, split in splits.items()},
        keys={group: split.keys for group, split in splits.items()},
        classifier=net.classifier is not None,
    ) as write:
        for group, (latent, probabilities) in results.items():
            write(group, 0, latent, probabilities)
    return inputs


def inputs_of(dataset: Dataset, **files: Path) -> list[dict]:
    """Return [{role, file, sha256}] of every file that decides the codes; files: by their roles."""
    given = [
        {"role": role, "file": path.name, "sha256": file_digest(path, "sha256")}
        for role, path in files.items()
    ]
    return given + [
        {"role": "data", "file": each["file"], "sha256": each["sha256"]} for each in dataset.sources
    ]


def fingerprint_of(**decides: object) -> str:
    """Return the SHA-256 of what decides the codes."""
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def is_there(out: Path, fingerprint: str) -> bool:
    """Return whether a codes file is there whose codes were decided by the same."""
    with suppress(InputError):  # missing or damaged: made again
        return read_codes(out).net_fingerprint == fingerprint
    return False


def run_split(
    split: Split, net: ReleasedNet, prepare: Callable[[bytes | np.ndarray], np.ndarray], bar: tqdm
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return (latent, probabilities or None) of every picture of a split, in its order."""
    latent, probabilities = [], []
    for start in range(0, len(split.keys), BATCH):
        rows = range(start, min(start + BATCH, len(split.keys)))
        inputs = []
        for row in rows:
            try:
                inputs.append(prepare(split.read(row)))
            except DataError as error:
                raise Failure(
                    f"{split.keys[row]} {error}; the release would have put zeros in its place"
                ) from None
        some, of_classes = activations(net, np.stack(inputs))
        latent.append(some)
        probabilities.append(of_classes)
        bar.update(len(rows))
    return np.concatenate(latent), np.concatenate(probabilities) if net.classifier else None
