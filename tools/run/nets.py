"""The nets of prototxt/: what each needs to know besides its prototxt, and its blobs by name."""

from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from eval.tables import METHODS, read_table
from tools.run.failure import Failure


class Blobs(NamedTuple):
    """A net's blobs by what they hold. Layers from `latent` on have the names of their blobs.

    latent and code are None in a net without a latent layer: `code` holds the sigmoid activations
    of `latent`, whose bits are the code. classifier is None in a net without one, which has no
    probabilities and no accuracy. The other names are the same in every net: prototxt/README.md
    states them, and the test of every net holds them.
    """

    features: str
    latent: str | None
    code: str | None
    classifier: str | None
    data: str = "data"
    label: str = "label"
    probabilities: str = "prob"
    accuracy: str = "accuracy"


@dataclass(frozen=True)
class Net:
    """An entry of nets.toml, which says what each field means.

    methods: by METHOD, the values of the placeholders that its prototxt and the method's head have,
    the names of the head's layers among them.
    """

    name: str
    side: int
    channels: int
    published: str
    mean: str
    weights: str
    fillers: bool
    features: str
    batch: int
    iters: int
    solvers: int
    methods: dict[str, dict[str, Any]]

    def blobs(self, method: str) -> Blobs:
        """Return the blobs of this net as a method trains it; raise Failure for another method."""
        if method not in self.methods:
            raise Failure(f"METHOD={method} does not train NET={self.name}")
        names = self.methods[method]
        behind = (names.get(each) for each in ("latent", "code", "classifier"))
        return Blobs(self.features, *behind)

    def values(self, method: str) -> dict[str, Any]:
        """Return the values of the placeholders that neither the job nor its data decides."""
        return self.methods[method] | {"features": self.features, "method": METHODS[method].net}


@cache
def nets() -> dict[str, Net]:
    """Return the nets of nets.toml by name."""
    found = {}
    for name, entry in read_table("nets.toml")["nets"].items():
        of_method = {method: entry.pop(method) for method in METHODS if method in entry}
        methods = {
            method: METHODS[method].values | METHODS[method].names | own
            for method, own in of_method.items()
        }
        found[name] = Net(name=name, methods=methods, **entry)
    return found


def net_of(name: str) -> Net:
    """Return a net by name. Raise Failure, naming those that there are, for another name."""
    if name not in nets():
        raise Failure(f"NET={name} is not known; there are {', '.join(nets())}")
    return nets()[name]


@cache
def head() -> dict[str, Any]:
    """Return how HEAD=1 trains: batch, iters, and the values of the head's placeholders."""
    return read_table("nets.toml")["head"]


@cache
def pretrained() -> dict[str, dict[str, Any]]:
    """Return the models of nets.toml that training can start from, by name: file, urls, sha1."""
    return read_table("nets.toml")["weights"]
