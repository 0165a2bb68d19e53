"""The gate before page and API: bodies are bounded, and only what the page needs is reachable.

An ASGI middleware. Gradio has far more routes than this page uses, and in an app that is mounted
it takes file paths from the client unchecked (in 6.31 the check waits for `launch()`): so its
routes are named one by one here, and a path must be one that the upload route gave out. The page's
events are answered at once, without Gradio's queue and its sessions, which anybody could fill.
"""

import asyncio
import json
import re
from collections.abc import Mapping, Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tools.serve.limits import (
    BODIES_BYTES,
    BODY_SECONDS,
    FORM_BYTES,
    KEEP_SECONDS,
    MIB,
    PICTURE_BYTES,
    Refused,
)
from tools.serve.origin import NAMING, is_foreign, is_this_machine
from tools.serve.refusals import log_refusal
from tools.serve.uploads import Uploads

LINGER_BYTES, LINGER_SECONDS = 64 * MIB, 5  # read and dropped, so that a sender sees the answer
UPLOAD, PROGRESS = "/gradio_api/upload", "/gradio_api/upload_progress"
EVENT, FILE = "/gradio_api/run/predict", "/gradio_api/file="
GET = re.compile(
    rf"/|/theme\.css|/favicon\.ico|/(?:assets|static)/[^?#]+|{PROGRESS}"
    r"|/api/.+|/docs|/openapi\.json|/static-offline-docs/[\w.-]+"
)
POST = {
    "/api/search": PICTURE_BYTES + FORM_BYTES,
    UPLOAD: PICTURE_BYTES + FORM_BYTES,
    EVENT: FORM_BYTES,
}
ROOT = re.compile(rb'"root":\s?"http[^"]*"')
LONGEST_PATH = 1024  # that of an upload is the longest
GONE = f"The upload is no longer here ({KEEP_SECONDS // 60} minutes); upload it again."
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (
        b"content-security-policy",
        b"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'none'; "
        b"base-uri 'self'; form-action 'self'",
    ),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
]


