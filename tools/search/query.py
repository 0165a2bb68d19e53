"""One picture against a run's index; runs in a child process."""

import time
from pathlib import Path

import faiss
import numpy as np

from data_prep.picture import decode
from tools.net.engines import open_run
from tools.run.data import open_pictures
from tools.search.answer import describe, find
from tools.search.index import label_of, open_index, picture_of

STEPS = ("index", "picture", "net", "search", "total")


def answer_query(
    *,
    run: Path,
    data: Path,
    picture: Path,
    top: int,
    category: str,
    radius: int | None,
    grid: bool,
    gpu: int | None,
    engine: str = "caffe",
) -> tuple[dict, bytes | None]:
    """Return the answer to a picture file, and a PNG of the pictures found where one is wanted.

    The answer is that of describe(), with the milliseconds of each of STEPS once the net is loaded.
    data: the run's data folder. category: a class's name, or "". radius: of the second stage's
    candidates, in bits; None for a search by the code alone. engine: ENGINE. Raise Failure or
    DataError where the picture, the category or the index is not usable.
    """
    faiss.omp_set_num_threads(1)  # one query gains nothing from more, and would wait for them
    net = open_run(run, engine=engine, data=data, batch=1, gpu=gpu)
    times = [time.perf_counter()]
    index = open_index(run)
    label = label_of(index, category, "CATEGORY") if category else None
    times.append(time.perf_counter())
    pixels = net.read(picture)
    times.append(time.perf_counter())
    outputs = net(pixels[None], features=True)
    code = outputs.codes
    times.append(time.perf_counter())
    found = find(index, code, top=top, category=label, radius=radius, features=outputs.features)
    answer = describe(index, code[0], outputs.probabilities, found)
    times.append(time.perf_counter())
    seconds = [*np.diff(times), times[-1] - times[0]]
    answer["milliseconds"] = {
        step: round(1000 * float(each), 2) for step, each in zip(STEPS, seconds, strict=True)
    }
    if not grid:
        return answer, None
    from tools.search.grid import draw_grid  # and matplotlib, which takes its time

    with open_pictures(data) as read:
        shown = [picture_of(index, row, lambda row: read("database", row)) for row in found.rows]
    return answer, draw_grid(decode(picture.read_bytes(), 3), shown, answer)
