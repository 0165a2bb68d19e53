"""The stages that the campaign disturbs: what each starts from, its command, and what it promises.

All of them work on scikit-learn's digits, or on a few small pictures, so that one takes seconds. A
stage's place is a folder of its own: what is in it at the beginning is copied from a template.
"""

import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import h5py
import numpy as np

from data_prep import manifest
from tools.faults.forks import Forks
from tools.run import machine
from tools.run.failure import Failure

SIZES = ("--side", "28", "--channels", "1", "--mean", "train")
RUN = ("--dataset", "digits", "--net", "lenet", "--bits", "16", "--device", "cpu", "--run", "run")


class Stage(NamedTuple):
    """A command, what it starts from, and what its result is.

    start: the name of the template. command: a module with its arguments, where {place} and {base}
    stand for folders: the one that is disturbed, and the one that is only read. result: what is
    compared, of the place. equal: whether a run that was disturbed promises the same result.
    settled: a sentence that a second call may end with, the work being done.
    """

    name: str
    start: str
    command: tuple[str, ...]
    result: Callable[[Path], object]
    equal: bool = True
    settled: str = ""


def arguments(stage: Stage, place: Path, base: Path) -> list[str]:
    """Return what stands behind `python -m` for a stage, at a place."""
    filled = [part.replace("{place}", str(place)) for part in stage.command]
    return [part.replace("{base}", str(base)) for part in filled]


def job(*more: str) -> tuple[str, ...]:
    """Return the options of the run in a place."""
    return (*RUN, "--data-root", "{base}/data", "--runs", "{place}/runs", *more)


# ---- results -------------------------------------------------------------------------------------


def data_of(place: Path) -> object:
    """Return what the manifests of a DATA_ROOT say of the LMDBs and the mean."""
    found = sorted(place.rglob("manifest.json"))
    read = [manifest.read_manifest(path.parent) for path in found]
    return [{key: each[key] for key in ("lmdb_sha256", "mean", "counts")} for each in read]


def model_of(place: Path) -> object:
    """Return the bytes of the run's model."""
    return (place / "runs/run/model.caffemodel").read_bytes()


def tables_of(*names: str) -> Callable[[Path], object]:
    """Return a function from a place to the datasets of some HDF5 files below it."""

    def tables(place: Path) -> object:
        found = {}
        for name in names:
            with h5py.File(place / name) as file:
                file.visititems(
                    lambda key, item, name=name: (
                        found.update({f"{name}:{key}": item[()].tobytes()})
                        if isinstance(item, h5py.Dataset)
                        else None
                    )
                )
        return found

    return tables


def index_of(place: Path) -> object:
    """Return the pictures of the index that count: {key: code}."""
    with h5py.File(place / "runs/run/index.h5") as file:
        removed = file["removed"][:]
        pairs = zip(file["keys"][:][~removed], file["codes"][:][~removed], strict=True)
        return {key: code.tobytes() for key, code in pairs}


def json_of(name: str) -> Callable[[Path], object]:
    """Return a function from a place to the content of a JSON file below it."""
    return lambda place: json.loads((place / name).read_text())


def baselines_of(place: Path) -> object:
    """Return the results of the baselines, without the seconds that they took."""
    found = {}
    for path in (place / "runs/run/baselines").glob("*.json"):
        found[path.name] = json.loads(path.read_text())
        for seconds in ("seconds_learning", "seconds_coding"):
            found[path.name].pop(seconds, None)
    return found


def page_of(name: str) -> Callable[[Path], object]:
    """Return a function from a place to whether a page below it is whole."""
    return lambda place: (place / name).read_text().rstrip().endswith("</html>")


