"""A run's folder before its training: made or checked, and held by one process."""

import fcntl
import os
from pathlib import Path

from eval.files import write_atomically
from tools.net import render
from tools.run import data, device, machine, record
from tools.run.failure import Failure
from tools.run.job import Job
from tools.train import snapshots


def prepare(job: Job, manifest: dict, fingerprint: dict, device_sentence: str) -> int | None:
    """Make or check the run's folder; return the iteration to go on from, None where done."""
    run = job.run
    there = record.read_if_there(run)
    if snapshots.complete(run / "snapshots") or (run / "model.caffemodel").exists():
        record.check_same(job, fingerprint)
    modelled = snapshots.model_of(run, there)
    if modelled == job.iters == there["settings"]["iters"]:
        return None
    done = snapshots.newest_intact(run / "snapshots")
    engine = device.engine()
    before = there.get("engine", "caffe")  # what runs that do not say were trained by
    if done and engine != before:
        raise Failure(
            f"{run} was trained by the engine {before} until now: go on with "
            f"CAFFE_ENGINE={before}, or choose RUN=name"
        )
    if max(done, modelled or 0) > job.iters:
        at = max(done, modelled or 0)
        raise Failure(f"{run} is at iteration {at}, beyond ITERS={job.iters}: choose RUN=name")
    classes, share = len(manifest["classes"]), data.share_of_labels(manifest)
    files = render.render_job(
        job, classes=classes, share=share, data=job.data, run=run, iters=job.iters
    )
    for name, text in files.items():
        render.parse(text, f"prototxt/{job.net.name}/{name}")
    stages = there.get("stages", {})
    (run / "snapshots").mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        with write_atomically(run / name) as partial:
            partial.write_text(text)
    record.write_record(
        run,
        {
            "command": machine.command(),
            "git_commit": machine.git_commit(),
            "caffe": device.build(),
            "engine": engine,
            "machine": machine.machine() | {"device": device_sentence, "threads": device.threads()},
            "settings": record.settings_of(job),
            "from_scratch": fingerprint["parts"]["weights"] == "none",
            "weights": {"source": job.weights, "sha256": fingerprint["parts"]["weights"]},
            "fingerprint": there.get("fingerprint", fingerprint) if done else fingerprint,
            "model": snapshots.model_record(run, modelled) if modelled else {},
            "stages": stages if done else {k: stages[k] for k in stages if k != "train"},
            "warnings": there.get("warnings", []) if done else [],
        },
    )
    return done


def check_readable(folder: Path) -> None:
    """Raise Failure where Caffe may not read a data folder's LMDBs: it writes their lock files."""
    for path in sorted(folder.glob("*_lmdb")):
        lock = path / "lock.mdb"
        read_only = os.statvfs(folder).f_flag & os.ST_RDONLY  # where LMDB does without
        if not read_only and not os.access(lock if lock.exists() else lock.parent, os.W_OK):
            raise Failure(
                f"{lock}: uid {os.getuid()} may not write there, as whoever reads an LMDB must: "
                "its owner can 'chmod a+w' it, or choose another DATA_ROOT="
            )


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
