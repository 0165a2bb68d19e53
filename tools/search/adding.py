"""Pictures of one's own into a run's index; runs in a child process."""

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import numpy as np
from tqdm import tqdm

from eval.files import naming
from tools.net.engines import open_run
from tools.net.trained import BATCH
from tools.run import child
from tools.search.index import add

COLUMNS = ("codes", "probabilities", "features", "pictures")


class Spool:
    """Rows that follow one another, in a file: batch by batch, however many there are."""

    def __init__(self, file: BinaryIO) -> None:
        """Take an empty file, which nobody else knows of."""
        self.file = file
        self.rows, self.dtype, self.shape = 0, None, None

    def write(self, rows: np.ndarray) -> None:
        """Append rows; raise OSError where the disk is full."""
        self.file.write(np.ascontiguousarray(rows).data)
        self.file.flush()
        self.rows, self.dtype, self.shape = self.rows + len(rows), rows.dtype, rows.shape[1:]

    def read(self) -> np.ndarray:
        """Return a memory map of all rows; an empty array where they have no columns."""
        if 0 in self.shape:
            return np.empty((self.rows, *self.shape), self.dtype)
        return np.memmap(self.file, self.dtype, "r", shape=(self.rows, *self.shape))


def add_pictures(
    *,
    run: Path,
    data: Path,
    files: Sequence[Path],
    label: int | list[int],
    gpu: int | None,
    engine: str = "caffe",
) -> int:
    """Add picture files to the index of a run; return how many took the place of others.

    label: their class, or -1, or their row of 0 and 1. engine: ENGINE. Raise DataError, and add
    none, where one of them cannot be read. What the net says of them waits in files in the run's
    folder, so that memory holds a batch alone.
    """
    net = open_run(run, engine=engine, data=data, batch=BATCH, gpu=gpu)
    with ExitStack() as opened:
        bar = tqdm(total=len(files), unit="picture", file=child.terminal(), mininterval=0.5)
        opened.enter_context(bar)
        spools = {  # without names, so that nothing is left of them, however this ends
            name: Spool(opened.enter_context(tempfile.TemporaryFile(dir=run))) for name in COLUMNS
        }
        for at in range(0, len(files), BATCH):
            batch = np.stack([net.read(file) for file in files[at : at + BATCH]])
            outputs = net(batch, features=True)
            probabilities = outputs.probabilities
            if probabilities is None:
                probabilities = np.empty((len(batch), 0), np.float32)
            parts = (outputs.codes, probabilities, outputs.features, batch)
            with naming(run / "index.h5"):
                for spool, part in zip(spools.values(), parts, strict=True):
                    spool.write(part)
            bar.update(len(batch))
        return add(
            run,
            [str(file) for file in files],
            label=label,
            **{name: spool.read() for name, spool in spools.items()},
        )
