"""The released models beside the published numbers and the nets trained here: `make compare`.

For each code length one released caffemodel is evaluated twice, with its MATLAB code's
preprocessing and with Caffe's. The table is printed, and kept as compare.txt, .json and .html.
"""

from pathlib import Path
from typing import NamedTuple

from data_prep.files import file_digest
from data_prep.mean_image import known_mean, to_binaryproto
from eval.files import write_atomically
from eval.pages import compare
from eval.progress import evaluate_with_bar
from eval.protocol import measure
from eval.run_folders import read_run
from tools.compare import matlab, released
from tools.compare.preparation import PREPROCESSINGS
from tools.net import preprocess, render, weights
from tools.run import child, device, machine, record
from tools.run.data import read_manifest
from tools.run.failure import Failure, carry_out, writing
from tools.run.job import VARIABLES, Job, job_of, require_codes
from tools.run.variables import parse

CAFFES_MEAN = (
    "; its MATLAB column subtracts Caffe's mean image, up to 0.0125 grey values from the "
    f"release's own: put {matlab.MEAN_FILE} beside the caffemodel"
)


class Trained(NamedTuple):
    """The net trained here: its run.json and metrics, None without; why there are none; its files.

    files: each a dict of role, file and sha256.
    """

    record: dict | None
    metrics: dict | None
    why: str
    files: list[dict]


class Found(NamedTuple):
    """What is compared at one code length; deploy: RELEASED_DEPLOY's file, None for our own."""

    job: Job
    model: released.Model
    deploy: Path | None
    trained: Trained


def main() -> None:
    """Compare at every code length of BITS, and write the table into RUNS/compare-..."""
    values = parse(__doc__, (*VARIABLES, "RELEASED", "RELEASED_DEPLOY", "LIST"))
    if not values.bits:
        raise Failure("BITS has no code length in it: give one, or several as BITS='12 32 48'")
    if len(values.bits) > 1:
        for name in ("released", "released_deploy"):
            if Path(getattr(values, name) or ".").is_file():
                raise Failure(
                    f"{name.upper()}= is one file, and BITS has several lengths: give a folder"
                )
        if values.run:
            raise Failure("RUN= names one run, and BITS has several lengths: leave it out")
    jobs = [job_of(values, bits) for bits in values.bits]
    first = jobs[0]
    require_codes(first)
    released.check_given(values.released, values.bits)
    name = f"compare-{first.source}-{first.net.name}-{first.method.name}"
    folder = (Path(values.runs) / (f"{name}-head" if first.head else name)).resolve()
    with writing():
        folder.mkdir(parents=True, exist_ok=True)
    # all of them are looked at before hours are spent on one
    found = [find(job, values.released, values.released_deploy) for job in jobs]
    lists = Path(values.list) if values.list else None
    columns = [column(each, lists, folder) for each in found]
    facts = {
        "dataset": first.dataset,
        "net": first.net.name,
        "method": first.method.name,
        "subset": first.subset,
        "command": machine.command(),
    }
    print(compare.write(folder, facts, columns))
    print(f"written to {folder}/compare.txt, compare.json and compare.html")


def find(job: Job, given: str, given_deploy: str) -> Found:
    """Return what there is to compare at a job's code length.

    given, given_deploy: RELEASED and RELEASED_DEPLOY. Raise Failure where one of the files, or the
    run, is not what the job asks for.
    """
    model = released.find(job, given)
    if model.path:
        weights.read(model.path)
    deploy = None
    if given_deploy:
        deploy = released.pick(Path(given_deploy), job.bits, "*.prototxt", "RELEASED_DEPLOY")
        if deploy is None:
            raise Failure(
                f"RELEASED_DEPLOY={given_deploy} has no prototxt with {job.bits} in its name"
            )
    return Found(job, model, deploy, trained_here(job))


def trained_here(job: Job) -> Trained:
    """Return the job's own run.

    Raise Failure where it is of another data set, net, method or code length.
    """
    if not (job.run / "run.json").exists():
        return Trained(None, None, "not trained here", [])
    run, asked = read_run(job.run), record.settings_of(job)
    there = run.settings | {"method": run.method}
    for name in ("dataset", "net", "method", "bits"):
        if there.get(name) != asked[name]:
            raise Failure(
                f"{job.run} was trained with {name.upper()}={there.get(name)}, not {asked[name]}"
            )
    files = [
        {
            "role": "trained here",
            "file": f"{job.run.name}/{name}",
            "sha256": file_digest(job.run / name, "sha256"),
        }
        for name in ("model.caffemodel", "codes.h5")
        if (job.run / name).exists()
    ]
    return Trained(run.record, run.metrics, "" if run.metrics else "no metrics", files)


