"""What a call asks for: the variables of make, checked against each other and completed."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

from data_prep import manifest
from data_prep.datasets import Entry, entry_of, name_of
from eval.tables import CLASSIFICATIONS, LOSS_TERMS, METHODS, Method
from tools.run.failure import Failure
from tools.run.nets import Blobs, Net, head, net_of
from tools.run.variables import parse

REPO = Path(__file__).resolve().parents[2]
WEIGHTS_OF_LOSSES = tuple(term.variable for term in LOSS_TERMS.values() if term.variable)
VARIABLES = (
    *("DATASET", "NET", "METHOD", "BITS", "DATA_ROOT", "RUNS", "RUN", "IMAGES", "CIFAR10_ARCHIVE"),
    *("DEVICE", "ITERS", "BATCH", "SEED", "SUBSET", "WEIGHTS", "HEAD", "LOSS", *WEIGHTS_OF_LOSSES),
)


@dataclass(frozen=True)
class Job:
    """One net of one data set, and where its run lies.

    dataset: its name in DATA_ROOT (folder-<name> for DATASET=folder). source: DATASET itself.
    bits: the code length, None for a method without codes. iters, batch, subset (0: all pictures):
    numbers of iterations and pictures. seed: -1 is by the clock. weights: "none", a pretrained
    model's name, or a path. head: whether the head alone is trained, on features. loss: of
    classification, "" until the data have decided (with_loss). loss_weights: by the terms' names.
    data, run: folders.
    """

    source: str
    dataset: str
    net: Net
    method: Method
    bits: int | None
    device: str
    iters: int
    batch: int
    seed: int
    subset: int
    weights: str
    head: bool
    loss: str
    loss_weights: dict[str, float] = field(compare=False)
    images: Path | None
    archive: Path | None
    data_root: Path
    data: Path
    run: Path

    @property
    def blobs(self) -> Blobs:
        """Return the blobs of the job's net."""
        return self.net.blobs(self.method.name)

    @property
    def usual_iters(self) -> int:
        """Return the default of ITERS."""
        return head()["iters"] if self.head else self.net.iters


def read_job(description: str | None, *more: str) -> tuple[Job, SimpleNamespace]:
    """Return the job that a command was called for, and the values of all its variables.

    more: variables that the command takes besides those of a job.
    """
    values = parse(description, (*VARIABLES, *more))
    if len(values.bits) != 1:
        raise Failure(f"BITS={' '.join(map(str, values.bits))}: one code length is wanted here")
    return job_of(values, values.bits[0]), values


def job_of(values: SimpleNamespace, bits: int) -> Job:
    """Return the job of a command's values at one code length.

    Raise Failure or DataError where they do not go together.
    """
    entry = entry_of(values.dataset)
    net = net_of(values.net or default_net(entry, values.device))
    method = method_of(values.method, net)
    images = Path(values.images) if values.images and entry.pictures else None
    if entry.pictures and not images:
        raise Failure(f"DATASET={values.dataset} needs IMAGES=, the folder with its pictures")
    dataset = name_of(values.dataset, images)
    loss_weights = {
        name: getattr(values, term.variable.lower()) if term.variable else 1.0
        for name, term in LOSS_TERMS.items()
    }
    check_weights(method, loss_weights)
    weights = values.weights or net.weights
    if weights == "none" and not net.fillers:
        raise Failure(
            f"NET={net.name} has no fillers, so WEIGHTS=none would leave it all zeros: "
            f"take its default, {net.weights}, or WEIGHTS=path"
        )
    if values.head and weights == "none":
        raise Failure(
            f"HEAD=1 trains on the features of a net that has learned: NET={net.name} starts from "
            "nothing, so give WEIGHTS=path or another NET="
        )
    if values.loss and values.loss not in CLASSIFICATIONS:
        raise Failure(f"LOSS={values.loss} is not known; there are {', '.join(CLASSIFICATIONS)}")
    subset = values.subset or 0
    data = manifest.data_folder(
        Path(values.data_root), dataset, net.side, net.channels, subset or None
    )
    name = values.run or run_name(dataset, net, method, bits, values.head)
    if not values.run and not name.isprintable():
        raise Failure(
            f"IMAGES={values.images!r}: the run is called after this folder, whose name cannot be "
            "printed: rename it, or give RUN=name"
        )
    return Job(
        source=values.dataset,
        dataset=dataset,
        net=net,
        method=method,
        bits=bits if method.codes else None,
        device=values.device,
        iters=values.iters or (head()["iters"] if values.head else net.iters),
        batch=values.batch or (head()["batch"] if values.head else net.batch),
        seed=method.seed if values.seed is None else values.seed,
        subset=subset,
        weights=weights,
        head=values.head,
        loss=values.loss,
        loss_weights=loss_weights,
        images=images,
        archive=Path(values.cifar10_archive) if values.cifar10_archive else None,
        data_root=Path(values.data_root),
        data=data.resolve(),
        run=run_folder(Path(values.runs), name),
    )


