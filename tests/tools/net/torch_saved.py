"""Write files as torch.save did before torch 1.6, without torch."""

import collections
import pickle
import struct
import sys
import types

import numpy as np


class FloatStorage:
    """What stands for a storage of floats; its numbers are kept aside."""

    def __init__(self, name, numbers):
        self.name, self.numbers = name, numbers


class LongStorage(FloatStorage):
    """And of 64-bit integers."""


def _rebuild_tensor_v2(*_):
    """Never called: pickles name it."""


class Saved:
    """A tensor to be saved: what torch.Tensor's pickle says."""

    def __init__(self, storage, shape, strides, offset=0):
        self.said = (storage, offset, shape, strides, False, collections.OrderedDict())

    def __reduce__(self):
        return _rebuild_tensor_v2, self.said


class Pickler(pickle._Pickler):
    """A pickler that gives a storage's description in place of its numbers."""

    def persistent_id(self, each):
        if isinstance(each, FloatStorage):
            return ("storage", type(each), each.name, "cpu", each.numbers.size, None)
        return None


def saved(tensors, file):
    """Write {name: array} to a binary file. Arrays are float32, or int64; an order of its own."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    torch.FloatStorage, torch.LongStorage, torch._utils = FloatStorage, LongStorage, utils
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    storages, content = [], collections.OrderedDict()
    for at, (name, array) in enumerate(tensors.items()):
        kind = LongStorage if array.dtype == np.int64 else FloatStorage
        storages.append(kind(str(100 + at), np.ascontiguousarray(array)))
        strides = tuple(step // array.itemsize for step in storages[-1].numbers.strides)
        content[name] = Saved(storages[-1], array.shape, strides)
    names = [(each, each.__module__) for each in (FloatStorage, LongStorage)]
    before = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules |= {"torch": torch, "torch._utils": utils}
    try:
        for each, _ in names:
            each.__module__ = "torch"
        _rebuild_tensor_v2.__module__ = "torch._utils"
        pickle.dump(0x1950A86A20F9469CFC6C, file, 2)
        pickle.dump(1001, file, 2)
        pickle.dump({"protocol_version": 1001, "little_endian": True, "type_sizes": {}}, file, 2)
        Pickler(file, 2).dump(content)
    finally:
        for name, module in before.items():
            sys.modules.pop(name)
            if module:
                sys.modules[name] = module
        for each, module in names:
            each.__module__ = module
        _rebuild_tensor_v2.__module__ = __name__
    pickle.dump([storage.name for storage in storages], file, 2)
    for storage in storages:
        file.write(struct.pack("<q", storage.numbers.size))
        file.write(storage.numbers.tobytes())