def column(found: Found, lists: Path | None, folder: Path) -> dict:
    """Return one code length as eval.pages.compare takes it: a column of its table."""
    model, trained = found.model, found.trained
    metrics, files = {}, []
    if model.path:
        print(f"{found.job.bits} bits: {model.path} ({model.note})", flush=True)
        metrics, files = evaluate(found, lists, folder)
    of_released = {file["sha256"] for file in files if file["role"] == "data"}
    return {
        "bits": found.job.bits,
        "note": model.note + (CAFFES_MEAN if model.path and lacks_mean(found) else ""),
        # the files of a release's lists are others by nature, and their order another
        "other_sources": bool(metrics) and lists is None and sources_of(found) != of_released,
        "released": metrics,
        "record": trained.record,
        "trained": trained.metrics,
        "why": trained.why,
        "files": files + trained.files,
    }


def sources_of(found: Found) -> set[str] | None:
    """Return the SHA-256 of the files that the trained run's data was made from.

    None where that data is not there any more, or is not what the run was trained on.
    """
    record_there, data = found.trained.record, found.job.data
    if not record_there or not (data / "manifest.json").is_file():
        return None
    content = read_manifest(data)
    parts = record_there.get("fingerprint", {}).get("parts", {})
    if parts.get("data") != record.data_part(content):
        return None
    return {source["sha256"] for source in content["sources"]}


def lacks_mean(found: Found) -> bool:
    """Return whether KevinNet's own mean image is not beside its caffemodel."""
    return found.job.method.name == "kevinnet" and released_mean(found) is None


def released_mean(found: Found) -> Path | None:
    """Return the release's own mean image where it lies beside the caffemodel."""
    path = found.model.path.parent / matlab.MEAN_FILE
    return path if found.job.net.mean == "imagenet" and path.is_file() else None


def evaluate(found: Found, lists: Path | None, folder: Path) -> tuple[dict[str, dict], list[dict]]:
    """Return ({preprocessing: metrics}, input files) of a released caffemodel.

    lists: LIST, the folder of the release's list files. folder: the codes files go there.
    """
    job = found.job
    files = render.render_job(job, classes=1, data="data", run="run", iters=0)
    train_val = render.parse(files["train_val.prototxt"], "train_val.prototxt")
    param = preprocess.transform_param(train_val)
    deploy = found.deploy or write_deploy(job, files["deploy.prototxt"], folder)
    mean, (gpu, _) = mean_file(job, folder), device.choose(job.device)
    metrics, inputs = {}, []
    for preprocessing in PREPROCESSINGS:
        out = folder / f"released-{job.bits}-{preprocessing}.h5"
        own_mean = released_mean(found) if preprocessing == "matlab" else None
        of_one = child.call(
            "tools.compare.extract.extract",
            threads=device.threads(),
            log=folder / "compare.log",
            job=job,
            caffemodel=found.model.path,
            deploy=deploy,
            mean_file=own_mean or mean,
            crop=param.crop_size,
            scale=param.scale,
            lists=lists,
            preprocessing=preprocessing,
            gpu=gpu,
            out=out,
        )
        inputs += [file for file in of_one if file not in inputs]
        metrics[preprocessing] = measure(out, evaluate=evaluate_with_bar)
    return metrics, inputs


def write_deploy(job: Job, text: str, folder: Path) -> Path:
    """Write our own deploy file up to the codes, where the released ones end; return its path."""
    deploy = render.parse(text, "deploy.prototxt")
    render.cut_behind(deploy, job.blobs.code)
    path = folder / f"deploy-{job.bits}.prototxt"
    with write_atomically(path) as partial:
        partial.write_text(str(deploy))
    return path


def mean_file(job: Job, folder: Path) -> Path:
    """Return the mean image that NET subtracts; one that needs no data is written into folder."""
    mean = known_mean(job.net.mean, job.net.side, job.net.channels)
    if mean is not None:
        path = folder / f"{job.net.mean}_mean.binaryproto"
        with write_atomically(path) as partial:
            partial.write_bytes(to_binaryproto(mean))
        return path
    path = job.data / "mean.binaryproto"
    if not path.is_file():
        raise Failure(
            f"{path}, the mean image that NET={job.net.name} subtracts, is missing: run 'make data'"
        )
    return path


if __name__ == "__main__":
    carry_out(main)
