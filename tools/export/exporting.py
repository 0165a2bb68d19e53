"""An export from beginning to end: files, proof, index; written beside, and renamed when whole."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.files import file_digest, only_one, sync
from data_prep.lmdb_reader import open_rows
from eval.files import naming
from tools.codes.listing import list_pictures
from tools.export import graph, parity, quantize, rows, web
from tools.export.files import put
from tools.net import preprocess
from tools.net.exported import FOLDER, write_facts
from tools.net.model import Model
from tools.run import child, device, record
from tools.run.data import class_names, lmdb_of
from tools.run.failure import Failure, writing
from tools.run.job import Job
from tools.run.nets import Net
from tools.search.index import open_index

SEARCH = tuple(map(Path(__file__).with_name, ("search.py", "read_picture.py")))


def export(
    job: Job, model: Model, content: dict, gpu: int | None, *, given: str, int8: bool
) -> Iterator[str]:
    """Export a model into the folder of the job's run; yield the lines that say what was found.

    content: run.json of the run, {} for a caffemodel without one. given: PICTURES, which take the
    place of the test pictures in the proof. int8: whether a model in 8 bits is wanted, too. Raise
    Failure where the exported files do not give Caffe's answers, and leave an older export as it
    was.
    """
    with_codes = bool(content) and job.method.codes
    if int8 and not with_codes:
        raise Failure("INT8=1 is measured by the mAP of a trained run's codes: leave it out here")
    pictures = proof_pictures(model, given)
    with writing(), naming(job.run / FOLDER), only_one(job.run):
        out = job.run / FOLDER
        for left in job.run.glob(f".{FOLDER}.partial-*"):
            shutil.rmtree(left)
        partial = out.with_name(f".{FOLDER}.partial-{os.getpid()}")
        partial.mkdir()
        try:
            facts = facts_of(job, model, content)
            no_page = why_no_page(model, with_codes)
            opset = None if no_page else web.OPSET
            yield from write_net(model, gpu, pictures, facts, partial, opset)
            if with_codes:
                facts |= rows.write(job.run, partial)
                for path in SEARCH:
                    put(partial / path.name, path.read_bytes())
                if no_page:
                    yield f"export/web is left out: {no_page}"
                else:
                    web.write(partial, facts, open_index(job.run).codes)
            if int8:
                yield from write_int8(job, facts, partial)
            write_facts(partial, facts)
            replace(partial, out)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def why_no_page(model: Model, with_codes: bool) -> str:
    """Return why an export has no page, "" where it has one."""
    size = model.caffemodel.stat().st_size
    if not with_codes:
        return "there are no codes to search"
    if size > web.MOST_BYTES:
        return f"{size / 1e6:.0f} MB are too large a net for a page"
    try:
        web.runtime()
    except Failure as failure:
        return f"{failure}; mend that, and export again to have it"
    return ""


def replace(partial: Path, out: Path) -> None:
    """Put a finished folder, on disk, where an older one may be."""
    for path in (*partial.rglob("*"), partial):
        sync(path)
    old = partial.with_name(f"{partial.name}-old")
    if out.exists():
        os.rename(out, old)
    os.rename(partial, out)
    sync(out.parent)
    shutil.rmtree(old, ignore_errors=True)


def proof_pictures(model: Model, given: str) -> np.ndarray:
    """Return the pictures that the answers are compared on, uint8 n x C x H x W, BGR.

    They are evenly spaced test pictures of the model's data, or those that PICTURES names.
    """
    if given:
        paths = list_pictures(given, "PICTURES")[: most_pictures(model.net)]
        return np.stack([preprocess.read_picture(path, model.net) for path in paths])
    lmdb = lmdb_of(model.data, "query")
    if not lmdb.is_dir():
        raise Failure(
            f"there are no test pictures in {lmdb} to prove the export on: run 'make data' with "
            "the same variables, or give PICTURES=, a folder with some"
        )
    return evenly_spaced(lmdb, most_pictures(model.net))


def most_pictures(net: Net) -> int:
    """Return on how many pictures of a net's side a proof is made at most."""
    return max(1, parity.INPUTS // (net.channels * net.side**2))


def evenly_spaced(lmdb: Path, most: int) -> np.ndarray:
    """Return pictures of an LMDB, uint8 n x C x H x W, all where there are no more than `most`."""
    with open_rows(lmdb) as (keys, read):
        return read(np.linspace(0, len(keys) - 1, min(most, len(keys))).astype(int))[0]


def write_int8(job: Job, facts: dict, out: Path) -> Iterator[str]:
    """Write model.int8.onnx and measure its codes; complete facts; yield the table."""
    most = min(most_pictures(job.net), quantize.CALIBRATION)
    training = evenly_spaced(lmdb_of(job.data, "database"), most)
    models = {"float": out / "model.onnx", "int8": out / "model.int8.onnx"}
    quantize.quantize(*models.values(), training)
    codes = out / "codes.int8.h5"
    quantize.codes_of(models["int8"], job.data, job.run / "codes.h5", codes)
    found = quantize.compare(job.run / "codes.h5", codes)
    codes.unlink()
    facts["int8"] = {"calibration": len(training)} | found
    yield from quantize.table(found, {name: each.stat().st_size for name, each in models.items()})


def facts_of(job: Job, model: Model, content: dict) -> dict[str, Any]:
    """Return what codes.json says of the net before anything is measured."""
    if content:
        fingerprint = record.net_fingerprint(content, model.caffemodel)
    else:
        fingerprint = f"{'0' * 16}-{file_digest(model.caffemodel, 'sha256')[:16]}"
    return {
        "net": model.net.name,
        "method": job.method.name,
        "dataset": job.dataset,
        "net_fingerprint": fingerprint,
        "picture": {
            "input": "picture, uint8, N x side x side x channels",
            "order": "BGR" if model.net.channels == 3 else "grey",
            "side": model.net.side,
            "channels": model.net.channels,
            "resize": "bilinear, as cv2.resize, without regard to the aspect",
        },
        "opset": graph.OPSET,
    } | ({"bits": job.bits, "bit_order": "big", "threshold": 0.5} if job.method.codes else {})


def write_net(
    model: Model,
    gpu: int | None,
    pictures: np.ndarray,
    facts: dict,
    out: Path,
    page_opset: int | None,
) -> Iterator[str]:
    """Write the net's files and hold them to Caffe's answers; complete facts; yield the table."""
    made, found = prove_net(
        *(model, gpu, pictures, out, page_opset),
        {name: facts[name] for name in ("net", "method", "net_fingerprint")},
    )
    classes = made.outputs.probabilities
    facts["classes"] = [] if classes is None else class_names(model.data, classes.shape[1])
    facts["preparation"] = {
        "mean": "mean.npy",
        "scale": made.preparation.scale,
        "crop": dict(zip(("top", "left", "side"), made.preparation.crop, strict=True)),
        "in model.onnx": "all of it",
        "in model.prototxt": "none of it: it takes (picture - mean) * scale, of the crop",
    }
    facts["parity"] = {"pictures": len(pictures), "allowed": parity.ALLOWED} | found
    yield from parity.table(found, len(pictures))


def prove_net(
    model: Model,
    gpu: int | None,
    pictures: np.ndarray,
    out: Path,
    page_opset: int | None,
    metadata: dict[str, str],
) -> tuple[parity.Made, dict[str, dict]]:
    """Write the net's files into `out`; return what Caffe says, and parity.prove()'s figures.

    metadata: of model.onnx.
    """
    threads = device.threads()
    of_child = {
        "threads": threads,
        "log": out.parent / "export.log",
        "gpu": gpu,
        "folder": model.folder,
        "caffemodel": model.caffemodel,
        "data": model.data,
        "net": model.net,
        "blobs": model.blobs,
    }
    made = child.call(
        "tools.export.caffe_side.write",
        **of_child,
        pictures=pictures,
        facts=metadata,
        out=out,
        page_opset=page_opset,
    )
    found = parity.prove(
        *(out, pictures, made),
        lambda one: child.call("tools.export.caffe_side.layer_outputs", **of_child, picture=one),
        threads,
    )
    return made, found
