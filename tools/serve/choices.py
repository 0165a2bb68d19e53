"""What the page lets a person choose of a run: how it is searched, and its code length."""

from collections.abc import Sequence

from tools.search.answer import counted
from tools.serve.schema import RunInfo

ALL = "All categories"
EXACT, FINE = "Exact (Hamming)", "Fine (features)"


def orders(info: RunInfo) -> list[tuple[str, str]]:
    """Return the ways to search a run: what the page says, and the value."""
    exact = EXACT if info.index == "flat" else f"By codes (approximate: {info.index})"
    return [(exact, EXACT), (FINE, FINE)] if info.fine else [(exact, EXACT)]


def length(info: RunInfo, runs: Sequence[RunInfo]) -> str:
    """Return a run's label: its code length, and what tells it from others of that length."""
    alike = [other for other in runs if other.bits == info.bits]
    return counted(info.bits, "bit") + (f" ({info.name})" if len(alike) > 1 else "")
