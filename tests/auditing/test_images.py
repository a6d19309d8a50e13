"""Image issues: each is named, blur is relative to the set and independent of skin tone; undetected faces."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from made_faces import pack_of, photograph, stats_of

from emodet.auditing.image_issues import detect_faces, find_image_issues, sharpness_of
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
