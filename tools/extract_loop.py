"""The extraction loop: a trained net over both splits, into codes.h5 and features.h5.

Runs in a child process of tools/extract.py. The deploy net gets each picture as Caffe's TEST phase
would (tools/preprocess.py); rows stand in the data set's own order, since ties in a ranking are
broken by it. The work is done in partitions of whole batches, here or on a Dask cluster
(tools/cluster.py), with the same bytes as result.
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
from tools import caffe_process, cluster, runs
from tools.forward import BATCH, partition
from tools.job import read_manifest, stop

ROWS = 20 * BATCH  # of a partition
SPLITS = {"database": "train", "query": "test"}  # a group of codes.h5 and the split it comes from


def check_activations(latent, caffemodel):
    """Stop where latent activations say nothing: not finite, or the same for every picture."""
    if not np.isfinite(latent).all():
        stop(f"{caffemodel} gives latent activations that are not finite: its training diverged")
    if len(latent) > 1 and (latent == latent[0]).all():
        stop(
            f"{caffemodel} gives every picture the same activations ({latent[0, 0]:.3f}, ...): "
            "untrained or collapsed weights, or a mean image of other pictures"
        )


def extract(run, data, caffemodel, gpu, threads, feature_blob, run_partitions):
    """Write codes.h5 of a run, and features.h5 where feature_blob is given.

    features.h5 holds database/features and query/features, N x F float32, in the rows of codes.h5.
    run_partitions is what cluster.partitions yields.
    """
    record, manifest = runs.read(run), read_manifest(data)
    mark = runs.net_fingerprint(record, caffemodel)
    blobs = ["latent_sigmoid", "prob"] + ([feature_blob] if feature_blob else [])
    terminal = caffe_process.terminal()
    keys, labels, latent, probabilities = {}, {}, {}, {}
    with ExitStack() as stack:
        if feature_blob:
            partial = stack.enter_context(write_atomically(run / "features.h5"))
            feature_file = stack.enter_context(h5py.File(partial, "w"))
            feature_file.attrs["blob"] = feature_blob
            feature_file.attrs["net_fingerprint"] = mark
        for group, split in SPLITS.items():
            lmdb = data / f"{split}_lmdb"
            with open_rows(lmdb) as (keys[group], _):
                count = len(keys[group])
            tasks = (
                (run, caffemodel, mark, gpu, threads, lmdb, at, min(at + ROWS, count), blobs)
                for at in range(0, count, ROWS)
            )
            found, activations, classes = [], [], []
            bar = tqdm(total=count, desc=group, unit="picture", file=terminal, mininterval=0.5)
            for some, outputs in run_partitions(partition, tasks):
                if feature_blob:
                    name, shape = f"{group}/features", (count, outputs[2].shape[1])
                    rows = feature_file.require_dataset(name, shape, np.float32)
                    rows[bar.n : bar.n + len(some)] = outputs[2]
                found.append(some)
                activations.append(outputs[0])
                classes.append(outputs[1])
                bar.update(len(some))
            bar.close()
            labels[group] = np.concatenate(found)
            latent[group] = np.concatenate(activations)
            probabilities[group] = np.concatenate(classes)
            check_activations(latent[group], caffemodel)
    with create_codes(
        run / "codes.h5",
        bits=latent["query"].shape[1],
        class_names=manifest["classes"],
        dataset=record["settings"]["dataset"],
        net=record["settings"]["net"],
        net_fingerprint=mark,
        row_order=manifest["order"],
        labels=labels,
        keys=keys,
    ) as write:
        for group in SPLITS:
            write(group, 0, latent[group], probabilities[group])


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("run", type=Path)
    p.add_argument("data", type=Path)
    p.add_argument("caffemodel", type=Path)
    p.add_argument("--gpu", type=int)
    p.add_argument("--threads", type=int, required=True)
    p.add_argument("--features", default="")
    cluster.add_options(p)
    args = p.parse_args()
    try:
        with cluster.partitions(args.scheduler, int(args.workers or 0)) as run_partitions:
            extract(
                *(args.run, args.data, args.caffemodel, args.gpu, args.threads, args.features),
                run_partitions,
            )
    except (ConnectionError, RuntimeError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
