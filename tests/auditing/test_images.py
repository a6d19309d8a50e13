"""Image issues, undetected faces and duplicates: blur is independent of skin tone, other crops and sizes are copies."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from made_faces import pack_of, photograph, stats_of
from made_reader import table_of

from emodet.auditing.duplicates import copy_groups, number_photographs
from emodet.auditing.image_issues import detect_faces, find_image_issues, measure_images, sharpness_of
from emodet.synthetic.faces import draw_face, draw_identity


def test_each_issue_is_named():
    ordinary = np.random.default_rng(0).lognormal(0, 0.3, 100)
    stats = stats_of(
        sharpness=[*ordinary, 1, 1, 1, 1, 0.005],
        contrast=[50.0] * 100 + [1, 30, 30, 8, 50],
        brightness=[128.0] * 100 + [5, 10, 250, 128, 128],
    )
    found = find_image_issues(stats)
    assert found.issue[100:].tolist() == ["uniform", "dark", "glaring", "flat", "blurred"]
    assert (found.issue[:100] == "").sum() >= 98
    assert found.counts()["uniform"] == 1


def test_no_skin_tone_is_flagged_more_often():
    """The same people, drawn with light to dark skin, every fourth with a headscarf; one in ten is blurred."""
    tones, count, blurred = [(244, 212, 190), (198, 144, 108), (128, 82, 58), (64, 40, 30)], 50, 5
    sharpness = np.zeros((len(tones), count))
    for person in range(count):
        identity = draw_identity(np.random.default_rng(person))
        hair = "scarf" if person % 4 == 0 else identity.hair
        for tone, skin in enumerate(tones):
            face = draw_face(person % 8, person, 64, identity=replace(identity, skin=skin, hair=hair))
            grey = cv2.cvtColor(face.image, cv2.COLOR_RGB2GRAY)
            sharpness[tone, person] = sharpness_of(cv2.GaussianBlur(grey, (0, 0), 3) if person < blurred else grey)
    issue = find_image_issues(stats_of(sharpness=sharpness.reshape(-1))).issue
    flagged = (issue == "blurred").reshape(len(tones), count)
    assert flagged[:, :blurred].all()
    assert not flagged[:, blurred:].any()


def test_a_face_is_detected_in_either_framing(tmp_path):
    pack = pack_of(tmp_path, [(str(number), "train", 0, photograph(number)) for number in range(3)])
    sides = []

    def detect(image):
        sides.append(image.shape[0])
        return 0.4 if sides == [192, 398] else 0.0

    found = detect_faces(pack, detect, "stub", None, 0)
    assert found.scores.tolist() == [pytest.approx(0.4), 0, 0]
    assert found.missing.tolist() == [1, 2]
    assert sides == [192, 398] * 3
    assert len(detect_faces(pack, lambda _: 0.0, "stub", 2, 0).rows) == 2


# Duplicates.

RAMP = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)


@pytest.mark.parametrize("radius", [0, 3, 8, 12])
def test_every_pair_of_near_hashes_is_found(radius):
    generator = np.random.default_rng(radius)
    # A few centres with some bits flipped: pairs at all small distances.
    hashes = generator.integers(0, 2**63, 3, dtype=np.uint64)[generator.integers(0, 3, 60)]
    for _ in range(6):
        hashes = hashes ^ (np.uint64(1) << generator.integers(0, 64, 60, dtype=np.uint64))
    near = np.bitwise_count(hashes[:, None] ^ hashes[None, :]) <= radius
    expected = np.linalg.matrix_power(near.astype(float), 60) > 0  # copies of copies
    stats = stats_of(thumbnails=np.repeat(RAMP, 60, 0), hashes=np.stack([hashes, ~hashes]))
    found = number_photographs(table_of(60), stats, radius)
    np.testing.assert_array_equal(found[:, None] == found[None, :], expected)


def test_crops_sizes_and_mirror_images_are_copies_and_other_faces_are_not(tmp_path):
    one, two = photograph(1, 96), photograph(2, 96)
    faces = {
        "one": one,
        "one again": one,
        "one smaller": cv2.resize(one, (40, 40), interpolation=cv2.INTER_AREA),
        "one mirrored": one[:, ::-1],
        "one brighter": np.clip(one.astype(int) * 0.8 + 50, 0, 255).astype(np.uint8),
        "one cut closer": one[2:-2, 2:-2],
        "two": two,
        "two grey": np.repeat(cv2.cvtColor(two, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2),
        **{f"other {number}": photograph(number) for number in range(10, 40)},
        "black": np.zeros((48, 48, 3), np.uint8),
        "nearly black": np.full((48, 48, 3), 2, np.uint8),
    }
    pack = pack_of(tmp_path, [(name, "train", 0, np.ascontiguousarray(face)) for name, face in faces.items()])
    numbers = number_photographs(pack.table, measure_images(pack))
    of = dict(zip(pack.table.key.tolist(), numbers.tolist(), strict=True))
    assert len({number for name, number in of.items() if name.startswith("one")}) == 1
    assert of["two"] == of["two grey"] != of["one"]
    others = [number for name, number in of.items() if not name.startswith(("one", "two"))]
    assert len(set(others)) == len(others)


def test_groups_across_splits_come_first_then_contradictions():
    table = table_of(
        9,
        split=["train", "val", "train", "train", "train", "train", "train", "test", "train"],
        emotion=[1, 1, 2, 3, 4, 4, 5, -1, 6],
        pixel_hash=["a", "a", "b", "b", "c", "d", "e", "e", "f"],
    )
    groups = copy_groups(table, np.array([0, 0, 1, 1, 2, 2, 3, 3, 4]))
    assert [group.rows for group in groups] == [(0, 1), (6, 7), (2, 3), (4, 5)]
    assert [group.identical for group in groups] == [True, True, True, False]
    assert [group.splits for group in groups] == [("train", "val"), ("train", "test"), ("train",), ("train",)]
    assert [group.emotions for group in groups] == [(1,), (5,), (2, 3), (4,)]
    assert [group.contradicts for group in groups] == [False, False, True, False]
