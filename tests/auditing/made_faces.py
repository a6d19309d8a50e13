"""Pictures and tables for the tests of the audit: smooth ones, as photographs are, and what is made of them."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from emodet.auditing.looks import Looks
from emodet.data.pack import Pack, Table
from emodet.data.packing import prepare_pack
from emodet.datasets.samples import Listing, Reader, Sample
from emodet.preprocessing import Preprocessing


def photograph(number: int, size: int = 48) -> np.ndarray:
    """uint8 (size, size, 3), RGB: another one for each number, with large forms and fine ones."""
    generator = np.random.default_rng(number)
    coarse = cv2.resize(generator.uniform(0, 1, (5, 5, 3)), (size, size), interpolation=cv2.INTER_CUBIC)
    fine = cv2.resize(generator.uniform(-0.2, 0.2, (24, 24, 3)), (size, size), interpolation=cv2.INTER_LINEAR)
    return np.clip(40 + 170 * (coarse + fine), 0, 255).astype(np.uint8)


class Pictures(Reader):
    """Faces in memory: (key, split, emotion, picture)."""

    name = "pictures"
    title = "Pictures"
    signs = "none"

    def __init__(self, root: Path, faces: list[tuple[str, str, int | None, np.ndarray]]) -> None:
        super().__init__(root)
        self.faces = faces
        self.stored = {key: cv2.imencode(".png", picture[..., ::-1])[1].tobytes() for key, _, _, picture in faces}

    @classmethod
    def matches(cls, folder: Path) -> bool:
        return True

    def read(self) -> Listing:
        return Listing(tuple(Sample(key, split, emotion) for key, split, emotion, _ in self.faces))

    def encoded(self, record: Sample) -> bytes:
        return self.stored[record.key]


def pack_of(folder: Path, faces: list[tuple[str, str, int | None, np.ndarray]], size: int = 48) -> Pack:
    return prepare_pack(
        Pictures(folder, faces), Preprocessing(size=size), folder / "packs", processes=1, progress=False
    )


def table_of(count: int, **columns: Any) -> Table:
    """A table with nothing in it but what is given."""
    values: dict[str, Any] = {
        "key": [f"{number:04d}" for number in range(count)],
        "split": ["train"] * count,
        "emotion": [0] * count,
        "soft_label": np.full((count, 8), np.nan, dtype=np.float32),
        "valence": np.full(count, np.nan, dtype=np.float32),
        "arousal": np.full(count, np.nan, dtype=np.float32),
        "subject": [""] * count,
        "pixel_hash": [f"hash{number}" for number in range(count)],
    }
    return Table(**{name: np.asarray(value) for name, value in (values | columns).items()})


def looks_of(**columns: Any) -> Looks:
    """What pictures look like, where only some of it matters."""
    count = len(next(iter(columns.values())))
    values: dict[str, Any] = {
        "perceptual_hash": np.zeros(count, np.uint64),
        "mirrored_hash": np.zeros(count, np.uint64),
        "thumbnail": np.zeros((count, 256), np.uint8),
        "sharpness": np.full(count, 100.0),
        "brightness": np.full(count, 128.0),
        "contrast": np.full(count, 50.0),
    }
    return Looks(**{name: np.asarray(value) for name, value in (values | columns).items()})
