"""Codes and features of any pictures: `make codes IMAGES=list.txt WEIGHTS=model.caffemodel`.

The model is a caffemodel of NET and BITS, or a trained run's where no WEIGHTS are given. The folder
that comes out holds pictures.h5 (tools/codes/encode.py has the format), codes.csv and features.csv.
"""

import os
import tempfile
from pathlib import Path

import h5py

from data_prep.class_folders import is_picture
from data_prep.files import walk
from data_prep.mean_image import imagenet_mean, to_binaryproto
from tools.net import preprocess, render, weights
from tools.run import child as caffe_process
from tools.run import device
from tools.run import record as runs
from tools.run.job import nets, parser, resolve, stop


def list_pictures(images):
    """Return the picture files (Path) that IMAGES names: a list, a folder, or one picture.

    A list is a text file with a path a line, relative to the list's folder or absolute; a label
    behind it, as in train.txt, is passed over. A folder gives its pictures at any depth, sorted,
    as files.walk finds them. Stop where there is none; a listed one that is missing is found when
    it is to be read (tools/codes/encode.py).
    """
    path = Path(images)
    if path.is_dir():
        found = sorted(file for file in walk(path) if is_picture(file.name))
        if not found:
            stop(f"IMAGES={images}: there is no picture in this folder")
        return found
    if not path.is_file():
        stop(f"IMAGES={images}: there is no such list, folder or picture")
    if is_picture(path.name):
        return [path]
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError:
        stop(f"IMAGES={images}: neither a picture by its name nor a list in UTF-8, a path a line")
    found = [_listed(path.parent, line.rstrip()) for line in lines if line.strip()]
    if not found:
        stop(f"IMAGES={images}: this list is empty")
    return found


def _listed(folder, line):
    picture = folder / line
    if not picture.is_file():
        start, _, label = line.rpartition(" ")
        if label.isdecimal() and (folder / start).is_file():
            return folder / start
    return picture


def of_run(run):
    """Return (folder with the prototxt, caffemodel, net's name) of a trained run."""
    caffemodel = run / "model.caffemodel"
    if not caffemodel.exists():
        stop(
            f"there is no trained net in {run}: run 'make train' with the same variables first, or "
            "give WEIGHTS=model.caffemodel with its NET and BITS"
        )
    mean = preprocess.transform_param(
        render.parse((run / "train_val.prototxt").read_text(), "train_val.prototxt")
    ).mean_file
    if not Path(mean).is_file():
        stop(f"{mean}, the mean image of {run}, is missing: run 'make data' with its variables")
    return run, caffemodel, runs.read(run)["settings"]["net"]


def of_weights(job, folder):
    """Return the same of a caffemodel that one has, with NET's prototxt written into folder.

    The mean image is that of DATASET's data, or else ImageNet's where NET takes that one. The net
    ends at the codes where the caffemodel has no classifier, as the released deploy files do.
    """
    caffemodel = weights.find(job["weights"])
    if caffemodel is None:
        stop("WEIGHTS=none has no codes: give a caffemodel, or leave WEIGHTS out for a trained run")
    data = job["data"]
    if not (data / "mean.binaryproto").is_file():
        if job["spec"]["mean"] != "imagenet":
            stop(
                f"{data}/mean.binaryproto is missing, the mean image for NET={job['net']}: run "
                f"'make data' with the DATASET that {caffemodel.name} was trained on"
            )
        data = folder
        mean = imagenet_mean(job["spec"]["side"], job["spec"]["channels"])
        (folder / "mean.binaryproto").write_bytes(to_binaryproto(mean))
    deploy = render.parse(_prototxt(job, 1, data, folder)["deploy.prototxt"], "deploy.prototxt")
    _, classifier = render.cut_at_codes(deploy)
    there = weights.shapes(weights.read(caffemodel))
    classes = there[classifier][0][-2] if classifier in there else 0
    files = _prototxt(job, classes or 1, data, folder)
    if not classes:
        files["deploy.prototxt"] = str(deploy)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder, caffemodel, job["net"]


def _prototxt(job, classes, data, folder):
    return runs.render_job(job, {"classes": range(classes)}, data, folder, 0)


def folder_for(given, default, origin):
    """Return the folder to write, given or the default one, made where it is not there.

    origin: what its codes are of. Stop where the default one holds codes of something else, or
    where nothing can be written.
    """
    folder = Path(given) if given else default
    there = origin
    try:
        if not given and (folder / "pictures.h5").is_file():
            with h5py.File(folder / "pictures.h5") as file:
                there = os.fsdecode(file.attrs.get("origin", b"others"))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "caffe.log").unlink(missing_ok=True)
    except OSError as error:
        stop(f"{folder}: {error.strerror or error}; name another folder for the codes, OUT=")
    if there != origin:
        stop(f"{folder} holds the codes of {there}; remove it, or name another one, OUT=")
    return folder


def main():
    p = parser(__doc__)
    p.add_argument("--pictures", required=True, help="a list, a folder or a picture")
    p.add_argument("--out", default="", help="the folder to write")
    p.add_argument("--skip", action="store_true", help="leave unreadable pictures out")
    args = p.parse_args()
    job = resolve(args)
    if job["method"] == "finetune":
        stop("a METHOD=finetune net has no codes: take ssdh or kevinnet")
    pictures = list_pictures(args.pictures)
    with tempfile.TemporaryDirectory(prefix="codes-") as place:
        scratch = Path(place)
        found = of_weights(job, scratch) if args.weights else of_run(job["run"])
        folder, caffemodel, net = found
        model = caffemodel.stem if args.weights else job["run"].name
        default = job["run"].parent / "pictures" / f"{Path(args.pictures).stem}-{model}"
        origin = f"{Path(args.pictures).resolve()} by {caffemodel.resolve()}"
        out = folder_for(args.out, default, origin)
        spec = nets()["nets"][net]
        gpu, where = device.choose(job["device"])
        print(f"codes of {len(pictures)} pictures by {caffemodel} on {where}", flush=True)
        names = scratch / "pictures.txt"
        names.write_bytes(b"\0".join(map(os.fsencode, pictures)))
        arguments = [str(folder), str(caffemodel), net, str(names), origin, str(out)]
        arguments += ["--skip"] if args.skip else []
        arguments += ["--gpu", str(gpu)] if gpu is not None else []
        threads = device.threads(spec)
        caffe_process.run("tools.codes.encode", arguments, threads, out / "caffe.log")
    print(f"codes: {out}/pictures.h5, {out}/codes.csv; features: {out}/features.csv")


if __name__ == "__main__":
    main()
