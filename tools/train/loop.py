"""The training loop: pycaffe's solver, with tests, snapshots and the progress bar from Python.

Runs in a child process of tools/train/__main__.py, whose stderr is train.log, Caffe's own log.
SIGINT and SIGTERM end it with a snapshot.
"""

import csv
import math
import os
import signal
import sys
import time
from pathlib import Path

import caffe
import numpy as np
from google.protobuf import text_format
from tqdm import tqdm

from eval.files import naming, write_atomically
from eval.tables import LOSS_TERMS
from eval.training_log import rows_until
from tools.net import render, weights
from tools.run import child, device, record
from tools.run.failure import Failure, Interrupted
from tools.run.nets import Blobs
from tools.train import parallel, snapshots

ACCURACY, MEAN_AP = "test_accuracy", "test_mean_ap"  # of one label a picture, of several
CHUNK_SECONDS = 0.5  # how long Caffe runs before Python looks at signals and moves the bar
ETA_SECONDS = 5  # how long the first iterations are measured before the ETA is said
LONG = 12 * 3600  # seconds from which a smaller net or a GPU is suggested


# ---- the solver ---------------------------------------------------------------------------------


def make_solver(
    run: Path, param: "caffe.proto.caffe_pb2.SolverParameter", batches: int
) -> tuple["caffe.SGDSolver", Path]:
    """Return (solver, its file): solver.prototxt's without tests and snapshots, which are ours.

    batches: how many each process adds up for an update (Caffe's iter_size). The file that Caffe
    reads, solver_loop.prototxt, stays in the run's folder.
    """
    mine = type(param)()
    mine.CopyFrom(param)
    for field in ("test_iter", "test_interval", "snapshot"):
        mine.ClearField(field)
    mine.snapshot_prefix = str(snapshots.partial_folder(run) / "s")
    if batches > 1:
        mine.iter_size = batches
        mine.layer_wise_reduce = False  # NCCL would add up each batch's gradients anew
    path = run / "solver_loop.prototxt"
    head = "# solver.prototxt without its tests and snapshots, which are the training loop's own\n"
    with write_atomically(path) as partial:
        partial.write_text(head + text_format.MessageToString(mine))
    return caffe.get_solver(str(path)), path


def start_weights(solver: "caffe.SGDSolver", run: Path, start: int, caffemodel: Path | None) -> str:
    """Fill the solver's net from a snapshot or a caffemodel, or leave it; return a sentence."""
    if start:
        snapshots.restore(solver, run / "snapshots", start)
        return (
            f"resuming at iteration {start}; Caffe restores neither the place in the data nor the "
            "random state, so the result differs a little from an undisturbed run's"
        )
    if caffemodel:
        return weights.load_for_training(solver.net, caffemodel)
    return "from scratch: every layer starts at random"


# ---- tests --------------------------------------------------------------------------------------


def test(net: "caffe.Net", batches: int, blobs: Blobs) -> dict[str, float]:
    """Run the test net over some batches; return the test columns of train.csv, and code health.

    Of several labels a picture: test_mean_ap, the mean over labels of the average precision of the
    pictures by that label's score, and label_share, the mean share of pictures with a label, what
    a classifier would have that knows nothing.
    dead_bits: share of bits that are the same in every picture; firing_rate: mean of the bits;
    distinct_codes: their number; saturation: mean |a - 1/2| of the activations, 1/2 at most.
    """
    names = [name for name in (*LOSS_TERMS, blobs.accuracy) if name in net.blobs]
    sums = dict.fromkeys(names, 0.0)
    bits, saturation, scores, labels = [], 0.0, [], []
    for _ in range(batches):
        net.forward()
        for name in names:
            sums[name] += net.blobs[name].data.item()
        if blobs.classifier and blobs.accuracy not in net.blobs:
            for rows, blob in ((scores, blobs.classifier), (labels, blobs.label)):
                rows.append(net.blobs[blob].data.reshape(len(net.blobs[blob].data), -1).copy())
        if blobs.code:
            latent = net.blobs[blobs.code].data
            bits.append(latent > 0.5)
            saturation += float(np.abs(latent - 0.5).mean())
    means = {f"test_{name}": total / batches for name, total in sums.items()}
    if labels:
        means |= label_figures(np.concatenate(labels) > 0, np.concatenate(scores))
    if not blobs.code:
        return means
    bits = np.concatenate(bits)
    return means | {
        "dead_bits": float((bits.all(axis=0) | ~bits.any(axis=0)).mean()),
        "firing_rate": float(bits.mean()),
        "distinct_codes": len(np.unique(np.packbits(bits, axis=1), axis=0)),
        "saturation": saturation / batches,
    }


