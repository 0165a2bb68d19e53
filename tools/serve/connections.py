"""The server's connections: a time for each request's head, and a bound on how many are open.

Where an address has too many, its own that has been silent for longest ends, not somebody else's:
idle connections lock nobody out.
"""

import asyncio
import json

from uvicorn.protocols.http.h11_impl import H11Protocol

from tools.serve.limits import CONNECTIONS, HEAD_SECONDS, PEER_CONNECTIONS

WORK_SECONDS = 60  # after which a request at work may be one whose answer is not read


def bounded() -> type[H11Protocol]:
    """Return the class of a server's connections, which know of one another."""
    return type("Bounded", (Bounded,), {"open": {}})


class Bounded(H11Protocol):
    """A connection. open: those of each address, {address: {connection: None}}, in all."""

    open: dict[str, dict["Bounded", None]]

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Take a connection, or refuse it where all of its address are at work."""
        super().connection_made(transport)
        self.heard, self.timer = self.loop.time(), None
        peer = self.client[0] if self.client else "-"
        mine = self.open.get(peer, {})
        full = len(mine) >= PEER_CONNECTIONS
        if not full and sum(map(len, self.open.values())) >= CONNECTIONS:
            full, mine = True, max(self.open.values(), key=len)
        if full:
            idle = min((each for each in mine if not each.works()), default=None, key=heard)
            if idle is None:
                self.end(503, "Too many connections; try again in a second.")
                return
            idle.end()
        self.open.setdefault(peer, {})[self] = None
        self.timer = self.loop.call_later(HEAD_SECONDS, self.give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection that ended."""
        super().connection_lost(exc)
        self.forget()

    def data_received(self, data: bytes) -> None:
        """Take what came; a head that has begun has its time from then on."""
        self.heard = self.loop.time()
        super().data_received(data)
        if self.asked():
            self.stop_timer()
        elif self.timer is None and not self.transport.is_closing():
            self.timer = self.loop.call_later(HEAD_SECONDS, self.give_up)

    def asked(self) -> bool:
        """Return whether there is a request that is not answered yet."""
        return self.cycle is not None and not self.cycle.response_complete

    def works(self) -> bool:
        """Return whether a whole request is at work: its client neither sends nor lets us wait."""
        recent = self.loop.time() - self.heard < WORK_SECONDS
        return self.asked() and not self.cycle.more_body and recent and not self.flow.write_paused

    def give_up(self) -> None:
        """End a connection whose head has not come."""
        self.timer = None
        if not self.asked():
            self.end(408, f"The request's head took more than {HEAD_SECONDS} s to arrive.")

    def end(self, status: int = 0, sentence: str = "") -> None:
        """Say why where no answer has begun, and hang up."""
        if status:
            text = json.dumps({"error": sentence}).encode()
            phrase = {408: "Request Timeout", 503: "Service Unavailable"}[status]
            head = f"HTTP/1.1 {status} {phrase}\r\nContent-Type: application/json\r\n"
            head += f"Content-Length: {len(text)}\r\nConnection: close\r\n\r\n"
            self.transport.write(head.encode() + text)
            self.transport.close()
        else:
            self.transport.abort()
        self.forget()

    def forget(self) -> None:
        """Take the connection out of those that are open."""
        self.stop_timer()
        peer = self.client[0] if self.client else "-"
        mine = self.open.get(peer, {})
        mine.pop(self, None)
        if not mine:
            self.open.pop(peer, None)

    def stop_timer(self) -> None:
        """Forget the time of a head."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


def heard(connection: Bounded) -> float:
    """Return when a connection last sent something."""
    return connection.heard
