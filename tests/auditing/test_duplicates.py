"""Copies: every pair of near hashes is found; another cut, size or mirror image is a copy, another face is none."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_faces import looks_of, pack_of, photograph, table_of

from emodet.auditing.duplicates import CopyRules, copy_groups, group_numbers
from emodet.auditing.looks import look_at
from emodet.auditing.neighbours import pairs_within
from emodet.errors import EmodetError

RULES = CopyRules()


@settings(max_examples=40)
@given(st.integers(0, 12), st.integers(0, 2**32 - 1), st.booleans())
def test_every_pair_within_the_radius_is_found_once(radius: int, seed: int, queried: bool) -> None:
    generator = np.random.default_rng(seed)
    # A few centres with some bits flipped: pairs at all small distances.
    centres = generator.integers(0, 2**63, 3, dtype=np.uint64)
    hashes = centres[generator.integers(0, 3, 40)]
    for _ in range(6):
        hashes = hashes ^ (np.uint64(1) << generator.integers(0, 64, 40, dtype=np.uint64))
    queries = hashes[::-1].copy() if queried else hashes
    found = [
        pair
        for left, right in pairs_within(hashes, queries, radius)
        for pair in zip(left.tolist(), right.tolist(), strict=True)
    ]
    distance = np.bitwise_count(hashes[:, None] ^ queries[None, :])
    assert len(found) == len(set(found))
    assert set(found) == set(zip(*(each.tolist() for each in np.nonzero(distance <= radius)), strict=True))


@pytest.mark.parametrize("radius", [-1, 32])
def test_a_radius_out_of_range_is_refused(radius: int) -> None:
    with pytest.raises(EmodetError, match=f"radius={radius}"):
        list(pairs_within(np.zeros(2, np.uint64), np.zeros(2, np.uint64), radius))


def test_a_correlation_out_of_range_is_refused() -> None:
    with pytest.raises(EmodetError, match=r"copies\.correlation=1\.5"):
        CopyRules(correlation=1.5)


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """The number of the photograph that each of some pictures was taken for."""
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
    pack = pack_of(
        tmp_path_factory.mktemp("copies"),
        [(name, "train", 0, np.ascontiguousarray(face)) for name, face in faces.items()],
    )
    numbers = group_numbers(pack.table, look_at(pack, progress=False), RULES)
    return dict(zip(pack.table.key.tolist(), numbers.tolist(), strict=True))


def test_other_cuts_sizes_and_mirror_images_are_copies(grouped: dict[str, int]) -> None:
    assert len({number for name, number in grouped.items() if name.startswith("one")}) == 1
    assert grouped["two"] == grouped["two grey"] != grouped["one"]


def test_other_faces_are_none_and_what_shows_nothing_is_not_compared(grouped: dict[str, int]) -> None:
    others = [number for name, number in grouped.items() if not name.startswith(("one", "two"))]
    assert len(set(others)) == len(others)


def test_without_looks_only_equal_pixels_are_copies() -> None:
    table = table_of(4, pixel_hash=["a", "b", "a", "c"])
    numbers = group_numbers(table, None, RULES)
    assert numbers[0] == numbers[2]
    assert len(set(numbers.tolist())) == 3


def test_groups_say_where_copies_lie_and_what_their_labels_say() -> None:
    table = table_of(
        9,
        split=["train", "val", "train", "train", "train", "train", "train", "test", "train"],
        emotion=[1, 1, 2, 3, 4, 4, 5, -1, 6],
        pixel_hash=["a", "a", "b", "b", "c", "d", "e", "e", "f"],
    )
    numbers = np.array([0, 0, 1, 1, 2, 2, 3, 3, 4])
    groups = copy_groups(table, numbers)
    # Across splits first, then those that contradict themselves.
    assert [group.rows for group in groups] == [(0, 1), (6, 7), (2, 3), (4, 5)]
    assert [group.identical for group in groups] == [True, True, True, False]
    assert [group.splits for group in groups] == [("train", "val"), ("train", "test"), ("train",), ("train",)]
    assert [group.emotions for group in groups] == [(1,), (5,), (2, 3), (4,)]
    assert [group.contradicts for group in groups] == [False, False, True, False]


def test_a_chain_of_copies_is_one_group() -> None:
    # Each differs from the next in four bits; the thumbnails all agree.
    hashes = [np.uint64(0xF) * np.uint64(0), np.uint64(0xF), np.uint64(0xFFF), np.uint64(0xFFFFF)]
    ramp = np.tile(np.arange(256, dtype=np.uint8), (4, 1))
    far = np.full(4, 2**64 - 2**32, np.uint64)
    looks = looks_of(perceptual_hash=np.array(hashes), mirrored_hash=far, thumbnail=ramp)
    assert len(set(group_numbers(table_of(4), looks, CopyRules(radius=8)).tolist())) == 1
    assert len(set(group_numbers(table_of(4), looks, CopyRules(radius=3)).tolist())) == 4


def test_near_hashes_alone_are_not_enough() -> None:
    generator = np.random.default_rng(0)
    looks = looks_of(thumbnail=generator.integers(0, 256, (3, 256), dtype=np.uint8))
    assert len(set(group_numbers(table_of(3), looks, RULES).tolist())) == 3


def test_looks_measure_what_they_say(tmp_path: Path) -> None:
    sharp = photograph(3)
    soft = cv2.GaussianBlur(sharp, (9, 9), 3)
    grey = np.full((48, 48, 3), 77, np.uint8)
    pack = pack_of(tmp_path, [("a", "train", 0, sharp), ("b", "train", 0, soft), ("c", "train", 0, grey)])
    looks = look_at(pack, progress=False)
    assert looks.sharpness[0] > 5 * looks.sharpness[1] > looks.sharpness[2] == 0
    assert looks.brightness[2] == pytest.approx(77)
    assert looks.contrast[2] == 0
    assert looks.thumbnail[2].tolist() == [77] * 256
