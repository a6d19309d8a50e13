"""What the audit checks: class order, image issues, undetected faces, duplicates, label noise; and what it proposes."""

from dataclasses import replace
from itertools import permutations

import cv2
import numpy as np
import pytest
from made_files import encoded
from made_reader import MadeReader, table_of

from emodet.auditing import label_noise
from emodet.auditing.class_order import by_predictions, by_valence_arousal
from emodet.auditing.duplicates import copy_groups, number_photographs
from emodet.auditing.findings import propose
from emodet.auditing.image_issues import ImageStats, detect_faces, find_image_issues, measure_images, sharpness_of
from emodet.auditing.label_noise import Candidate, LabelNoise, OutOfFoldProbs
from emodet.auditing.options import ProposalOptions
from emodet.data.packing import Packing
from emodet.datasets.affectnet import VALENCE_AROUSAL
from emodet.datasets.samples import Sample
from emodet.emotions import ALPHABETICAL_ORDER, EMOTIONS, FER2013_ORDER, FERPLUS_ORDER, RAFDB_ORDER
from emodet.errors import EmodetError
from emodet.preprocessing import Preprocessing
from emodet.synthetic.faces import draw_face, draw_identity


def photograph(number, size=48):
    """uint8 (size, size, 3), RGB: another one for each number, with large forms and fine ones."""
    generator = np.random.default_rng(number)
    coarse = cv2.resize(generator.uniform(0, 1, (5, 5, 3)), (size, size), interpolation=cv2.INTER_CUBIC)
    fine = cv2.resize(generator.uniform(-0.2, 0.2, (24, 24, 3)), (size, size), interpolation=cv2.INTER_LINEAR)
    return np.clip(40 + 170 * (coarse + fine), 0, 255).astype(np.uint8)


def pack_of(folder, faces, size=48):
    samples = [Sample(key, split, emotion) for key, split, emotion, _ in faces]
    reader = MadeReader(folder, samples, {key: encoded(image) for key, _, _, image in faces})
    return Packing(reader, Preprocessing(size=size), folder / "packs", processes=1, progress=False).make()


def stats_of(**columns):
    """Ordinary image statistics but for the given columns."""
    count = len(next(iter(columns.values())))
    values = {
        "hashes": np.zeros((2, count), np.uint64),
        "thumbnails": np.zeros((count, 16, 16), np.uint8),
        **{"sharpness": np.full(count, 0.1), "brightness": np.full(count, 128.0), "contrast": np.full(count, 50.0)},
    }
    return ImageStats(**{name: np.asarray(value) for name, value in (values | columns).items()})


# Class order: every confusion of two known orders is found and named; a right order is not called wrong.


ORDERS = {
    "AffectNet's": EMOTIONS,
    "the alphabetical": ALPHABETICAL_ORDER,
    "FER+'s": FERPLUS_ORDER,
    "FER2013's": FER2013_ORDER,
    "RAF-DB's": RAFDB_ORDER,
}


def shown_by(count=4000, classes=8):
    return np.random.default_rng(0).integers(0, classes, count)


def annotated(shown):
    means = np.array(VALENCE_AROUSAL)[shown] + np.random.default_rng(1).normal(0, 0.3, (len(shown), 2))
    return means[:, 0], means[:, 1]


@pytest.mark.parametrize(("ours", "theirs"), list(permutations(ORDERS, 2)))
def test_a_misread_order_is_found(ours, theirs):
    order, read_as = ORDERS[ours], ORDERS[theirs]
    shown = shown_by()
    places = [order.index(EMOTIONS[each]) if EMOTIONS[each] in order else -1 for each in shown]
    label = np.array([EMOTIONS.index(read_as[place]) if 0 <= place < len(read_as) else -1 for place in places])
    shown, label = shown[label >= 0], label[label >= 0]
    found = by_valence_arousal(label, *annotated(shown), "Annotation")
    assert found.verdict == "wrong"
    # A net that is right in seven of ten.
    right = np.random.default_rng(2).random(len(shown)) < 0.7
    predicted = np.where(right, shown, np.random.default_rng(3).integers(0, 8, len(shown)))
    found = by_predictions(label, predicted, EMOTIONS, "Net")
    assert found.wrong
    assert {ours, theirs} <= {name for name in ORDERS if name in found.sentence}
    assert all(found.shows[name] != name for name in found.shows)


