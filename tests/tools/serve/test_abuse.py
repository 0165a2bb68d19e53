"""What the service refuses, and what it survives: each answered, logged, and followed by life."""

import asyncio
import io
import json
import os
import socket
import struct
import time
import zlib
from collections import Counter
from contextlib import suppress
from urllib.parse import urlsplit

import cv2
import httpx
import numpy as np
import PIL.Image
import psutil
import pytest

from tools.serve.choices import ALL, EXACT
from tools.serve.gate import EVENT
from tools.serve.limits import LOG_LINES, MIB, PEER_CONNECTIONS


@pytest.fixture(autouse=True)
def lives_on(client, digit):
    """After each test the server answers a picture as before."""
    yield
    response = client.post("/api/search", files={"picture": digit(3).read_bytes()})
    assert response.status_code == 200
    assert response.json()["neighbours"][0]["distance"] == 0


@pytest.fixture
def logged(server):
    """Return the lines that the server has logged since the test began."""
    before = len(server.log.read_text())
    return lambda: server.log.read_text()[before:]


def connect(url):
    """Return a socket that is connected to a server."""
    return socket.create_connection((urlsplit(url).hostname, urlsplit(url).port))


def send(client, content, name="picture.jpg"):
    """Return (status, sentence) of a file sent to the API."""
    response = client.post("/api/search", files={"picture": (name, content)})
    return response.status_code, response.json().get("error")


