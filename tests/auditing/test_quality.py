"""Bad pictures are named by the first fault that fits; sharpness is judged against the set."""

from pathlib import Path

import numpy as np
import pytest
from made_faces import Pictures, looks_of, pack_of, photograph

from emodet.auditing.quality import QualityRules, judge, stored_sides
from emodet.auditing.undetected import detection_scores, framed


def test_each_fault_is_named() -> None:
    ordinary = np.random.default_rng(0).lognormal(5, 0.3, 100)
    looks = looks_of(
        sharpness=[*ordinary, 100, 100, 100, 100, 0.5],
        contrast=[50.0] * 100 + [1, 30, 30, 8, 50],
        brightness=[128.0] * 100 + [5, 10, 250, 128, 128],
    )
    quality = judge(looks, QualityRules())
    assert quality.fault[100:].tolist() == ["uniform", "dark", "glaring", "flat", "blurred"]
    assert set(quality.fault[:100].tolist()) <= {"", "blurred"}
    assert (quality.fault[:100] == "").sum() >= 98
    assert quality.counts()["uniform"] == 1


def test_blur_is_relative_to_the_set() -> None:
    # The same sharpness is ordinary among soft pictures and blurred among sharp ones.
    spread = np.random.default_rng(1).lognormal(0, 0.3, 200)
    among_soft = judge(looks_of(sharpness=[*(10 * spread), 10.0]), QualityRules())
    among_sharp = judge(looks_of(sharpness=[*(1000 * spread), 10.0]), QualityRules())
    assert (among_soft.fault[-1], among_sharp.fault[-1]) == ("", "blurred")


@pytest.mark.parametrize("sharpness", [[5.0] * 9, [0.0] * 9])
def test_of_equally_sharp_pictures_none_is_blurred(sharpness: list[float]) -> None:
    assert judge(looks_of(sharpness=sharpness), QualityRules()).counts()["blurred"] == 0


def test_the_stored_size_is_the_pictures_own(tmp_path: Path) -> None:
    faces = [("a", "train", 0, photograph(1, 30)), ("b", "train", 0, photograph(2, 120)[:80])]
    reader = Pictures(tmp_path, faces)
    reader.stored["c"] = b"no picture"
    reader.faces = [*faces, ("c", "train", 0, photograph(3))]
    assert stored_sides(reader, "image") == {"a": 30.0, "b": 80.0}


def test_a_face_is_found_in_either_framing(tmp_path: Path) -> None:
    pack = pack_of(tmp_path, [(str(number), "train", 0, photograph(number)) for number in range(3)])
    asked: list[int] = []

    def find(picture: np.ndarray) -> float:
        asked.append(picture.shape[0])
        return {192: 0.0, 398: 0.4}[picture.shape[0]] if len(asked) < 3 else 0.0

    scores = detection_scores(pack, [2, 0], find, progress=False)
    assert scores.tolist() == [pytest.approx(0.4), 0.0]
    assert asked == [192, 398, 192, 398]


def test_a_framed_crop_keeps_its_middle() -> None:
    crop = photograph(4)
    picture = framed(crop, 48, 0.25)
    assert picture.shape == (72, 72, 3)
    np.testing.assert_array_equal(picture[12:-12, 12:-12], crop)
    np.testing.assert_array_equal(picture[0, 12:-12], crop[0])
