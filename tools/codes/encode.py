"""Any pictures through a net, into pictures.h5, codes.csv and features.csv.

Runs in a child process. pictures.h5 holds a row a picture: `key` (its path),
`codes` (packed uint8, N x ceil(K/8), big-endian bits), `latent` (float32, N x K), `features` (N x
F float32, of the blob that the attribute feature_blob names) and, where the net has a classifier,
`probabilities` (float32, N x C). codes.csv has a picture's path, its code as 0s and 1s, and its
most probable class; features.csv its path and its features. The attribute origin says of which
pictures and by which caffemodel. Pictures are decoded, resized and cropped as for Caffe's TEST
phase, grey, RGBA, palette and CMYK ones as in data_prep/picture.py.
"""

import csv
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from tqdm import tqdm

from data_prep import DataError
from data_prep.files import file_digest
from eval.files import check_room, write_atomically
from eval.hdf5 import NewFile, create_hdf5
from tools.net.exported import ExportedNet
from tools.net.trained import TrainedNet
from tools.run import child
from tools.run.data import class_names
from tools.run.failure import Failure
from tools.run.nets import Blobs, Net

BATCH = 10  # as the releases' own extraction; always whole, so that no row depends on the others


def encode(
    *,
    folder: Path,
    caffemodel: Path,
    data: Path,
    net: Net,
    blobs: Blobs,
    engine: str,
    gpu: int | None,
    paths: Sequence[Path],
    origin: str,
    out: Path,
    skip: bool,
) -> int:
    """Write the three files into the folder `out`; return the number of pictures in them.

    folder: with the net's prototxt. data: with its mean image. engine: ENGINE, of which onnx takes
    the folder for a run's. origin: of what the codes are.
    skip: leave unreadable pictures out, instead of raising at the first.
    """
    if engine == "onnx":
        trained = ExportedNet.of_run(folder)
    else:
        trained = TrainedNet(
            folder, caffemodel, data=data, net=net, blobs=blobs, batch=BATCH, gpu=gpu
        )
    _, classes, size = trained.sizes
    names = class_names(data, classes) if classes else []
    width = max(len(os.fsencode(path)) for path in paths)
    done = 0
    check_room(out / "pictures.h5", len(paths) * row_size(trained.sizes, width))
    bar = tqdm(total=len(paths), unit="picture", file=child.terminal(), mininterval=0.5)
    with ExitStack() as stack:
        stack.enter_context(bar)

        def begin(name: str) -> Path:
            return stack.enter_context(write_atomically(out / name))

        def begin_csv(name: str) -> Any:
            return csv.writer(
                stack.enter_context(open(begin(name), "w", newline="", errors="surrogateescape"))
            )

        file = stack.enter_context(create_hdf5(out / "pictures.h5"))
        codes_csv, features_csv = begin_csv("codes.csv"), begin_csv("features.csv")
        codes_csv.writerow(["picture", "code", *(["class", "probability"] if names else [])])
        features_csv.writerow(["picture", *(f"{blobs.features}_{at}" for at in range(size))])
        for some, pictures in read_batches(paths, trained, skip, bar):
            found = trained(pictures, features=True)
            if not np.isfinite(found.latent).all():
                raise Failure(
                    f"{caffemodel} gives activations that are not finite: its training diverged"
                )
            append(file, "key", np.array([os.fsencode(path) for path in some], f"S{width}"))
            append(file, "codes", found.codes)
            append(file, "latent", found.latent)
            append(file, "features", found.features)
            if names:
                append(file, "probabilities", found.probabilities)
            file.check()
            bits = np.unpackbits(found.codes, axis=1, count=found.latent.shape[1])
            for row, path in enumerate(some):
                cells = [path, "".join(map(str, bits[row]))]
                if names:
                    best = int(found.probabilities[row].argmax())
                    cells += [names[best], f"{found.probabilities[row, best]:.6f}"]
                codes_csv.writerow(cells)
                features_csv.writerow([path, *(f"{value:.9g}" for value in found.features[row])])
            done += len(some)
        if not done:
            raise Failure("none of the pictures can be read")
        file.attrs["origin"] = np.bytes_(os.fsencode(origin))
        file.attrs["bits"] = found.latent.shape[1]
        file.attrs["bit_order"] = "big"
        file.attrs["net"] = net.name
        file.attrs["latent_blob"] = blobs.code
        file.attrs["feature_blob"] = blobs.features
        file.attrs["class_names"] = np.array(names, h5py.string_dtype())
        file.attrs["caffemodel"] = caffemodel.name
        file.attrs["caffemodel_sha256"] = file_digest(caffemodel, "sha256")
    return done


def row_size(sizes: tuple[int | None, ...], width: int) -> int:
    """Return about how many bytes a picture takes in the three files; width: of its path."""
    latent, classes, features = (size or 0 for size in sizes)
    in_hdf5 = width + 5 * latent + 4 * (features + classes)
    return in_hdf5 + 3 * width + latent + 14 * features + 64


def read_batches(
    paths: Sequence[Path], trained: TrainedNet | ExportedNet, skip: bool, bar: tqdm
) -> Iterator[tuple[list[Path], np.ndarray]]:
    """Yield (paths, pictures) of at most a batch; raise Failure at a bad one, or leave it out."""
    for start in range(0, len(paths), BATCH):
        found, pictures = [], []
        for path in paths[start : start + BATCH]:
            try:
                pictures.append(trained.read(path))
                found.append(path)
            except DataError as error:
                if not skip:
                    raise Failure(
                        f"{error}; replace it, or leave such pictures out (SKIP=1)"
                    ) from None
                bar.write(f"left out: {error}")
            bar.update()
        if found:
            yield found, np.stack(pictures)


def append(file: NewFile, name: str, values: np.ndarray) -> None:
    """Append rows to a dataset of an HDF5 file, created with the first."""
    if name not in file:
        file.create_dataset(name, data=values, maxshape=(None, *values.shape[1:]), chunks=True)
        return
    rows = len(file[name])
    file[name].resize(rows + len(values), axis=0)
    file[name][rows:] = values
