"""Pictures of one's own into a run's index; runs in a Caffe child process."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tools.net.trained import BATCH, Outputs, TrainedNet
from tools.run import child
from tools.search.index import add


def add_pictures(*, run: Path, files: Sequence[Path], label: int, gpu: int | None) -> int:
    """Add picture files to the index of a run; return how many took the place of others.

    label: their class, or -1. Raise DataError, and add none, where one of them cannot be read.
    """
    net = TrainedNet.of_run(run, batch=BATCH, gpu=gpu)
    pictures, outputs = [], []
    with tqdm(total=len(files), unit="picture", file=child.terminal(), mininterval=0.5) as bar:
        for at in range(0, len(files), BATCH):
            batch = np.stack([net.read(file) for file in files[at : at + BATCH]])
            pictures.append(batch)
            outputs.append(net(batch, features=True))
            bar.update(len(batch))
    found = Outputs.join(outputs)
    return add(
        run,
        [str(file) for file in files],
        label=label,
        codes=found.codes,
        probabilities=found.probabilities,
        features=found.features,
        pictures=np.concatenate(pictures),
    )
