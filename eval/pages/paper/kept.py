"""Figures of an earlier call, kept where what they show has not changed."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import matplotlib

from eval.files import InputError, read_json, write_atomically
from eval.pages import figures
from eval.pages.figures import font_families
from eval.pages.paper import pictures
from eval.schema import misfit

Draw = Callable[[str, Any, Callable[[Path], None], Callable[[], str] | None], str]


@contextmanager
def kept_figures(folder: Path) -> Iterator[Draw]:
    """Yield draw(name, content, write, for_page), which makes a figure's files or keeps them.

    folder: of the files, name.svg and name.png. content: all that the figure shows, as JSON takes
    it. write(path): makes both files, each with its suffix. for_page() or None: the figure for the
    page, which draw returns, "" where None. What was drawn from which content stands in
    `<folder>.json`. When the block ends well the folder holds these figures and no others.
    """
    partial, notes = folder.with_name(f".{folder.name}.partial"), folder.with_suffix(".json")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    known, drawn = {}, {}
    with suppress(InputError):  # missing or damaged: all are drawn
        known = read_notes(notes)
    code = _drawn_by()

    def draw(
        name: str,
        content: Any,
        write: Callable[[Path], None],
        for_page: Callable[[], str] | None = None,
    ) -> str:
        text = json.dumps([code, content], sort_keys=True, default=float)
        digest = hashlib.sha256(text.encode()).hexdigest()
        files = [f"{name}.svg", f"{name}.png"]
        there = known.get(name, {})
        same = there.get("sha256") == digest
        if same and all((folder / file).is_file() for file in files):
            for file in files:
                shutil.copy2(folder / file, partial / file)
            drawn[name] = there
        else:
            write(partial / name)
            drawn[name] = {"sha256": digest, "page": for_page() if for_page else ""}
        return drawn[name]["page"]

    yield draw
    shutil.rmtree(folder, ignore_errors=True)  # with those of runs that are no longer there
    partial.rename(folder)
    with write_atomically(notes) as written:
        written.write_text(json.dumps(drawn, indent=1) + "\n", encoding="utf-8")


def read_notes(path: Path) -> dict:
    """Return what was drawn from which content; raise InputError where that is damaged."""
    return {
        name: each
        for name, each in read_json(path, (), "make paper").items()
        if misfit(each, {"sha256": str, "page": str}) is None
    }


def _drawn_by() -> list[str]:
    """Return what else decides how a figure looks: the modules that draw, matplotlib, the fonts."""
    modules = [Path(module.__file__).read_text(encoding="utf-8") for module in (figures, pictures)]
    return [*modules, matplotlib.__version__, *font_families()]
