"""Splits that share nothing, and batches that count each face as often as they should."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_reader import random_table, table_with

from emodet.data.faces import TrainingBatches, evaluation_batches, sampling_weights
from emodet.data.splits import assign_splits
from emodet.errors import EmodetError


def splits_of(made, val_from="auto", seed=0):
    return assign_splits(made, np.ones(len(made), dtype=bool), val_from, seed)


AFFECTNET = (749, 1344, 255, 141, 64, 38, 249, 38)  # a hundredth of its training faces


class TestWhichSplits:
    @pytest.mark.parametrize(
        ("faces", "val_from", "val", "test", "names"),
        [
            ((80, 3, 2), "auto", ("val", 3), ("test", 2), ("val", "test")),
            ((100, 3, 0), "auto", ("train", 10), ("val", 3), ("10 % of train", "val")),
            ((100, 0, 0), 0.2, ("train", 20), ("train", 20), ("20 % of train (also used for model selection)",) * 2),
            ((80, 3, 0), "val", ("val", 3), ("val", 3), ("val (also used for model selection)",) * 2),
            ((80, 3, 2), 0.25, ("train", 20), ("test", 2), ("25 % of train", "test")),
        ],
    )
    def test_faces_of_val_and_test(self, faces, val_from, val, test, names):
        made = table_with(np.repeat(["train", "val", "test"], faces).tolist(), [0] * sum(faces))
        splits = splits_of(made, val_from)
        assert (splits.val_name, splits.test_name, splits.dropped) == (*names, {})
        for rows, (split, count) in ((splits.val, val), (splits.test, test)):
            assert made.split[rows].tolist() == [split] * count
        assert np.array_equal(splits.val, splits.test) == (names[0] == names[1])
        assert sorted({*splits.train, *splits.val} & {*range(faces[0])}) == list(range(faces[0]))

    @pytest.mark.parametrize(
        ("split", "val_from", "message"),
        [
            *((["train"] * 80, given, r"data\.val_from=") for given in ("test", 0, 1, 0.6, -0.1, True, None)),
            (["train"] * 10, "val", r"data\.val_from=val: this release has no val"),
            *(
                (split, "auto", "would have no faces")
                for split in (["train"] * 3, ["val"] * 8, ["train"] * 4 + ["val"] * 2)
            ),
        ],
    )
    def test_invalid_choices_and_splits_without_faces(self, split, val_from, message):
        with pytest.raises(EmodetError, match=message):
            splits_of(table_with(split, [0] * len(split)), val_from)


@pytest.mark.parametrize("share", [0.05, 0.1, 0.5])
def test_each_class_gives_its_share_and_the_seed_chooses_which_faces(share):
    emotion = np.repeat(range(8), AFFECTNET)
    np.random.default_rng(0).shuffle(emotion)
    split = ["train"] * len(emotion) + ["val"] * 40
    made = table_with(split, [*emotion.tolist(), *(number % 8 for number in range(40))])
    held = np.bincount(made.emotion[splits_of(made, share).val], minlength=8)
    assert (np.abs(held - np.array(AFFECTNET) * share) <= 0.5).all()
    one, again, other = (splits_of(made, share, seed).val for seed in (3, 3, 4))
    assert np.array_equal(one, again)
    assert len(np.intersect1d(other, one)) < (share + 0.4) * len(one)


class TestCopies:
    def test_copies_stay_in_one_split_and_copies_of_val_and_test_do_not_train(self):
        picture = ["a", "b", "c", "d", "e", "f", "a", "x", "c", "y"]
        splits = splits_of(table_with(["train"] * 6 + ["val"] * 2 + ["test"] * 2, [0] * 10, picture=picture))
        assert splits.train.tolist() == [1, 3, 4, 5]
        assert splits.dropped == {"same picture as a val or test face": 2}
        picture = [f"p{number // 4}" for number in range(400)]
        made = table_with(["train"] * 400 + ["val"] * 8, [0] * 408, picture=[*picture, *map(str, range(8))])
        splits = splits_of(made)
        assert len(splits.val) == 40
        assert len(splits.train) == 360
        assert not set(made.pixel_hash[splits.train]) & set(made.pixel_hash[splits.val])
        assert splits.dropped == {}

    def test_subjects_of_val_and_test_do_not_train_and_undecided_faces_neither(self):
        emotion = [0, -1] * 200 + [0] * 8
        subject = [f"s{number // 4}" for number in range(400)] + [""] * 8
        made = table_with(["train"] * 400 + ["val"] * 8, emotion, subject)
        splits = splits_of(made)
        assert len(splits.val) == 20
        assert splits.dropped == {"same subject as a val or test face": 20}
        assert not set(made.subject[splits.train]) & set(made.subject[splits.val])
        # Also where the data set's own splits separate a subject's faces.
        made = table_with(["train"] * 5 + ["val", "test"], [0] * 7, ["a", "", "b", "c", "c", "b", "a"])
        splits = splits_of(made)
        assert (splits.train.tolist(), splits.dropped) == ([1, 3, 4], {"same subject as a val or test face": 2})
        emotion = [0] * 100 + [-1] * 100 + [0] * 8
        picture = [f"p{number}" for number in range(100)] * 2 + [f"v{number}" for number in range(8)]
        splits = splits_of(table_with(["train"] * 200 + ["val"] * 8, emotion, picture=picture))
        assert splits.dropped == {"same picture as a val or test face": 10}


@given(
    *(st.integers(0, 10**6), st.sampled_from([("train",), ("train", "test"), ("train", "val", "test")])),
    *(st.sampled_from([0, 0.5, 1]), st.sampled_from(["auto", "val", 0.1, 0.5])),
)
@settings(max_examples=150)
def test_splits_share_nothing(seed, splits, named, val_from):
    random = np.random.default_rng(seed)
    made = random_table(random, random.integers(20, 150), splits, random.integers(5, 300), named)
    usable = random.random(len(made)) < 0.9
    try:
        splits = assign_splits(made, usable, val_from, seed)
    except EmodetError:
        return
    train, chosen, report = splits.train, splits.val, splits.test
    same = splits.val_name == splits.test_name
    pairs = [(train, chosen), (train, report), *([] if same else [(chosen, report)])]
    assert not any(np.intersect1d(*pair).size for pair in pairs)
    for rows in (train, chosen, report):
        assert usable[rows].all()
        assert (np.diff(rows) > 0).all()
    for rows in (chosen, report):
        assert (made.emotion[rows] >= 0).all()
    measured = set(made.pixel_hash[chosen]) | set(made.pixel_hash[report])
    assert not set(made.pixel_hash[train]) & measured
    assert (made.split[train] == "train").all()
    assert not (set(made.subject[train]) & set(made.subject[np.union1d(chosen, report)])) - {""}
    if "of train" in splits.val_name:
        assert (made.split[chosen] == "train").all()
        if not same:
            assert not set(made.pixel_hash[chosen]) & set(made.pixel_hash[report])
    candidates = int((usable & (made.split == "train")).sum())
    taken = len(train) + (len(chosen) if "of train" in splits.val_name else 0)
    assert taken + sum(splits.dropped.values()) == candidates


def content(batches):
    return [(draw.indices.tolist(), draw.seed) for draw in batches]


def batches(count, size, *, seed=0, epoch=0, done=0, rank=0, world=1):
    return TrainingBatches(np.arange(count) * 3 + 1, size, seed, None, lambda: (epoch, done), rank, world)


class TestTraining:
    @given(st.integers(1, 200), st.integers(1, 20), st.integers(1, 4), st.integers(0, 3), st.integers(0, 50))
    def test_each_face_at_most_once_per_epoch_over_all_processes(self, count, size, world, seed, epoch):
        if size * world > count:
            with pytest.raises(EmodetError, match=rf"data\.batch_size={size} on {world} process\(es\) needs more"):
                batches(count, size, world=world)
            return
        ranks = [batches(count, size, seed=seed, epoch=epoch, rank=rank, world=world) for rank in range(world)]
        every = [draw for mine in ranks for draw in content(mine)]
        assert {len(mine) for mine in ranks} == {len(content(mine)) for mine in ranks} == {count // (size * world)}
        assert all(len(rows) == size for rows, _ in every)
        drawn = [row for rows, _ in every for row in rows]
        assert len(drawn) == len(set(drawn))
        assert count - len(drawn) < size * world  # only the last incomplete batch is left out
        assert set(drawn) <= {number * 3 + 1 for number in range(count)}
        assert len({augmented for _, augmented in every}) == len(every)

    @given(st.integers(0, 12), st.integers(0, 3))
    def test_skipping_what_is_done_gives_the_rest(self, done, epoch):
        rest = content(batches(100, 8, epoch=epoch, done=done))
        assert rest == content(batches(100, 8, epoch=epoch))[done:]

    def test_an_order_of_seed_and_epoch_alone_and_the_progress_is_asked_for_each_epoch(self):
        np.random.seed(1)  # noqa: NPY002  # whatever state the process is in
        assert content(batches(64, 8, seed=1, epoch=2)) == content(batches(64, 8, seed=1, epoch=2))
        seen = [content(batches(64, 8, seed=seed, epoch=epoch)) for seed, epoch in itertools.product((0, 1), (0, 1))]
        for one, other in itertools.combinations(seen, 2):
            assert [rows for rows, _ in one] != [rows for rows, _ in other]
            assert not {seed for _, seed in one} & {seed for _, seed in other}
        epochs = iter(range(3))
        training = TrainingBatches(np.arange(64), 8, 0, None, lambda: (next(epochs), 0))
        orders = [[rows for rows, _ in content(training)] for _ in range(3)]
        assert all(one != other for one, other in itertools.pairwise(orders))

    def test_balanced_drawing_with_a_class_missing_faces_without_one_and_ranks_of_one_order(self):
        emotion = np.array([0] * 90 + [3] * 10 + [-1] * 20)
        weights = sampling_weights(emotion, "balanced")
        assert weights[:90].sum() == pytest.approx(weights[90:100].sum())
        assert weights[100:] == pytest.approx(weights[:100].mean())
        weights = sampling_weights(np.repeat([0, 1], [90, 10]), "balanced")
        one = TrainingBatches(np.arange(100), 20, 0, weights, lambda: (0, 0))
        two = [TrainingBatches(np.arange(100), 10, 0, weights, lambda: (0, 0), rank, 2) for rank in range(2)]
        for whole, *parts in zip(one, *two, strict=True):
            assert sorted(whole.indices) == sorted(np.concatenate([part.indices for part in parts]))


@given(st.integers(0, 200), st.integers(1, 40), st.integers(1, 9))
def test_evaluation_counts_each_face_exactly_once_in_order(count, size, world):
    indices = np.arange(count)[::-1] * 2
    ranks = [evaluation_batches(indices, size, rank, world) for rank in range(world)]
    every = [content(mine) for mine in ranks]
    # Only the last batch may be without a face, and so all processes make equally many.
    assert all(1 <= len(rows) <= size for got in every for rows, _ in got[:-1])
    assert {len(mine) for mine in ranks} == {len(got) for got in every} == {len(every[0])}
    counted = [row for got in every for rows, _ in got for row in rows]
    assert (counted if world == 1 else sorted(counted, reverse=True)) == indices.tolist()


def test_faces_with_votes_for_a_rare_emotion_are_drawn_twice_as_often():
    votes = np.zeros((6, 8), np.float32)
    votes[[0, 1, 2], [7, 5, 4]] = 0.2, 0.2, 0.3  # contempt, disgust, fear
    votes[[3, 4], [4, 7]] = 0.2, 0.1
    votes[5] = np.nan
    emotion = np.zeros(6, int)
    weights = sampling_weights(emotion, "votes", None, votes)
    assert (weights / weights[5]).tolist() == [2, 2, 2, 1, 1, 1]
    assert sampling_weights(emotion, "natural", None, votes) is None
