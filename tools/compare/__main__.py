"""The released models beside the published numbers and the nets trained here: `make compare`.

For each code length one released caffemodel is evaluated twice, with its MATLAB code's
preprocessing and with Caffe's. The table is printed, and kept as compare.txt, .json and .html.
"""

import json
import tempfile
from pathlib import Path

from data_prep.files import file_digest
from data_prep.mean_image import imagenet_mean, to_binaryproto
from eval.files import InputError
from eval.pages import compare
from eval.progress import evaluate_with_bar
from eval.protocol import measure
from eval.run_folders import read_run
from tools.compare import released
from tools.net import preprocess, render, weights
from tools.run import child as caffe_process
from tools.run import device
from tools.run import record as runs
from tools.run.job import parser, resolve, stop

PREPROCESSINGS = ("matlab", "caffe")


def mean_file(job, folder):
    """Return the path of the mean image that NET subtracts, written into folder for ImageNet's."""
    spec = job["spec"]
    if spec["mean"] == "imagenet":
        path = folder / "imagenet_mean.binaryproto"
        path.write_bytes(to_binaryproto(imagenet_mean(spec["side"], spec["channels"])))
        return path
    path = job["data"] / "mean.binaryproto"
    if not path.is_file():
        stop(f"{path}, the mean image that NET={job['net']} subtracts, is missing: run 'make data'")
    return path


def our_deploy(job, folder):
    """Return (deploy file of the net up to its codes, the layers around them, TransformParam)."""
    files = runs.render_job(job, {"classes": range(1)}, "data", "run", 0)
    deploy = render.parse(files["deploy.prototxt"], "deploy.prototxt")
    head = render.cut_at_codes(deploy)
    path = folder / f"deploy-{job['bits']}.prototxt"
    path.write_text(str(deploy))
    train_val = render.parse(files["train_val.prototxt"], "train_val.prototxt")
    return path, head, preprocess.transform_param(train_val)


def given_deploy(job, args):
    """Return the deploy file that RELEASED_DEPLOY has for a job, None where it was not given."""
    if not args.released_deploy:
        return None
    given = Path(args.released_deploy)
    deploy = released.pick(given, job["bits"], "*.prototxt", "RELEASED_DEPLOY")
    if deploy is None:
        stop(f"RELEASED_DEPLOY={given} has no prototxt with {job['bits']} in its name")
    return deploy


def evaluate(job, args, caffemodel, deploy, folder, scratch):
    """Return ({preprocessing: metrics}, [input files]) of a released caffemodel.

    deploy: its own deploy file, None for ours.
    """
    ours, head, param = our_deploy(job, folder)
    gpu, _ = device.choose(job["device"])
    request = {
        **{name: job[name] for name in ("dataset", "net", "method", "bits", "subset")},
        "caffemodel": str(caffemodel),
        "deploy": str(deploy or ours),
        "head": head,
        "mean": str(mean_file(job, folder)),
        "crop": param.crop_size,
        "scale": param.scale,
        "raw": str(job["data"].parent / "raw"),
        "archive": args.cifar10_archive,
        "lists": args.list,
        "gpu": gpu,
    }
    metrics = {}
    for preprocessing in PREPROCESSINGS:
        out = folder / f"released-{job['bits']}-{preprocessing}.h5"
        path = scratch / "request.json"
        path.write_text(json.dumps(request | {"preprocessing": preprocessing, "out": str(out)}))
        caffe_process.run(
            *("tools.compare.extract", [str(path)], device.threads(job["spec"])),
            folder / "compare.log",
        )
        metrics[preprocessing] = measure(out, evaluate=evaluate_with_bar)
    return metrics, json.loads(out.with_suffix(".json").read_text())


def trained_here(job):
    """Return (run record, metrics or None, a word where there are none, [its files]).

    Stop where the run is of another data set, net, method or code length.
    """
    if not (job["run"] / "run.json").exists():
        return None, None, "not trained here", []
    run = read_run(job["run"])
    for name, of_run in (run.settings | {"method": run.method}).items():
        if name in ("dataset", "net", "method", "bits") and of_run != job[name]:
            stop(f"{job['run']} was trained with {name.upper()}={of_run}, not {job[name]}")
    files = [
        {"role": "trained here", "file": f"{job['run'].name}/{name}", "sha256": digest}
        for name in ("model.caffemodel", "codes.h5")
        for path in [job["run"] / name]
        if path.exists()
        for digest in [file_digest(path, "sha256")]
    ]
    return run.record, run.metrics, "" if run.metrics else "no metrics", files


def inputs(job, args):
    """Return (released Model, its own deploy file or None, trained_here), all of them looked at.

    So what is wrong with one code length is said before hours are spent on another.
    """
    model = released.find(job, args.released)
    if model.path:
        weights.read(model.path)
    return model, given_deploy(job, args), trained_here(job)


def column(job, args, found, folder, scratch):
    """Return what eval.compare.table takes for one code length; found: inputs()."""
    model, deploy, (record, trained, why, trained_files) = found
    metrics, files = {}, []
    if model.path:
        print(f"{job['bits']} bits: {model.path} ({model.note})", flush=True)
        metrics, files = evaluate(job, args, model.path, deploy, folder, scratch)
    return {
        "bits": job["bits"],
        "note": model.note,
        "released": metrics,
        "record": record,
        "trained": trained,
        "why": why,
        "files": files + trained_files,
    }


def main():
    p = parser(__doc__)
    p.add_argument("--released", default="", help="a caffemodel, or a folder with some")
    p.add_argument("--released-deploy", default="", help="its deploy file, or a folder with some")
    p.add_argument("--list", default="", help="the folder of the release's list files")
    p.add_argument(
        "--trained", nargs="+", required=True, help="a run's folder for each code length"
    )
    p.add_argument("--out", type=Path, required=True)
    args = p.parse_args()
    if args.method == "finetune":
        stop("a METHOD=finetune net has no codes to compare: take ssdh or kevinnet")
    lengths = args.bits.split()
    if len(lengths) > 1:
        for name in ("released", "released_deploy"):
            if Path(getattr(args, name) or ".").is_file():
                stop(f"{name.upper()}= is one file, and BITS has several lengths: give a folder")
    if len(args.trained) != len(lengths):
        stop("RUN= names one run, and BITS has several lengths: leave it out")
    jobs = []
    for bits, run in zip(lengths, args.trained, strict=True):
        args.bits, args.run = bits, run
        jobs.append(resolve(args))
    folder = args.out.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        try:
            found = [inputs(job, args) for job in jobs]
            columns = [
                column(job, args, each, folder, Path(scratch))
                for job, each in zip(jobs, found, strict=True)
            ]
            facts = {name: jobs[0][name] for name in ("dataset", "net", "method", "subset")}
            text = compare.write(folder, facts | {"command": runs.command()}, columns)
        except InputError as error:
            stop(str(error))
    print(text)
    print(f"written to {folder}/compare.txt, compare.json and compare.html")


if __name__ == "__main__":
    main()
