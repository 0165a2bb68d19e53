"""Tensors of a torch file, read without torch; and what is no such file."""

import collections
import io
import os
import pickle

import numpy as np
import pytest

from tests.tools.net.torch_saved import saved
from tools.net.torch_file import read_tensors
from tools.run.failure import Failure

TENSORS = {
    "weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 7,
    "bias": np.float32([1.5, -2]),
    "batches": np.int64([3]),
}


def content_of(tensors):
    file = io.BytesIO()
    saved(tensors, file)
    return file.getvalue()


def test_tensors_come_back_to_the_last_bit():
    found = read_tensors(content_of(TENSORS), "some.pth")
    assert list(found) == list(TENSORS)
    for name, array in TENSORS.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harm",)


def test_nothing_that_a_pickle_names_is_called(tmp_path, monkeypatch):
    """Neither at the file's head nor in the place of a tensor."""
    monkeypatch.chdir(tmp_path)
    head = [pickle.dumps(each, 2) for each in (0x1950A86A20F9469CFC6C, 1001)]
    machine = pickle.dumps({"little_endian": True}, 2)
    tensors = pickle.dumps(collections.OrderedDict(weight=Harmful()), 2)
    for content in (pickle.dumps(Harmful(), 2), b"".join((*head, machine, tensors))):
        with pytest.raises(
            Failure, match=r"some\.pth is not a dict of tensors.*names posix\.mkdir"
        ):
            read_tensors(content, "some.pth")
    assert not (tmp_path / "harm").exists()


def test_a_file_that_is_cut_or_of_another_kind_is_refused():
    whole = content_of(TENSORS)
    for content in (*(whole[:at] for at in range(0, len(whole), 7)), b"PK\3\4" + whole, b"GIF89a"):
        with pytest.raises(
            Failure, match=r"some\.pth is not a dict of tensors.*get the file again"
        ):
            read_tensors(content, "some.pth")


def test_a_tensor_outside_of_its_storage_is_refused():
    whole = content_of({"bias": np.float32([1.5, -2])})
    size = whole.index(b"K\x02\x85")  # the shape (2,): a byte, in a tuple of one
    damaged = whole[:size] + b"K\x09\x85" + whole[size + 3 :]
    with pytest.raises(Failure, match="reaches outside of its storage"):
        read_tensors(damaged, "some.pth")
