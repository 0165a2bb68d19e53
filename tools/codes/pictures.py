"""Codes and features of any pictures: `make codes IMAGES=list.txt WEIGHTS=model.caffemodel`.

The model is a caffemodel of NET and BITS, or a trained run's where no WEIGHTS are given. The folder
that comes out holds pictures.h5 (tools/codes/encode.py has the format), codes.csv and features.csv.
"""

import os
import tempfile
from pathlib import Path
from typing import NamedTuple

from data_prep.mean_image import known_mean, to_binaryproto
from eval.hdf5 import open_hdf5
from tools.codes.listing import list_pictures, origin_of
from tools.net import pretrained, render, weights
from tools.run import child, device, record
from tools.run.failure import Failure, carry_out
from tools.run.job import Job, read_job, require_codes
from tools.run.nets import Blobs, Net, net_of


class Model(NamedTuple):
    """A net to encode by: the folder with its prototxt, its caffemodel, what nets.toml has of it.

    data: the folder with its mean image. name: in the name of the folder that its codes go to.
    """

    folder: Path
    caffemodel: Path
    data: Path
    net: Net
    blobs: Blobs
    name: str


def main() -> None:
    """Encode the pictures that PICTURES, or IMAGES, names."""
    job, values = read_job(__doc__, "PICTURES", "OUT", "SKIP")
    require_codes(job)
    given = values.pictures or values.images
    pictures = list_pictures(given, "PICTURES" if values.pictures else "IMAGES")
    with tempfile.TemporaryDirectory(prefix="codes-") as scratch:
        model = of_weights(job, Path(scratch)) if values.weights else of_run(job)
        default = job.run.parent / "pictures" / f"{Path(given).stem}-{model.name}"
        origin = origin_of(given, model.caffemodel)
        out = folder_for(values.out, default, origin)
        gpu, device_sentence = device.choose(job.device)
        print(
            f"codes of {len(pictures)} pictures by {model.caffemodel} on {device_sentence}",
            flush=True,
        )
        done = child.call(
            "tools.codes.encode.encode",
            threads=device.threads(),
            log=out / "caffe.log",
            folder=model.folder,
            caffemodel=model.caffemodel,
            data=model.data,
            net=model.net,
            blobs=model.blobs,
            gpu=gpu,
            paths=pictures,
            origin=origin,
            out=out,
            skip=values.skip,
        )
    if done < len(pictures):
        left_out = len(pictures) - done
        print(f"{left_out} of {len(pictures)} pictures could not be read and were left out")
    print(f"codes: {out}/pictures.h5, {out}/codes.csv; features: {out}/features.csv")


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
    files = render.render_job(job, classes=classes or 1, data=data, run=folder, iters=0)
    if not classes:
        deploy = render.parse(files["deploy.prototxt"], "deploy.prototxt")
        render.cut_behind(deploy, job.blobs.code)
        files["deploy.prototxt"] = str(deploy)
    for name, text in files.items():
        (folder / name).write_text(text)
    return Model(folder, caffemodel, data, job.net, job.blobs, caffemodel.stem)


def folder_for(given: str, default: Path, origin: str) -> Path:
    """Return the folder to write, given or the default one, made where it is not there.

    origin: what its codes are of. Raise Failure where it holds codes of something else, or where
    nothing can be written.
    """
    folder = Path(given) if given else default
    there, file = origin, folder / "pictures.h5"
    try:
        if file.exists():
            with open_hdf5(file, f"remove {folder}, or name another one, OUT=") as codes:
                there = os.fsdecode(codes.attrs.get("origin", b"others"))
        if there != origin:
            raise Failure(
                f"{folder} holds the codes of {there}; remove it, or name another one, OUT="
            )
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "caffe.log").unlink(missing_ok=True)
    except OSError as error:
        raise Failure(
            f"{folder}: {error.strerror or error}; name another folder for the codes, OUT="
        ) from None
    return folder


if __name__ == "__main__":
    carry_out(main)