@pytest.mark.parametrize(("scale", "shift", "classes"), [(1.0, 0.0, 8), (0.6, 0.12, 7)])
def test_the_right_order_is_accepted_from_other_annotators_and_without_a_class(scale, shift, classes):
    shown = shown_by(classes=classes)
    found = by_valence_arousal(shown, *(scale * each + shift for each in annotated(shown)), "Annotation")
    assert (found.verdict, found.shows) == ("correct", {})


def test_two_swapped_classes_are_named():
    shown = shown_by()
    happy, sad = EMOTIONS.index("happiness"), EMOTIONS.index("sadness")
    label = np.where(shown == happy, sad, np.where(shown == sad, happy, shown))
    found = by_valence_arousal(label, *annotated(shown), "Annotation")
    predicted = by_predictions(label, shown, EMOTIONS, "Net")
    assert found.shows == predicted.shows == {"happiness": "sadness", "sadness": "happiness"}
    assert "100 % of happiness are predicted as sadness" in predicted.sentence


def test_too_little_evidence_calls_nothing_wrong():
    weak = {EMOTIONS.index("disgust"): EMOTIONS.index("anger"), EMOTIONS.index("contempt"): EMOTIONS.index("neutral")}
    predicted = np.array([weak.get(each, each) for each in shown_by().tolist()])
    found = by_predictions(shown_by(), predicted, EMOTIONS, "Net")
    assert (found.wrong, found.shows) == (False, {})
    blank, noise = np.full(100, np.nan), np.random.default_rng(9).integers(0, 8, 4000)
    assert by_valence_arousal(np.zeros(100, np.int64), blank, blank, "Annotation") is None
    few = by_valence_arousal(np.array([0, 1]), np.zeros(2), np.zeros(2), "Annotation")
    assert few.verdict == by_predictions(shown_by(), noise, EMOTIONS, "Net").verdict == "undecided"


# Image issues: blur is independent of skin tone.


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


def test_faces_are_searched_in_two_framings(tmp_path):
    pack, sides = pack_of(tmp_path, [(str(number), "train", 0, photograph(number)) for number in range(3)]), []
    found = detect_faces(pack, lambda image: sides.append(len(image)) or sides == [192, 398], "stub", None, 0)
    assert (found.missing.tolist(), sides) == ([1, 2], [192, 398] * 3)
    assert detect_faces(pack, lambda _: False, "stub", 2, 0).searched == 2


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


def test_groups_of_copies_across_splits_are_listed_before_contradictions():
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


# Label noise: folds without leaks, candidates, proposed corrections.


def probabilities(true, sure=0.8):
    shares = np.full((len(true), 8), (1 - sure) / 7)
    shares[np.arange(len(true)), true] = sure
    shares *= np.random.default_rng(0).uniform(0.9, 1.1, shares.shape)
    return shares / shares.sum(axis=1, keepdims=True)


def found_by(label, shares, **columns):
    return label_noise.find_label_noise(table_of(len(label), emotion=label, **columns), OutOfFoldProbs(shares, "test"))


def no_issues(count, **columns):
    return find_image_issues(stats_of(**{"contrast": [50.0] * count, **columns}))


