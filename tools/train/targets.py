"""What a method learns from the pictures' classes: CNNH's target codes, and whether it can at all.

A METHOD with `targets` in methods.toml learns a code for each training picture, which stage 1
(tools/train/stage_one.py) makes of the labels alone. They lie in the run's folder: target_lmdb, a
record for each of train_lmdb's, in its order, so that a second Data layer gives the codes of the
first one's pictures; and targets.json, what they are and how the objective fell.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import lmdb
import numpy as np
from tqdm import tqdm

from data_prep.caffe_proto import caffe_pb2
from data_prep.lmdb_reader import labels_of, records
from eval.files import InputError, naming, read_fitting, write_atomically
from tools.run import record
from tools.run.failure import FAMILY, Failure
from tools.run.job import Job

LMDB, FACTS = record.TARGETS, "targets.json"
PATTERN = {"sha256": str, "bits": int, "pictures": int, "objective": [float]}
SELDOM = 0.5  # of batches without a triplet, at most


def check_classes(job: Job, manifest: dict) -> None:
    """Raise Failure where a method that compares pictures by their classes has nothing to learn."""
    counts = manifest.get("labels", {}).get("train")  # an older manifest does not count them
    if not counts or not (job.method.targets or "triplet" in job.method.losses):
        return
    there = [count for count in counts if count]
    if len(there) < 2:
        raise Failure(
            f"METHOD={job.method.name} learns which pictures are of one class, and all training "
            f"pictures of {job.dataset} are of the class "
            f"{manifest['classes'][int(np.argmax(counts))]}: it needs two classes"
        )
    if sum(there) < job.bits:
        raise Failure(
            f"METHOD={job.method.name} learns codes of {job.bits} bits from how "
            f"{sum(there)} training pictures compare, and needs as many pictures as bits: "
            "lower BITS, or add pictures"
        )
    if "triplet" in job.method.losses:
        _check_triplets(job, there)


def _check_triplets(job: Job, counts: list[int]) -> None:
    """Raise Failure where most batches would have no two pictures of one class, or no third one.

    counts: of the training pictures of each class. The pairs of one class in a batch are taken for
    independent, as in the birthday problem.
    """
    alike = sum(count * (count - 1) for count in counts) / (sum(counts) * (sum(counts) - 1))
    pairs = job.batch * (job.batch - 1) / 2
    largest = max(counts) / sum(counts)
    one_class = largest**job.batch <= SELDOM
    if job.batch >= 3 and math.exp(-alike * pairs) <= SELDOM and one_class:
        return
    if not alike:
        raise Failure(
            f"METHOD={job.method.name} learns from pairs of pictures of one class, and no class of "
            f"{job.dataset} has two training pictures: add pictures"
        )
    enough = max(
        3,
        math.ceil(0.5 + math.sqrt(0.25 - 2 * math.log(SELDOM) / alike)),
        math.ceil(math.log(SELDOM) / math.log(largest)),
    )
    raise Failure(
        f"METHOD={job.method.name} learns from triplets, two pictures of one class and one of "
        f"another, and most batches of {job.batch} pictures have none: BATCH={enough} or more"
    )


def prepare(job: Job, start: int) -> None:
    """Make the target codes of a job's run, and say what was done.

    start: the iteration that the training goes on from. Codes that it was begun with are kept;
    raise Failure where they are damaged or lost, and it is not sure that the same ones are made.
    """
    labels = labels_of(job.data / "train_lmdb")
    known = {"bits": job.bits, "pictures": len(labels)}
    there = _facts(job.run) if start else {}
    found_sha256 = digest(job.run / LMDB) if start else ""
    if there and known.items() <= there.items() and found_sha256 == there["sha256"]:
        return
    begun_with = there.get("sha256", found_sha256)  # where neither is there, no one knows
    from tools.train import stage_one  # whose compiler takes as long to import as all the rest

    fallen = []
    found = stage_one.approximate_codes(labels, job.bits, max(job.seed, 0))  # -1 is Caffe's alone
    for now, objective in tqdm(found, desc="stage 1, codes from the labels", unit="sweep"):
        codes = now
        fallen.append(round(objective, 6))
    targets = (codes > 0).astype(np.uint8)
    with naming(job.run / LMDB):
        write(job.run / LMDB, targets)
    sha256 = digest(job.run / LMDB)
    if start and sha256 != begun_with:
        raise Failure(
            f"{job.run / LMDB} was damaged, and stage 1 gives other codes on this machine: "
            "choose RUN=name"
            if begun_with
            else f"{job.run} has neither {LMDB} nor {FACTS}, so that nobody can tell whether stage "
            "1 gives the codes that the training was begun with: choose RUN=name"
        )
    distinct = len(np.unique(np.packbits(targets, axis=1), axis=0))
    facts = known | {"distinct": distinct, "objective": fallen, "sha256": sha256}
    with write_atomically(job.run / FACTS) as partial:
        partial.write_text(json.dumps(facts, indent=1) + "\n")
    print(
        f"  stage 1: {len(labels):,} codes from the labels, {distinct:,} of them distinct; "
        f"||S - HH'/q||^2 / n^2 fell from {fallen[0]:.4f} to {fallen[-1]:.4f}"
    )


def write(path: Path, targets: np.ndarray) -> None:
    """Write target codes, uint8 (n, bits) of 0 and 1, to an LMDB that Caffe's Data layer reads."""
    partial = path.with_name(f".{path.name}.partial")
    for folder in (partial, path):
        shutil.rmtree(folder, ignore_errors=True)
    size = targets.size + 256 * len(targets)
    try:
        with (
            lmdb.open(str(partial), map_size=4 * size + (64 << 20)) as env,
            env.begin(write=True) as txn,
            txn.cursor() as cursor,
        ):
            cursor.putmulti(_records(targets), append=True)
    except lmdb.Error as error:
        raise Failure(f"{path}: {error}; free some space or mend the disk") from None
    partial.rename(path)


def _records(targets: np.ndarray) -> Iterator[tuple[bytes, bytes]]:
    for place, code in enumerate(targets):
        datum = caffe_pb2.Datum(channels=len(code), height=1, width=1, data=code.tobytes())
        yield f"{place:08d}".encode(), datum.SerializeToString()


def digest(path: Path) -> str:
    """Return the SHA-256 of an LMDB's keys and values, "" where it is missing or damaged."""
    if not path.exists():
        return ""
    found = hashlib.sha256()
    with suppress(*FAMILY):
        for key, value in records(path):
            found.update(key)
            found.update(value)
        return found.hexdigest()
    return ""


def _facts(run: Path) -> dict:
    """Return targets.json of a run's folder, {} where it is missing or damaged."""
    with suppress(InputError):
        return read_fitting(run / FACTS, PATTERN, "'make train'")
    return {}
