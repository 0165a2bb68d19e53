"""The JSON API of a trained run under load and under attack; prints tables: `make bench-serve`.

Clients in this process ask one request after another, each the ten nearest pictures to a picture of
the test set, in several rounds, of which the last lines give the range. Every answer is compared
with codes.h5 and the evaluator's ranking.
"""

import asyncio
import itertools
import json
import re
import sys
import time
from collections.abc import Iterable
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from data_prep.lmdb_reader import open_rows
from eval.codes import read_codes
from eval.hamming import nearest
from tools.bench.serve_attacks import attack
from tools.bench.served import running_server
from tools.run.data import lmdb_of
from tools.run.failure import Failure, carry_out
from tools.run.job import Job, read_job, require_codes
from tools.search.answer import bits_of

CLIENTS = (1, 8, 32)
ROUNDS, SECONDS = 3, 20  # of each number of clients
PATIENCE = 60  # seconds until a request counts as lost
QUERIES = 500
TOP = 10


class Question(NamedTuple):
    """A request, and the code, rows and distances that the answer to it must have."""

    request: bytes
    code: str
    rows: list[int]
    distances: list[int]


class Tally(NamedTuple):
    """What came of requests: seconds of each, errors of the lost ones, answers that were wrong."""

    seconds: list[float]
    lost: list[Exception]
    wrong: list[bytes]


def questions(job: Job) -> list[Question]:
    """Return questions with pictures of the test set."""
    codes = read_codes(job.run / "codes.h5")
    asked = []
    with open_rows(lmdb_of(job.data, "query")) as (keys, read):
        for row in np.linspace(0, len(keys) - 1, min(QUERIES, len(keys))).astype(int):
            picture = cv2.imencode(".png", read([row])[0][0].transpose(1, 2, 0))[1].tobytes()
            code = codes.query.codes[row]
            rows, distances = nearest(code, codes.database.codes, TOP)
            expected = (bits_of(code, codes.bits), rows.tolist(), distances.tolist())
            asked.append(Question(request(picture), *expected))
    return asked


def request(picture: bytes) -> bytes:
    """Return the bytes of a request that a picture file is asked with."""
    part = 'Content-Disposition: form-data; name="picture"; filename="query"'
    body = f"--edge\r\n{part}\r\n\r\n".encode() + picture + b"\r\n--edge--\r\n"
    head = (
        "POST /api/search HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        "Content-Type: multipart/form-data; boundary=edge\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, question: Question
) -> tuple[int, bytes]:
    """Send a question's request; return the status and the body of its response."""
    async with asyncio.timeout(PATIENCE):
        writer.write(question.request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"content-length: (\d+)", head)[1])
        return int(head.split(b" ", 2)[1]), await reader.readexactly(length)


def is_right(status: int, body: bytes, question: Question) -> bool:
    """Return whether a response is the answer that it must be."""
    answer = json.loads(body)
    found = [(one["row"], one["distance"]) for one in answer.get("neighbours", [])]
    return (
        status == 200
        and answer["code"] == question.code
        and found == list(zip(question.rows, question.distances, strict=True))
    )


async def client(
    port: int, asked: Iterable[Question], *, until: float, tally: Tally, bar: tqdm
) -> None:
    """Ask one question after another until a time, and add to the tally what comes of them."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for question in asked:
        began = time.perf_counter()
        if began >= until:
            break
        try:
            status, body = await ask(reader, writer, question)
        except (OSError, EOFError) as error:
            tally.lost.append(error)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        else:
            tally.seconds.append(time.perf_counter() - began)
            if not is_right(status, body, question):
                tally.wrong.append(body)
        bar.update()
    writer.close()


async def measure(port: int, asked: list[Question], clients: int) -> Tally:
    """Return what came of the requests of so many clients, each of which begins at its own place.

    All of them go round the questions, for SECONDS.
    """
    tally = Tally([], [], [])
    until = time.perf_counter() + SECONDS
    starts = [i * len(asked) // clients for i in range(clients)]
    with tqdm(desc=f"{clients} clients", unit="request", mininterval=0.5) as bar:
        await asyncio.gather(
            *(
                client(
                    port,
                    itertools.cycle(asked[start:] + asked[:start]),
                    until=until,
                    tally=tally,
                    bar=bar,
                )
                for start in starts
            )
        )
    return tally


def ranges(clients: int, rows: list[list[float]]) -> str:
    """Return a line with the range of each figure over the rounds of so many clients."""
    low, high = np.min(rows, axis=0), np.max(rows, axis=0)
    per_second, *times = zip(low, high, strict=True)
    milliseconds = ", ".join(f"{least:.1f} to {most:.1f}" for least, most in times)
    return (
        f"{clients} clients: {per_second[0]:.0f} to {per_second[1]:.0f} requests a second; "
        f"p50, p95, p99: {milliseconds} ms"
    )


def main() -> None:
    """Serve the job's run and ask, then attack it; raise Failure where an answer is lost or wrong.

    The attacks are tools/bench/serve_attacks.py's.
    """
    job, _ = read_job(__doc__)
    require_codes(job)
    asked = questions(job)
    with running_server(sys.argv[1:]) as (port, _):
        print(f"{job.run.name}: {TOP} nearest of each request, {ROUNDS} rounds of {SECONDS} s each")
        print(f"{'clients':>7} {'requests':>9} {'per s':>7} {'p50 ms':>7} {'p95':>7} {'p99':>7} "
              f"{'lost':>5} {'wrong':>5}")  # fmt: skip
        failed, figures = 0, {clients: [] for clients in CLIENTS}
        for clients in CLIENTS * ROUNDS:
            seconds, lost, wrong = asyncio.run(measure(port, asked, clients))
            row = [len(seconds) / SECONDS, *1000 * np.percentile(seconds or [np.nan], (50, 95, 99))]
            figures[clients].append(row)
            print(
                f"{clients:7} {len(seconds):9} {row[0]:7.0f} {row[1]:7.1f} {row[2]:7.1f} "
                f"{row[3]:7.1f} {len(lost):5} {len(wrong):5}",
                flush=True,
            )
            failed += len(lost) + len(wrong)
    print(*(ranges(clients, rows) for clients, rows in figures.items()), sep="\n", flush=True)
    if failed:
        raise Failure(f"{failed} requests were lost or answered wrongly")
    attack(job, sys.argv[1:])


if __name__ == "__main__":
    carry_out(main)
