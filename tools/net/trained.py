"""A trained net, ready to turn pictures into activations, codes, features and probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from eval.codes import pack_latent
from tools.net import preprocess, render, weights
from tools.run import device, record
from tools.run.failure import Failure
from tools.run.nets import Blobs, Net, net_of

if TYPE_CHECKING:
    import caffe

BATCH = 100  # of what works through many pictures; a batch is always whole


@dataclass(frozen=True)
class Outputs:
    """What a net says of n pictures, float32 with n rows each.

    latent: (n, K), activations of the latent layer, None without one. probabilities: (n, C), None
    where the net ends at the codes. features: (n, F), None where they were not asked for.
    """

    latent: np.ndarray | None
    probabilities: np.ndarray | None
    features: np.ndarray | None

    @property
    def codes(self) -> np.ndarray:
        """Return the packed codes, (n, ceil(K/8)) uint8: a bit is an activation above 1/2."""
        return pack_latent(self.latent)

    @property
    def activations(self) -> np.ndarray:
        """Return what tells pictures apart: the latent activations, else the probabilities."""
        return self.probabilities if self.latent is None else self.latent

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Return the outputs of pictures that follow one another."""
        columns = zip(
            *((part.latent, part.probabilities, part.features) for part in parts), strict=True
        )
        return cls(*(None if column[0] is None else np.concatenate(column) for column in columns))


class TrainedNet:
    """A deploy net, filled, with the preprocessing that it was trained with.

    net: its entry in nets.toml. blobs: the names of its blobs; probabilities is None where the
    deploy file ends at the codes.
    """

    def __init__(
        self,
        folder: Path,
        caffemodel: Path,
        *,
        data: Path,
        net: Net,
        blobs: Blobs,
        batch: int,
        gpu: int | None,
    ) -> None:
        """Load the deploy net in `folder` from a caffemodel, for batches of so many pictures.

        folder: with deploy.prototxt and train_val.prototxt. data: the folder with the mean image,
        wherever the training had it. gpu: its number, None for the CPU. Raise Failure where the
        caffemodel does not fill the net, or a blob or the mean image is missing.
        """
        device.activate(gpu)
        import caffe

        self.net, self.caffemodel, self.batch = net, caffemodel, batch
        param = preprocess.transform_param(render.read(folder / "train_val.prototxt"))
        self.mean_file, self.scale = data / "mean.binaryproto", param.scale
        if not self.mean_file.is_file():
            raise Failure(
                f"{self.mean_file}, the mean image of {folder}, is missing: run 'make data' with "
                "its variables"
            )
        self.mean, self.crop = preprocess.mean_image(self.mean_file), param.crop_size
        render.read(folder / "deploy.prototxt")  # Caffe would end the process
        self.caffe_net = caffe.Net(str(folder / "deploy.prototxt"), caffe.TEST)
        if blobs.probabilities not in self.caffe_net.blobs:
            blobs = blobs._replace(probabilities=None)
        self.blobs = blobs
        for name in (blobs.data, blobs.features, blobs.code):
            if name is not None and name not in self.caffe_net.blobs:
                raise Failure(
                    f"{folder / 'deploy.prototxt'} has no blob {name}, which NET={net.name} names "
                    "in prototxt/nets.toml: it is the file of another net"
                )
        weights.fill(self.caffe_net, caffemodel)
        self.resize(batch)

    @classmethod
    def of_run(cls, run: Path, *, data: Path, batch: int, gpu: int | None = None) -> Self:
        """Open the trained net of a run's folder and data folder, which may both have been moved.

        Raise Failure or InputError where there is none.
        """
        caffemodel = run / "model.caffemodel"
        if not caffemodel.exists():
            raise Failure(
                f"there is no trained net in {run}: 'make train' with the same variables makes one"
            )
        settings = record.read_record(run)["settings"]
        net = net_of(settings["net"])
        blobs = net.blobs(settings["method"])
        return cls(run, caffemodel, data=data, net=net, blobs=blobs, batch=batch, gpu=gpu)

    @property
    def sizes(self) -> tuple[int | None, int | None, int | None]:
        """Return the sizes of latent, probabilities and features, None where there is none."""
        names = (self.blobs.code, self.blobs.probabilities, self.blobs.features)
        return tuple(name and self.caffe_net.blobs[name].data[0].size for name in names)

    def resize(self, batch: int) -> None:
        """Take batches of so many pictures from now on."""
        data = self.caffe_net.blobs[self.blobs.data]
        if data.data.shape[0] != batch:
            data.reshape(batch, *data.data.shape[1:])
            self.caffe_net.reshape()
        self.batch = batch

    def read(self, source: Path | bytes) -> np.ndarray:
        """Return a picture as its LMDB would hold it; see preprocess.read_picture."""
        return preprocess.read_picture(source, self.net)

    def __call__(self, pictures: np.ndarray, *, features: bool = False) -> Outputs:
        """Return the outputs for pictures, uint8 n x C x H x W, BGR, as read() gives them."""
        starts = range(0, len(pictures), self.batch)
        parts = [self._batch(pictures[at : at + self.batch], features) for at in starts]
        return Outputs.join(parts)

    def _batch(self, pictures: np.ndarray, features: bool) -> Outputs:
        inputs = preprocess.transform(pictures, self.mean, self.crop, self.scale)
        wanted = (
            self.blobs.code,
            self.blobs.probabilities,
            self.blobs.features if features else None,
        )
        found = iter(forward(self.caffe_net, inputs, [name for name in wanted if name]))
        return Outputs(*(next(found) if name else None for name in wanted))


def forward(
    net: "caffe.Net", inputs: np.ndarray, blobs: Sequence[str], into: str = "data"
) -> list[np.ndarray]:
    """Return float32 (n, size) of each named blob, for n inputs, at most one batch, put into one.

    The batch is always whole, padded with zeros: a picture's numbers never depend on how many
    follow it.
    """
    data = net.blobs[into].data
    data[: len(inputs)] = inputs
    data[len(inputs) :] = 0
    net.forward()
    return [net.blobs[blob].data[: len(inputs)].reshape(len(inputs), -1).copy() for blob in blobs]


def check_activations(activations: np.ndarray, caffemodel: Path) -> None:
    """Raise Failure where activations say nothing: not finite, or the same for every picture."""
    if not np.isfinite(activations).all():
        raise Failure(f"{caffemodel} gives activations that are not finite: its training diverged")
    if len(activations) > 1 and (activations == activations[0]).all():
        raise Failure(
            f"{caffemodel} gives every picture the same activations ({activations[0, 0]:.3f}, "
            "...): untrained or collapsed weights, or a mean image of other pictures"
        )
