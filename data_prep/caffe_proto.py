"""Caffe's protobuf messages without the rest of Caffe, whose package loads the whole library.

`from data_prep.caffe_proto import caffe_pb2` gives what `from caffe.proto import caffe_pb2` gives,
the same module, whichever comes first.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

NAME = "caffe.proto.caffe_pb2"


def _load() -> ModuleType:
    if NAME in sys.modules:
        return sys.modules[NAME]
    package = importlib.util.find_spec("caffe")  # looks for it, and does not import it
    if package is None:
        raise ModuleNotFoundError("there is no Caffe here: run 'make caffe'", name="caffe")
    (folder,) = package.submodule_search_locations
    spec = importlib.util.spec_from_file_location(NAME, Path(folder, "proto", "caffe_pb2.py"))
    module = sys.modules[NAME] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


caffe_pb2 = _load()
