"""Train the net of a job, or say that it is done already: `make train`.

Prepares the run's folder and starts the training loop (tools/train/loop.py) in a process of its
own.
"""

import fcntl
import os
from pathlib import Path

from tqdm import tqdm

from eval.files import write_atomically
from tools.net import pretrained, render
from tools.run import child, data, device, machine, record
from tools.run.failure import Failure, carry_out, writing
from tools.run.job import Job, read_job
from tools.train import snapshots
from tools.train.identity import fingerprint_of, starting_weights


def main() -> None:
    """Train the job's net."""
    job, _ = read_job(__doc__)
    manifest = data.read_manifest(job.data)
    caffemodel, weights_sha256 = starting_weights(job)
    solvers = device.solvers(job.device, job.net)
    fingerprint = fingerprint_of(job, manifest, weights_sha256, solvers)
    gpus, device_sentence = device.choose_all(job.device)
    if len(gpus) > 1 and not device.build().get("nccl"):
        raise Failure(
            f"DEVICE={job.device}: this Caffe was built without NCCL; USE_NCCL=1 make caffe"
        )
    check_readable(job.data)
    with writing():
        lock = hold(job.run)
        start = prepare(job, manifest, fingerprint, device_sentence)
    if start is None:
        print(f"{job.run} is trained already: {job.iters} iterations, {purpose(job)}")
        return
    threads = device.threads(job.net.threads)
    processes = len(gpus) or solvers
    print(f"training {job.net.name} on {job.dataset}, {purpose(job)}, in {job.run}")
    print(
        f"  on: {device_sentence}; solver processes: {processes}, OpenBLAS threads in each: "
        f"{threads}"
    )
    print(f"  an update: {solvers} x {job.batch} pictures")
    if not start and not caffemodel:  # the run's folder is there, and nothing was trained yet
        caffemodel = pretrained.find(job.weights)
    from_scratch = " (from scratch)" if job.weights == "none" else ""
    print(f"  weights: {job.weights}{from_scratch}")
    log = job.run / "train.log"
    if not start:
        log.unlink(missing_ok=True)
    child.call(
        "tools.train.loop.train_run",
        threads=threads,
        log=log,
        keep=(lock,),
        run=job.run,
        blobs=job.blobs,
        gpus=gpus,
        start=start,
        caffemodel=caffemodel,
        pictures=manifest["counts"]["test"],
        classes=len(manifest["classes"]),
        solvers=solvers,
    )
    snapshots.publish(job.run / "snapshots", job.iters, job.run / "model.caffemodel")
    print(f"trained: {job.run / 'model.caffemodel'}")
    if job.iters < job.net.iters:
        from eval.training_log import read_training

        seconds = read_training(job.run / "train.csv")["seconds"][-1] * job.net.iters / job.iters
        print(
            f"  at this speed all {job.net.iters:,} iterations take {tqdm.format_interval(seconds)}"
        )


def prepare(job: Job, manifest: dict, fingerprint: dict, device_sentence: str) -> int | None:
    """Make or check the run's folder; return the iteration to go on from, None where done."""
    run = job.run
    record.check_same(job, fingerprint)
    done = (snapshots.complete(run / "snapshots") or [0])[-1]
    if done > job.iters:
        raise Failure(f"{run} is at iteration {done}, beyond ITERS={job.iters}: choose RUN=name")
    if done == job.iters and (run / "model.caffemodel").exists():
        return None
    classes = len(manifest["classes"])
    files = render.render_job(job, classes=classes, data=job.data, run=run, iters=job.iters)
    for name, text in files.items():
        render.parse(text, f"prototxt/{job.net.name}/{name}")
    (run / "snapshots").mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        with write_atomically(run / name) as partial:
            partial.write_text(text)
    there = record.read_if_there(run)
    threads = device.threads(job.net.threads)
    record.write_record(
        run,
        {
            "command": machine.command(),
            "git_commit": machine.git_commit(),
            "caffe": device.build(),
            "machine": machine.machine() | {"device": device_sentence, "threads": threads},
            "settings": record.settings_of(job),
            "from_scratch": fingerprint["parts"]["weights"] == "none",
            "weights": {"source": job.weights, "sha256": fingerprint["parts"]["weights"]},
            "fingerprint": fingerprint,
            "stages": there.get("stages", {}),
            "warnings": there.get("warnings", []) if done else [],
        },
    )
    return done


def check_readable(folder: Path) -> None:
    """Raise Failure where Caffe may not read a data folder's LMDBs: it writes their lock files."""
    for split in data.SPLITS.values():
        lock = folder / f"{split}_lmdb" / "lock.mdb"
        read_only = os.statvfs(folder).f_flag & os.ST_RDONLY  # where LMDB does without
        if not read_only and not os.access(lock if lock.exists() else lock.parent, os.W_OK):
            raise Failure(
                f"{lock}: uid {os.getuid()} may not write there, as whoever reads an LMDB must: "
                "its owner can 'chmod a+w' it, or choose another DATA_ROOT="
            )


def purpose(job: Job) -> str:
    """Return what the net of a job is to learn, for people."""
    bits = f"{job.bits} bits" if job.bits else "no codes"
    return bits if job.method.name == "ssdh" else f"METHOD={job.method.name}, {bits}"


def hold(run: Path) -> int:
    """Return a lock on the run's folder; raise Failure where another process trains there."""
    run.mkdir(parents=True, exist_ok=True)
    lock = os.open(run, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Failure(
            f"another process is training in {run}: wait for it, or choose RUN=name"
        ) from None
    return lock


if __name__ == "__main__":
    carry_out(main)
