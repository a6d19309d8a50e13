"""Images and tables for the tests of the audit."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from made_reader import MadeReader, png

from emodet.auditing.image_issues import ImageStats
from emodet.data.pack import Pack, Table
from emodet.data.packing import prepare_pack
from emodet.datasets.samples import Sample
from emodet.preprocessing import Preprocessing

Face = tuple[str, str, int | None, np.ndarray]  # key, split, emotion, image


def photograph(number: int, size: int = 48) -> np.ndarray:
    """uint8 (size, size, 3), RGB: another one for each number, with large forms and fine ones."""
    generator = np.random.default_rng(number)
    coarse = cv2.resize(generator.uniform(0, 1, (5, 5, 3)), (size, size), interpolation=cv2.INTER_CUBIC)
    fine = cv2.resize(generator.uniform(-0.2, 0.2, (24, 24, 3)), (size, size), interpolation=cv2.INTER_LINEAR)
    return np.clip(40 + 170 * (coarse + fine), 0, 255).astype(np.uint8)


def pack_of(folder: Path, faces: list[Face], size: int = 48) -> Pack:
    samples = [Sample(key, split, emotion) for key, split, emotion, _ in faces]
    reader = MadeReader(folder, samples, {key: png(image) for key, _, _, image in faces})
    return prepare_pack(reader, Preprocessing(size=size), folder / "packs", processes=1, progress=False)


def table_of(count: int, **columns: Any) -> Table:
    """A table with placeholders in all other columns."""
    blank = np.full(count, np.nan, dtype=np.float32)
    values: dict[str, Any] = {
        "key": [f"{number:04d}" for number in range(count)],
        "split": ["train"] * count,
        "emotion": [0] * count,
        "soft_label": np.full((count, 8), np.nan, dtype=np.float32),
        **{"valence": blank, "arousal": blank, "subject": [""] * count},
        "pixel_hash": [f"hash{number}" for number in range(count)],
    }
    return Table(**{name: np.asarray(value) for name, value in (values | columns).items()})


def stats_of(**columns: Any) -> ImageStats:
    """Ordinary image statistics but for the given columns."""
    count = len(next(iter(columns.values())))
    values: dict[str, Any] = {
        "hashes": np.zeros((2, count), np.uint64),
        "thumbnails": np.zeros((count, 16, 16), np.uint8),
        **{"sharpness": np.full(count, 0.1), "brightness": np.full(count, 128.0), "contrast": np.full(count, 50.0)},
    }
    return ImageStats(**{name: np.asarray(value) for name, value in (values | columns).items()})
