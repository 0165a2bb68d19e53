"""Imports point one way: which room may import which, read from the source of every module."""

import ast
import re
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
OURS = ("data_prep", "eval", "prototxt", "python_layers", "tools")
SOURCES = {
    ".".join(path.relative_to(REPO).with_suffix("").parts).removesuffix(".__init__"): path
    for folder in OURS
    for path in sorted((REPO / folder).rglob("*.py"))
}
EVAL = tuple(f"eval.{path.stem}" for path in (REPO / "eval").glob("*.py"))
RUN = ("caffe", "data_prep", "eval", "tools.run")
NET = (*RUN, "tools.net")
SUBJECTS = tuple(f"tools.{room}" for room in ("train", "codes", "search", "compare", "setup"))
ABOVE = ("tools.export", "tools.serve", "tools.bench", "tools.faults")
MAY_IMPORT = {  # of caffe and of our own modules; a thin command right in tools/ is of room "tools"
    "prototxt": (),
    "python_layers": ("caffe", "numpy", *sys.stdlib_module_names),  # and nothing else at all
    "data_prep": ("data_prep", "caffe.proto"),
    "eval": EVAL,
    "eval.baselines": (*EVAL, "eval.baselines"),
    "eval.pages": (*EVAL, "eval.pages", "eval.baselines.methods", "eval.baselines.table"),
    "eval.bench": (*EVAL, "eval.bench", "eval.pages.text"),
    "tools.run": RUN,
    "tools.net": NET,
    **{room: (*NET, room) for room in SUBJECTS},
    **{room: (*NET, *SUBJECTS, room) for room in ABOVE},
    "tools.faults": (*NET, *SUBJECTS, "tools.serve", "tools.faults"),
    "tools": (*NET, *SUBJECTS, *ABOVE),
}
COMMANDS = [
    module
    for module, path in SOURCES.items()
    if path.name == "__main__.py" or '\nif __name__ == "__main__":' in path.read_text()
]

CALLED = re.compile(r'child\.(?:call|start)\(\s*"([\w.]+)\.\w+"')
CHILDREN = sorted({name for path in SOURCES.values() for name in CALLED.findall(path.read_text())})


def within(name, packages):
    return any(f"{name}.".startswith(f"{package}.") for package in packages)


def imports(module):
    """Full names of all that a module imports, wherever it does so."""
    for node in ast.walk(ast.parse(SOURCES[module].read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} has a relative import"
            yield from (f"{node.module}.{name.name}" for name in node.names)


@pytest.mark.parametrize("module", SOURCES)
def test_a_module_imports_only_what_its_room_may_and_no_command(module):
    top, *rest = module.split(".")
    room = f"{top}.{rest[0]}" if rest and f"{top}.{rest[0]}" in MAY_IMPORT else top
    for name in imports(module):
        if room == "python_layers" or within(name, (*OURS, "caffe")):
            assert within(name, MAY_IMPORT[room]), f"{module} imports {name}"
        assert not within(name, COMMANDS), f"{module} imports the command {name}"
        assert not within(name, CHILDREN), f"{module} imports {name}, which runs as a child alone"


def test_children_are_found():
    assert len(CHILDREN) > 5 and set(CHILDREN) <= set(SOURCES)
