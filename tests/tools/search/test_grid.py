"""The grid of pictures with names of classes that a figure could misread."""

import cv2
import numpy as np

from tools.search.grid import LINE, _wrapped, draw_grid


def test_names_of_classes_are_drawn_as_they_are():
    query = np.zeros((8, 8, 3), np.uint8)
    drawn = {}
    for name in ("$1 to $2", "$broken{$", "plain"):
        answer = {
            "classes": [{"name": name, "probability": 0.9}],
            "neighbours": [{"label": name, "distance": 1}],
        }
        png = draw_grid(query, [np.zeros((1, 8, 8), np.uint8)], answer)
        drawn[name] = cv2.imdecode(np.frombuffer(png, np.uint8), 0)
    assert len({picture.tobytes() for picture in drawn.values()}) == 3


def test_all_likely_labels_of_the_query_are_drawn_and_long_lists_in_lines():
    query = np.zeros((8, 8, 3), np.uint8)
    names = [f"label number {i}" for i in range(6)]

    def drawn(probabilities, label):
        classes = [
            {"name": name, "probability": part}
            for name, part in zip(names, probabilities, strict=False)
        ]
        answer = {"classes": classes, "neighbours": [{"label": label, "distance": 1}]}
        return draw_grid(query, [np.zeros((1, 8, 8), np.uint8)], answer)

    assert drawn((0.9, 0.6), "plain") != drawn((0.9, 0.4), "plain") == drawn((0.9,), "plain")
    assert drawn((0.9,), ", ".join(names)) != drawn((0.9,), ", ".join(names[:2]))
    lines = _wrapped(", ".join(names)).splitlines()
    assert len(lines) == 5 and max(map(len, lines)) <= LINE
