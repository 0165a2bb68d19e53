"""A picture of one's own against a run's codes, as `make search` does it."""

import cv2
import pytest

from data_prep.lmdb_reader import open_rows


@pytest.fixture
def searched(trained, options, command, data_root, tmp_path):
    """(job, picture, its key): a trained run with codes, and a database picture as a PNG file."""
    done = command("tools.extract", *options(trained))
    assert done.returncode == 0, done.stderr
    with open_rows(data_root / "digits" / "28x1" / "train_lmdb") as (keys, read):
        pixels = read([7])[0][0]
    picture = tmp_path / "digit.png"
    cv2.imwrite(str(picture), pixels.transpose(1, 2, 0))
    return trained, picture, keys[7]


def test_a_database_picture_finds_itself(searched, options, command):
    job, picture, key = searched
    done = command("tools.search", *options(job), "--query", picture, "--top", 50)
    assert done.returncode == 0, done.stderr
    first, header, *rows = done.stdout.splitlines()
    assert first.startswith(str(picture))
    assert first.count("%") == 3
    assert header.split() == ["rank", "distance", "class", "key"]
    assert len(rows) == 50
    distances = [int(row.split()[1]) for row in rows]
    assert distances == sorted(distances)
    at = [row.split()[3] for row in rows].index(key)
    assert distances[at] == 0


def test_colour_is_taken_by_a_grey_net(searched, options, command, tmp_path):
    job, picture, _ = searched
    grey = cv2.imread(str(picture), cv2.IMREAD_GRAYSCALE)
    colour = tmp_path / "colour.png"
    cv2.imwrite(str(colour), cv2.cvtColor(grey, cv2.COLOR_GRAY2BGRA))
    answers = [
        command("tools.search", *options(job), "--query", path).stdout.splitlines()[1:]
        for path in (picture, colour)
    ]
    assert len(answers[0]) == 11
    assert answers[0] == answers[1]


def test_bad_pictures_and_stale_codes_are_said(searched, options, command, tmp_path):
    job, picture, _ = searched
    text = tmp_path / "text.jpg"
    text.write_text("not a picture")
    for query, words in [
        (tmp_path / "gone.jpg", "there is no such picture"),
        (text, "text.jpg cannot be decoded"),
    ]:
        done = command("tools.search", *options(job), "--query", query)
        assert done.returncode == 1
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    job["--iters"] = 70
    assert command("tools.train", *options(job)).returncode == 0
    stale = command("tools.search", *options(job), "--query", picture)
    assert stale.returncode == 1
    assert "holds codes of other weights" in stale.stderr
