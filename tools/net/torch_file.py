"""The tensors of a file that torch.save wrote before torch 1.6, read without torch.

Such a file is five pickles and then the numbers: a magic number, the version of the format, the
sizes of C's types, what was saved, with a name for each storage of numbers, and the list of these
names; then, in the list's order, each storage as a 64-bit count and so many numbers. A pickle can
name any function to be called while it is read. Here it can name four things: an OrderedDict, a
tensor and two kinds of storage, the latter three only to be noted down.
"""

import collections
import io
import pickle
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tools.run.failure import Failure

MAGIC = 0x1950A86A20F9469CFC6C  # torch/serialization.py
VERSION = 1001
TYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class Storage(NamedTuple):
    """The name of a storage in the file, and its numbers."""

    name: str
    dtype: np.dtype
    count: int


class Tensor(NamedTuple):
    """Where the numbers of a tensor lie in its storage: from offset, by strides, in numbers."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class NamesNothingElse(pickle.Unpickler):
    """An unpickler for which the four names are all that there is."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name; raise UnpicklingError for all others."""
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: Tensor(
                storage, offset, shape, strides
            )
        if module == "torch" and name in TYPES:
            return TYPES[name]
        raise pickle.UnpicklingError(f"it names {module}.{name}")

    def persistent_load(self, said: tuple) -> Storage:
        """Return the storage that is meant by ("storage", type, name, device, count, view)."""
        kind, dtype, name, _, count, view = said
        if kind != "storage" or view is not None or not isinstance(dtype, np.dtype):
            raise pickle.UnpicklingError(f"it has a {kind} that is not a whole storage")
        return Storage(name, dtype, count)


def read_tensors(content: bytes, path: Path | str) -> dict[str, np.ndarray]:
    """Return the tensors by name, each an array of its own shape, float32 or int64.

    content: the file's bytes. path: what a Failure calls it, which is raised where they are not a
    dict of tensors in that format.
    """
    try:
        return _read(io.BytesIO(content))
    except Exception as error:  # whatever a damaged pickle makes Python raise
        raise Failure(
            f"{path} is not a dict of tensors as torch saved them before version 1.6 "
            f"({type(error).__name__}: {error}): get the file again"
        ) from None


def _read(file: io.BytesIO) -> dict[str, np.ndarray]:
    magic, version, machine = (NamesNothingElse(file).load() for _ in range(3))
    if (magic, version, machine["little_endian"]) != (MAGIC, VERSION, True):
        raise ValueError("another format, or another byte order")
    saved = NamesNothingElse(file).load()
    storages = {tensor.storage.name: tensor.storage for tensor in saved.values()}
    numbers = {}
    for name in NamesNothingElse(file).load():
        storage = storages[name]
        if struct.unpack("<q", file.read(8))[0] != storage.count:
            raise ValueError(f"the storage {name} is not of the size that it was said to have")
        size = storage.count * storage.dtype.itemsize
        numbers[name] = np.frombuffer(file.read(size), storage.dtype, storage.count)
    return {name: _array(tensor, numbers[tensor.storage.name]) for name, tensor in saved.items()}


def _array(tensor: Tensor, numbers: np.ndarray) -> np.ndarray:
    """Return a tensor's array; raise ValueError where it reaches outside of its storage."""
    reach = sum(
        (size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True)
    )
    if min((*tensor.strides, *tensor.shape, tensor.offset + 1), default=1) < 1:
        raise ValueError("a tensor with a negative offset, size or stride, or without numbers")
    if tensor.offset + reach >= len(numbers):
        raise ValueError("a tensor that reaches outside of its storage")
    strides = [stride * numbers.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(
        numbers[tensor.offset :], tensor.shape, strides, writeable=False
    )
