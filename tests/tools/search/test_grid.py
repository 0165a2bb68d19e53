"""The grid of pictures with names of classes that a figure could misread."""

import cv2
import numpy as np

from tools.search.grid import draw_grid


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
