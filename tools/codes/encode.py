"""Any pictures through a net, into pictures.h5, codes.csv and features.csv.

Runs in a child process of tools/codes/pictures.py. pictures.h5 holds a row a picture: `key` (its path),
`codes` (packed uint8, N x ceil(K/8), big-endian bits), `latent` (float32, N x K), `features` (N x
F float32, of the blob that the attribute feature_blob names) and, where the net has a classifier,
`probabilities` (float32, N x C). codes.csv has a picture's path, its code as 0s and 1s, and its
most probable class; features.csv its path and its features. The attribute origin says of which
pictures and by which caffemodel. Pictures are decoded, resized and cropped as for Caffe's TEST
phase, grey, RGBA, palette and CMYK ones as in data_prep/picture.py.
"""

import argparse
import csv
import json
import os
from contextlib import ExitStack
from pathlib import Path

import h5py
import numpy as np
from tqdm import tqdm

from data_prep import DataError
from data_prep.files import file_digest
from data_prep.picture import fit
from eval.codes import pack_latent
from eval.files import write_atomically
from tools.net import preprocess, render
from tools.net.forward import forward, load_net
from tools.run import child as caffe_process
from tools.run import device
from tools.run.job import nets, stop

BATCH = 10  # as the releases' own extraction; always whole, so that no row depends on the others


def read_picture(path, spec):
    """Return a picture file as the net gets it, uint8 C x H x W, BGR; DataError names the file."""
    try:
        pixels = fit(path.read_bytes(), spec["side"], spec["channels"])
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from None
    except DataError as error:
        raise DataError(f"{path} {error}") from None
    return np.atleast_3d(pixels).transpose(2, 0, 1)


def read_batches(paths, spec, skip, bar):
    """Yield (paths, pictures) of at most a batch; stop at a bad picture, or leave it out (skip)."""
    for start in range(0, len(paths), BATCH):
        found, pictures = [], []
        for path in paths[start : start + BATCH]:
            try:
                pictures.append(read_picture(path, spec))
                found.append(path)
            except DataError as error:
                if not skip:
                    stop(f"{error}; replace it, or leave such pictures out (SKIP=1)")
                bar.write(f"left out: {error}")
            bar.update()
        if found:
            yield found, np.stack(pictures)


def output_blobs(folder):
    """Return (blob of the codes' activations, blob of the class probabilities or None)."""
    deploy = render.parse((folder / "deploy.prototxt").read_text(), "deploy.prototxt")
    tops = {layer.type: layer.top[0] for layer in deploy.layer}
    if "Sigmoid" not in tops:
        stop(f"{folder} has a net without a latent layer: there are no codes")
    return tops["Sigmoid"], tops.get("Softmax")


def class_names(folder, count):
    """Return the names in the manifest beside the mean image; numbers where it is of others."""
    train_val = render.parse((folder / "train_val.prototxt").read_text(), "train_val.prototxt")
    manifest = Path(preprocess.transform_param(train_val).mean_file).with_name("manifest.json")
    names = json.loads(manifest.read_text())["classes"] if manifest.is_file() else []
    return names if len(names) == count else [str(label) for label in range(count)]


def append(file, name, values):
    """Append rows to a dataset of an HDF5 file, created with the first."""
    if name not in file:
        file.create_dataset(name, data=values, maxshape=(None, *values.shape[1:]), chunks=True)
        return
    rows = len(file[name])
    file[name].resize(rows + len(values), axis=0)
    file[name][rows:] = values


def encode(folder, caffemodel, net_name, paths, origin, out, skip, bar):
    """Write the three files; return the number of pictures in them."""
    spec = nets()["nets"][net_name]
    latent_blob, probability_blob = output_blobs(folder)
    blobs = [latent_blob, spec["features"], *([probability_blob] if probability_blob else [])]
    net, transform = load_net(folder, caffemodel, BATCH)
    names = class_names(folder, net.blobs[probability_blob].shape[1]) if probability_blob else []
    width = max(len(os.fsencode(path)) for path in paths)
    done = 0
    with ExitStack() as stack:

        def begin(name):
            return stack.enter_context(write_atomically(out / name))

        def begin_csv(name):
            return csv.writer(
                stack.enter_context(open(begin(name), "w", newline="", errors="surrogateescape"))
            )

        file = stack.enter_context(h5py.File(begin("pictures.h5"), "w"))
        codes_csv, features_csv = begin_csv("codes.csv"), begin_csv("features.csv")
        codes_csv.writerow(["picture", "code", *(["class", "probability"] if names else [])])
        size = net.blobs[spec["features"]].data[0].size
        features_csv.writerow(["picture", *(f"{spec['features']}_{at}" for at in range(size))])
        for some, pictures in read_batches(paths, spec, skip, bar):
            latent, features, *others = forward(net, transform(pictures), blobs)
            if not np.isfinite(latent).all():
                stop(f"{caffemodel} gives activations that are not finite: its training diverged")
            codes = pack_latent(latent)
            append(file, "key", np.array([os.fsencode(path) for path in some], f"S{width}"))
            append(file, "codes", codes)
            append(file, "latent", latent)
            append(file, "features", features)
            for probabilities in others:
                append(file, "probabilities", probabilities)
            bits = np.unpackbits(codes, axis=1, count=latent.shape[1])
            for row, path in enumerate(some):
                words = [path, "".join(map(str, bits[row]))]
                if names:
                    best = int(others[0][row].argmax())
                    words += [names[best], f"{others[0][row, best]:.6f}"]
                codes_csv.writerow(words)
                features_csv.writerow([path, *(f"{value:.9g}" for value in features[row])])
            done += len(some)
        if not done:
            stop("none of the pictures can be read")
        file.attrs["origin"] = np.bytes_(os.fsencode(origin))
        file.attrs["bits"] = latent.shape[1]
        file.attrs["bit_order"] = "big"
        file.attrs["net"] = net_name
        file.attrs["latent_blob"] = latent_blob
        file.attrs["feature_blob"] = spec["features"]
        file.attrs["class_names"] = np.array(names, h5py.string_dtype())
        file.attrs["caffemodel"] = caffemodel.name
        file.attrs["caffemodel_sha256"] = file_digest(caffemodel, "sha256")
    return done


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("folder", type=Path, help="with the net's prototxt")
    p.add_argument("caffemodel", type=Path)
    p.add_argument("net")
    p.add_argument("pictures", type=Path, help="their paths, NUL between them")
    p.add_argument("origin", help="what the codes are of")
    p.add_argument("out", type=Path)
    p.add_argument("--skip", action="store_true")
    p.add_argument("--gpu", type=int)
    args = p.parse_args()
    device.activate(args.gpu)
    paths = [Path(os.fsdecode(line)) for line in args.pictures.read_bytes().split(b"\0")]
    terminal = caffe_process.terminal()
    with tqdm(total=len(paths), unit="picture", file=terminal, mininterval=0.5) as bar:
        net = args.folder, args.caffemodel, args.net
        done = encode(*net, paths, args.origin, args.out, args.skip, bar)
    if done < len(paths):
        print(f"{len(paths) - done} of {len(paths)} pictures could not be read and were left out")


if __name__ == "__main__":
    main()
