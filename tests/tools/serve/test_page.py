"""The page as a person meets it, in Debian's Chromium."""

import re
from types import SimpleNamespace

import cv2
import httpx
import numpy as np
import pytest
from playwright.sync_api import expect

from tools.serve.choices import EXACT, FINE, orders

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

    expect(page.get_by_label("Fine (features)")).to_have_count(0)  # that run has no features
    page.get_by_label("16 bits").check()
    settled(page, "Code, 16 bits")
    page.get_by_label("Fine (features)").check()
    settled(page, "Nearest pictures in 4")
    page.get_by_label("32 bits").check()
    settled(page, "Code, 32 bits")
    expect(page.get_by_label("Exact (Hamming)")).to_be_checked()
    page.get_by_label("16 bits").check()
    settled(page, "Code, 16 bits")
    page.get_by_label("Fine (features)").check()
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


def first_class(page):
    """Return the most probable class that the page shows."""
    return page.locator("#found .classes .label").first.inner_text()


def test_the_page_has_pictures_to_try_and_neighbours_lead_on(page, codes):
    """One of the test set, then a neighbour of it; keys can be read and pictures opened."""
    page.get_by_alt_text("Test picture 4").click()
    settled(page, "Nearest pictures")
    expect(page.locator("#found .neighbours li")).to_have_count(10)
    keys = page.locator("#found .neighbours small").all_inner_texts()
    assert set(keys) <= {key.decode() for key in codes.database.keys}
    link = page.locator("#found .neighbours a").nth(5)
    assert re.fullmatch(r"api/runs/digits-16/pictures/\d+", link.get_attribute("href"))
    assert link.get_attribute("target") == "_blank"
    before = page.locator("#picture img").get_attribute("src")
    page.get_by_role("button", name=f"Search with {keys[5]}", exact=True).click()
    page.wait_for_function(f"document.querySelector('#picture img')?.src != '{before}'")
    settled(page, "0 bits")


def test_a_drawing_is_searched_and_a_negative_is_offered_inverted(page, tmp_path):
    """Ink on paper as the training pictures are; black on white is said, and inverted."""
    page.get_by_text("Draw a picture").click()
    canvas = page.locator("#draw canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"]
    page.mouse.move(x, y + 0.15 * box["height"])
    page.mouse.down()
    page.mouse.move(x, y + 0.85 * box["height"], steps=4)
    page.mouse.up()
    page.get_by_role("button", name="Search with the drawing").click()
    expect(page.locator("#found .neighbours li")).to_have_count(10, timeout=20_000)
    expect(page.locator("#found .hint")).to_have_count(0)
    drawn = first_class(page)

    negative = np.full((28, 28, 4), 0, np.uint8)  # transparent, with a black stroke
    negative[4:24, 13:15, 3] = 255
    cv2.imwrite(str(tmp_path / "ink.png"), negative)
    upload(page, tmp_path / "ink.png")
    expect(page.locator("#found .hint")).to_contain_text("far brighter or darker", timeout=20_000)
    page.get_by_role("button", name="Invert it and search").click()
    expect(page.locator("#found .hint")).to_have_count(0, timeout=20_000)
    assert first_class(page) == drawn


def test_keys_work_as_in_any_form_and_the_focus_stays(page, digit):
    upload(page, digit(3))
    settled(page, "Code, 16 bits")
    page.get_by_label("16 bits").focus()
    page.keyboard.press("ArrowRight")
    settled(page, "Code, 32 bits")
    assert page.evaluate("document.activeElement.value") == "digits-32"
    page.keyboard.press("ArrowLeft")
    settled(page, "Code, 16 bits")
    number = page.locator("#controls input[type=number]")
    number.fill("3")
    number.press("Enter")
    expect(page.locator("#found .neighbours li")).to_have_count(3, timeout=20_000)
    assert page.evaluate("document.activeElement.type") == "number"


def test_on_a_phone_the_answer_comes_into_view(page):
    page.set_viewport_size({"width": 390, "height": 800})
    page.get_by_alt_text("Test picture 1").click()
    settled(page, "Predicted classes")
    page.wait_for_function("document.querySelector('#found').getBoundingClientRect().top < 100")


def test_the_page_says_where_an_index_is_not_exact():
    assert orders(SimpleNamespace(index="flat", fine=False)) == [(EXACT, EXACT)]
    approximate = ("By codes (approximate: ivf)", EXACT)
    assert orders(SimpleNamespace(index="ivf", fine=True)) == [approximate, (FINE, FINE)]
