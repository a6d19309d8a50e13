"""Templates: escaped values, images inside the page, one stylesheet."""

import numpy as np

from emodet.evaluation.pages import data_uri, encode_image, number, percent, thumbnail


def test_images_become_data_uris():
    image = np.zeros((300, 200, 3), np.uint8)
    assert thumbnail(image).startswith("data:image/jpeg;base64,")
    assert data_uri(encode_image(image, ".png")).startswith("data:image/png;base64,")
    assert data_uri("data:image/png;base64,AA") == "data:image/png;base64,AA"


def test_undefined_figures_are_dashes():
    assert (percent(0.8341), percent(None)) == ("83.4\u00a0%", "–")
    assert (number(0.12345), number(None)) == ("0.123", "–")
