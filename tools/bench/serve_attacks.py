"""The service of a trained run under attack; prints a table, draws its memory: `make bench-serve`.

While each attack lasts, an honest client at another address asks a question; the table says when it
was answered, what the server's processes took in memory, and what the log grew by.
"""

import asyncio
import io
import json
import os
import re
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import PIL.Image
import psutil
from tqdm import tqdm

from tools.bench.served import running_server
from tools.run.job import Job

ATTACKER, HONEST = "127.0.0.1", "127.0.0.2"
SOCKETS = 600
HOLD_SECONDS = 15
PATIENCE_SECONDS = 180
MIB = 2**20
REQUESTS, LANES = 100_000, 8
HEAD = "Host: 127.0.0.1\r\n"
CLOSED = (403, 404, 405)


class Target(NamedTuple):
    """A server that is attacked: its port, its process, its log, and a small picture."""

    port: int
    process: psutil.Process
    log: Path
    picture: bytes


class Row(NamedTuple):
    """A line of the table: what was done, what the honest client got, and what came of it."""

    attack: str
    honest: str
    outcome: str


async def ask(
    target: Target, request: bytes, source: str = ATTACKER, patience: float = PATIENCE_SECONDS
) -> tuple[int, bytes]:
    """Return the status and body of a request's answer, on a connection of its own; 0 for none."""
    writer = None
    try:
        async with asyncio.timeout(patience):
            reader, writer = await asyncio.open_connection(
                ATTACKER, target.port, local_addr=(source, 0)
            )
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            status = int(head.split(b" ", 2)[1])
            if request.startswith(b"HEAD"):
                return status, b""
            body = await reader.readexactly(int(length[1])) if length else await reader.read(4096)
            return status, body
    except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError, IndexError):
        return 0, b""
    finally:
        if writer is not None:
            writer.transport.abort()


def get(path: str, headers: str = HEAD, method: str = "GET") -> bytes:
    """Return the bytes of a request without a body."""
    length = "" if method in ("GET", "HEAD") else "Content-Length: 0\r\n"
    return f"{method} {path} HTTP/1.1\r\n{headers}{length}\r\n".encode()


def post(path: str, body: bytes, kind: str = "application/json", headers: str = HEAD) -> bytes:
    """Return the bytes of a request with a body."""
    head = f"POST {path} HTTP/1.1\r\n{headers}Content-Type: {kind}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def form(path: str, field: str, content: bytes, headers: str = HEAD) -> bytes:
    """Return the bytes of a request with a file in a form."""
    part = f'Content-Disposition: form-data; name="{field}"; filename="a.png"'
    body = f"--edge\r\n{part}\r\n\r\n".encode() + content + b"\r\n--edge--\r\n"
    return post(path, body, "multipart/form-data; boundary=edge", headers)


def memory(target: Target) -> float:
    """Return the MiB of the server's process."""
    return target.process.memory_info().rss / MIB


async def honest(target: Target, attack: asyncio.Future | None = None) -> str:
    """Return what a picture asked from another address got, and after how many seconds.

    attack: while it lasts the picture is asked again; the slowest answer is returned.
    """
    slowest = (0.0, 0)
    while True:
        began = time.monotonic()
        while True:
            status, _ = await ask(target, form("/api/search", "picture", target.picture), HONEST)
            seconds = time.monotonic() - began
            if status == 200 or seconds > PATIENCE_SECONDS:
                break
            await asyncio.sleep(0.2)
        slowest = max(slowest, (seconds, status))
        if attack is None or attack.done():
            return f"{slowest[1]} after {slowest[0]:.1f} s"
        await asyncio.sleep(0.2)


