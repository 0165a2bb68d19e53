"""The page as a person meets it, in Debian's Chromium."""

import re

import cv2
import httpx
import numpy as np
import pytest
from playwright.sync_api import expect

PHONE = {"width": 360, "height": 740}


@pytest.fixture
def page(browser, server):
    """The page, opened; every request that it makes goes to its own server, or the test fails."""
    context = browser.new_context(permissions=["camera"])
    page = context.new_page()
    hosts, broken = set(), []
    page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    page.on("response", lambda r: broken.append((r.status, r.url)) if r.status >= 400 else None)
    page.on("pageerror", lambda error: broken.append(str(error)))
    page.goto(server.url)
    ready(page)
    yield page
    context.close()
    assert hosts - {""} == {server.url.removeprefix("http://")}
    assert broken == []


def ready(page):
    """Wait until the page can be used."""
    for part in (page.get_by_text("to see similar ones"), page.get_by_label("Capture from camera")):
        expect(part).to_be_visible(timeout=20_000)


def upload(page, path):
    """Choose a file as a person does, by the upload control; wait for an answer."""
    page.locator("#picture input[type=file]").set_input_files(path)
    expect(page.locator("#found .note[role=status]")).to_have_count(0, timeout=20_000)


def neighbours(page):
    """Return [(label, what is said of the distance)] of the neighbours that the page shows."""
    shown = page.locator("#found .neighbours li").all()
    return [(li.locator("b").inner_text(), li.locator("span").inner_text()) for li in shown]


def settled(page, text):
    """Wait until the answer has this text."""
    expect(page.locator("#found")).to_contain_text(text, timeout=20_000)


def test_a_person_searches_with_a_digit(page, digit, server, tmp_path):
    picture = digit(3)
    upload(page, picture)
    with picture.open("rb") as file:
        answer = httpx.post(f"{server.url}/api/search", files={"picture": file}).json()
    best = answer["classes"][0]
    first = page.locator("#found .classes li").first
    assert first.inner_text().split() == [best["name"], f"{best['probability']:.1%}"]
    assert page.locator("#found .code i").count() == 16
    code = page.get_by_role("img", name="Code").get_attribute("aria-label")
    assert code == f"Code {answer['code']}"
    labels = [one["label"] for one in answer["neighbours"]]
    assert [label for label, _ in neighbours(page)] == labels
    assert neighbours(page)[0][1] == "0 bits"
    page.wait_for_function(
        "[...document.querySelectorAll('#found img')]"
        ".every(i => i.complete && i.naturalWidth == 28)"
    )

    page.get_by_label("Category").click()
    page.get_by_role("option", name="4", exact=True).click()
    settled(page, "Nearest pictures in 4")
    assert {label for label, _ in neighbours(page)} == {"4"}

    page.get_by_label("32 bits").check()
    settled(page, "Code, 32 bits")
    assert page.locator("#found .code i").count() == 32

    page.get_by_label("Fine (features)").check()
    settled(page, "This run has no features")
    expect(page.get_by_role("alert")).to_be_visible()
    page.get_by_label("16 bits").check()
    settled(page, "Code, 16 bits")
    page.get_by_label("Category").click()
    page.get_by_role("option", name="All categories").click()
    settled(page, ", 0 bits")
    assert re.fullmatch(r"[\d.e-]+, 0 bits", neighbours(page)[0][1])
    page.screenshot(path=tmp_path / "page.png", full_page=True)


def test_the_keyboard_is_enough(page, digit):
    """Tab reaches the upload, every choice and the button; Enter and Space work them."""
    reached, dialogs = [], []
    page.on("filechooser", lambda dialog: dialogs.append(dialog))
    for _ in range(25):
        page.keyboard.press("Tab")
        name = page.evaluate(
            "(e => (e.getAttribute('aria-label') || e.innerText || e.value || '').trim())"
            "(document.activeElement)"
        )
        reached.append(name)
        if name.startswith("Drop an image file"):
            page.keyboard.press("Enter")
            while not dialogs:
                page.wait_for_timeout(20)
            dialogs[0].set_files(digit(5))
            expect(page.locator("#found .neighbours li").first).to_be_visible(timeout=20_000)
        elif name == "digits-32":
            page.keyboard.press("Space")
            settled(page, "Code, 32 bits")
        elif name == "Search":
            break
    assert reached[-1] == "Search", reached
    settled(page, "Code, 32 bits")
    page.keyboard.press("Enter")
    settled(page, "Code, 32 bits")


def test_a_phone_in_the_dark(page, digit, tmp_path):
    page.set_viewport_size(PHONE)
    page.emulate_media(color_scheme="dark")
    page.reload()
    ready(page)
    upload(page, digit(3))
    expect(page.locator("#found .neighbours li").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    for part in ("#found .code", "#found .neighbours", "#found .classes", "#picture"):
        box = page.locator(part).bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= PHONE["width"]
    page.screenshot(path=tmp_path / "phone.png", full_page=True)
    shot = cv2.imread(str(tmp_path / "phone.png"))
    assert shot[:, :8].mean() < 60  # the margin: dark
    page.emulate_media(color_scheme="light")
    page.reload()
    ready(page)
    light = cv2.imdecode(np.frombuffer(page.screenshot(), np.uint8), cv2.IMREAD_COLOR)
    assert light[:, :8].mean() > 200


def test_the_camera_takes_a_picture(page):
    page.get_by_label("Capture from camera").click()
    page.get_by_text("Click to Access Webcam").click()
    page.wait_for_function("document.querySelector('#picture video')?.videoWidth > 0")
    page.get_by_label("capture photo").click()
    expect(page.locator("#found .neighbours li")).to_have_count(10, timeout=20_000)


def test_what_is_no_picture_is_said_on_the_page(page, tmp_path, server):
    text = tmp_path / "photo.jpg"
    text.write_text("not a picture")
    page.locator("#picture input[type=file]").set_input_files(text)
    expect(page.get_by_role("alert")).to_contain_text("This is not a picture", timeout=20_000)
    assert "page: 415 This is not a picture" in server.log.read_text()
