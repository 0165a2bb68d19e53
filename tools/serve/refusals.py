"""The log of what is refused: a line each, and a bounded number of lines that say the same."""

import logging
import threading
import time

from starlette.types import Scope

from tools.serve.limits import LOG_LINES, Refused

LOG = logging.getLogger("serve")
WINDOW_SECONDS = 60
KINDS = 10_000  # counted apart at most
ALL_LINES = 10 * LOG_LINES  # of all kinds


class Ration(logging.Filter):
    """Lets a number of records of one kind through in a minute, and then says how many it kept."""

    def __init__(self) -> None:
        """Begin with nothing counted."""
        super().__init__()
        self.began = time.monotonic()
        self.counts: dict[object, int] = {}
        self.logged = 0
        self.lock = threading.Lock()

    def allows(self, kind: object) -> bool:
        """Count one more of a kind; return whether it is to be logged."""
        with self.lock:
            now = time.monotonic()
            kept = 0
            if now - self.began >= WINDOW_SECONDS:
                kept = sum(self.counts.values()) - self.logged
                self.began, self.counts, self.logged = now, {}, 0
            if kind not in self.counts and len(self.counts) >= KINDS:
                kind = None
            self.counts[kind] = self.counts.get(kind, 0) + 1
            allowed = self.counts[kind] <= LOG_LINES and self.logged < ALL_LINES
            self.logged += allowed
        if kept:
            LOG.warning("%d more lines of these kinds are left out", kept)
        return allowed

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record of another logger, uvicorn's, is to be logged."""
        return self.allows((record.name, record.msg))


RATION = Ration()


def log_refusal(scope: Scope, refused: Refused) -> None:
    """Log a refused request: who, what, why."""
    client = scope["client"][0] if scope.get("client") else "-"
    if RATION.allows((client, refused.status)):
        path = scope["path"][:200].encode("unicode_escape").decode()
        LOG.warning("%s %s %s: %d %s", client, scope["method"], path, refused.status, refused)


def log_page(refused: Refused) -> None:
    """Log what the page was refused."""
    if RATION.allows(("page", refused.status)):
        LOG.warning("page: %d %s", refused.status, refused)
