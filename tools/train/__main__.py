"""Train the net of a job, or say that it is done already: `make train`.

Prepares the run's folder and starts the training loop (tools/train/loop.py) in a process of its
own.
"""

import fcntl
import os

from tqdm import tqdm

from data_prep.files import file_digest
from eval.files import write_atomically
from tools.net import render, weights
from tools.run import child as caffe_process
from tools.run import device
from tools.run import record as runs
from tools.run.job import parser, read_manifest, resolve, stop, writing
from tools.train import snapshots


def prepare(job, manifest, mark, where):
    """Make or check the run's folder; return the iteration to go on from, None where done."""
    run = job["run"]
    runs.check_same(job, mark)
    done = (snapshots.complete(run / "snapshots") or [0])[-1]
    if done > job["iters"]:
        stop(f"{run} is at iteration {done}, beyond ITERS={job['iters']}: choose RUN=name")
    if done == job["iters"] and (run / "model.caffemodel").exists():
        return None
    files = runs.render_job(job, manifest, str(job["data"]), str(run), job["iters"])
    for name, text in files.items():
        render.parse(text, f"prototxt/{job['net']}/{name}")
    (run / "snapshots").mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        with write_atomically(run / name) as partial:
            partial.write_text(text)
    runs.write(
        run,
        {
            "command": runs.command(),
            "git_commit": runs.git_commit(),
            "caffe": device.build(),
            "machine": runs.machine() | {"device": where, "threads": device.threads(job["spec"])},
            "settings": runs.settings(job),
            "from_scratch": mark["parts"]["weights"] == "none",
            "weights": {"source": job["weights"], "sha256": mark["parts"]["weights"]},
            "fingerprint": mark,
            "stages": runs.read(run).get("stages", {}),
            "warnings": runs.read(run).get("warnings", []) if done else [],
        },
    )
    return done


def starting_weights(job):
    """Return (caffemodel or None, its SHA-256 or "none").

    A model by name that a run has started from is not fetched again for what comes later.
    """
    kept = runs.read(job["run"]).get("weights", {})
    if kept.get("source") == job["weights"] and weights.is_absent(job["weights"]):
        return None, kept["sha256"]
    caffemodel = weights.find(job["weights"])
    return caffemodel, file_digest(caffemodel, "sha256") if caffemodel else "none"


def check_readable(data):
    """Stop where Caffe may not read a data folder's LMDBs: it writes into their lock files."""
    for split in ("train", "test"):
        lock = data / f"{split}_lmdb" / "lock.mdb"
        read_only = os.statvfs(data).f_flag & os.ST_RDONLY  # where LMDB does without
        if not read_only and not os.access(lock if lock.exists() else lock.parent, os.W_OK):
            stop(
                f"{lock}: uid {os.getuid()} may not write there, as whoever reads an LMDB must: "
                "its owner can 'chmod a+w' it, or choose another DATA_ROOT="
            )


def words(job):
    """Return what the net of a job is to learn, for people."""
    bits = f"{job['bits']} bits" if job["bits"] else "no codes"
    return bits if job["method"] == "ssdh" else f"METHOD={job['method']}, {bits}"


def hold(run):
    """Return a lock on the run's folder; stop where another process trains there."""
    run.mkdir(parents=True, exist_ok=True)
    lock = os.open(run, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stop(f"another process is training in {run}: wait for it, or choose RUN=name")
    return lock


def main():
    p = parser(__doc__)
    p.add_argument(
        "--check", action="store_true", help="only check that the trained run is this one"
    )
    args = p.parse_args()
    job = resolve(args)
    manifest = read_manifest(job["data"])
    run = job["run"]
    caffemodel, weights_sha256 = starting_weights(job)
    solvers = device.solvers(job["device"], job["spec"])
    if args.check and runs.read(run):  # the later stages may run on other devices
        solvers = int(runs.read(run)["fingerprint"]["parts"]["solvers"])
    mark = runs.fingerprint(job, manifest, weights_sha256, solvers)
    if args.check:
        runs.check_same(job, mark)
        if not (run / "model.caffemodel").exists():
            stop(
                f"there is no trained net in {run}: 'make train' with the same variables makes one"
            )
        reached, asked = snapshots.complete(run / "snapshots"), runs.read(run)["settings"]["iters"]
        if reached and reached[-1] != asked:
            stop(
                f"the training in {run} was stopped at iteration {reached[-1]} of {asked}: "
                "'make train' with the same variables goes on"
            )
        return
    gpus, where = device.choose_all(job["device"])
    if len(gpus) > 1 and not device.build().get("nccl"):
        stop(f"DEVICE={job['device']}: this Caffe was built without NCCL; USE_NCCL=1 make caffe")
    check_readable(job["data"])
    with writing():
        lock = hold(run)
        start = prepare(job, manifest, mark, where)
    if start is None:
        print(f"{run} is trained already: {job['iters']} iterations, {words(job)}")
        return
    threads = device.threads(job["spec"])
    processes = len(gpus) or solvers
    print(f"training {job['net']} on {job['dataset']}, {words(job)}, in {run}")
    print(f"  on: {where}; solver processes: {processes}, OpenBLAS threads in each: {threads}")
    print(f"  an update: {solvers} x {job['batch']} pictures")
    if not start and not caffemodel:  # the run's folder is there, and nothing was trained yet
        caffemodel = weights.find(job["weights"])
    from_scratch = " (from scratch)" if job["weights"] == "none" else ""
    print(f"  weights: {job['weights']}{from_scratch}")
    arguments = [str(run), "--start", str(start), "--pictures", str(manifest["counts"]["test"])]
    arguments += ["--classes", str(len(manifest["classes"]))]
    arguments += ["--solvers", str(solvers), "--gpus", *map(str, gpus)]
    arguments += ["--weights", str(caffemodel)] if caffemodel else []
    log = run / "train.log"
    if not start:
        log.unlink(missing_ok=True)
    caffe_process.run("tools.train.loop", arguments, threads, log, keep=(lock,))
    snapshots.publish(run / "snapshots", job["iters"], run / "model.caffemodel")
    print(f"trained: {run / 'model.caffemodel'}")
    whole = job["spec"]["iters"]
    if job["iters"] < whole:
        from eval.pages.report import (
            read_training,  # with matplotlib: too slow for a run that is done
        )

        seconds = read_training(run / "train.csv")["seconds"][-1] * whole / job["iters"]
        print(f"  at this speed all {whole:,} iterations take {tqdm.format_interval(seconds)}")


if __name__ == "__main__":
    main()
