"""Images and tables for the tests of the audit."""

import cv2
import numpy as np
from made_files import encoded
from made_reader import MadeReader

from emodet.auditing.image_issues import ImageStats
from emodet.data.packing import prepare_pack
from emodet.datasets.samples import Sample
from emodet.preprocessing import Preprocessing


def photograph(number, size=48):
    """uint8 (size, size, 3), RGB: another one for each number, with large forms and fine ones."""
    generator = np.random.default_rng(number)
    coarse = cv2.resize(generator.uniform(0, 1, (5, 5, 3)), (size, size), interpolation=cv2.INTER_CUBIC)
    fine = cv2.resize(generator.uniform(-0.2, 0.2, (24, 24, 3)), (size, size), interpolation=cv2.INTER_LINEAR)
    return np.clip(40 + 170 * (coarse + fine), 0, 255).astype(np.uint8)


def pack_of(folder, faces, size=48):
    samples = [Sample(key, split, emotion) for key, split, emotion, _ in faces]
    reader = MadeReader(folder, samples, {key: encoded(image) for key, _, _, image in faces})
    return prepare_pack(reader, Preprocessing(size=size), folder / "packs", processes=1, progress=False)


def stats_of(**columns):
    """Ordinary image statistics but for the given columns."""
    count = len(next(iter(columns.values())))
    values = {
        "hashes": np.zeros((2, count), np.uint64),
        "thumbnails": np.zeros((count, 16, 16), np.uint8),
        **{"sharpness": np.full(count, 0.1), "brightness": np.full(count, 128.0), "contrast": np.full(count, 50.0)},
    }
    return ImageStats(**{name: np.asarray(value) for name, value in (values | columns).items()})
