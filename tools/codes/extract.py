"""The extraction loop: a trained net over both splits, into codes.h5 and features.h5.

Runs in a child process of tools/codes/__main__.py. The deploy net gets each picture as Caffe's TEST phase
would (tools/net/preprocess.py); rows stand in the data set's own order, since ties in a ranking are
broken by it. The work is done in partitions of whole batches, here or on a Dask cluster
(tools/run/cluster.py), with the same bytes as result.
"""

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path

import h5py
import numpy as np
from tqdm import tqdm

from data_prep.lmdb_reader import open_rows
from eval.codes import create_codes
from eval.files import write_atomically
from tools.net.forward import BATCH, code_blob, partition
from tools.run import child as caffe_process
from tools.run import cluster
from tools.run import record as runs
from tools.run.job import read_manifest, stop

ROWS = 20 * BATCH  # of a partition
SPLITS = {"database": "train", "query": "test"}  # a group of codes.h5 and the split it comes from


def check_activations(activations, caffemodel):
    """Stop where activations say nothing: not finite, or the same for every picture."""
    if not np.isfinite(activations).all():
        stop(f"{caffemodel} gives activations that are not finite: its training diverged")
    if len(activations) > 1 and (activations == activations[0]).all():
        stop(
            f"{caffemodel} gives every picture the same activations ({activations[0, 0]:.3f}, "
            "...): untrained or collapsed weights, or a mean image of other pictures"
        )


def extract(run, data, caffemodel, gpus, threads, feature_blob, run_partitions):
    """Write codes.h5 of a run, if its net has codes, and features.h5 if feature_blob is given.

    features.h5 has the attributes and groups of codes.h5 (eval/codes.py), with the attribute blob,
    and features, N x F float32, in place of codes and latent.
    run_partitions is what cluster.partitions yields.
    """
    record, manifest = runs.read(run), read_manifest(data)
    mark = runs.net_fingerprint(record, caffemodel)
    code = code_blob(run)
    blobs = [blob for blob in (code, "prob", feature_blob) if blob]
    terminal = caffe_process.terminal()
    facts = {
        "class_names": manifest["classes"],
        "dataset": record["settings"]["dataset"],
        "net": record["settings"]["net"],
        "net_fingerprint": mark,
        "row_order": manifest["order"],
    }
    keys, labels, latent, probabilities = {}, {}, {}, {}
    with ExitStack() as stack:
        if feature_blob:
            partial = stack.enter_context(write_atomically(run / "features.h5"))
            feature_file = stack.enter_context(h5py.File(partial, "w"))
            feature_file.attrs.update(facts | {"blob": feature_blob})
        for group, split in SPLITS.items():
            lmdb = data / f"{split}_lmdb"
            with open_rows(lmdb) as (keys[group], _):
                count = len(keys[group])
            tasks = (
                (run, caffemodel, mark, gpus, threads, lmdb, at, min(at + ROWS, count), blobs)
                for at in range(0, count, ROWS)
            )
            found, activations, classes = [], [], []
            bar = tqdm(total=count, desc=group, unit="picture", file=terminal, mininterval=0.5)
            for some, outputs in run_partitions(partition, tasks):
                outputs = dict(zip(blobs, outputs, strict=True))
                if feature_blob:
                    name, shape = f"{group}/features", (count, outputs[feature_blob].shape[1])
                    rows = feature_file.require_dataset(name, shape, np.float32)
                    rows[bar.n : bar.n + len(some)] = outputs[feature_blob]
                found.append(some)
                activations.append(outputs[code or "prob"])
                classes.append(outputs["prob"])
                bar.update(len(some))
            bar.close()
            labels[group] = np.concatenate(found)
            latent[group] = np.concatenate(activations)
            probabilities[group] = np.concatenate(classes)
            check_activations(latent[group], caffemodel)
            if feature_blob:
                feature_file[f"{group}/labels"] = labels[group].astype(np.int32)
                feature_file[f"{group}/probabilities"] = probabilities[group]
                feature_file[f"{group}/key"] = np.array([key.encode() for key in keys[group]], "S")
    if code:
        bits = latent["query"].shape[1]
        with create_codes(run / "codes.h5", bits=bits, labels=labels, keys=keys, **facts) as write:
            for group in SPLITS:
                write(group, 0, latent[group], probabilities[group])


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("run", type=Path)
    p.add_argument("data", type=Path)
    p.add_argument("caffemodel", type=Path)
    p.add_argument("--gpus", type=int, nargs="*", default=[])
    p.add_argument("--threads", type=int, required=True)
    p.add_argument("--features", default="")
    cluster.add_options(p)
    args = p.parse_args()
    try:
        with cluster.partitions(args.scheduler, int(args.workers or 0)) as run_partitions:
            extract(
                *(args.run, args.data, args.caffemodel),
                *(tuple(args.gpus), args.threads, args.features),
                run_partitions,
            )
    except (ConnectionError, RuntimeError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