def push(url, path, head, chunk, count):
    """Send a request and up to `count` chunks of its body; return the answer and bytes sent."""
    with connect(url) as peer:
        peer.sendall(f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{head}\r\n\r\n".encode())
        peer.setblocking(False)
        sent, answer = 0, b""
        for _ in range(count):
            left = memoryview(chunk)
            while left and b"\r\n\r\n" not in answer:
                with suppress(BlockingIOError):
                    answer += peer.recv(65536)
                try:
                    sent += (done := peer.send(left))
                    left = left[done:]
                except BlockingIOError:
                    time.sleep(0.001)
            if answer:
                break
        peer.settimeout(10)
        while not answer.endswith(b"}"):
            answer += peer.recv(65536)
    return answer.decode(), sent


def png(width, height, rows):
    """Return a PNG of `height` lines in its header and `rows` lines of zeros in its data."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    pack = zlib.compressobj(9)
    data = b"".join(pack.compress(bytes(1 + width // 8) * 1000) for _ in range(rows // 1000))
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    data += pack.flush()
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("path", ["/api/search", "/gradio_api/upload"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_gigabyte_is_refused_before_it_is_read(server, logged, path, framing):
    memory = psutil.Process(server.process.pid).memory_info().rss
    kind = "Content-Type: multipart/form-data; boundary=x\r\n"
    if framing == "length":
        answer, sent = push(
            *(server.url, path, kind + f"Content-Length: {1024 * MIB}", bytes(MIB), 1024)
        )
        assert sent < 10 * MIB
    else:
        chunk = b"%x\r\n" % MIB + bytes(MIB) + b"\r\n"
        answer, sent = push(*(server.url, path, kind + "Transfer-Encoding: chunked", chunk, 1024))
        assert sent < 40 * MIB
    assert answer.startswith("HTTP/1.1 413")
    assert '"The request is larger than 20 MiB."' in answer
    assert psutil.Process(server.process.pid).memory_info().rss - memory < 60 * MIB
    assert f"POST {path}: 413 The request is larger" in logged()


def test_a_decompression_bomb_is_refused_by_its_header(client, server, caffe_process, logged):
    bomb = png(30_000, 30_000, 30_000)  # 112 MB of bits, 2.7 GB of BGR
    assert len(bomb) < MIB
    memory = caffe_process().memory_info().rss
    began = time.monotonic()
    status, sentence = send(client, bomb)
    assert (status, sentence) == (413, "The picture has more than 50 million pixels.")
    assert time.monotonic() - began < 5
    smaller = png(8_000, 7_000, 7_000)
    assert send(client, smaller)[1].endswith("million pixels (8000 x 7000).")
    assert caffe_process().memory_info().rss - memory < MIB
    assert logged().count("413 The picture has more than") == 2


def test_types_go_by_content_not_by_name(client, digit, logged):
    assert send(client, b"not a picture", "photo.jpg")[0] == 415
    assert send(client, b"GIF89a" + bytes(40), "photo.png")[0] == 415
    assert send(client, b"<svg xmlns='http://www.w3.org/2000/svg'/>", "photo.jpg")[0] == 415
    assert send(client, b"", "photo.jpg")[0] in (415, 422)
    assert send(client, digit(3).read_bytes(), "notes.txt")[0] == 200
    assert "415 This is not a picture that can be read" in logged()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp"])
def test_a_picture_cut_short_is_said_to_be_damaged(client, suffix, logged):
    noise = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    whole = cv2.imencode(suffix, noise)[1].tobytes()
    assert send(client, whole)[0] == 200
    status, sentence = send(client, whole[: len(whole) // 2])
    assert status in (415, 422)
    assert "cannot be decoded (damaged, cut short" in sentence or "not a picture" in sentence
    assert f"{status} " in logged()


def test_no_path_of_a_client_is_opened(client, server, digit, tmp_path, logged):
    """Nor is one that Gradio would open: its file route, its events, names of uploads."""
    secret = tmp_path / "secret.png"
    secret.write_bytes(digit(3).read_bytes())
    dots = "/".join([".."] * 12)
    for path in (
        *(f"/gradio_api/file={secret}", f"/gradio_api/file={dots}{secret}"),
        *(f"/static/{dots}{secret}", f"/assets/{dots}{secret}", f"/%2e%2e/{dots}{secret}"),
        *(f"/api/runs/{dots}/pictures/1", f"/gradio_api/file/{secret}"),
        *("/gradio_api/file=http://127.0.0.1/", "/gradio_api/proxy=http://127.0.0.1/"),
        *("/monitoring", "/gradio_api/vibe-code", "/gradio_api/openapi.json", "/.git/config"),
        *("/config", "/gradio_api/heartbeat/x", "/gradio_api/queue/data?session_hash=x"),
    ):
        with socket.create_connection(
            (urlsplit(server.url).hostname, urlsplit(server.url).port)
        ) as s:
            s.sendall(
                f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
            )
            answer = b"".join(iter(lambda: s.recv(65536), b""))
        assert answer.split()[1] in (b"403", b"404"), path
        assert b"PNG" not in answer
    for path in (
        *("/gradio_api/run/answer", "/gradio_api/component_server", "/gradio_api/call/x"),
        *("/gradio_api/queue/join", "/gradio_api/reset", "/gradio_api/cancel"),
    ):
        assert client.post(path, json={"data": []}).status_code == 404
    file = {"path": str(secret), "meta": {"_type": "gradio.FileData"}}
    for value in (file, [file], file | {"path": "http://127.0.0.1/x.png"}, {"x": {"path": 3}}):
        event = {"data": [value], "fn_index": 0, "session_hash": "abc"}
        response = client.post(EVENT, json=event)
        assert response.status_code == 403
    deep = b'{"data":' + b"[" * 20_000 + b"]" * 20_000 + b"}"
    assert client.post(EVENT, content=deep).status_code == 400
    for event in ([], {"data": 3}, {"data": []}, {"data": [], "fn_index": 99}, {"fn_index": 0}):
        assert client.post(EVENT, json=event).status_code == 422
    uploaded = client.post(
        "/gradio_api/upload", files={"files": (f"{dots}{secret}", digit(3).read_bytes())}
    ).json()[0]
    assert "/ssdh-uploads-" in uploaded
    assert ".." not in uploaded
    assert client.get(f"/gradio_api/file={uploaded}").status_code == 200
    assert client.get(f"/gradio_api/file={uploaded}/../../x").status_code in (403, 404)
    assert send(client, digit(3).read_bytes(), f"{dots}/etc/passwd")[0] == 200
    assert "403 Only pictures that this page uploaded are opened" in logged()


def test_another_host_name_gets_nothing(client):
    """A web site that resolves its own name to this address reads no answer."""
    assert client.get("/api/runs", headers={"Host": "evil.example"}).status_code == 400


def ask_at_once(server, pictures, finish):
    """Return the responses to all pictures, sent at once."""

    async def run():
        limits = httpx.Limits(max_connections=len(pictures))
        async with httpx.AsyncClient(base_url=server.url, limits=limits, timeout=60) as client:
            asked = (client.post("/api/search", files={"picture": p}) for p in pictures)
            return await asyncio.gather(*asked)

    return finish(run())


def test_200_requests_at_once_are_all_answered(server, client, codes, digit, logged, finish):
    rows = [3, 5, 8, 13]
    pictures = [digit(rows[i % 4]).read_bytes() for i in range(200)]
    responses = ask_at_once(server, pictures, finish)
    statuses = Counter(response.status_code for response in responses)
    assert set(statuses) <= {200, 503}
    assert statuses[200] >= 64
    for i, response in enumerate(responses):
        if response.status_code == 200:
            code = "".join(map(str, np.unpackbits(codes.database.codes[rows[i % 4]])))
            assert response.json()["code"] == code
        else:
            assert "The server is busy" in response.json()["error"]
            assert response.headers["retry-after"] == "1"
    assert logged().count(": 503 The server is busy") == statuses[503]
    assert client.get("/api/health").json()["waiting"] == 0


def test_caffe_killed_while_serving_is_started_again(
    server, client, caffe_process, digit, logged, finish
):
    starts = client.get("/api/health").json()["caffe_starts"]
    victim = caffe_process()
    victim.suspend()  # so that requests are certainly in its hands

    async def kill_amid_requests():
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as many:
            picture = digit(3).read_bytes()
            asked = [
                asyncio.create_task(many.post("/api/search", files={"picture": picture}))
                for _ in range(20)
            ]
            while (await many.get("/api/health")).json()["waiting"] < 4:
                await asyncio.sleep(0.02)
            victim.kill()
            return await asyncio.gather(*asked)

    responses = finish(kill_amid_requests())
    statuses = Counter(response.status_code for response in responses)
    assert set(statuses) == {200, 503}
    for response in responses:
        if response.status_code == 503:
            assert "Caffe's process died with this picture in hand" in response.json()["error"]
    assert client.get("/api/health").json()["caffe_starts"] == starts + 1
    assert "Caffe's process died of SIGKILL" in logged()
    idle = caffe_process()
    idle.kill()  # while nothing is asked: nobody notices
    with suppress(psutil.NoSuchProcess, FileNotFoundError):  # all of its threads are to be gone
        while (
            idle.status() != psutil.STATUS_ZOMBIE or len(os.listdir(f"/proc/{idle.pid}/task")) > 1
        ):
            time.sleep(0.01)
    assert send(client, digit(3).read_bytes())[0] == 200
    assert caffe_process().pid != idle.pid


def test_a_body_that_stops_in_the_middle_harms_nobody(server, digit, logged):
    with socket.create_connection(
        (urlsplit(server.url).hostname, urlsplit(server.url).port)
    ) as peer:
        peer.sendall(
            b"POST /api/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9999\r\n\r\n"
            + digit(3).read_bytes()
        )
    deadline = time.monotonic() + 10
    while "400 The request ended before its body did" not in logged():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_events_of_the_page_are_small(client):
    response = client.post(EVENT, content=json.dumps({"data": "x" * 10**6}))
    assert response.status_code == 413


def test_values_that_the_page_does_not_send_are_refused_without_a_traceback(client, digit, logged):
    """Gradio logs one of 25 lines for each value that is of another kind than its component's."""
    (path,) = client.post("/gradio_api/upload", files={"files": digit(3).read_bytes()}).json()
    mine = {"path": path, "size": "large", "meta": {"_type": "gradio.FileData"}, "url": 7}
    strange = ['"x"', "-1", "true", "[]", "{}", "1e400", '"\\ud800"', '["../"]', "1" + 30 * "0"]
    for function in (0, 5):
        count = {0: 5, 5: 2}[function]
        for value in strange:
            for values in (
                [value] * count,
                [value] * (count + 1),
                [json.dumps(mine)] + [value] * 4,
            ):
                event = f'{{"fn_index": {function}, "data": [{", ".join(values)}]}}'
                assert client.post(EVENT, content=event).status_code in (200, 422), event
    page = {"data": [mine, "digits-16", ALL, EXACT, 10], "fn_index": 0}
    assert "10 neighbours" in client.post(EVENT, json=page).text
    assert client.get("/assets/" + "a" * 5000).status_code == 404
    fields = {f"x{number}": "1" for number in range(2000)}
    refused = client.post("/api/search", files={"picture": b"x"}, data=fields)
    assert refused.status_code == 400 and "Too many fields" in refused.json()["error"]
    assert "Traceback" not in logged()


def test_sessions_that_a_client_makes_up_are_not_kept(client, server, logged):
    """Gradio would keep what it answers to each; 300 unknown ones left 32,404 lines of log."""
    event = {"data": [None, "x", "x", "x", 10], "fn_index": 0}
    client.post(EVENT, json=event)
    memory = psutil.Process(server.process.pid).memory_info().rss
    for number in range(LOG_LINES + 20):
        session = {"session_hash": f"s{number}", "event_data": "x" * 10_000}
        assert client.post(EVENT, json=event | session).status_code == 200
        address = f"/gradio_api/queue/data?session_hash=x{number}"
        assert client.get(address).status_code == 404
    assert psutil.Process(server.process.pid).memory_info().rss - memory < 5 * MIB
    assert len(logged().splitlines()) <= LOG_LINES
    assert "Traceback" not in logged()


@pytest.mark.parametrize("path", ["/api/search", "/gradio_api/upload"])
def test_a_page_of_another_site_sends_nothing(client, digit, path, server):
    field = "picture" if path == "/api/search" else "files"
    own = server.url
    for headers, status in (
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": own, "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": own}, 200),
        ({"Origin": "https://photos.example", "Sec-Fetch-Site": "same-origin"}, 200),
    ):
        sent = {field: digit(3).read_bytes()}
        assert client.post(path, files=sent, headers=headers).status_code == status


def test_no_header_names_the_server_and_nobody_frames_the_page(client):
    for name in ("X-Forwarded-Host", "X-Gradio-Server", "Forwarded"):
        shown = client.get("/", headers={name: "http://evil.example"})
        assert "evil.example" not in shown.text
    assert "frame-ancestors 'none'" in shown.headers["content-security-policy"]
    assert '"root":""' in shown.text


def test_idle_and_slow_connections_lock_nobody_out(server, client):
    """More than one address may have, of three kinds: all of them give way to who asks."""
    slow = b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n\r\n12"
    peers = []
    for number in range(PEER_CONNECTIONS + 60):
        peers.append(connect(server.url))
        peers[-1].sendall([b"", b"GET / HTTP/1.1\r\nX: ", slow][number % 3])
    with httpx.Client(base_url=server.url, timeout=5) as another:
        assert another.get("/api/health").status_code == 200
    peers[0].settimeout(5)
    with suppress(ConnectionResetError):
        assert peers[0].recv(1) == b""
    for peer in peers:
        peer.close()


def test_a_jpeg_of_many_scans_is_refused_by_its_header(client, logged):
    file = io.BytesIO()
    PIL.Image.new("L", (64, 64), 200).save(file, "JPEG", progressive=True)
    whole = file.getvalue()
    assert send(client, whole)[0] == 200
    last = whole.rindex(b"\xff\xda")
    status, sentence = send(client, whole[:-2] + whole[last:-2] * 1000 + b"\xff\xd9")
    assert (status, sentence.split(" scans; ")[1]) == (413, "at most 100 are decoded.")
