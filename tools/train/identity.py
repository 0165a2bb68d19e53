"""Which run a job's is: its starting weights, its fingerprint, and whether it is trained."""

from pathlib import Path

from data_prep.files import file_digest
from tools.net import pretrained, render
from tools.run import data, record
from tools.run.failure import Failure
from tools.run.job import Job, with_loss
from tools.train import snapshots


def starting_weights(job: Job) -> tuple[Path | None, str]:
    """Return (caffemodel or None, its SHA-256 or "none").

    A model by name that a run has started from is not fetched again for what comes later.
    """
    kept = record.read_if_there(job.run).get("weights", {})
    if kept.get("source") == job.weights and pretrained.is_absent(job.weights):
        return None, kept["sha256"]
    caffemodel = pretrained.find(job.weights)
    return caffemodel, file_digest(caffemodel, "sha256") if caffemodel else "none"


def fingerprint_of(job: Job, manifest: dict, weights_sha256: str, **how: int | str) -> dict:
    """Return the fingerprint of a job, as record.fingerprint_of makes it.

    how: solvers, engine and statistics, as that takes them.
    """
    classes, share = len(manifest["classes"]), data.share_of_labels(manifest)
    files = render.render_job(job, classes=classes, share=share, data="data", run="run", iters=0)
    return record.fingerprint_of(files, job.data, manifest, weights_sha256=weights_sha256, **how)


def check_trained(job: Job) -> None:
    """Raise Failure where the job's run is not trained to its end, or is another job's."""
    manifest = data.read_manifest(job.data)
    job = with_loss(job, data.has_several_labels(manifest))
    there = record.read_if_there(job.run)
    if not there or not (job.run / "model.caffemodel").exists():
        raise Failure(
            f"there is no trained net in {job.run}: 'make train' with the same variables makes one"
        )
    _, weights_sha256 = starting_weights(job)
    # the later stages may run on other devices, and by another engine
    parts = there["fingerprint"]["parts"]
    how = {
        "solvers": int(parts.get("solvers", "1")),
        "engine": parts.get("engine", "caffe"),
        "statistics": parts.get("statistics", ""),
    }
    record.check_same(job, fingerprint_of(job, manifest, weights_sha256, **how))
    asked, reached = there["settings"]["iters"], snapshots.complete(job.run / "snapshots")
    if reached and reached[-1] != asked:
        raise Failure(
            f"the training in {job.run} was stopped at iteration {reached[-1]} of {asked}: "
            "'make train' with the same variables goes on"
        )
    if snapshots.model_of(job.run, there) != asked:
        raise Failure(
            f"{job.run / 'model.caffemodel'} is not what {asked} iterations have left (damaged, or "
            "an older one): 'make train' with the same variables makes it again"
        )