STAGES = [
    Stage(
        "data-digits",
        "nothing",
        ("data_prep", "digits", "--root", "{place}", *SIZES),
        data_of,
    ),
    Stage(
        "data-folder",
        "nothing",
        ("data_prep", "folder", "--images", "{base}/pictures", "--root", "{place}", *SIZES),
        data_of,
    ),
    Stage(
        "data-archive",
        "nothing",
        (
            "data_prep",
            "cifar10",
            "--cifar10-archive",
            "{base}/pictures.zip",
            "--root",
            "{place}",
            *SIZES,
        ),
        data_of,
    ),
    Stage("train", "nothing", ("tools.train", *job("--iters", "20")), model_of),
    Stage(
        "train-two",
        "nothing",
        (
            *("tools.train", *job("--iters", "6", "--batch", "4")),
            *("--net", "cifar_small", "--subset", "60"),
        ),
        model_of,
    ),
    Stage(
        "head",
        "with-data",
        (
            *("tools.train", *job("--iters", "20", "--head", "1", "--data-root", "{place}/data")),
            *("--weights", "{base}/trained/runs/run/model.caffemodel"),
        ),
        model_of,
    ),
    Stage("extend", "trained", ("tools.train", *job("--iters", "40")), model_of),
    Stage(
        "codes",
        "trained",
        ("tools.codes", *job("--features", "1")),
        tables_of("runs/run/codes.h5", "runs/run/features.h5"),
    ),
    Stage(
        "pictures",
        "trained",
        ("tools.codes.pictures", *job("--images", "{base}/pictures")),
        tables_of("runs/pictures/pictures-run/pictures.h5"),
    ),
    Stage(
        "eval",
        "evaluated",
        ("eval", "{place}/runs/run/codes.h5"),
        json_of("runs/run/metrics.json"),
    ),
    Stage("index", "evaluated", ("tools.search.indexing", *job()), index_of),
    Stage(
        "add",
        "evaluated",
        ("tools.search.indexing", *job("--add", "{base}/pictures")),
        index_of,
    ),
    Stage(
        "remove",
        "evaluated",
        ("tools.search.indexing", *job("--remove", "train/00000000")),
        index_of,
        settled="has no picture train/00000000",
    ),
    Stage(
        "search",
        "indexed",
        (
            "tools.search",
            *job("--query", "{base}/pictures/test/class0/0.png", "--grid", "{place}/found.png"),
        ),
        lambda place: (place / "found.png").read_bytes(),
    ),
    Stage(
        "baselines",
        "evaluated",
        (
            *("eval.baselines", "{place}/runs/run", "--bits", "16"),
            *("--methods", "lsh", "cca-itq", "ksh"),  # the fast ones
        ),
        baselines_of,
    ),
    Stage(
        "compare",
        "evaluated",
        ("tools.compare", *job("--released", "{base}/trained/runs/run/model.caffemodel")),
        json_of("runs/compare-digits-lenet-ssdh/compare.json"),
    ),
    Stage(
        "export",
        "indexed",
        ("tools.export", *job("--int8", "1")),
        json_of("runs/run/export/codes.json"),
    ),
    Stage("report", "evaluated", ("tools.report", *job()), page_of("runs/run/report.html")),
    Stage(
        "paper",
        "evaluated",
        ("tools.paper", "--runs", "{place}/runs", "--data-root", "{base}/data"),
        page_of("runs/paper/index.html"),
    ),
]


# ---- templates -----------------------------------------------------------------------------------


def prepare(base: Path, forks: Forks) -> None:
    """Make what the stages start from, in a folder: data, pictures and five templates."""
    draw(base / "pictures")
    with zipfile.ZipFile(base / "pictures.zip", "w") as archive:
        for path in sorted((base / "pictures").rglob("*.png")):
            archive.write(path, path.relative_to(base / "pictures"))
    (base / "nothing").mkdir()
    place = base / "trained"
    build(forks, "data_prep", "digits", "--root", f"{base}/data", *SIZES)
    build(
        forks,
        *("data_prep", "digits", "--root", f"{base}/data"),
        *("--side", "32", "--channels", "3", "--mean", "train", "--subset", "60"),
    )
    shutil.copytree(base / "data", base / "with-data/data")
    options = [part.format(base=base, place=place) for part in job("--iters", "20")]
    build(forks, "tools.train", *options)
    shutil.copytree(place, base / "evaluated")
    options = [part.format(base=base, place=base / "evaluated") for part in job("--iters", "20")]
    build(forks, "tools.codes", *options, "--features", "1")
    build(forks, "eval", f"{base}/evaluated/runs/run/codes.h5")
    shutil.copytree(base / "evaluated", base / "indexed")
    options = [part.format(base=base, place=base / "indexed") for part in job()]
    build(forks, "tools.search.indexing", *options)
    here = {key: machine.machine()[key] for key in ("cpu", "cores")}
    (base / "evaluated/runs/paper").mkdir()
    (base / "evaluated/runs/paper/distance_cost.json").write_text(
        json.dumps({"machine": here, "rows": []})
    )


def draw(folder: Path) -> None:
    """Write ten classes of seeded pictures: three to train on, two to test with."""
    random = np.random.default_rng(0)
    for split, count in (("train", 3), ("test", 2)):
        for row in range(10 * count):
            path = folder / split / f"class{row % 10}" / f"{row}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), random.integers(0, 256, (20, 30, 3), np.uint8))


def build(forks: Forks, *command: str) -> None:
    """Run a command that must end well."""
    with tempfile.NamedTemporaryFile("r") as stderr:
        if forks.start(command, dict(os.environ), Path(stderr.name)).wait():
            raise Failure(f"{' '.join(command)}: {stderr.read()[-500:]}")
