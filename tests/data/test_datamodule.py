"""The data module: from a release on disk to batches, with 8 or 7 classes, hard or soft, with and without workers."""

import functools
import logging
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from made_commands import python
from made_files import encoded, put_text
from made_reader import picture, ready
from made_releases import put_ferplus

from emodet.data import datamodule
from emodet.data.datamodule import build_datamodule
from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError
from emodet.preprocessing import Preprocessing

CROP = Preprocessing(size=48).to_dict()
STANDARD = yaml.safe_load((Path(__file__).parents[2] / "conf/augmentation/standard.yaml").read_text())["steps"]
SPLITS = {"train": 100, "val": 24, "test": 16}
TYPES = {
    **{"image": torch.uint8, "emotion": torch.int64, "index": torch.int64},
    **{"target": torch.float32, "valence_arousal": torch.float32},
}


def votes_of(number):
    """Clear ones of class number % 8, and every tenth undecided between two classes."""
    emotion = EMOTIONS[number % 8]
    if number % 10 == 9:
        return {"anger": 5, "contempt": 5} if number % 20 == 9 else {"fear": 5, "sadness": 5}
    return {emotion: 8, "contempt" if emotion != "contempt" else "neutral": 2}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    numbers = [(split, number) for split, count in SPLITS.items() for number in range(count)]
    faces = [(split, encoded(picture(row)), votes_of(number)) for row, (split, number) in enumerate(numbers)]
    return put_ferplus(tmp_path_factory.mktemp("datamodule") / "ferplus/faces.parquet", faces).parent


def module(root, packs, steps=(), seed=0, **options):
    """As the commands make it."""
    settings = {"root": str(root), "packs": str(packs), "num_workers": 0, "processes": 1} | options
    return build_datamodule(settings, CROP, {"steps": steps}, seed)


@pytest.fixture
def made(root):

    def make(**options):
        return ready(module(root, root.parent / "packs", **{"batch_size": 8, **options}))

    return make


def rows_of(batches):
    return [int(row) for batch in batches for row in batch["index"]]


assert_equal = functools.partial(torch.testing.assert_close, rtol=0, atol=0, equal_nan=True)


class TestBatches:
    @pytest.mark.parametrize("classes", [8, 7])
    @pytest.mark.parametrize("labels", ["hard", "soft"])
    def test_each_picture_stands_beside_its_own_target(self, made, classes, labels):
        """Undecided faces train with soft labels; with seven classes, contempt and the votes for it are left out."""
        data = made(labels=labels, classes=classes, eval_batch_size=10)
        assert data.class_names == EMOTIONS[:classes]
        counted = [number % 8 for number in range(100) if number % 10 != 9]
        assert data.class_counts() == [counted.count(emotion) for emotion in range(classes)]
        assert all(isinstance(count, int) for count in data.class_counts())
        loaders = (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())
        assert [len(next(iter(loader))["index"]) for loader in loaders] == [8, 10, 10]
        start = 0
        assert (data.splits.val_name, data.splits.test_name) == ("val", "test")
        for split, loader in zip(SPLITS, loaders, strict=True):
            soft = (split, labels) == ("train", "soft")
            used = {int(key) - start for key in data.pack.table.key[getattr(data.splits, split)]}
            assert used == {n for n in range(SPLITS[split]) if (soft if n % 10 == 9 else n % 8 < classes)}
            if split != "train":
                assert rows_of(loader) == rows_of(data.evaluation_dataloader(split))
            for batch in loader:
                assert {name: batch[name].dtype for name in TYPES} == TYPES
                assert batch["valence_arousal"].isnan().all()
                columns = (batch[name] for name in ("index", "image", "emotion", "target"))
                for row, image, emotion, target in zip(*columns, strict=True):
                    number = int(data.pack.table.key[row]) - start
                    votes = np.array([votes_of(number).get(name, 0) for name in EMOTIONS[:classes]])
                    assert np.array_equal(image.numpy(), picture(start + number))
                    assert emotion == (-1 if number % 10 == 9 else number % 8)
                    expected = votes / votes.sum() if soft else np.eye(classes)[emotion]
                    assert target.numpy() == pytest.approx(expected)
            start += SPLITS[split]

    def test_augmentation_is_for_training_alone(self, made):
        data = made(steps=STANDARD)
        evaluated = (data.val_dataloader(), data.test_dataloader(), data.evaluation_dataloader("train"))
        for loader in (data.train_dataloader(), *evaluated):
            batch = next(iter(loader))
            stored = data.pack.images(batch["index"].numpy())
            assert np.array_equal(batch["image"].numpy(), stored) is (loader in evaluated)

    @pytest.mark.parametrize("sampling", ["natural", "balanced"])
    def test_workers_change_nothing(self, made, sampling):
        """Batch for batch and pixel for pixel, augmentation included."""
        options = {"steps": STANDARD, "labels": "soft", "sampling": sampling, "seed": 5}
        alone, with_workers = (made(num_workers=workers, **options) for workers in (0, 2))
        for one, other in (
            (alone.train_dataloader(), with_workers.train_dataloader()),
            (alone.val_dataloader(), with_workers.val_dataloader()),
        ):
            assert_equal(list(one), list(other))
            assert len(one) > 0

    def test_seeds_move_training_and_not_the_selection(self, made):
        batches = [list(made(steps=STANDARD, seed=seed).train_dataloader()) for seed in (1, 1, 2)]
        assert_equal(batches[0], batches[1])
        assert rows_of(batches[0]) != rows_of(batches[2])
        one, other, third = (
            made(val_from=0.2, seed=seed, split_seed=held).splits for seed, held in ((1, 0), (2, 0), (1, 1))
        )
        assert np.array_equal(one.val, other.val)
        assert not np.array_equal(one.val, third.val)


