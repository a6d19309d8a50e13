"""A data set in memory for the tests of packs: records as given, and a picture for each key."""

import io
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from emodet.data.pack import Table
from emodet.datasets.samples import Listing, Reader, Sample


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def picture(number: int, size: int = 48) -> np.ndarray:
    """uint8 (size, size, 3), RGB, another one for each number."""
    return np.random.default_rng(number).integers(0, 256, (size, size, 3), dtype=np.uint8)


def records(count: int, split: str = "train", start: int = 0, **given: Any) -> list[Sample]:
    values = {"emotion": None} | given
    return [
        Sample(
            key=f"{split}/{start + number:04d}",
            split=split,
            **{name: value[number] if isinstance(value, list) else value for name, value in values.items()},
        )
        for number in range(count)
    ]


def table_with(
    split: list[str], emotion: list[int], subject: list[str] | None = None, picture: list[str] | None = None
) -> Table:
    """Faces with these values; by default each shows another picture."""
    count = len(split)
    return Table(
        key=np.array([f"{number:06d}" for number in range(count)]),
        split=np.array(split, dtype=np.str_),
        emotion=np.array(emotion, dtype=np.int64),
        soft_label=np.full((count, 8), np.nan, np.float32),
        valence=np.full(count, np.nan, np.float32),
        arousal=np.full(count, np.nan, np.float32),
        subject=np.array(subject or [""] * count, dtype=np.str_),
        pixel_hash=np.array(picture or [f"{number:024x}" for number in range(count)], dtype=np.str_),
    )


class MadeReader(Reader):
    """Keeps everything in memory; a key whose picture is None cannot be read."""

    name: ClassVar[str] = "made"
    title: ClassVar[str] = "Made"
    signs: ClassVar[str] = "none"

    def __init__(self, root: Path, records: list[Sample], pictures: dict[str, bytes | None] | None = None) -> None:
        super().__init__(root)
        self.records = tuple(records)
        self.pictures = pictures or {}

    @classmethod
    def matches(cls, folder: Path) -> bool:
        return True

    def read(self) -> Listing:
        return Listing(self.records)

    def encoded(self, record: Sample) -> bytes:
        if record.key in self.pictures:
            data = self.pictures[record.key]
            if data is None:
                raise FileNotFoundError(2, "No such file or directory", str(self.root / record.key))
            return data
        return png(picture(int(record.key.split("/")[-1])))
