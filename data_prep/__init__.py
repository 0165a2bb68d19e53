"""Data sets to LMDB: ``python -m data_prep mnist --root data --side 28 --channels 1 --mean train``.

Read in this order: ``dataset`` (what a data set is), one module a data set, ``picture`` (a picture
to a Datum), ``lmdb_writer``, ``mean_image``, ``manifest``, ``build`` (the whole data folder).
"""


class DataError(Exception):
    """Input that cannot be used: one sentence with the file, what is wrong and what to do."""