class TestPreparing:
    def test_setup_needs_a_pack(self, root, tmp_path):
        with pytest.raises(EmodetError, match=r"not a pack .* `python -m emodet\.prepare`"):
            module(root, tmp_path / "packs").setup()

    def test_dropped_faces_are_reported(self, root, tmp_path, caplog):
        table = pq.read_table(root / "faces.parquet").to_pylist()
        for place in range(3):
            table[100 + place]["image"] = table[place]["image"]
        pq.write_table(pa.Table.from_pylist(table), tmp_path / "faces.parquet")
        caplog.set_level(logging.INFO, "emodet")
        data = module(tmp_path, tmp_path / "packs")
        data.prepare_data()
        assert "3 pictures occur in more than one split (6 faces)" in caplog.text
        data.setup()
        assert "3 training faces dropped: same picture as a val or test face" in caplog.text
        assert len(data.splits.train) == 87


class TestRefused:
    def test_a_batch_larger_than_the_data(self, made):
        assert len(made(batch_size=90).train_dataloader()) == 1
        with pytest.raises(EmodetError, match=r"data\.batch_size=91 .* 90 training faces .* smaller batch"):
            made(batch_size=91).train_dataloader()

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            *(("labels", "mixed"), ("classes", 6), ("batch_size", 0), ("eval_batch_size", -1), ("num_workers", -1)),
            *(("sampling", "fair"), ("val_from", "test"), ("crop", "face"), ("max_unreadable", -0.1)),
            *(("max_unreadable", 5), ("processes", 0)),
        ],
    )
    def test_arguments(self, made, name, value):
        with pytest.raises(EmodetError, match=rf"data\.{name}={value!r}") as caught:
            made(**{name: value})
        assert name != "sampling" or "expected one of natural, balanced, votes" in str(caught.value)
        with pytest.raises(EmodetError, match="'Turn'"):
            made(steps=[{"name": "Turn"}])


def test_augmented_shows_each_face_beside_itself(made):
    data = made(steps=STANDARD)
    shown = data.augmented(12)
    assert shown.shape == (12, 2, 48, 48, 3)
    assert shown.dtype == np.uint8
    assert len({face.tobytes() for face in shown[:, 0]}) == 12
    assert not np.array_equal(shown[:, 0], shown[:, 1])
    assert len(data.augmented(10**6)) == 90


@pytest.mark.parametrize("megabytes", [0, 4])
def test_default_workers_are_few_and_fewer_with_little_shared_memory(made, megabytes, monkeypatch, caplog):
    """Otherwise workers fail to allocate their batches there, and training hangs."""
    for cores, few in ((64, 8), (2, 2), (8, 8)):
        monkeypatch.setattr(datamodule, "available_cores", lambda cores=cores: cores)
        assert made(num_workers=None).num_workers == few
    room = SimpleNamespace(f_blocks=megabytes * 10**6, f_frsize=1)
    monkeypatch.setattr(os, "statvfs", lambda _: room)
    chosen, default = made(num_workers=4, eval_batch_size=64), made(num_workers=None, eval_batch_size=64)
    with pytest.raises(EmodetError, match=r"data\.num_workers=4: .*--shm-size.*data\.num_workers=0"):
        chosen.train_dataloader()
    default.train_dataloader()
    assert default.num_workers == (0 if megabytes == 0 else 2)
    assert "--shm-size" in caplog.text


SCRIPT = """
import os, signal, sys, time
from emodet.data.datamodule import build_datamodule
if __name__ == "__main__":
    options = {"root": sys.argv[1], "packs": sys.argv[2], "processes": 1, "batch_size": 8, "num_workers": 2}
    data, forks, got = build_datamodule(options, {"size": 48}), [], []
    data.prepare_data(), data.setup()
    os.register_at_fork(before=lambda: forks.append(1), after_in_child=lambda: time.sleep(2 * (len(forks) == 2)))
    for batch in data.train_dataloader():
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, signal.SIG_IGN), os.killpg(0, name)
        got.append(len(batch["index"]))
    print(got)
"""


@pytest.mark.slow
def test_signals_of_the_terminal_do_not_end_data_workers(root, tmp_path):
    script = put_text(tmp_path / "load.py", SCRIPT)
    done = python(script, root, tmp_path / "packs", start_new_session=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == str([8] * 11)
