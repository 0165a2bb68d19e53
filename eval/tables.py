"""Methods that nets are trained by, terms of their objectives, kinds of classification.

The tables are files beside the prototxt that they describe, prototxt/*.toml, each of which says
what its fields mean.
"""

import tomllib
from pathlib import Path
from typing import Any, NamedTuple

PROTOTXT = Path(__file__).resolve().parent.parent / "prototxt"


class Method(NamedTuple):
    """An entry of methods.toml; `name` is what METHOD= takes."""

    name: str
    title: str
    net: str
    published: str
    codes: bool
    seed: int
    style: int
    losses: list[str]
    names: dict[str, str]
    values: dict[str, str | float]
    targets: bool = False


class LossTerm(NamedTuple):
    """An entry of losses.toml; `variable` is "" for a term whose weight is fixed."""

    name: str
    layer: str
    short: str
    variable: str = ""


class Classification(NamedTuple):
    """An entry of classification.toml; `name` is what LOSS= takes."""

    name: str
    several: bool
    layer: str
    probability: str
    bias: str


def read_table(name: str) -> dict[str, dict[str, Any]]:
    """Return the entries of the table prototxt/`name`, each a dict, by their names."""
    return tomllib.loads((PROTOTXT / name).read_text(encoding="utf-8"))


METHODS = {name: Method(name, **entry) for name, entry in read_table("methods.toml").items()}
LOSS_TERMS = {name: LossTerm(name, **entry) for name, entry in read_table("losses.toml").items()}
CLASSIFICATIONS = {
    name: Classification(name, **entry) for name, entry in read_table("classification.toml").items()
}
