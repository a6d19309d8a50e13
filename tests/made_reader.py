"""A data set in memory for the tests of packs: records as given, and a picture for each key."""

from pathlib import Path

import numpy as np
from made_files import encoded, put

from emodet.data.pack import Table
from emodet.datasets.samples import Listing, Reader, Sample


def picture(number, size=48):
    """uint8 (size, size, 3), RGB, another one for each number."""
    return np.random.default_rng(number).integers(0, 256, (size, size, 3), dtype=np.uint8)


def put_picture(path, number, size=40):
    """Write the picture of that number as PNG, whatever the file's suffix, and return its path."""
    return put(path, encoded(picture(number, size)))


def records(count, split="train", start=0, **given):
    values = {"emotion": None} | given
    return [
        Sample(
            key=f"{split}/{start + number:04d}",
            split=split,
            **{name: value[number] if isinstance(value, list) else value for name, value in values.items()},
        )
        for number in range(count)
    ]


def table_of(count, **columns):
    """Faces with these columns; by default of train, neutral, each with another picture, and nothing else known."""
    unknown = np.full(count, np.nan, np.float32)
    values = {
        "key": [f"{number:06d}" for number in range(count)],
        "split": ["train"] * count,
        "emotion": [0] * count,
        "soft_label": np.full((count, 8), np.nan, np.float32),
        **{"valence": unknown, "arousal": unknown, "subject": [""] * count},
        "pixel_hash": [f"{number:024x}" for number in range(count)],
    }
    return Table(**{name: np.asarray(value) for name, value in (values | columns).items()})


def table_with(split, emotion, subject=None, picture=None):
    known = {"split": split, "emotion": emotion, "subject": subject, "pixel_hash": picture}
    return table_of(len(split), **{name: values for name, values in known.items() if values})


def random_table(random, faces, splits, pictures, named=0.0):
    """Faces, most of train, of so many pictures; a share has a subject. Some have no emotion."""
    split = np.where(random.random(faces) < 0.7, "train", random.choice(splits, faces)).tolist()
    people = [f"s{number}" for number in random.integers(0, 40, faces)]
    subject = np.where(random.random(faces) < named, people, "").tolist()
    picture = [f"p{number}" for number in random.integers(0, pictures, faces)]
    return table_with(split, random.integers(-1, 8, faces).tolist(), subject, picture)


def ready(data):
    data.prepare_data()
    data.setup()
    return data


class MadeReader(Reader):
    """Keeps everything in memory; a key whose picture is None cannot be read."""

    name = "made"
    title = "Made"
    signs = "none"

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
        return encoded(picture(int(record.key.split("/")[-1])))
