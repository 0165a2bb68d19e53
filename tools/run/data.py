"""A run's data: its manifest, and the pictures behind the rows of its codes."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep import manifest
from tools.run.failure import Failure
from tools.run.nets import net_of

if TYPE_CHECKING:
    import numpy as np

LOOKED_AT = 4096  # of an LMDB's pictures, which are shuffled: no class of 1 in 100 is missed
SPLITS = {"database": "train", "query": "test"}  # groups of codes.h5, and the splits of training


def read_manifest(data: Path) -> dict:
    """Return a data folder's manifest.json; raise Failure or DataError where it is not whole."""
    if not data.is_dir():
        raise Failure(f"there is no data in {data}: run 'make data' with the same variables first")
    there = manifest.read_manifest(data)
    if "labels" not in there:  # an older one, which does not count the pictures of each class
        from data_prep.lmdb_reader import largest_label

        for split in SPLITS.values():
            label = largest_label(data / f"{split}_lmdb", LOOKED_AT)
            if label >= len(there["classes"]):
                raise Failure(
                    f"{data}/manifest.json names {len(there['classes'])} classes, and {split}_lmdb "
                    f"has pictures of class {label}: remove {data} and make it again"
                )
    return there


def class_names(data: Path, count: int) -> list[str]:
    """Return the names in a data folder's manifest; numbers where it is of another count."""
    there = data / "manifest.json"
    names = manifest.read_fields(there)["classes"] if there.is_file() else []
    return names if len(names) == count else [str(label) for label in range(count)]


def folder_of(settings: dict, root: Path) -> Path:
    """Return the data folder of a run with these settings (run.json's) below a DATA_ROOT.

    Raise Failure where the settings lack something, or name an unknown net.
    """
    try:
        net, subset = net_of(settings["net"]), settings.get("subset") or None
        return manifest.data_folder(root, settings["dataset"], net.side, net.channels, subset)
    except (KeyError, TypeError) as error:
        raise Failure(f"run.json's settings do not say which data the run is of: {error}") from None


def lmdb_of(data: Path, group: str) -> Path:
    """Return the LMDB behind a group of codes.h5.

    The database is what was trained on, or a split of its own where the data folder has one.
    """
    own = data / f"{group}_lmdb"
    return own if own.is_dir() else data / f"{SPLITS[group]}_lmdb"


def has_several_labels(there: dict) -> bool:
    """Return whether a picture may have several labels, by a data folder's manifest."""
    return there.get("several_labels", False)


def share_of_labels(there: dict) -> float:
    """Return the share of the training pictures that have a label, on average over the labels.

    there: a data folder's manifest. Where a picture has one label, 0.5. Above 0 and below 1 even
    where every picture has every label: there is one more, and half of it has each.
    """
    if not has_several_labels(there):
        return 0.5
    labels = there["labels"]["train"]
    return (sum(labels) / len(labels) + 0.5) / (there["counts"]["train"] + 1)


def check_labels(data: Path, there: dict) -> None:
    """Raise DataError where several labels a picture do not stand beside the pictures.

    there: the data folder's manifest.
    """
    if has_several_labels(there):
        from data_prep.lmdb_reader import check_labels

        for split in there["counts"]:
            check_labels(data / f"{split}_lmdb", len(there["classes"]))


@contextmanager
def open_pictures(data: Path) -> Iterator[Callable[[str, int], "np.ndarray"]]:
    """Yield read(group, row): the picture of a row of codes.h5, uint8 C x H x W, BGR.

    An LMDB is opened with its first picture.
    """
    from data_prep.lmdb_reader import open_rows  # and Caffe's protobuf with it

    opened = {}
    with ExitStack() as stack:

        def read(group: str, row: int) -> "np.ndarray":
            if group not in opened:
                opened[group] = stack.enter_context(open_rows(lmdb_of(data, group)))[1]
            return opened[group]([row])[0][0]

        yield read