class Gate:
    """The middleware around an ASGI app."""

    def __init__(
        self,
        app: ASGIApp,
        uploads: Uploads,
        events: Mapping[int, Sequence[bool]],
        own_name: str | None,
    ) -> None:
        """Stand before an app.

        events: of each of the page's functions, by its number, which values are pictures.
        own_name: where only this machine is served, what it may be called besides its loopback
        names; None where any name will do.
        """
        self.app = app
        self.uploads = uploads
        self.events = events
        self.own_name = own_name
        self.bodies = 0  # bytes of the bodies that are held now

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
            self.uploads.expire()
            self.check_names(scope)
            self.check_route(scope)
            content = b""
            if scope["method"] == "POST":
                await self.read(scope, receive, body)
                unread = False
                content = self.event(body) if scope["path"] == EVENT else bytes(body)
            await self.pass_on(scope, content, receive, answer)
        except Refused as refused:
            log_refusal(scope, refused)
            await self.refuse(refused, receive if unread else None, answer)
        finally:
            self.bodies -= len(body)

    def check_names(self, scope: Scope) -> None:
        """Raise Refused for a name that is not this server's, and for another site's requests.

        A web site that gives its own name our address, or that sends a form here, gets nothing.
        """
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        if self.own_name is not None and not is_this_machine(host, self.own_name):
            raise Refused(400, "This server has another name.")
        if scope["method"] not in ("GET", "HEAD") and is_foreign(headers):
            raise Refused(403, "Only the server's own page may send this.")

    def check_route(self, scope: Scope) -> None:
        """Raise Refused where no route of page or API has this path and method."""
        path, method = scope["path"], scope["method"]
        if len(path) > LONGEST_PATH:
            raise Refused(404, "There is nothing at this address.")
        if path.startswith(FILE) and method in ("GET", "HEAD"):
            self.check_upload(path.removeprefix(FILE))
        elif ".." in path.split("/") or "\\" in path or "\0" in path:
            raise Refused(403, "A path with .. leads nowhere here.")
        elif not (path in POST if method == "POST" else GET.fullmatch(path)):
            raise Refused(404, "There is nothing at this address.")
        elif method not in ("GET", "HEAD", "POST"):
            raise Refused(405, "Only GET and POST are answered.")

    def check_upload(self, path: object) -> None:
        """Raise Refused unless a path is one that the upload route gave out."""
        if not self.uploads.gave(path):
            raise Refused(403, "Only pictures that this page uploaded are opened.")
        if path not in self.uploads.files:
            raise Refused(410, GONE)

    async def read(self, scope: Scope, receive: Receive, body: bytearray) -> None:
        """Read a request's body into a bytearray; raise Refused as soon as it is too large."""
        most = POST[scope["path"]]
        sentence = f"The request is larger than {max(1, most // MIB)} MiB."
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > most:
            raise Refused(413, sentence)
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

    def event(self, body: bytearray) -> bytes:
        """Return an event of the page as Gradio gets it: without a session, which it would keep.

        Raise Refused where it is none, or names a file that the page did not upload.
        """
        try:
            event = json.loads(body)
        except (ValueError, RecursionError):
            raise Refused(400, "The event is not JSON.") from None
        if not isinstance(event, dict) or not isinstance(event.get("data"), list):
            raise Refused(422, "The event has no data.")
        number = event.get("fn_index")
        if type(number) is not int or number not in self.events:
            raise Refused(422, "The page has no such event.")
        waiting = [event["data"]]
        while waiting:
            value = waiting.pop()
            if isinstance(value, dict):
                if "path" in value:
                    self.check_upload(value["path"])
                waiting += value.values()
            elif isinstance(value, list):
                waiting += value
        pictures, values = self.events[number], event["data"]
        if len(values) != len(pictures):
            raise Refused(422, f"The event has {len(pictures)} values on the page.")
        for at in (at for at, is_picture in enumerate(pictures) if is_picture):
            if isinstance(values[at], dict) and "path" in values[at]:
                values[at] = {"path": values[at]["path"], "meta": {"_type": "gradio.FileData"}}
            elif values[at] is not None:  # Gradio would log a traceback
                raise Refused(422, "The page sends a picture, or none.")
        return json.dumps({"data": values, "fn_index": number}).encode()

    async def pass_on(self, scope: Scope, body: bytes, receive: Receive, answer: Send) -> None:
        """Run the app on a request whose body was read, without what a client says of our name."""
        sent = scope["method"] != "POST"

        async def replay() -> Message:
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        headers = [each for each in scope["headers"] if each[0] not in NAMING]
        if scope["method"] == "POST":
            framing = (b"content-length", b"transfer-encoding")
            headers = [each for each in headers if each[0] not in framing]
            headers.append((b"content-length", str(len(body)).encode()))
        if scope["path"] == "/":
            answer = nameless(answer)
        await self.app(scope | {"headers": headers}, replay, answer)

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


def nameless(answer: Send) -> Send:
    """Return an answer that sends the page without this server's address in it.

    The page then asks wherever it was opened, whatever name a proxy gives to the server.
    """
    start, page = {}, bytearray()

    async def send(message: Message) -> None:
        nonlocal start
        if message["type"] == "http.response.start":
            start = message
            return
        page.extend(message.get("body", b""))
        if message.get("more_body"):
            return
        if page:  # the answer to HEAD has none
            page[:] = ROOT.sub(b'"root":""', bytes(page))
        headers = [each for each in start["headers"] if each[0] != b"content-length"]
        length = [(b"content-length", str(len(page)).encode())] if page else []
        await answer(start | {"headers": [*headers, *length]})
        await answer({"type": "http.response.body", "body": bytes(page), "more_body": False})

    return send