def label_figures(labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """Return test_mean_ap and label_share of labels, (N, L) bool, and scores, (N, L) float32.

    A label that none of the pictures has does not count. Average precision is scikit-learn's. That
    of each label goes to the log.
    """
    from sklearn.metrics import average_precision_score  # which takes a second to import

    there = np.flatnonzero(labels.any(axis=0))
    precisions = average_precision_score(labels[:, there], scores[:, there], average=None)
    by_label = ", ".join(
        f"{label} {precision:.4f}"
        for label, precision in zip(there, np.atleast_1d(precisions), strict=True)
    )
    print(f"average precision by label, of {len(labels)} pictures: {by_label}", file=sys.stderr)
    return {MEAN_AP: float(np.mean(precisions)), "label_share": float(labels[:, there].mean())}


def health(row: dict[str, float], classes: int, bits: int) -> list[str]:
    """Return sentences for what is wrong with the codes after a test, [] where nothing is."""
    sentences = []
    if row["saturation"] < 0.01:
        sentences.append("all activations are near 0.5: the latent layer has learned nothing")
    if MEAN_AP in row:
        chance = row["label_share"]
        found, near, name = row[MEAN_AP], chance + (1 - chance) / 10, "mean average precision"
    else:
        found, near, name = row.get(ACCURACY, 1.0), 2 / classes, "accuracy"
    if row.get("test_binarization", 0) < -0.12 and found < near:
        sentences.append(
            f"the codes have collapsed: binarization is {row['test_binarization']:.3f} (its floor "
            f"is -0.125) and {name} {found:.3f} is near chance; lower BETA and GAMMA, or the "
            "learning rate"
        )
    if row["dead_bits"]:
        dead = round(row["dead_bits"] * bits)
        sentences.append(f"{dead} of {bits} bits never change over the test pictures")
    return sentences


# ---- train.csv, and what the person reads -------------------------------------------------------


def columns(measure: str) -> tuple[str, ...]:
    """Return the columns of train.csv; measure: ACCURACY or MEAN_AP."""
    return (
        *("iteration", "learning_rate", *LOSS_TERMS, measure),
        *(f"test_{name}" for name in LOSS_TERMS),
        *("dead_bits", "firing_rate", "distinct_codes", "saturation", "seconds"),
    )


def open_csv(path: Path, start: int, measure: str) -> tuple[csv.DictWriter, float]:
    """Return (writer, seconds): train.csv up to iteration start, and its seconds until then.

    measure: as columns() takes it.
    """
    rows = rows_until(path, start) if start else []
    with write_atomically(path) as partial, open(partial, "w", newline="") as file:
        writer = csv.DictWriter(file, columns(measure), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    seconds = float(rows[-1].get("seconds") or 0) if rows else 0.0
    file = open(path, "a", newline="", buffering=1)  # noqa: SIM115 (open until the process ends)
    return csv.DictWriter(file, columns(measure), extrasaction="ignore"), seconds


def shown(row: dict[str, float]) -> dict[str, str]:
    """Return the fields of a row that stand behind the progress bar."""
    fields = {term.short: f"{row[name]:.4f}" for name, term in LOSS_TERMS.items() if name in row}
    for measure, name in ((ACCURACY, "accuracy"), (MEAN_AP, "mean AP")):
        if measure in row:
            fields[name] = f"{row[measure]:.4f}"
    return fields | {"lr": f"{row['learning_rate']:.2g}"}


def duration(seconds: float) -> str:
    """Return seconds as a person says them."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds > 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def eta(seconds: float, rate: float, measured: int, gpus: list[int]) -> list[str]:
    """Return the sentences of the first ETA: seconds to go, at rate iterations a second."""
    sentences = [
        f"about {duration(seconds)} to go, at {rate:.3g} iterations a second (measured on the "
        f"first {measured})"
    ]
    if not gpus and seconds > LONG:
        sentences.append(
            "that is long on a CPU: NET=efficientnet_lite0, pretrained too, takes half an hour, "
            "and a GPU is far faster"
        )
    return sentences


# ---- the loop -----------------------------------------------------------------------------------


def steps_to(param: "caffe.proto.caffe_pb2.SolverParameter", n: int) -> int:
    """Return the number of iterations from n to the next display, test, snapshot or the end."""
    intervals = [i for i in (param.display, param.test_interval, param.snapshot) if i]
    return min([param.max_iter, *((n // i + 1) * i for i in intervals)]) - n


def due(n: int, interval: int, last: bool) -> bool:
    """Return whether something that is done every interval iterations, and last, is due at n."""
    return bool(interval) and (n % interval == 0 or last)


def train(
    *,
    run: Path,
    blobs: Blobs,
    gpus: list[int],
    start: int,
    caffemodel: Path | None,
    pictures: int,
    classes: int,
    solvers: int,
    inputs: Path | None = None,
    warnings: list[str],
) -> None:
    """Train a run from iteration start to max_iter; add to the list warnings what is said.

    gpus: their numbers, [] for the CPU. pictures: of the test set. solvers: batches in an update,
    shared out over the GPUs, which have a process each. inputs: the folder that the names of a
    head's files of features are of; None for a whole net. Raise Interrupted after a signal, with a
    snapshot written, and Failure where a loss is not finite.
    """
    signals = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: signals.append(number))

    if inputs:
        os.chdir(inputs)
    processes = len(gpus) or 1
    device.activate(gpus[0] if gpus else None)
    param = render.read(run / "solver.prototxt")
    parallel.take_part(0, processes)
    solver, solver_file = make_solver(run, param, solvers // processes)
    terminal = child.terminal()
    bar = tqdm(
        total=param.max_iter,
        initial=start,
        unit="it",
        file=terminal,
        dynamic_ncols=True,
        mininterval=0.5 if terminal.isatty() else 30,
        desc="" if caffemodel else "from scratch",
    )
    bar.write(start_weights(solver, run, start, caffemodel), file=terminal)
    net = solver.net
    bits = net.blobs[blobs.code].data.shape[1] if blobs.code else 0
    losses = [name for name in LOSS_TERMS if name in net.blobs]
    several = net.blobs[blobs.label].data.ndim > 1
    if param.test_interval:
        test_net = caffe.Net(param.net, caffe.TEST)
        test_net.share_with(net)
        batches = min(param.test_iter[0], max(1, pictures // test_net.blobs["data"].shape[0]))

    writer, seconds_before = open_csv(run / "train.csv", start, MEAN_AP if several else ACCURACY)
    began = time.monotonic()
    fields, test_seconds = {}, 0.0

    def log_row(n: int, values: dict[str, float], with_test: bool) -> None:
        nonlocal test_seconds
        row = {"iteration": n, "learning_rate": solver.lr, **values}
        if with_test:
            at = time.monotonic()
            row |= test(test_net, batches, blobs)
            test_seconds = time.monotonic() - at
            for sentence in health(row, classes, bits) if n and blobs.code else []:
                warnings.append(f"iteration {n}: {sentence}")
                bar.write(f"warning: {warnings[-1]}", file=terminal)
        row["seconds"] = seconds_before + time.monotonic() - began
        cells = {k: float(f"{v:.6g}") if type(v) is float else v for k, v in row.items()}
        with naming(run / "train.csv"):
            writer.writerow(cells)
        fields.update(shown(row))
        bar.set_postfix(fields, refresh=False)

    state = str(run / "snapshots" / f"iter_{start}.solverstate") if start else ""
    with parallel.helpers(solver, str(solver_file), state, processes, gpus):
        if param.test_interval and not start:
            log_row(0, {}, with_test=True)
        chunk, stepping, eta_said = 1, 0.0, False
        while solver.iter < param.max_iter:
            steps = min(chunk, steps_to(param, solver.iter))
            at = time.monotonic()
            solver.step(steps)
            took = time.monotonic() - at
            n = solver.iter
            bar.update(steps)
            chunk = max(1, int(CHUNK_SECONDS * steps / took))
            stepping += took
            if not eta_said and stepping > ETA_SECONDS:
                rate = (n - start) / stepping
                tests = (param.max_iter - n) // param.test_interval if param.test_interval else 0
                left = (param.max_iter - n) / rate + tests * test_seconds
                for sentence in eta(left, rate, n - start, gpus):
                    bar.write(sentence, file=terminal)
                eta_said = True
            values = {name: net.blobs[name].data.item() for name in losses}
            if not all(map(math.isfinite, values.values())):
                raise Failure(f"the loss is not finite at iteration {n} ({values}): lower base_lr")
            last = n == param.max_iter
            with_test = due(n, param.test_interval, last)
            if with_test or due(n, param.display, last):
                log_row(n, values, with_test)
            if signals or last or due(n, param.snapshot, last):
                snapshots.save(solver, run)
            if signals and not last:
                bar.write(
                    f"stopped at iteration {n} with a snapshot; the same command goes on there",
                    file=terminal,
                )
                raise Interrupted(128 + signals[0])
    bar.close()


def train_run(run: Path, **values: object) -> None:
    """Train a run as train() does, and add its seconds and warnings to run.json."""
    began = time.monotonic()
    warnings = []
    try:
        train(run=run, warnings=warnings, **values)
    except Failure as failure:
        warnings.append(str(failure))
        raise
    finally:
        content = record.read_record(run)
        content["warnings"] = content.get("warnings", []) + warnings
        record.write_record(run, content)
        record.add_seconds(run, "train", time.monotonic() - began)
