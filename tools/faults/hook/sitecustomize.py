"""Kills the process group right after its n-th rename or fsync; Python imports this by itself.

It is on PYTHONPATH of the processes of a trial alone, and does nothing without SSDH_FAULT_CALLS, a
file that all of them count their calls in: a byte each. At SSDH_FAULT_AT of them the group gets
SIGKILL; 0 only counts. It covers what Python calls, os.rename, os.replace, os.link and os.fsync:
each rename and fsync of this repository, and none inside LMDB, HDF5 or Caffe.
"""

import os
import signal

COUNTED = ("rename", "replace", "link", "fsync", "fdatasync")


def _counted(call: object, counter: str, at: int) -> object:
    def counted(*arguments: object, **values: object) -> object:
        result = call(*arguments, **values)
        handle = os.open(counter, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(handle, b".")
        number = os.fstat(handle).st_size
        os.close(handle)
        if at and number >= at:
            os.killpg(0, signal.SIGKILL)
        return result

    return counted


if "SSDH_FAULT_CALLS" in os.environ:
    for _name in COUNTED:
        _at = int(os.environ.get("SSDH_FAULT_AT", "0"))
        setattr(os, _name, _counted(getattr(os, _name), os.environ["SSDH_FAULT_CALLS"], _at))
