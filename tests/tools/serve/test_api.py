"""The JSON API: answers equal to codes.h5 and the evaluator's ranking, and its schema."""

import asyncio
import os
import shutil
import signal

import cv2
import h5py
import httpx
import numpy as np
import psutil
import pytest

from eval.hamming import nearest

from .conftest import serving


def ask(client, picture, **fields):
    """Return the response to a picture file."""
    return client.post("/api/search", files={"picture": picture.read_bytes()}, data=fields)


@pytest.mark.parametrize("row", [3, 700])
def test_a_database_picture_gets_its_own_code_and_the_evaluators_ranking(client, codes, digit, row):
    answer = ask(client, digit(row), top=50).json()
    code = codes.database.codes[row]
    assert answer["code"] == "".join(map(str, np.unpackbits(code)))
    rows, distances = nearest(code, codes.database.codes, 50)
    assert [one["row"] for one in answer["neighbours"]] == rows.tolist()
    assert [one["distance"] for one in answer["neighbours"]] == distances.tolist()
    for one in answer["neighbours"]:
        assert one["key"] == codes.database.keys[one["row"]].decode()
        assert one["label"] == codes.class_names[codes.database.labels[one["row"]]]
    assert answer["classes"][0]["name"] == codes.class_names[codes.database.predictions[row]]


def test_a_category_keeps_its_pictures_alone(client, codes, digit):
    answer = ask(client, digit(3), category="4", top=20).json()
    among = np.flatnonzero(codes.database.labels == 4)
    found, distances = nearest(codes.database.codes[3], codes.database.codes[among], 20)
    assert [one["row"] for one in answer["neighbours"]] == among[found].tolist()
    assert [one["distance"] for one in answer["neighbours"]] == distances.tolist()


def test_fine_search_ranks_near_codes_by_their_features(client, codes, digit, runs, folder_of):
    answer = ask(client, digit(3), fine="true", top=20).json()
    with h5py.File(folder_of(runs["digits-16"]) / "features.h5") as file:
        features = file["database/features"][:]
    bits = np.unpackbits(codes.database.codes ^ codes.database.codes[3], axis=1).sum(axis=1)
    candidates = np.flatnonzero(bits <= answer["radius"])
    away = np.linalg.norm(features[candidates] - features[3], axis=1)
    assert answer["neighbours"][0]["row"] == 3
    np.testing.assert_allclose(
        [one["euclidean"] for one in answer["neighbours"]], np.sort(away)[:20], atol=1e-3
    )
    assert all(one["distance"] <= answer["radius"] for one in answer["neighbours"])


def test_runs_of_one_data_set_are_switchable(client, digit):
    first, second = client.get("/api/runs").json()
    assert (first["name"], first["bits"], first["fine"]) == ("digits-16", 16, True)
    assert (second["name"], second["bits"], second["fine"]) == ("digits-32", 32, False)
    answer = ask(client, digit(3), run="digits-32").json()
    assert (answer["bits"], len(answer["code"])) == (32, 32)
    refused = ask(client, digit(3), run="digits-32", fine="true")
    assert refused.status_code == 422
    assert "no features" in refused.json()["error"]


def test_neighbours_pictures_are_those_of_the_data(client, digit):
    neighbour = ask(client, digit(3), top=1).json()["neighbours"][0]
    shown = client.get(neighbour["picture"])
    assert shown.headers["content-type"] == "image/png"
    pixels = cv2.imdecode(np.frombuffer(shown.content, np.uint8), cv2.IMREAD_GRAYSCALE)
    expected = cv2.imread(str(digit(neighbour["row"])), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(pixels, expected)


def test_wrong_fields_are_said(client, digit):
    for fields, status, said in (
        ({"top": 0}, 422, "top: "),
        ({"top": "many"}, 422, "top: "),
        ({"run": "../digits-16"}, 404, "no run of this name"),
        ({"category": "cat"}, 422, "no category of this name"),
    ):
        response = ask(client, digit(3), **fields)
        assert response.status_code == status
        assert said in response.json()["error"]
    assert client.post("/api/search").status_code in (411, 422)
    assert client.get("/api/runs/digits-16/pictures/100000").status_code == 404


def test_the_schema_is_documented_and_its_page_needs_no_other_host(client):
    schema = client.get("/openapi.json").json()
    assert set(schema["paths"]) == {
        *("/api/runs", "/api/health", "/api/search", "/api/runs/{run}/pictures/{row}"),
    }
    assert schema["components"]["schemas"]["Answer"]["properties"]["code"]["description"]
    page = client.get("/docs").text
    assert "swagger-ui-bundle.js" in page
    assert "https://" not in page


def test_only_this_machine_is_served_by_default(server):
    listening = psutil.Process(server.process.pid).net_connections("inet")
    addresses = {one.laddr.ip for one in listening if one.status == psutil.CONN_LISTEN}
    assert addresses == {"127.0.0.1"}


def test_what_cannot_be_served_is_said(server, runs, options, command, tmp_path):
    port = server.url.rsplit(":", 1)[1]
    for job, more, said in (
        (runs["digits-16"], ("--port", port), "address already in use"),
        (runs["digits-16"], ("--port", "http"), "PORT=http is not a whole number"),
        (runs["digits-16"] | {"--runs": tmp_path}, ("--port", "0"), "run 'make index'"),
    ):
        done = command("tools.serve", *options(job), *more)
        assert done.returncode == 1
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def test_a_log_that_cannot_be_written_is_said(runs, options, command, folder_of, tmp_path):
    shutil.copytree(folder_of(runs["digits-16"]), tmp_path / runs["digits-16"]["--run"])
    job = runs["digits-16"] | {"--runs": tmp_path}
    log = folder_of(job) / "serve.log"
    log.unlink(missing_ok=True)
    log.mkdir()
    done = command("tools.serve", *options(job), "--port", "0", timeout=60)
    assert done.returncode == 1
    assert f"error: {log}: Is a directory" in done.stderr
    assert "Traceback" not in done.stderr


def test_sigterm_drains_and_exits_with_0(runs, options, digit, tmp_path, finish):
    """Requests that have been taken are answered before the server ends."""
    picture = digit(3).read_bytes()
    with serving(runs["digits-16"], options, tmp_path / "log") as server:

        async def stop_amid_requests():
            async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
                await client.get("/api/runs")
                beat = asyncio.create_task(client.get("/gradio_api/heartbeat/abc"))
                asked = [
                    asyncio.create_task(client.post("/api/search", files={"picture": picture}))
                    for _ in range(30)
                ]
                while not (await client.get("/api/health")).json()["waiting"]:
                    if all(task.done() for task in asked):
                        break
                os.kill(server.process.pid, signal.SIGTERM)
                answers = await asyncio.gather(*asked, return_exceptions=True)
                await asyncio.gather(beat, return_exceptions=True)
                return answers

        answers = finish(stop_amid_requests())
        taken = [answer for answer in answers if isinstance(answer, httpx.Response)]
        assert taken
        assert {answer.status_code for answer in taken} == {200}
        # a connection that was not taken yet is refused, never cut
        assert all(isinstance(a, httpx.Response | httpx.ConnectError) for a in answers)
        assert server.process.wait(timeout=15) == 0
        assert server.process.stdout.read().splitlines()[-1] == "stopped"
    assert "Traceback" not in server.log.read_text()
