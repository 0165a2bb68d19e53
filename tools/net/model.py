"""A net to run: a trained run's, or any caffemodel of a NET and BITS."""

from pathlib import Path
from typing import NamedTuple

from data_prep.manifest import read_fields
from data_prep.mean_image import known_mean, to_binaryproto
from tools.net import pretrained, render, weights
from tools.run import record
from tools.run.data import has_several_labels
from tools.run.failure import Failure
from tools.run.job import Job, with_loss
from tools.run.nets import Blobs, Net, net_of


class Model(NamedTuple):
    """A net: the folder with its prototxt, its caffemodel, what nets.toml has of it.

    data: the folder with its mean image. name: in the name of the folder that its codes go to.
    """

    folder: Path
    caffemodel: Path
    data: Path
    net: Net
    blobs: Blobs
    name: str


def of_run(job: Job) -> Model:
    """Return the model of a job's trained run."""
    run = job.run
    caffemodel = run / "model.caffemodel"
    if not caffemodel.exists():
        raise Failure(
            f"there is no trained net in {run}: run 'make train' with the same variables first, or "
            "give WEIGHTS=model.caffemodel with its NET and BITS"
        )
    settings = record.read_record(run)["settings"]
    net = net_of(settings["net"])
    return Model(run, caffemodel, job.data, net, net.blobs(settings["method"]), run.name)


def of_weights(job: Job, folder: Path) -> Model:
    """Return the model of a caffemodel that one has, with NET's prototxt written into folder.

    The mean image is that of DATASET's data, or else NET's where it is known without data. The net
    ends at the codes where the caffemodel has no classifier, as the released deploy files do.
    """
    caffemodel = pretrained.find(job.weights)
    if caffemodel is None:
        raise Failure(
            "WEIGHTS=none has no codes: give a caffemodel, or leave WEIGHTS out for a trained run"
        )
    data = job.data
    if not (data / "mean.binaryproto").is_file():
        mean = known_mean(job.net.mean, job.net.side, job.net.channels)
        if mean is None:
            raise Failure(
                f"{data}/mean.binaryproto is missing, the mean image for NET={job.net.name}: run "
                f"'make data' with the DATASET that {caffemodel.name} was trained on"
            )
        data = folder
        (folder / "mean.binaryproto").write_bytes(to_binaryproto(mean))
    there = weights.shapes(weights.read(caffemodel))
    classifier = there.get(job.blobs.classifier)
    classes = classifier[0][-2] if classifier else 0
    manifest = job.data / "manifest.json"
    job = with_loss(job, manifest.is_file() and has_several_labels(read_fields(manifest)))
    files = render.render_job(job, classes=classes or 1, data=data, run=folder, iters=0)
    if not classes:
        deploy = render.parse(files["deploy.prototxt"], "deploy.prototxt")
        render.cut_behind(deploy, job.blobs.code)
        files["deploy.prototxt"] = str(deploy)
    for name, text in files.items():
        (folder / name).write_text(text)
    return Model(folder, caffemodel, data, job.net, job.blobs, caffemodel.stem)
