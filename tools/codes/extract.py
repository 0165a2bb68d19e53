"""A trained net over both splits, into codes.h5 and features.h5; runs in a child process.

The deploy net gets each picture as Caffe's TEST phase would; rows stand in the data set's own
order, since ties in a ranking are broken by it. The work is done in partitions of whole batches,
here or on a Dask cluster (tools/run/cluster.py), with the same bytes as result.
"""

import math
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_prep.lmdb_reader import open_rows
from eval.codes import create_codes
from eval.files import check_room
from eval.hdf5 import NewFile, create_hdf5
from tools.codes.partition import Work, run_partition
from tools.net.trained import BATCH, Outputs, check_activations
from tools.run import child, cluster, record
from tools.run.data import SPLITS, lmdb_of, read_manifest
from tools.run.nets import net_of

ROWS = 20 * BATCH  # of a partition


def extract(
    *,
    run: Path,
    data: Path,
    gpus: list[int],
    threads_of_net: int,
    features: bool,
    scheduler: str,
    workers: int,
    engine: str = "caffe",
) -> None:
    """Write codes.h5 of a run, if its net has codes, and features.h5 where these are wanted.

    features.h5 has the attributes and groups of codes.h5 (eval/codes.py), with the attribute blob,
    and features, N x F float32, in place of codes and latent. scheduler, workers: as
    cluster.partitions takes them. engine: ENGINE.
    """
    caffemodel = run / "model.caffemodel"
    content, manifest = record.read_record(run), read_manifest(data)
    settings = content["settings"]
    net = net_of(settings["net"])
    work = Work(
        run=run,
        fingerprint=record.net_fingerprint(content, caffemodel),
        gpus=tuple(gpus),
        threads=threads_of_net,
        lmdb=data,
        features=features,
        engine=engine,
    )
    facts = {
        "class_names": manifest["classes"],
        "dataset": settings["dataset"],
        "net": net.name,
        "net_fingerprint": work.fingerprint,
        "row_order": manifest["order"],
    }
    keys, labels, outputs = {}, {}, {}
    with ExitStack() as stack:
        run_partitions = stack.enter_context(cluster.partitions(scheduler, workers))
        feature_file = None
        if features:
            feature_file = stack.enter_context(create_hdf5(run / "features.h5"))
            feature_file.attrs.update(facts | {"blob": net.features})
        for group in SPLITS:
            lmdb = lmdb_of(data, group)
            with open_rows(lmdb) as (keys[group], _):
                pass
            labels[group], outputs[group] = through_net(
                group, len(keys[group]), work._replace(lmdb=lmdb), run_partitions, feature_file
            )
            check_activations(outputs[group].activations, caffemodel)
            if feature_file:
                feature_file[f"{group}/labels"] = labels[group]
                if outputs[group].probabilities is not None:
                    feature_file[f"{group}/probabilities"] = outputs[group].probabilities
                feature_file[f"{group}/key"] = np.array([key.encode() for key in keys[group]], "S")
    if outputs["query"].latent is None:
        return
    facts["bits"] = outputs["query"].latent.shape[1]
    facts["classifier"] = outputs["query"].probabilities is not None
    with create_codes(run / "codes.h5", labels=labels, keys=keys, **facts) as write:
        for group, of_group in outputs.items():
            write(group, 0, of_group.latent, of_group.probabilities)


def through_net(
    group: str,
    count: int,
    work: Work,
    run_partitions: Callable,
    feature_file: NewFile | None,
) -> tuple[np.ndarray, Outputs]:
    """Return the labels and the outputs of a split; features go to their file.

    Labels are (count,) int32, or (count, L) uint8 of 0 and 1 where a picture may have several.
    """
    tasks = ((work, at, min(at + ROWS, count)) for at in range(0, count, ROWS))
    labels, parts = [], []
    terminal = child.terminal()
    with tqdm(total=count, desc=group, unit="picture", file=terminal, mininterval=0.5) as bar:
        for some, found in run_partitions(run_partition, tasks):
            if feature_file:
                name, shape = f"{group}/features", (count, found.features.shape[1])
                if name not in feature_file:
                    check_room(work.run / "features.h5", 4 * math.prod(shape))
                rows = feature_file.require_dataset(name, shape, np.float32)
                rows[bar.n : bar.n + len(some)] = found.features
                feature_file.check()
            labels.append(some)
            parts.append(Outputs(found.latent, found.probabilities, None))
            bar.update(len(some))
    return np.concatenate(labels), Outputs.join(parts)