def test_folds_divide_no_photograph_and_no_person_and_are_stratified():
    generator = np.random.default_rng(0)
    photographs = generator.integers(0, 400, 900)
    subject = np.where(generator.random(900) < 0.3, generator.integers(0, 20, 900).astype(str), "")
    groups = label_noise.with_subjects(photographs, subject)
    folds = label_noise.assign_folds(generator.integers(0, 8, 900), groups, 3, seed=0)
    assert all(len(set(folds[photographs == number].tolist())) == 1 for number in set(photographs.tolist()))
    assert all(len(set(folds[subject == name].tolist())) == 1 for name in set(subject.tolist()) - {""})
    emotion = np.random.default_rng(0).choice(8, 1000, p=[0.3, 0.3, 0.1, 0.1, 0.1, 0.05, 0.03, 0.02])
    folds = label_noise.assign_folds(emotion, np.arange(1000), 4, seed=1)
    for number in range(8):
        assert np.ptp(np.bincount(folds[emotion == number], minlength=4)) <= 1
    np.testing.assert_array_equal(folds, label_noise.assign_folds(emotion, np.arange(1000), 4, seed=1))
    with pytest.raises(EmodetError, match=r"out_of_fold\.folds=6: .*2 to 5"):
        label_noise.assign_folds(np.zeros(10, np.int64), np.arange(10) // 2, 6, 0)


def test_planted_wrong_labels_are_found_if_predictions_are_informative():
    true = np.random.default_rng(1).integers(0, 8, 800)
    label, planted = true.copy(), np.arange(0, 800, 20)
    label[planted] = (true[planted] + 3) % 8
    (found,) = found_by(label, probabilities(true))
    rows = {each.row for each in found.candidates}
    assert rows <= set(planted.tolist())
    assert len(rows) >= 38
    assert all((each.given, each.suggested) == (label[each.row], true[each.row]) for each in found.candidates)
    ranked = [each.p_given for each in found.candidates]
    assert ranked == sorted(ranked)
    assert sum(count for _, count in found.pairs) == len(rows)
    assert (found.split, found.judged, found.agree) == ("train", 800, pytest.approx(0.95))
    assert found.informative
    label = np.random.default_rng(1).integers(0, 8, 400)
    (found,) = found_by(label, probabilities((label + 1) % 8))
    assert not found.informative
    assert propose(table_of(400, emotion=label), no_issues(400), (), (found,), ProposalOptions()) == ()


def noise_of(*candidates):
    return (LabelNoise("train", 10, 0.8, 0.2, candidates),)


def test_each_face_is_corrected_once_with_a_reason():
    """0 and 1: across splits. 2, 3, 4: one photograph, labels two against one. 5, 6: equal pixels. 7: one colour.
    8: another class is probable. 9: the label is improbable. 11: without a label."""
    table = table_of(
        12,
        split=["train", "val"] + ["train"] * 8 + ["val", "train"],
        emotion=[0, 0, 1, 1, 2, 3, 3, 4, 5, 6, 0, -1],
        pixel_hash=["a", "b", "c", "d", "e", "f", "f", "g", "h", "i", "j", "k"],
    )
    groups = copy_groups(table, np.array([0, 0, 1, 1, 1, 2, 2, 3, 4, 5, 6, 7]))
    images = no_issues(12, contrast=[50.0] * 7 + [0.5] + [50.0] * 4)
    noise = noise_of(Candidate(8, 5, 7, 0.01, 0.95), Candidate(9, 6, 1, 0.02, 0.6), Candidate(0, 0, 3, 0.0, 0.99))
    found = propose(table, images, groups, noise, ProposalOptions())
    assert all(each.was == table.emotion[int(each.key)] and each.split == "train" for each in found)
    assert {each.key: (each.action, each.emotion, each.reason) for each in found} == {
        "000000": ("exclude", None, "copy of 000001 in val"),
        "000004": ("exclude", None, "copies with different labels: happiness, sadness"),
        "000006": ("exclude", None, "same picture as 000005"),
        "000007": ("exclude", None, "one colour all over"),
        "000008": ("exclude", None, "label noise"),
        "000009": ("exclude", None, "label noise"),
    }
    assert propose(table, images, groups, noise, ProposalOptions(splits=("val",))) == ()
    with pytest.raises(EmodetError, match=r"proposals\.splits=\['training'\].*train, val or test"):
        ProposalOptions(splits=["training"])


def test_votes_outweigh_predictions_and_even_contradictions_are_excluded():
    votes = np.full((3, 8), np.nan, dtype=np.float32)
    votes[:2] = 0
    votes[0, 5], votes[0, 7], votes[1, 5], votes[1, 7] = 0.6, 0.4, 0.4, 0.3
    table = table_of(3, emotion=[5, 5, 5], soft_label=votes)
    noise = noise_of(*(Candidate(row, 5, 7, 0.01, 0.95) for row in range(3)))
    assert [each.key for each in propose(table, no_issues(3), (), noise, ProposalOptions())] == ["000001", "000002"]
    table = table_of(2, emotion=[1, 6], pixel_hash=["a", "b"])
    groups = copy_groups(table, np.array([0, 0]))
    assert [each.key for each in propose(table, no_issues(2), groups, (), ProposalOptions())] == ["000000", "000001"]