async def hold(target: Target, first: bytes, more: bytes = b"") -> Row:
    """Hold SOCKETS connections that send something first and then a little each second."""
    sockets = []
    for _ in range(SOCKETS):
        peer = socket.create_connection((ATTACKER, target.port))
        peer.setblocking(False)
        with suppress(OSError):
            peer.send(first)
        sockets.append(peer)
    own, own_status = asyncio.create_task(honest(target)), 0
    for _ in range(HOLD_SECONDS):
        await asyncio.sleep(1)
        if own_status != 200:
            own_status, _ = await ask(target, get("/api/health"), patience=5)
        for peer in sockets:
            with suppress(OSError):
                peer.send(more)
    left = sum(map(is_open, sockets))
    said = own.result() if own.done() else f"none in {HOLD_SECONDS} s"
    for peer in sockets:
        peer.close()
    if not own.done():
        said += f", then {await own}"
    return Row("", said, f"{left} of {SOCKETS} still held after {HOLD_SECONDS} s; "
                         f"the same address gets {own_status}")  # fmt: skip


def is_open(peer: socket.socket) -> bool:
    """Return whether the other end of a connection has not hung up."""
    try:
        while peer.recv(65536):
            pass
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


async def flood(
    target: Target, requests: list[bytes], outcome: Callable[[Counter], str], at_once: int = 8
) -> Row:
    """Send requests, some at once, while the honest client asks."""
    statuses, waiting = Counter(), iter(requests)

    async def lane() -> None:
        for request in waiting:
            statuses[(await ask(target, request, patience=PATIENCE_SECONDS))[0]] += 1

    asked = asyncio.gather(*(lane() for _ in range(at_once)))
    said = await honest(target, asked)
    await asked
    return Row("", said, outcome(statuses))


def counts(statuses: Counter) -> str:
    """Return statuses and how often they were answered."""
    return ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))


def many_scans(side: int, scans: int) -> bytes:
    """Return a progressive JPEG, side x side, whose last scan is repeated."""
    file = io.BytesIO()
    PIL.Image.new("L", (side, side), 200).save(file, "JPEG", progressive=True)
    whole = file.getvalue()
    last = whole.rindex(b"\xff\xda")
    return whole[:-2] + whole[last:-2] * (scans - whole.count(b"\xff\xda")) + b"\xff\xd9"


def uploads_left(target: Target) -> str:
    """Return how many files and MiB lie in the server's folder of uploads."""
    folders = [
        path
        for path in Path(tempfile.gettempdir()).glob("ssdh-uploads-*")
        if path.stat().st_mtime >= target.process.create_time() - 5
    ]
    sizes = [path.stat().st_size for each in folders for path in each.rglob("*") if path.is_file()]
    return f"{len(sizes)} files of {sum(sizes) / MIB:.0f} MiB kept"


def routes() -> list[tuple[str, str]]:
    """Return the routes of Gradio's own app, (method, path), with something in each parameter."""
    import gradio as gr
    from fastapi import FastAPI
    from gradio.routes import App

    with gr.Blocks() as page:
        picture = gr.Image()
        gr.Button().click(lambda value: value, picture, picture)
    found, waiting = set(), list(App.create_app(page).routes)
    waiting += gr.mount_gradio_app(FastAPI(), page, "/").routes
    while waiting:
        route = waiting.pop()
        waiting += getattr(route, "routes", None) or []
        router = getattr(route, "original_router", None)
        waiting += getattr(router, "routes", None) or []
        path = re.sub(r"\{[^}]*\}", "x", getattr(route, "path", ""))
        for method in getattr(route, "methods", None) or ():
            found.add((method, path))
            found.add((method, f"/gradio_api{path}"))
    return sorted(found)


async def try_routes(target: Target) -> Row:
    """Ask every route of Gradio, and tell which are not closed."""
    found = routes()
    opened = []
    for method, path in tqdm(found, desc="routes", unit="route", mininterval=0.5):
        request = post(path, b"{}") if method == "POST" else get(path, method=method)
        status, _ = await ask(target, request, patience=4)
        if status not in CLOSED:
            opened.append(f"{method} {path} {status or 'silent'}")
    return Row("every route of Gradio", await honest(target),
               f"{len(opened)} of {len(found)} are open: {', '.join(opened)}")  # fmt: skip


