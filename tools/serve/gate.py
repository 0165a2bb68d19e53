"""The gate before page and API: bodies are bounded, and only what the page needs is reachable.

An ASGI middleware. Gradio has far more routes than this page uses, and in an app that is mounted
it takes file paths from the client unchecked (in 6.31 the check waits for `launch()`): so its
routes are named one by one here, and a path must be one that its upload route gave out.
"""

import asyncio
import json
import logging
import re
from collections.abc import Callable
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tools.serve.limits import (
    BODIES_BYTES,
    BODY_SECONDS,
    FORM_BYTES,
    MIB,
    PICTURE_BYTES,
    UPLOADS_BYTES,
    Refused,
)

LOG = logging.getLogger("serve")
LINGER_BYTES, LINGER_SECONDS = 64 * MIB, 5  # read and dropped, so that a sender sees the answer
UPLOAD, JOIN, FILE = "/gradio_api/upload", "/gradio_api/queue/join", "/gradio_api/file="
GET = re.compile(
    r"/|/config|/theme\.css|/favicon\.ico|/manifest\.json|/(?:assets|static|svelte)/[^?#]+"
    r"|/gradio_api/(?:queue/data|upload_progress|heartbeat/\w+|startup-events|theme\.css|app_id)"
    r"|/api/.+|/docs|/openapi\.json|/static-offline-docs/[\w.-]+"
)
POST = {
    "/api/search": PICTURE_BYTES + FORM_BYTES,
    UPLOAD: PICTURE_BYTES + FORM_BYTES,
    JOIN: FORM_BYTES,
    "/gradio_api/cancel": FORM_BYTES,
    "/gradio_api/reset": FORM_BYTES,
}
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:"),
]


class Gate:
    """The middleware around an ASGI app."""

    def __init__(self, app: ASGIApp, uploads: Path, stopping: Callable[[], bool]) -> None:
        """Stand before an app.

        uploads: the folder of Gradio's uploads. stopping: once it says so, connections that the
        page holds open are ended.
        """
        self.app = app
        self.uploads = uploads
        self.stopping = stopping
        self.bodies = 0  # bytes of the bodies that are held now
        self.upload_name = re.compile(re.escape(str(uploads)) + r"/[0-9a-f]{64}/[^/\x00]+")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on to the app, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body, unread = bytearray(), True

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS]
            await send(message)

        try:
            self.check_route(scope)
            if scope["method"] == "POST":
                await self.read(scope, receive, body)
                unread = False
                self.check_body(scope["path"], body)
            await self.pass_on(scope, bytes(body), receive, answer)
        except Refused as refused:
            log_refusal(scope, refused)
            await self.refuse(refused, receive if unread else None, answer)
        finally:
            self.bodies -= len(body)

    def check_route(self, scope: Scope) -> None:
        """Raise Refused where no route of page or API has this path and method."""
        path, method = scope["path"], scope["method"]
        if path.startswith(FILE) and method in ("GET", "HEAD"):
            self.check_upload(path.removeprefix(FILE))
        elif ".." in path.split("/") or "\\" in path:
            raise Refused(403, "A path with .. leads nowhere here.")
        elif not (path in POST if method == "POST" else GET.fullmatch(path)):
            raise Refused(404, "There is nothing at this address.")
        elif method not in ("GET", "HEAD", "POST"):
            raise Refused(405, "Only GET and POST are answered.")

    def check_upload(self, path: object) -> None:
        """Raise Refused unless a path is one that the upload route gives out."""
        if not (isinstance(path, str) and self.upload_name.fullmatch(path)) or path.endswith("/.."):
            raise Refused(403, "Only pictures that this page uploaded are opened.")

    async def read(self, scope: Scope, receive: Receive, body: bytearray) -> None:
        """Read a request's body into a bytearray; raise Refused as soon as it is too large."""
        most = POST[scope["path"]]
        sentence = f"The request is larger than {max(1, most // MIB)} MiB."
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > most:
            raise Refused(413, sentence)
        if scope["path"] == UPLOAD and folder_bytes(self.uploads) > UPLOADS_BYTES:
            raise Refused(503, "The folder of uploads is full; try again in some minutes.")
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refused(400, "The request ended before its body did.")
                    part = message.get("body", b"")
                    if len(body) + len(part) > most:
                        raise Refused(413, sentence)
                    if self.bodies + len(part) > BODIES_BYTES:
                        raise Refused(503, "Too many large requests at once; try again.")
                    body += part
                    self.bodies += len(part)
                    if not message.get("more_body"):
                        return
        except TimeoutError:
            raise Refused(408, f"The request took more than {BODY_SECONDS} s to arrive.") from None

    def check_body(self, path: str, body: bytearray) -> None:
        """Raise Refused where an event of the page names a file that the page did not upload."""
        if path != JOIN:
            return
        try:
            event = json.loads(body)
        except (ValueError, RecursionError):
            raise Refused(400, "The event is not JSON.") from None
        waiting = [event]
        while waiting:
            value = waiting.pop()
            if isinstance(value, dict):
                if "path" in value:
                    self.check_upload(value["path"])
                waiting += value.values()
            elif isinstance(value, list):
                waiting += value

    async def pass_on(self, scope: Scope, body: bytes, receive: Receive, answer: Send) -> None:
        """Run the app on a request whose body was read.

        A page's heartbeat, which never ends by itself, is ended once the server stops.
        """
        sent = scope["method"] != "POST"

        async def replay() -> Message:
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        work = asyncio.ensure_future(self.app(scope, replay, answer))
        if "/heartbeat/" in scope["path"]:
            while not work.done() and not self.stopping():
                await asyncio.wait({work}, timeout=0.3)
            if not work.done():
                work.cancel()
                await asyncio.wait({work})  # Gradio ends the response
                return
        await work

    async def refuse(self, refused: Refused, receive: Receive | None, send: Send) -> None:
        """Answer with a sentence and hang up; receive: to let the sender finish a little, or None.

        Who is still sending when the connection goes down never sees the answer.
        """
        text = json.dumps({"error": str(refused)}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(text)).encode()),
            (b"connection", b"close"),
        ]
        if refused.status == 503:
            headers.append((b"retry-after", b"1"))
        start = {"type": "http.response.start", "status": refused.status, "headers": headers}
        await send(start)
        await send({"type": "http.response.body", "body": text, "more_body": True})
        dropped = 0
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                while receive and dropped < LINGER_BYTES:
                    message = await receive()
                    dropped += len(message.get("body", b""))
                    if message["type"] == "http.disconnect" or not message.get("more_body"):
                        break
        except TimeoutError:
            pass
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def log_refusal(scope: Scope, refused: Refused) -> None:
    """Log a refused request: who, what, why."""
    client = scope["client"][0] if scope.get("client") else "-"
    path = scope["path"][:200].encode("unicode_escape").decode()
    LOG.warning("%s %s %s: %d %s", client, scope["method"], path, refused.status, refused)


def folder_bytes(folder: Path) -> int:
    """Return the bytes of the files in a folder, subfolders included."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
