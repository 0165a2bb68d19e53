"""Codes and features of any pictures: `make codes IMAGES=list.txt WEIGHTS=model.caffemodel`.

The model is a caffemodel of NET and BITS, or a trained run's where no WEIGHTS are given. The folder
that comes out holds pictures.h5 (tools/codes/encode.py has the format), codes.csv and features.csv.
"""

import os
import tempfile
from pathlib import Path

from eval.hdf5 import open_hdf5
from tools.codes.listing import list_pictures, origin_of
from tools.net import engines
from tools.net.model import of_run, of_weights
from tools.run import child, device
from tools.run.failure import Failure, carry_out
from tools.run.job import read_job, require_codes


def main() -> None:
    """Encode the pictures that PICTURES, or IMAGES, names."""
    job, values = read_job(__doc__, "PICTURES", "OUT", "SKIP", "ENGINE")
    require_codes(job)
    given = values.pictures or values.images
    if values.weights and values.engine == "onnx":
        raise Failure(
            "ENGINE=onnx takes the export of a trained run, and WEIGHTS= another net: leave one out"
        )
    pictures = list_pictures(given, "PICTURES" if values.pictures else "IMAGES")
    with tempfile.TemporaryDirectory(prefix="codes-") as scratch:
        model = of_weights(job, Path(scratch)) if values.weights else of_run(job)
        default = job.run.parent / "pictures" / f"{Path(given).stem}-{model.name}"
        origin = origin_of(given, model.caffemodel)
        out = folder_for(values.out, default, origin)
        gpus, device_sentence = engines.choose(values.engine, job.device)
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
            engine=values.engine,
            gpu=gpus[0] if gpus else None,
            paths=pictures,
            origin=origin,
            out=out,
            skip=values.skip,
        )
    if done < len(pictures):
        left_out = len(pictures) - done
        print(f"{left_out} of {len(pictures)} pictures could not be read and were left out")
    print(f"codes: {out}/pictures.h5, {out}/codes.csv; features: {out}/features.csv")


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
