"""Train the net of a job, or say that it is done already: `make train`.

Prepares the run's folder and starts the training loop (tools/train/loop.py) in a process of its
own.
"""

import time
from pathlib import Path

from tqdm import tqdm

from data_prep.files import only_one
from tools.net import pretrained
from tools.run import child, data, device, record
from tools.run.failure import Failure, carry_out, writing
from tools.run.job import Job, read_job, with_loss
from tools.train import features, snapshots, targets
from tools.train.folder import check_readable, hold, prepare
from tools.train.identity import fingerprint_of, starting_weights


def main() -> None:
    """Train the job's net."""
    job, _ = read_job(__doc__)
    manifest = data.read_manifest(job.data)
    job = with_loss(job, data.has_several_labels(manifest))
    caffemodel, weights_sha256 = starting_weights(job)
    solvers = device.solvers(job.device, job.net)
    engine = device.engine()
    fingerprint = fingerprint_of(
        job,
        manifest,
        weights_sha256,
        solvers=solvers,
        engine=engine,
        statistics=device.statistics(job.device),
    )
    gpus, device_sentence = device.choose_all(job.device)
    if len(gpus) > 1 and not device.build().get("nccl"):
        raise Failure(
            f"DEVICE={job.device}: this Caffe was built without NCCL; USE_NCCL=1 make caffe"
        )
    check_readable(job.data)
    data.check_labels(job.data, manifest)
    targets.check_classes(job, manifest)
    with writing():
        lock = hold(job.run)
        start = prepare(job, manifest, fingerprint, device_sentence)
    if start is None:
        print(f"{job.run} is trained already: {job.iters} iterations, {purpose(job)}")
        return
    threads = device.threads()
    print(f"training {job.net.name} on {job.dataset}, {purpose(job)}, in {job.run}")
    print(f"  on: {device_sentence}; engine {engine}, threads: {threads}")
    print(f"  an update: {solvers} x {job.batch} pictures")
    if not caffemodel and (job.head or not start):  # kept by its name alone
        caffemodel = pretrained.find(job.weights)
    from_scratch = " (from scratch)" if job.weights == "none" else ""
    print(f"  weights: {job.weights}{from_scratch}")
    started_from = start_of_head(job, manifest, caffemodel, weights_sha256, gpus)
    log = job.run / "train.log"
    if not start:
        log.unlink(missing_ok=True)
    if start < job.iters:
        if job.method.targets:
            began = time.monotonic()
            with writing():
                targets.prepare(job, start)
            record.add_seconds(job.run, "train", time.monotonic() - began)
        child.call(
            "tools.train.loop.train_run",
            threads=threads,
            log=log,
            keep=(lock,),
            run=job.run,
            blobs=job.blobs,
            gpus=gpus,
            start=start,
            caffemodel=started_from,
            pictures=manifest["counts"]["test"],
            classes=len(manifest["classes"]),
            solvers=solvers,
            inputs=features.folder_of(job, manifest, weights_sha256) if job.head else None,
        )
    if job.head:
        child.call(
            "tools.train.assembly.publish",
            threads=threads,
            log=job.run / "head.log",
            run=job.run,
            caffemodel=caffemodel,
            n=job.iters,
        )
    else:
        snapshots.publish(job.run, job.iters)
    print(f"trained: {job.run / 'model.caffemodel'}")
    if job.iters < job.usual_iters:
        from eval.training_log import read_training

        seconds = read_training(job.run / "train.csv")["seconds"][-1] * job.usual_iters / job.iters
        took = tqdm.format_interval(seconds)
        print(f"  at this speed all {job.usual_iters:,} iterations take {took}")


def start_of_head(
    job: Job, manifest: dict, caffemodel: Path | None, weights_sha256: str, gpus: list[int]
) -> Path | None:
    """Return what the training starts from: caffemodel, or with HEAD=1 the scale of its features.

    The features are extracted, where they are not there.
    """
    if not job.head:
        return caffemodel
    began = time.monotonic()
    folder = features.folder_of(job, manifest, weights_sha256)
    counts = {split: manifest["counts"][split] for split in data.SPLITS.values()}
    print(f"  HEAD=1: the head alone, on the features {job.blobs.features} in {folder}")
    with writing("choose another DATA_ROOT="):
        folder.mkdir(exist_ok=True)
    with only_one(folder):
        if not (folder / features.STATISTICS).exists():
            child.call(
                "tools.train.extraction.extract",
                threads=device.threads(),
                log=job.run / "features.log",
                run=job.run,
                folder=folder,
                data=job.data,
                features=job.blobs.features,
                caffemodel=caffemodel,
                counts=counts,
                gpu=gpus[0] if gpus else None,
            )
            record.add_seconds(job.run, "features", time.monotonic() - began)
    return features.write_inputs(job.run, folder, counts)


def purpose(job: Job) -> str:
    """Return what the net of a job is to learn, for people."""
    bits = f"{job.bits} bits" if job.bits else "no codes"
    if job.head:
        bits += ", the head alone"
    return bits if job.method.name == "ssdh" else f"METHOD={job.method.name}, {bits}"


if __name__ == "__main__":
    carry_out(main)
