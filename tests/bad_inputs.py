"""The table of bad inputs: every variable of make, and what a person or a stranger may give it.

A row is a command, a variable, a value, and whether the value is wrong by itself (then the command
must end with 1, and its sentence name the variable or the value). `{tmp}` is a folder with a
folder, an empty file, a FIFO and a device in it.
"""

from typing import NamedTuple

from tools.run.variables import variables


class Row(NamedTuple):
    """A command's variable, a value, whether that is wrong, and what else is set."""

    command: str
    variable: str
    value: str
    wrong: bool
    others: dict


NUMBERS = [
    "-1",
    "-0",
    "0x10",
    "1e309",
    "nan",
    "inf",
    "1.5",
    "1,5",
    "9" * 400,
    "1_0",
    "٣",
    " 1 2",
    "½",
]
TEXTS = ["abc", "--help", "-x", "a=b", "a" * 5000, "é漢字", "\udcff", "a\nb", "a\tb", "\\0", "%s%n"]
SIGNS = [
    "$(touch gone)",
    "`touch gone`",
    "a;touch gone",
    "a&b",
    "x(1)",
    "*",
    "?",
    "~",
    "'",
    '"',
    "#",
]
PATHS = [
    "{tmp}/folder",
    "{tmp}/missing",
    "{tmp}/empty",
    "{tmp}/fifo",
    "{tmp}/device",
    "..",
    "/",
    ".",
]
SPACES = ["", " ", "\n"]
COMMANDS = {  # of the variables that tools.train does not use before it looks for its data
    "DEVICE": ("tools.codes", {}),
    "IMAGES": ("tools.data", {"DATASET": "folder"}),
    "CIFAR10_ARCHIVE": ("tools.data", {"DATASET": "cifar10"}),
    "ENCODING": ("tools.data", {"DATASET": "folder", "IMAGES": "{tmp}/missing"}),
    "PICTURES": ("tools.codes.pictures", {}),
    "RELEASED": ("tools.compare", {}),
    "RELEASED_DEPLOY": ("tools.compare", {}),
    "QUERY": ("tools.search", {}),
    "GRID": ("tools.search", {"QUERY": "{tmp}/empty"}),
}
ELSEWHERE = ("HOST", "SCHEDULER")  # what serves and what connects has tests of its own
MAY_BE_PATHS = ("IMAGES", "PICTURES", "CIFAR10_ARCHIVE", "RELEASED", "RELEASED_DEPLOY", "QUERY")
FINE = {"number": ("-0", "1.5", "0x10", "1_0", "٣"), "-1..2147483647": ("-1",)}  # some of them are
NAMES = ("DATASET", "NET", "METHOD", "DEVICE", "LOSS")  # none of the values is one of their names


def rows() -> list[Row]:
    """Return the whole table, in a fixed order."""
    return [row for name in variables() if name not in ELSEWHERE for row in of_variable(name)]


def of_search() -> list[Row]:
    """Return rows for a search of a trained run: {tmp}/query.png is a picture."""
    picture = {"QUERY": "{tmp}/query.png"}
    values = [
        value for value in (*TEXTS, *SIGNS, *PATHS, *NUMBERS) if value not in ("..", "/", ".")
    ]
    found = [Row("tools.search", "QUERY", value, True, {}) for value in values]
    found += [Row("tools.search", "CATEGORY", value, True, picture) for value in values]
    found += [Row("tools.search", "TOP", value, True, picture) for value in values]
    places = ("{tmp}/folder", "{tmp}/missing/a.png", "{tmp}/fifo", "{tmp}/device")
    found += [Row("tools.search", "GRID", value, True, picture) for value in places]
    return found


def of_variable(name: str) -> list[Row]:
    """Return a variable's rows."""
    command, others = COMMANDS.get(name, ("tools.train", {}))
    check = variables()[name].check
    found = [Row(command, name, value, False, others) for value in SPACES]
    if name == "CIFAR10_ARCHIVE":
        found = []  # without one it is fetched
    for value in (*NUMBERS, *TEXTS, *SIGNS, *PATHS):
        wrong = check not in ("text", "path") and value not in FINE.get(check, ()) or name in NAMES
        wrong |= name in MAY_BE_PATHS and value not in ("..", "/", ".", "{tmp}/folder", "~")
        if value == "/" or (name in ("IMAGES", "PICTURES") and value in ("..", ".")):
            continue  # a walk over the whole machine says nothing
        if name == "RELEASED_DEPLOY" and value == "{tmp}/empty":
            wrong = False  # nothing is released for digits, so that nobody reads it
        found.append(Row(command, name, value, wrong, others))
    return found