async def endure(target: Target) -> tuple[Row, np.ndarray]:
    """Send REQUESTS of all kinds; return the row, and requests and MiB, float (n, 2)."""
    kinds = [get("/api/health")] * 12 + [get("/api/runs")] * 3 + [get("/nothing")]
    kinds += [form("/api/search", "picture", target.picture)]
    kinds += [form("/gradio_api/upload", "files", target.picture), post("/api/search", b"{}")]
    statuses, curve, numbers = Counter(), [], iter(range(REQUESTS))
    with tqdm(total=REQUESTS, desc="requests", mininterval=0.5) as bar:

        async def lane() -> None:
            writer = None
            for number in numbers:
                if number % (REQUESTS // 200) == 0:
                    curve.append((number, memory(target)))
                try:
                    if writer is None:
                        reader, writer = await asyncio.open_connection(ATTACKER, target.port)
                    writer.write(kinds[number % len(kinds)])
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
                    await reader.readexactly(int(length[1]))
                    statuses[int(head.split(b" ", 2)[1])] += 1
                    if b"connection: close" in head.lower():
                        writer.close()
                        writer = None
                except (OSError, EOFError):
                    statuses[0] += 1
                    writer = None
                bar.update()

        began = time.monotonic()
        await asyncio.gather(*(lane() for _ in range(LANES)))
        seconds = time.monotonic() - began
    curve = np.array(sorted(curve))
    half = curve[len(curve) // 2 :, 1]
    outcome = f"{counts(statuses)}; {curve[0, 1]:.0f} MiB first, second half {half.min():.0f} to "
    outcome += f"{half.max():.0f}; {seconds:.0f} s"
    return Row(f"{REQUESTS:,} requests", await honest(target), outcome), curve


def draw(curve: np.ndarray, path: Path) -> None:
    """Draw the memory of a server over its requests, float (n, 2), into a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.plot(curve[:, 0], curve[:, 1])
    axes.set(xlabel="requests", ylabel="MiB of the server's process")
    axes.set_ylim(0, 1.2 * curve[:, 1].max())
    axes.set_title(f"The service's memory over {REQUESTS:,} requests")
    axes.grid(alpha=0.3)
    FigureCanvasAgg(figure).print_png(path)


def attacks(target: Target) -> list[tuple[str, Callable[[], Awaitable[Row]]]]:
    """Return the attacks by their names."""
    tiny = [cv2.imencode(".png", np.full((1, 1, 3), (i % 256, i // 256, 0), np.uint8))[1].tobytes()
            for i in range(5000)]  # fmt: skip
    big = [os.urandom(20 * MIB) for _ in range(3)]
    evil = HEAD + "Origin: http://evil.example\r\nSec-Fetch-Site: cross-site\r\n"
    foreign = [form("/api/search", "picture", target.picture, evil),
               form("/gradio_api/upload", "files", target.picture, evil),
               get("/api/runs", "Host: evil.example\r\n")]  # fmt: skip
    event = {"data": [None, "x", "x", "x", 10], "fn_index": 0}
    joins = [post("/gradio_api/queue/join", json.dumps(event | {"session_hash": f"s{i}"}).encode())
             for i in range(3000)]  # fmt: skip
    sessions = [post("/gradio_api/run/predict",
                     json.dumps(event | {"session_hash": f"r{i}"}).encode())
                for i in range(3000)]  # fmt: skip
    data = [get(f"/gradio_api/queue/data?session_hash=x{i}") for i in range(300)]
    head = f"POST /api/search HTTP/1.1\r\n{HEAD}Content-Length: 9999\r\n\r\n12345".encode()
    unread = get("/assets/x") * 2 + get("/") * 20

    async def reflected() -> Row:
        found = []
        names = {"X-Forwarded-Host": "evil.example", "X-Gradio-Server": "http://evil.example"}
        for name, value in names.items():
            for path in ("/", "/config"):
                headers = f"{HEAD}{name}: {value}\r\n"
                if b"evil.example" in (await ask(target, get(path, headers)))[1]:
                    found.append(f"{name} in {path}")
        return Row("", await honest(target), f"repeated: {', '.join(found) or 'none'}")

    def kept(statuses: Counter) -> str:
        return f"{counts(statuses)}; {uploads_left(target)}"

    async def large() -> Row:
        requests = [form("/gradio_api/upload", "files", big[i % 3][i:]) for i in range(30)]
        row = await flood(target, requests, kept, 2)
        own = form("/gradio_api/upload", "files", target.picture)
        status, _ = await ask(target, own, HONEST)
        return row._replace(outcome=f"{row.outcome}; another address's upload gets {status}")

    async def scans(side: int, count: int) -> Row:
        picture = form("/api/search", "picture", many_scans(side, count))
        return await flood(target, [picture], counts, 1)

    return [
        (f"{SOCKETS} idle connections", lambda: hold(target, b"")),
        (f"{SOCKETS} slow heads", lambda: hold(target, b"GET / HTTP/1.1\r\nX: ", b"x")),
        (f"{SOCKETS} slow bodies", lambda: hold(target, head, b"x")),
        (f"{SOCKETS} answers that are not read", lambda: hold(target, unread)),
        ("5,000 tiny uploads", lambda: flood(
            target, [form("/gradio_api/upload", "files", each) for each in tiny], kept)),
        ("30 uploads of 20 MiB", large),
        ("foreign Origin, twice, and Host", lambda: flood(target, foreign, counts, 1)),
        ("names of the server in headers", reflected),
        ("300 unknown sessions", lambda: flood(target, data, counts)),
        ("3,000 sessions joined, not read", lambda: flood(target, joins, counts)),
        ("3,000 sessions of events", lambda: flood(target, sessions, counts)),
        ("JPEG, 4 MP of 20,000 scans", lambda: scans(2000, 20_000)),
        ("JPEG, 49 MP of 90 scans", lambda: scans(7000, 90)),
        ("JPEG, 49 MP of 100,006 scans", lambda: scans(7000, 100_006)),
        ("every route of Gradio", lambda: try_routes(target)),
    ]  # fmt: skip


def attack(job: Job, arguments: list[str]) -> None:
    """Serve the job's run, attack it, and print the table; its memory goes to serve-memory.png."""
    picture = cv2.imencode(".png", np.zeros((28, 28), np.uint8))[1].tobytes()
    print(f"{job.run.name} under attack from {ATTACKER}; an honest client asks from {HONEST}")
    print(f"{'attack':33} {'honest client':18} {'MiB':>11} {'log lines':>9}  outcome", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with open(log, "w") as stderr, running_server(arguments, stderr) as (port, server):
            target = Target(port, psutil.Process(server.pid), log, picture)
            asyncio.run(honest(target))
            for name, make in attacks(target):
                show(target, name, lambda make=make: asyncio.run(make()))
            curves = []

            def last() -> Row:
                row, curve = asyncio.run(endure(target))
                curves.append(curve)
                return row

            show(target, f"{REQUESTS:,} requests", last)
            draw(curves[0], job.run / "serve-memory.png")
            health = json.loads(asyncio.run(ask(target, get("/api/health")))[1])
        text = log.read_text()
        print(f"the log: {len(text.splitlines()):,} lines, {text.count('Traceback')} tracebacks; "
              f"Caffe's process was started {health['caffe_starts']} time(s); memory: "
              f"{job.run / 'serve-memory.png'}")  # fmt: skip


def show(target: Target, name: str, run: Callable[[], Row]) -> None:
    """Run an attack and print its line."""
    before, lines = memory(target), len(target.log.read_text().splitlines())
    row = run()
    grown = len(target.log.read_text().splitlines()) - lines
    sizes = f"{before:.0f} > {memory(target):.0f}"
    print(f"{name:33} {row.honest:18} {sizes:>11} {grown:9,}  {row.outcome}", flush=True)
