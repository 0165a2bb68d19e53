"""What `make search` searches, in files that NumPy and FAISS alone read."""

from pathlib import Path

import numpy as np

from tools.export.files import put, put_arrays
from tools.search.index import open_index
from tools.search.index_file import read_tables


def write(run: Path, out: Path) -> dict:
    """Write index.faiss and rows.npz of a run's index into `out`; return what codes.json says.

    rows.npz: labels (int32, -1 for none; of several labels uint8, L of 0 and 1), keys (S, UTF-8)
    and removed (bool), a row a picture.
    Raise Failure where the run has no index of its net.
    """
    index, (_, attributes) = open_index(run), read_tables(run / "index.h5")
    put(out / "index.faiss", (run / attributes["faiss"]).read_bytes())
    keys = np.array(index.keys.tolist())  # without what HDF5 says of the type
    put_arrays(out / "rows.npz", labels=index.labels, keys=keys, removed=index.removed)
    return {
        "classes": index.class_names,
        "index": index.kind,
        "pictures": int(np.count_nonzero(~index.removed)),
    }
