"""Templates: escaped values, images inside the page, one stylesheet."""

import numpy as np

from emodet.evaluation.pages import data_uri, encode_image, thumbnail


def test_images_become_data_uris():
    image = np.zeros((300, 200, 3), np.uint8)
    assert thumbnail(image).startswith("data:image/jpeg;base64,")
    assert data_uri(encode_image(image, ".png")).startswith("data:image/png;base64,")
    assert data_uri("data:image/png;base64,AA") == "data:image/png;base64,AA"
