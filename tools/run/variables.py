"""The variables of make as Python gets them: declared in variables.txt, parsed and checked here.

A command takes each from its option (--bits), or else from SSDH_BITS, which make sets, or else has
the default; an empty value is the default.
"""

import argparse
import os
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

from tools.run.failure import Failure


class Variable(NamedTuple):
    """A line of variables.txt; default is "" where there is none."""

    name: str
    default: str
    check: str
    help: str


@cache
def variables() -> dict[str, Variable]:
    """Return all variables that Python reads, by name."""
    lines = Path(__file__).with_name("variables.txt").read_text(encoding="utf-8").splitlines()
    table = {}
    for line in lines:
        if line and not line.startswith("#"):
            name, default, check, text = line.split(maxsplit=3)
            table[name] = Variable(name, "" if default == "-" else default, check, text)
    return {name: each for name, each in table.items() if each.check != "script"}


def parse(description: str | None, names: tuple[str, ...]) -> SimpleNamespace:
    """Return the values of a command's variables, as parse_known does; nothing else is taken."""
    values, others = parse_known(description, names)
    if others:
        raise Failure(f"{others[0]} is not known here; --help lists what is")
    return values


def parse_known(
    description: str | None, names: tuple[str, ...]
) -> tuple[SimpleNamespace, list[str]]:
    """Return the values of a command's variables, by their names in small letters, and the rest.

    names: those that the command takes. A whole number is an int, a number a float, a flag a bool,
    several whole numbers a list; None stands for a number that was not given, "" for a text. Raise
    Failure, naming the variable, for a value that it may not have.
    """
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False)
    for name in names:
        parser.add_argument(f"--{name.lower().replace('_', '-')}", help=variables()[name].help)
    given, others = parser.parse_known_args()
    for name, variable in variables().items():  # one that is mistyped is said before any work
        value_of(variable, os.environ.get(f"SSDH_{name}", "") or variable.default)
    values = {}
    for name in names:
        text = getattr(given, name.lower())
        if text is None:
            text = os.environ.get(f"SSDH_{name}", "")
        values[name.lower()] = value_of(variables()[name], text or variables()[name].default)
    return SimpleNamespace(**values), others


def environment_of(values: SimpleNamespace) -> dict[str, str]:
    """Return the environment in which a command has the values of this one, options or not."""
    environment = dict(os.environ)
    for name, value in vars(values).items():
        variable = variables()[name.upper()]
        key = f"SSDH_{variable.name}"
        if value != value_of(variable, environment.get(key, "") or variable.default):
            if variable.check == "flag":
                environment[key] = "1" if value else ""
            elif isinstance(value, list):
                environment[key] = " ".join(map(str, value))
            else:
                environment[key] = "" if value is None else str(value)
    return environment


def value_of(variable: Variable, text: str) -> int | float | bool | str | list[int] | None:
    """Return a variable's text as what variables.txt says that it may be."""
    if variable.check in ("text", "path"):
        if "\0" in text:
            raise Failure(f"{variable.name} has a byte in it that no text has")
        return text
    if variable.check == "flag":
        if text not in ("", "1"):
            raise Failure(f"{variable.name}={text} is not known: it is 1, or left out")
        return text == "1"
    if variable.check == "number":
        return number(variable.name, text)
    several = variable.check.endswith(",...")
    low, high = map(int, variable.check.removesuffix(",...").split(".."))
    if several:
        return [whole(variable.name, each, low, high) for each in text.split()]
    return whole(variable.name, text, low, high) if text else None


def whole(name: str, text: str, low: int, high: int) -> int:
    """Return the whole number of a variable; raise Failure where it is none or out of range."""
    try:
        value = int(text)
    except ValueError:
        raise Failure(f"{name}={text} is not a whole number") from None
    if str(value) != text:  # 048 would be another run than 48
        raise Failure(f"{name}={text} is not written as a number usually is: {value}")
    if not low <= value <= high:
        raise Failure(f"{name}={value} is out of range: {low} to {high}")
    return value


def number(name: str, text: str) -> float:
    """Return the number of a variable; raise Failure where it is none or negative."""
    try:
        value = float(text)
    except ValueError:
        raise Failure(f"{name}={text} is not a number") from None
    if not 0 <= value < 1e6:
        raise Failure(f"{name}={text} is out of range: 0 or more")
    return value
