"""Data sets to LMDB: ``python -m data_prep mnist --root data --side 28 --channels 1 --mean train``.

From Python it is ``data_prep.prepare.prepare``. README.md tells in which order to read.
"""


class DataError(Exception):
    """Input that cannot be used: one sentence with the file, what is wrong and what to do."""
