"""What the content of a JSON file has to be: a pattern, and the first place that does not fit it.

A pattern is a type (int, float, str, bool, dict, list; float takes whole numbers, too, and nothing
that is not finite), None, a tuple of patterns of which one has to fit, a list of one pattern for
each item, or a dict of patterns by key, in which a key that ends in "?" may be missing.
"""

import math
from typing import Any

NAMES = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "a true or false",
    dict: "an object",
    list: "a list",
    None: "a null",
}


def misfit(value: Any, pattern: Any, place: str = "") -> str | None:
    """Return what is wrong with a value, as a clause that names the place; None where it fits."""
    if isinstance(pattern, tuple):
        wrong = [misfit(value, each, place) for each in pattern]
        return None if None in wrong else max(wrong, key=_depth)
    if isinstance(pattern, dict):
        if not isinstance(value, dict):
            return _clause(place, dict)
        for key, inner in pattern.items():
            name = key.removesuffix("?")
            if name not in value:
                if key == name:
                    return f"lacks '{_join(place, name)}'"
            elif wrong := misfit(value[name], inner, _join(place, name)):
                return wrong
        return None
    if isinstance(pattern, list):
        if not isinstance(value, list):
            return _clause(place, list)
        found = (misfit(each, pattern[0], f"{place}[{i}]") for i, each in enumerate(value))
        return next(filter(None, found), None)
    return None if _is(value, pattern) else _clause(place, pattern)


def _depth(clause: str) -> int:
    return clause.count(".") + clause.count("[")


def _is(value: Any, kind: type | None) -> bool:
    if kind is None:
        return value is None
    if kind is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and math.isfinite(value)
    return type(value) is kind


def _clause(place: str, kind: type | None) -> str:
    return f"has no {NAMES[kind].partition(' ')[2]} as '{place}'" if place else "is no object"


def _join(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name
