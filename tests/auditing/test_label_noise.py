"""Label issues: folds without leaks, candidates, proposed corrections."""

import numpy as np
import pytest
from made_faces import stats_of
from made_reader import table_of

from emodet.auditing import label_noise
from emodet.auditing.duplicates import copy_groups
from emodet.auditing.findings import propose
from emodet.auditing.image_issues import find_image_issues
from emodet.auditing.label_noise import Candidate, LabelNoise, OutOfFoldProbs
from emodet.auditing.options import ProposalOptions
from emodet.errors import EmodetError


def probabilities(true, sure=0.8):
    shares = np.full((len(true), 8), (1 - sure) / 7)
    shares[np.arange(len(true)), true] = sure
    shares *= np.random.default_rng(0).uniform(0.9, 1.1, shares.shape)
    return shares / shares.sum(axis=1, keepdims=True)


def found_by(label, shares, **columns):
    return label_noise.find_label_noise(table_of(len(label), emotion=label, **columns), OutOfFoldProbs(shares, "test"))


def no_issues(count, **columns):
    return find_image_issues(stats_of(**{"contrast": [50.0] * count, **columns}))


def test_folds_hold_photographs_and_people_together_are_stratified_and_repeatable():
    generator = np.random.default_rng(0)
    photographs = generator.integers(0, 400, 900)
    subject = np.where(generator.random(900) < 0.3, generator.integers(0, 20, 900).astype(str), "")
    groups = label_noise.with_subjects(photographs, subject)
    folds = label_noise.assign_folds(generator.integers(0, 8, 900), groups, 3, seed=0)
    assert all(len(set(folds[photographs == number].tolist())) == 1 for number in set(photographs.tolist()))
    assert all(len(set(folds[subject == name].tolist())) == 1 for name in set(subject.tolist()) - {""})
    assert set(folds.tolist()) == {0, 1, 2}
    emotion = np.random.default_rng(0).choice(8, 1000, p=[0.3, 0.3, 0.1, 0.1, 0.1, 0.05, 0.03, 0.02])
    folds = label_noise.assign_folds(emotion, np.arange(1000), 4, seed=1)
    for number in range(8):
        assert np.ptp(np.bincount(folds[emotion == number], minlength=4)) <= 1
    np.testing.assert_array_equal(folds, label_noise.assign_folds(emotion, np.arange(1000), 4, seed=1))
    assert (folds != label_noise.assign_folds(emotion, np.arange(1000), 4, seed=2)).any()
    with pytest.raises(EmodetError, match=r"out_of_fold\.folds=6: 2 to 5"):
        label_noise.assign_folds(np.zeros(10, np.int64), np.arange(10) // 2, 6, 0)


def test_planted_wrong_labels_are_the_candidates_where_predictions_are_informative():
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
    assert (found.split, found.judged, found.agree) == ("train", 800, pytest.approx(0.95))
    assert found.informative
    assert sum(count for _, count in found.pairs) == len(rows)
    label = np.random.default_rng(1).integers(0, 8, 400)
    (found,) = found_by(label, probabilities((label + 1) % 8))
    assert not found.informative
    assert propose(table_of(400, emotion=label), no_issues(400), (), (found,), ProposalOptions()) == ()


def noise_of(*candidates):
    return (LabelNoise("train", 10, 0.8, 0.2, candidates),)


@pytest.fixture
def proposed():
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

    def propose_with(**options):
        found = propose(table, images, groups, noise, ProposalOptions(**options))
        assert all(each.was == table.emotion[int(each.key)] and each.split == "train" for each in found)
        return {each.key: (each.action, each.emotion, each.reason) for each in found}

    return propose_with


def test_each_face_is_corrected_once_with_a_reason(proposed):
    assert proposed() == {
        "000000": ("exclude", None, "copy of 000001 in val"),
        "000004": ("exclude", None, "copies with different labels: happiness, sadness"),
        "000006": ("exclude", None, "same picture as 000005"),
        "000007": ("exclude", None, "one colour all over"),
        "000008": ("exclude", None, "label noise"),
        "000009": ("exclude", None, "label noise"),
    }
    assert proposed(splits=("val",)) == {}
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
