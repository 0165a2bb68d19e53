"""The JSON API of a trained run under load; prints the table: `make bench-serve`.

Clients in this process ask one request after another, each the ten nearest pictures to a picture of
the test set. Every answer is compared with codes.h5 and the evaluator's ranking.
"""

import asyncio
import json
import re
import subprocess
import sys
import time

import cv2
import numpy as np
from tqdm import tqdm

from data_prep.lmdb_reader import open_rows
from eval.codes import read_codes
from eval.hamming import nearest
from tools.codes.extract import SPLITS
from tools.run.job import REPO, parser, resolve, stop

CLIENTS = (1, 8, 32)
SECONDS = 60
QUERIES = 500
TOP = 10


def questions(job):
    """Return [(HTTP request, code, rows, distances)], the last three as the answer must be."""
    codes = read_codes(job["run"] / "codes.h5")
    asked = []
    with open_rows(job["data"] / f"{SPLITS['query']}_lmdb") as (keys, read):
        for row in np.linspace(0, len(keys) - 1, min(QUERIES, len(keys))).astype(int):
            picture = cv2.imencode(".png", read([row])[0][0].transpose(1, 2, 0))[1].tobytes()
            code = codes.query.codes[row]
            rows, distances = nearest(code, codes.database.codes, TOP)
            bits = "".join(map(str, np.unpackbits(code)[: codes.bits]))
            asked.append((request(picture), bits, rows.tolist(), distances.tolist()))
    return asked


def request(picture):
    """Return the bytes of a request that a picture file is asked with."""
    part = 'Content-Disposition: form-data; name="picture"; filename="query"'
    body = f"--edge\r\n{part}\r\n\r\n".encode() + picture + b"\r\n--edge--\r\n"
    head = (
        "POST /api/search HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        "Content-Type: multipart/form-data; boundary=edge\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def ask(reader, writer, question):
    """Send a request; return the status and the body of its response."""
    writer.write(question)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(re.search(rb"content-length: (\d+)", head)[1])
    return int(head.split(b" ", 2)[1]), await reader.readexactly(length)


def is_right(status, body, bits, rows, distances):
    """Say whether a response is the answer that it must be."""
    answer = json.loads(body)
    found = [(one["row"], one["distance"]) for one in answer.get("neighbours", [])]
    return (
        status == 200
        and answer["code"] == bits
        and found == list(zip(rows, distances, strict=True))
    )


async def client(port, asked, start, until, times, lost, wrong, bar):
    """Ask from question `start` on until a time; append seconds to times, questions to others."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    place = start
    while time.perf_counter() < until:
        question, *expected = asked[place % len(asked)]
        began = time.perf_counter()
        try:
            status, body = await ask(reader, writer, question)
        except (OSError, EOFError) as error:
            lost.append(error)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        else:
            times.append(time.perf_counter() - began)
            if not is_right(status, body, *expected):
                wrong.append(body)
        bar.update()
        place += 1
    writer.close()


async def measure(port, asked, clients):
    """Return (seconds of each request, errors of lost ones, wrong answers) of so many clients."""
    times, lost, wrong = [], [], []
    until = time.perf_counter() + SECONDS
    with tqdm(desc=f"{clients} clients", unit="request", mininterval=0.5) as bar:
        await asyncio.gather(
            *(
                client(port, asked, i * len(asked) // clients, until, times, lost, wrong, bar)
                for i in range(clients)
            )
        )
    return times, lost, wrong


def main():
    args = parser(__doc__).parse_args()
    job = resolve(args)
    asked = questions(job)
    server = subprocess.Popen(
        [sys.executable, "-m", "tools.serve", *sys.argv[1:], "--port", "0"],
        cwd=REPO,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        lines = iter(server.stdout.readline, "")
        port = next((int(m[1]) for m in (re.search(r":(\d+),", line) for line in lines) if m), None)
        if port is None:
            stop("the server did not start; its words are above")
        print(f"{job['run'].name}: {TOP} nearest of each request, {SECONDS} s each")
        print(f"{'clients':>7} {'requests':>9} {'per s':>7} {'p50 ms':>7} {'p95':>7} {'p99':>7} "
              f"{'lost':>5} {'wrong':>5}")  # fmt: skip
        failed = 0
        for clients in CLIENTS:
            times, lost, wrong = asyncio.run(measure(port, asked, clients))
            p50, p95, p99 = 1000 * np.percentile(times, (50, 95, 99))
            print(
                f"{clients:7} {len(times):9} {len(times) / SECONDS:7.0f} {p50:7.1f} {p95:7.1f} "
                f"{p99:7.1f} {len(lost):5} {len(wrong):5}",
                flush=True,
            )
            failed += len(lost) + len(wrong)
    finally:
        server.terminate()
        ended = server.wait()
    if failed or ended:
        stop(f"{failed} requests were lost or answered wrongly; the server ended with {ended}")


if __name__ == "__main__":
    main()
