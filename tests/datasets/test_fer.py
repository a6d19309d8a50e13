"""FER2013's CSV, and FER+'s votes: as one Parquet file, or joined to FER2013 by row."""

import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from made_files import encoded, put_text
from made_releases import put_ferplus
from on_disk import error_of, faces, has_note, read

from emodet.datasets.fer import FerPlus
from emodet.datasets.readers import open_reader
from emodet.emotions import EMOTIONS
from emodet.images import decode_rgb

FACES = [(0, "Training"), (3, "Training"), (6, "PublicTest"), (1, "PrivateTest")]
EXPECTED = {
    "00000": ("train", "anger"),
    "00001": ("train", "happiness"),
    "00002": ("val", "neutral"),
    "00003": ("test", "disgust"),
}
REAL = Path(__file__).parents[3] / "shared" / "data" / "ferplus_train_val.parquet"


def picture(number):
    return np.random.default_rng(number).integers(0, 256, (48, 48), dtype=np.uint8)


def pixels(number):
    return " ".join(map(str, picture(number).ravel().tolist()))


def put(root):
    rows = (f"{emotion},{pixels(n)},{usage}" for n, (emotion, usage) in enumerate(FACES))
    put_text(root / "fer2013.csv", "emotion,pixels,Usage", *rows)
    return root


def shows(reader, sample, number):
    rgb = decode_rgb(reader.encoded(sample))
    return rgb.shape == (48, 48, 3) and bool((rgb == picture(number)[:, :, None]).all())


def test_fer2013_counts_in_its_own_order_and_keeps_every_pixel(tmp_path):
    file = put(tmp_path / "inner") / "fer2013.csv"
    reader = open_reader(tmp_path)
    listing = reader.read()
    assert faces(listing) == EXPECTED
    for copy in (reader, open_reader(file)):
        assert all(shows(copy, sample, number) for number, sample in enumerate(listing.samples))


CASES = {
    "all agree": ({"anger": 10}, "anger"),
    "six of ten": ({"fear": 6, "surprise": 4}, "fear"),
    "half is no majority": ({"fear": 5, "surprise": 5}, None),
    "most, but not half": ({"fear": 4, "surprise": 3, "sadness": 3}, None),
    "single votes are noise": ({"sadness": 5, **dict.fromkeys(("anger", "fear", "disgust", "neutral"), 1)}, "sadness"),
    "noise may make half a majority": ({"sadness": 4, "anger": 3, "neutral": 1, "fear": 1, "NF": 1}, "sadness"),
    "single unknowns are noise too": ({"happiness": 4, "neutral": 4, "unknown": 1, "NF": 1}, None),
    "nothing but single votes": ({"neutral": 1, "sadness": 1}, None),
    "unknown wins": ({"unknown": 7, "happiness": 3}, None),
    "no face wins": ({"NF": 6, "happiness": 4}, None),
    "unknown takes the majority away": ({"happiness": 5, "unknown": 5}, None),
    "contempt": ({"contempt": 6, "neutral": 2}, "contempt"),
    "more than a small integer's half": ({"disgust": 100, "neutral": 20}, "disgust"),
}


def write(folder, *votes):
    faces = [("train", encoded(picture(given.get("index", n))), given) for n, given in enumerate(votes)]
    return put_ferplus(folder / "faces.parquet", faces)


class TestFerPlusParquet:
    @pytest.mark.parametrize("case", CASES)
    def test_majority(self, case, tmp_path):
        votes, expected = CASES[case]
        assert faces(read(write(tmp_path, votes))) == {"00000": ("train", expected)}

    def test_soft_labels_are_the_votes_for_the_eight(self, tmp_path):
        file = write(tmp_path, {"happiness": 6, "neutral": 1, "surprise": 1, "unknown": 2})
        assert read(file).samples[0].soft_label == pytest.approx((1 / 8, 6 / 8, 0, 1 / 8, 0, 0, 0, 0))
        assert read(file, votes="without_single").samples[0].soft_label == pytest.approx((0, 1, 0, 0, 0, 0, 0, 0))
        assert open_reader(file).options() == {"votes": "as_given"}
        assert all(part in error_of(file, votes="all") for part in ("votes='all'", "as_given, without_single"))

    def test_faces_come_in_the_order_of_their_index_with_their_own_picture(self, tmp_path):
        reader = open_reader(write(tmp_path, *({"anger": 10, "index": number} for number in (3, 0, 4, 1, 2))).parent)
        samples, size = reader.read().samples, len(pickle.dumps(reader))
        assert all(shows(reader, sample, number) for number, sample in enumerate(samples))
        # Workers receive no pictures.
        assert len(pickle.dumps(reader)) == size

    @pytest.mark.skipif(not REAL.is_file(), reason="needs FER+ on disk")
    def test_the_real_file_has_the_published_counts(self):
        found = Counter(faces(read(REAL)).values())
        for split, counts in FerPlus.expected.items():
            assert {name: found[split, name] for name in counts} == counts


VOTES_HEADER = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
VOTES = [
    "Training,fer0000000.png,0,0,0,1,8,1,0,0,0,0",
    "Training,fer0000000.png,4,0,0,4,0,0,0,0,2,0",
    "PublicTest,,0,0,0,0,0,0,0,0,0,10",
    "PrivateTest,fer0032221.png,0,6,2,0,0,0,0,2,0,0",
]


@pytest.mark.parametrize("folder", ["", "fer2013"])
def test_joins_by_row_and_never_by_image_name(tmp_path, folder):
    put(tmp_path / folder)
    put_text(tmp_path / "fer2013new.csv", VOTES_HEADER, *VOTES)
    reader = open_reader(tmp_path)
    listing = reader.read()
    expected = {"00000": ("train", "anger"), "00001": ("train", None), "00003": ("test", "happiness")}
    assert faces(listing) == expected
    shares = dict(zip(EMOTIONS, listing.samples[0].soft_label, strict=True))
    assert shares == {**dict.fromkeys(EMOTIONS, 0), "anger": 0.8, "sadness": 0.1, "disgust": 0.1}
    assert max(read(tmp_path, votes="without_single").samples[0].soft_label) == 1
    assert listing.left_out == {"no vote for any of the eight": 1}
    assert has_note(listing, "1 rows have no image name")
    assert has_note(listing, "1 (3,153)")
    assert shows(reader, listing.samples[2], 3)