def with_loss(job: Job, several: bool) -> Job:
    """Return the job with the loss of classification that LOSS asks for, or else suits the data.

    several: whether a picture of the data may have several labels. Raise Failure where the loss
    that is asked for is not for such data.
    """
    suitable = [name for name, each in CLASSIFICATIONS.items() if each.several == several]
    loss = job.loss or suitable[0]
    if loss not in suitable:
        raise Failure(
            f"LOSS={loss} is not for {job.dataset}, whose pictures have "
            f"{'several labels' if several else 'one label'} each: {' or '.join(suitable)} is"
        )
    if several and not takes_several(job.method):
        others = " or ".join(name for name, each in METHODS.items() if takes_several(each))
        raise Failure(
            f"METHOD={job.method.name} compares pictures by their one class, and those of "
            f"{job.dataset} have several labels each: take METHOD={others}"
        )
    return replace(job, loss=loss)


def takes_several(method: Method) -> bool:
    """Return whether a method learns from pictures that may have several labels each."""
    return "classification" in method.losses and not method.targets


def default_net(entry: Entry, asked: str) -> str:
    """Return the default of NET for a data set's entry, on the device that DEVICE asks for."""
    if not entry.net_on_cpu:
        return entry.net
    from tools.run import device  # which imports this module

    return entry.net if device.choose_all(asked)[0] else entry.net_on_cpu


def weights_of(method: Method) -> list[str]:
    """Return the variables that weigh the terms of a method's objective, none where it has one."""
    variables = [LOSS_TERMS[name].variable for name in method.losses]
    return [variable for variable in variables if variable] if len(variables) > 1 else []


def check_weights(method: Method, loss_weights: dict[str, float]) -> None:
    """Raise Failure where a loss has a weight other than 1 and the method's head does not take it.

    loss_weights: by the terms' names.
    """
    for name, weight in loss_weights.items():
        variable = LOSS_TERMS[name].variable
        if weight == 1 or variable in weights_of(method):
            continue
        weighed = "; ".join(
            f"{', '.join(of_one[:-1])} and {of_one[-1]} weigh the terms of METHOD={other.name}"
            for other in METHODS.values()
            if len(of_one := weights_of(other)) > 1
        )
        raise Failure(
            f"{variable}={weight:g} has nothing to weigh in METHOD={method.name}: {weighed}"
        )


def method_of(name: str, net: Net) -> Method:
    """Return a method by name; raise Failure where the net cannot be trained by it."""
    if name not in net.methods:
        raise Failure(f"NET={net.name} has no METHOD={name}; it has {', '.join(net.methods)}")
    return METHODS[name]


def require_codes(job: Job) -> None:
    """Raise Failure where the job's method has no codes."""
    if not job.method.codes:
        hashing = [name for name in job.net.methods if METHODS[name].codes]
        raise Failure(
            f"a METHOD={job.method.name} net has no codes, which this needs: take "
            f"{' or '.join(hashing)}"
        )


def run_name(dataset: str, net: Net, method: Method, bits: int, head: bool = False) -> str:
    """Return the name that a run has by default."""
    of_method = "" if method.name == "ssdh" else f"-{method.name}"
    of_bits = f"-{bits}" if method.codes else ""
    return f"{dataset}-{net.name}{of_method}{of_bits}" + ("-head" if head else "")


def run_folder(runs: Path, name: str) -> Path:
    """Return a run's folder; raise Failure for a name that is not that of a folder in RUNS."""
    if name in ("", ".", "..") or "/" in name or not name.isprintable():
        raise Failure(
            f"RUN={name!r} is not a name: the run's folder is RUNS/RUN, so RUN has no / in it, is "
            "not . or .., and can be printed"
        )
    return (runs / name).resolve()
