"""What the service does with a picture: check, encode, search. API and page call the same."""

import asyncio
import time

import cv2
import numpy as np

from tools.run.nets import net_of
from tools.search.answer import bits_of, classes_of, find, likely, neighbours_of
from tools.serve.decoder import Decoder
from tools.serve.encoder import Encoder
from tools.serve.encoding import Encoded
from tools.serve.limits import LARGE_PIXELS, QUICK_PIXELS, TOP, Refused, check_picture
from tools.serve.runs import Run
from tools.serve.schema import Answer, Class, Health, Neighbour

CLASSES = 5  # of an answer, and more of several labels where more are likely
HINT = "The picture is far brighter or darker than the training pictures are; inverted it is not."


class Service:
    """Answers pictures from runs."""

    def __init__(
        self, runs: dict[str, Run], encoder: Encoder, decoders: tuple[Decoder, Decoder], radius: int
    ) -> None:
        """Take the runs by name, the default first.

        decoders: of large pictures, and of the largest. radius: of fine search's candidates, in
        bits.
        """
        self.runs = runs
        self.encoder = encoder
        self.decoders = decoders
        self.radius = radius

    def health(self) -> Health:
        """Return how the service is."""
        return Health(caffe_starts=self.encoder.starts, waiting=self.encoder.queue.qsize())

    def run(self, name: str | None) -> Run:
        """Return the Run of a name, the first for None; raise Refused where there is none."""
        if name is None:
            return next(iter(self.runs.values()))
        if name not in self.runs:
            raise Refused(404, f"There is no run of this name; there are {', '.join(self.runs)}.")
        return self.runs[name]

    async def search(
        self, picture: bytes, *, run_name: str | None, top: int, category: str | None, fine: bool
    ) -> Answer:
        """Return the answer to a picture file's bytes; raise Refused where there is none.

        top: how many neighbours, 1 to TOP. category: a class name, to find its pictures alone.
        fine: the papers' second stage.
        """
        began = time.perf_counter()
        run = self.run(run_name)
        if not 1 <= top <= TOP:
            raise Refused(422, f"The number of neighbours is out of range: 1 to {TOP}.")
        if category is not None and category not in run.info.categories:
            raise Refused(422, "There is no category of this name.")
        if fine and not run.info.fine:
            raise Refused(
                422, "This run has no features: 'make codes FEATURES=1' makes fine search possible."
            )
        pixels = await asyncio.to_thread(check_picture, picture)
        if pixels > QUICK_PIXELS:
            decoder = self.decoders[pixels > LARGE_PIXELS]
            picture = await decoder.decode(picture, net_of(run.info.net))
        outputs = await asyncio.wrap_future(
            self.encoder.submit(run.folder, run.index.fingerprint, picture, features=fine)
        )
        radius = self.radius if fine else None
        answer = await asyncio.to_thread(
            answer_of, run, outputs, top=top, category=category, radius=radius
        )
        answer.milliseconds = round(1000 * (time.perf_counter() - began), 2)
        return answer

    def picture(self, name: str, row: int) -> bytes:
        """Return the PNG of a row of a run's database; raise Refused where there is none."""
        run = self.run(name)
        if not 0 <= row < len(run.index.keys):
            raise Refused(404, "There is no picture of this number.")
        return as_png(run.picture(row))

    def example(self, name: str, number: int) -> bytes:
        """Return the PNG of one of a run's examples; raise Refused where there is none."""
        run = self.run(name)
        if not 0 <= number < len(run.examples):
            raise Refused(404, "There is no example of this number.")
        return as_png(run.examples[number])


def as_png(picture: np.ndarray) -> bytes:
    """Return a picture, uint8 C x H x W, BGR, as PNG."""
    return cv2.imencode(".png", picture.transpose(1, 2, 0))[1].tobytes()


def answer_of(
    run: Run, outputs: Encoded, *, top: int, category: str | None, radius: int | None
) -> Answer:
    """Return the answer to a picture by its net's outputs, of one row; the time is still to be set.

    radius: of fine search's candidates, in bits; None for a search by the code alone.
    """
    index, code = run.index, outputs.codes
    label = None if category is None else index.class_names.index(category)
    classes = classes_of(index, outputs.probabilities)
    found = find(index, code, top=top, category=label, radius=radius, features=outputs.features)
    neighbours = [
        Neighbour(
            **each | {"key": run.shown_key(each["row"])},
            picture=f"/api/runs/{run.info.name}/pictures/{each['row']}",
        )
        for each in neighbours_of(index, found)
    ]
    return Answer(
        run=run.info.name,
        bits=index.bits,
        code=bits_of(code[0], index.bits),
        classes=[Class(**each) for each in likely(classes, CLASSES)],
        category=category,
        radius=radius,
        hint=HINT if outputs.negative else None,
        neighbours=neighbours,
        milliseconds=0,
    )
