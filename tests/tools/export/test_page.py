"""The page of an export in Debian's Chromium: make search's neighbours, and no other host."""

import contextlib
import functools
import http.server
import json
import shutil
import subprocess
import threading

import cv2
import numpy as np
import pytest
from playwright.sync_api import expect

from data_prep.lmdb_reader import open_rows
from tools.export import web


@pytest.fixture(scope="session")
def npm_package():
    """Skip where npm does not reach a registry that holds the package, and nothing is there yet."""
    if all((web.FOLDER / f"{name}.gz").is_file() for name in web.FILES):
        return
    command = ["npm", "view", web.PACKAGE, "version"]
    if not shutil.which("npm") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip(f"npm cannot reach {web.PACKAGE}")


@contextlib.contextmanager
def serving(folder):
    """Yield the address of a server of nothing but a folder."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    handler.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def site(npm_package, exported_run, folder_of):
    """The address of a server of the page's folder."""
    with serving(folder_of(exported_run) / "export" / "web") as address:
        yield address


@pytest.fixture
def page(browser, site):
    """The page, ready; whatever it asks of another host, or fails at, fails the test."""
    context = browser.new_context()
    page = context.new_page()
    hosts, broken = set(), []
    page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    page.on("response", lambda r: broken.append((r.status, r.url)) if r.status >= 400 else None)
    page.on("pageerror", lambda error: broken.append(str(error)))
    page.on("console", lambda said: broken.append(said.text) if said.type == "error" else None)
    page.goto(site)
    expect(page.locator("#about")).to_contain_text("pictures, codes of", timeout=60_000)
    yield page
    context.close()
    assert hosts - {""} == {site.removeprefix("http://")}
    assert broken == []


def shown(page, path):
    """What the page says of a picture: its code, and (distance, class, key) of the neighbours."""
    page.locator("#picture").set_input_files(path)
    expect(page.locator("#answer")).to_be_visible(timeout=60_000)
    lines = page.locator("#neighbours tr").all()
    cells = [line.locator("td").all_inner_texts() for line in lines]
    classes = page.locator("#classes li").all_inner_texts()
    return page.locator("#code").inner_text(), [tuple(line[1:]) for line in cells], classes


def test_the_same_neighbours_as_make_search(page, exported_run, tmp_path, command, options):
    """Test pictures, and ones that must be made smaller, larger and grey first."""
    job = {name: value for name, value in exported_run.items() if name != "said"}
    random = np.random.default_rng(5)
    with open_rows(job["--data-root"] / "digits" / "28x1" / "test_lmdb") as (_, read):
        pictures = {f"{row}.png": read([row])[0][0, 0] for row in range(0, 350, 70)}
    digit = pictures["0.png"]
    pictures["large.png"] = cv2.resize(digit, (133, 61), interpolation=cv2.INTER_CUBIC)
    pictures["twice.png"] = cv2.resize(digit, (56, 56), interpolation=cv2.INTER_CUBIC)
    pictures["small.png"] = cv2.resize(digit, (17, 20))
    pictures["colours.png"] = random.integers(0, 256, (40, 50, 3)).astype(np.uint8)
    pictures["grey.jpg"] = cv2.resize(digit, (90, 90))
    for name, pixels in pictures.items():
        cv2.imwrite(str(tmp_path / name), pixels)
        code, neighbours, classes = shown(page, tmp_path / name)
        query = ("--query", tmp_path / name, "--json", 1)
        expected = json.loads(command("tools.search", *options(job), *query).stdout)
        assert code == expected["code"], name
        assert neighbours == [
            (str(each["distance"]), each["label"], each["key"]) for each in expected["neighbours"]
        ], name
        assert classes[0].split()[0] == expected["classes"][0]["name"], name


def test_what_is_no_picture_is_said(page, tmp_path):
    (tmp_path / "no.png").write_bytes(b"nothing")
    page.locator("#picture").set_input_files(tmp_path / "no.png")
    expect(page.locator("#about")).to_contain_text("no picture that the browser can read")
    expect(page.locator("#answer")).to_be_hidden()


@pytest.mark.parametrize("name", ["model.onnx", "codes.bin"])
def test_what_was_changed_after_the_export_is_said(browser, npm_package, exported, folder_of, name):
    folder = folder_of(exported) / "export" / "web"
    with open(folder / name, "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x55")
    with serving(folder) as address:
        page = browser.new_page()
        page.goto(address)
        said = page.locator("#about.error")
        expect(said).to_have_text(f"{name} was changed after the export: export it again")
        expect(page.locator("#picture")).to_be_disabled()
        page.close()


def test_the_page_is_at_most_2_mb_beside_model_and_codes(site, exported_run, folder_of):
    folder = folder_of(exported_run) / "export" / "web"
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    of_net = sum(sizes.pop(name) for name in ("model.onnx", "codes.bin", "rows.json.gz"))
    assert of_net and sum(sizes.values()) < 2_000_000
