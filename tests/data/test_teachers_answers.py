"""Teachers' answers on disk and in a student's targets: to each face its own, whole, and none but to what is shown."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import yaml

from emodet.data.answers_files import Said, brightness_of, write_answers
from emodet.data.datamodule import EmotionDataModule
from emodet.data.teachers_answers import TeachersAnswers, begin_answers
from emodet.errors import EmodetError

STANDARD = yaml.safe_load((Path(__file__).parents[2] / "conf/augmentation/standard.yaml").read_text())["steps"]
TEACHERS = [{"file": "teacher.pt", "weights_sha256": "0123456789abcdef", "temperature": 1.5}]
MADE, VERSIONS = {"flip": False, "precision": "32-true"}, {"albumentations": "2.0", "numpy": "2.0"}
EPOCHS, WHOLE = 2, 64  # of 72 training faces in batches of 16


@pytest.fixture(scope="module")
def made(release: Path) -> Callable[..., EmotionDataModule]:
    """Makes data modules that are set up."""

    def make(**options: Any) -> EmotionDataModule:
        values = {"batch_size": 16, "num_workers": 0, "processes": 1, "augmentation": STANDARD, "reader": "yolo"} | options
        preprocessing = {"size": values.pop("size", 24), "detail": None}
        data = EmotionDataModule(release, preprocessing, **values)
        data.prepare_data()
        data.setup()
        return data

    return make


def shares(crops: npt.NDArray[np.uint8], index: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """A made teacher that nobody can mistake: its answer follows from the face's number and the crop's pixels."""
    places = np.linspace(0, crops[0].size - 1, 8).astype(int)
    scores = 2 * crops.reshape(len(crops), -1)[:, places] / 255 + np.sin(index[:, None] * np.arange(1, 9))
    return np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)


def begin(folder: Path, data: EmotionDataModule, processes: int = 1, **more: Any) -> TeachersAnswers:
    values = {"teachers": TEACHERS, "made": MADE, "versions": VERSIONS, "details": {}} | more
    augmented = values.pop("augmented", True)
    return begin_answers(folder, data.asked(processes, augmented=augmented), **values)


def teach(folder: Path, data: EmotionDataModule, processes: int = 1, epochs: int = EPOCHS) -> Path:
    """What `python -m emodet.teach` writes, with `shares` for a teacher."""
    answers = begin(folder, data, processes)
    for epoch in range(epochs):
        said = Said(np.zeros((WHOLE, 8), np.float16), np.zeros(WHOLE, np.int64), np.zeros(WHOLE, np.float16))
        for rank in range(processes):
            for number, batch in enumerate(data.views(epoch, rank, processes)):
                crops, index = batch["image"].numpy(), batch["index"].numpy()
                start = number * data.batch_size * processes
                places = slice(start + rank, start + data.batch_size * processes, processes)
                said.log_probabilities[places] = np.log(shares(crops, index))
                said.index[places], said.brightness[places] = index, brightness_of(crops)
        write_answers(answers.file_of(epoch), said)
    return folder


@pytest.fixture(scope="module")
def answers(made: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return teach(tmp_path_factory.mktemp("answers") / "augmented", made())


@pytest.fixture(scope="module")
def faces_answers(made: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One answer for each face as it is."""
    data = made()
    stored = begin(tmp_path_factory.mktemp("answers") / "faces", data, augmented=False)
    rows = data.splits.train
    crops = data.pack.images(rows)
    write_answers(stored.file_of(None), Said(np.log(shares(crops, rows)), rows, brightness_of(crops)))
    return stored.folder


def at(data: EmotionDataModule, epoch: int, rank: int = 0, world_size: int = 1, done: int = 0) -> EmotionDataModule:
    """As if a trainer stood there."""
    progress = SimpleNamespace(current=SimpleNamespace(ready=done))
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress))
    data.trainer = SimpleNamespace(  # type: ignore[assignment]
        global_rank=rank, world_size=world_size, current_epoch=epoch, fit_loop=loop
    )
    return data


def assert_targets(batch: Any, weight: float, temperature: float = 1.0) -> None:
    """1e-3 is what float16 leaves of a probability."""
    powers = shares(batch["image"].numpy(), batch["index"].numpy()) ** (1 / temperature)
    labels = np.eye(8)[batch["emotion"].numpy()]
    expected = (1 - weight) * labels + weight * powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(batch["target"].numpy(), expected, atol=1e-3)
    assert batch["target"].dtype == torch.float32


class TestTargets:
    @pytest.mark.parametrize(("weight", "temperature"), [(1.0, 1.0), (0.3, 1.0), (0.6, 3.0), (0.6, 0.5)])
    def test_each_crop_has_the_answer_to_itself(
        self, made: Any, answers: Path, weight: float, temperature: float
    ) -> None:
        data = made(distillation={"answers": answers, "weight": weight, "temperature": temperature})
        for epoch in range(EPOCHS):
            batches = list(at(data, epoch).train_dataloader())
            assert len(batches) == 4
            for batch in batches:
                assert_targets(batch, weight, temperature)

    def test_in_worker_processes_and_from_the_middle_of_an_epoch(self, made: Any, answers: Path) -> None:
        data = made(distillation={"answers": answers, "weight": 1.0}, num_workers=1)
        batches = list(at(data, 1, done=2).train_dataloader())
        assert len(batches) == 2
        for batch in batches:
            assert_targets(batch, 1.0)

    def test_the_crops_and_the_evaluation_stay_as_they_are(self, made: Any, answers: Path) -> None:
        plain, student = made(), made(distillation={"answers": answers})
        for one, other in zip(at(plain, 1).train_dataloader(), at(student, 1).train_dataloader(), strict=True):
            assert torch.equal(one["image"], other["image"])
            assert torch.equal(one["emotion"], other["emotion"])
            assert not torch.equal(one["target"], other["target"])
        one, other = (next(iter(data.val_dataloader())) for data in (plain, student))
        assert torch.equal(one["target"], other["target"])

    def test_two_processes_get_the_answers_to_their_own_crops(self, made: Any, tmp_path: Path) -> None:
        folder = teach(tmp_path / "two", made(batch_size=8), processes=2)
        data = made(batch_size=8, distillation={"answers": folder, "weight": 0.8})
        seen = []
        for rank in range(2):
            for batch in at(data, 1, rank, world_size=2).train_dataloader():
                assert_targets(batch, 0.8)
                seen.extend(batch["index"].tolist())
        assert len(seen) == len(set(seen)) == WHOLE
        with pytest.raises(EmodetError, match=r"the number of processes .* \(2 there, 1 here\)"):
            data.require_answers(1, EPOCHS)

    def test_balanced_draws_may_show_a_face_twice(self, made: Any, tmp_path: Path) -> None:
        folder = teach(tmp_path / "balanced", made(balanced=True), epochs=1)
        batches = list(at(made(balanced=True, distillation={"answers": folder}), 0).train_dataloader())
        rows = [row for batch in batches for row in batch["index"].tolist()]
        assert len(set(rows)) < len(rows)
        for batch in batches:
            assert_targets(batch, 0.7)

    def test_one_answer_for_each_face_fits_any_order(self, made: Any, faces_answers: Path) -> None:
        distillation = {"answers": faces_answers, "weight": 0.9}
        options = {"seed": 5, "batch_size": 10, "balanced": True, "augmentation": []}
        data = made(distillation=distillation, **options)
        data.require_answers(3, 1000)
        for batch in at(data, 7).train_dataloader():
            assert_targets(batch, 0.9)

    def test_what_a_teacher_thinks_impossible_is_softened_too(self, made: Any, tmp_path: Path) -> None:
        """In float16 a probability of 1e-12 would be 0, and stay so."""
        data = made(augmentation=[])
        stored = begin(tmp_path / "sure", data, augmented=False)
        sure = np.full((72, 8), 1e-12)
        sure[:, 3] = 1 - 7e-12
        write_answers(stored.file_of(None), Said(np.log(sure), data.splits.train, np.zeros(72, np.float16)))
        student = made(augmentation=[], distillation={"answers": stored.folder, "weight": 1.0, "temperature": 4.0})
        target = next(iter(at(student, 0).train_dataloader()))["target"]
        expected = 1e-3 / (1 + 7e-3)
        np.testing.assert_allclose(target[:, 0], expected, rtol=0.01)


class TestRefused:
    @pytest.mark.parametrize(
        ("options", "difference"),
        [
            ({"seed": 1}, r"seed \(0 there, 1 here\)"),
            ({"batch_size": 17}, r"data.batch_size \(16 there, 17 here\)"),
            ({"augmentation": []}, r"augmentation \(HorizontalFlip, .*; [0-9a-f]{8} there, none here\)"),
            ({"augmentation": [{**STANDARD[0], "p": 0.4}, *STANDARD[1:]]}, r"augmentation \(HorizontalFlip"),
            ({"training_faces": 71}, "the training faces"),
            ({"val": 0.2}, "the training faces"),
            ({"balanced": True}, r"how often faces are drawn \(data.balanced.*equal there"),
            ({"classes": 7}, r"data.classes \(neutral, .*contempt there, neutral"),
            ({"size": 26}, "the data set with its corrections"),
        ],
    )
    def test_another_training_is_told_the_difference_and_the_way_out(
        self, made: Any, answers: Path, options: dict[str, Any], difference: str
    ) -> None:
        data = made(**options, distillation={"answers": answers})
        with pytest.raises(EmodetError, match=difference) as refused:
            data.require_answers(1, EPOCHS)
        assert str(refused.value).startswith(f"distillation.answers={answers}: ")
        assert "python -m emodet.teach" in str(refused.value)
        # Also by whoever takes the batches without asking first.
        with pytest.raises(EmodetError, match=difference):
            at(data, 0).train_dataloader()

    def test_more_epochs_than_were_answered(self, made: Any, answers: Path) -> None:
        data = made(distillation={"answers": answers})
        data.require_answers(1, EPOCHS)
        with pytest.raises(EmodetError, match=r"answers to 2 epoch\(s\) are there, and training takes 3.*epochs=3"):
            data.require_answers(1, 3)
        # Where nobody knows how many there will be.
        data.require_answers(1, None)
        with pytest.raises(EmodetError, match=r"epoch-0002.npz is not there"):
            list(at(data, 2).train_dataloader())

    def test_crops_that_are_made_otherwise_although_all_settings_agree(
        self, made: Any, answers: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = at(made(distillation={"answers": answers}), 0)
        augmentation = type(data.augmentation)
        original = augmentation.__call__
        monkeypatch.setattr(augmentation, "__call__", lambda self, crops, seed: original(self, crops, seed + 1))
        with pytest.raises(EmodetError, match=r"of 255 apart on average\).*albumentations 2.0, numpy 2.0"):
            data.train_dataloader()

    @pytest.mark.parametrize("setting", [{"weight": 0}, {"weight": 1.1}, {"temperature": 0}, {"weight": float("nan")}])
    def test_numbers_out_of_range(self, made: Any, answers: Path, setting: dict[str, float]) -> None:
        name, value = next(iter(setting.items()))
        with pytest.raises(EmodetError, match=rf"distillation\.{name}={value}"):
            made(distillation={"answers": answers, **setting})

    def test_no_folder_and_none_of_answers(self, made: Any, tmp_path: Path) -> None:
        with pytest.raises(EmodetError, match=r"distillation\.answers is not set"):
            made(distillation={"weight": 0.5})
        for folder in (tmp_path, tmp_path / "nowhere"):
            with pytest.raises(EmodetError, match=r"there are no teachers' answers \(no answers.json\)"):
                made(distillation={"answers": folder})

    def test_faces_on_a_device(self, made: Any, answers: Path) -> None:
        with pytest.raises(EmodetError, match=r"data\.device=cpu does not go together with distillation.answers"):
            made(distillation={"answers": answers}, device="cpu")


def stored(file: Path, **changed: Any) -> None:
    """Write an epoch again with some of its arrays changed."""
    with np.load(file) as content:
        arrays = {name: content[name] for name in content.files} | changed
    np.savez(file, **arrays)


def with_value(file: Path, value: float) -> npt.NDArray[np.float16]:
    found = np.load(file)["log_probabilities"].copy()
    found[3, 2] = value
    return found


class Harmful:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("was_run"),))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut off": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "empty": lambda file: file.write_bytes(b""),
    "a bit turned": lambda file: file.write_bytes(
        file.read_bytes()[:600] + bytes([file.read_bytes()[600] ^ 64]) + file.read_bytes()[601:]
    ),
    "something else": lambda file: file.write_text("epoch,face,p\n"),
    "a plain array": lambda file: np.save(file.open("wb"), np.zeros(4)),
    "a pickle": lambda file: file.write_bytes(pickle.dumps(Harmful())),
    "objects": lambda file: np.savez(file, log_probabilities=np.array([Harmful()] * 64, dtype=object)),
    "objects inside": lambda file: stored(file, log_probabilities=np.array([Harmful()] * 64, dtype=object)),
    "NaN": lambda file: stored(file, log_probabilities=with_value(file, np.nan)),
    "infinite": lambda file: stored(file, log_probabilities=with_value(file, -np.inf)),
    "no distribution": lambda file: stored(file, log_probabilities=with_value(file, 0.5)),
    "another type": lambda file: stored(file, log_probabilities=np.load(file)["log_probabilities"].astype(np.float32)),
    "a class less": lambda file: stored(file, log_probabilities=np.load(file)["log_probabilities"][:, 1:]),
    "a row less": lambda file: stored(file, log_probabilities=np.load(file)["log_probabilities"][1:]),
    "a name less": lambda file: np.savez(file, index=np.arange(64)),
    "another order": lambda file: stored(file, index=np.load(file)["index"][::-1]),
    "another epoch's": lambda file: shutil.copy(file.with_name("epoch-0000.npz"), file),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_epoch_is_named_before_its_first_batch(
    damage: str, made: Any, answers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "answers"
    shutil.copytree(answers, folder)
    DAMAGE[damage](folder / "epoch-0001.npz")
    data = made(distillation={"answers": folder})
    # The epoch before is good.
    assert len(list(at(data, 0).train_dataloader())) == 4
    with pytest.raises(EmodetError, match=r"epoch-0001.npz is damaged or none of .* Delete it and run"):
        list(at(data, 1).train_dataloader())
    assert not (tmp_path / "was_run").exists()
    whole = TeachersAnswers(folder)
    assert whole.holds(0)
    # Order is not looked at without the data.
    assert whole.holds(1) == (damage in ("another order", "another epoch's"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: values.update(version=2), "is of version 2, this emodet reads version 1"),
        (lambda values: values.update(format="other"), "not of the format"),
        (lambda values: values.pop("asked"), "KeyError: 'asked'"),
        (lambda values: values["asked"].pop("classes"), "KeyError: 'classes'"),
        (lambda values: values["asked"]["views"].update(more=1), "TypeError"),
        (lambda values: values["asked"].update(views=3), "TypeError"),
        (lambda values: values.update(teachers=3), "TypeError"),
    ],
)
def test_a_damaged_manifest(change: Any, message: str, answers: Path, tmp_path: Path) -> None:
    values = json.loads((answers / "answers.json").read_text())
    change(values)
    (tmp_path / "answers.json").write_text(json.dumps(values))
    with pytest.raises(EmodetError, match=message):
        TeachersAnswers(tmp_path)
    (tmp_path / "answers.json").write_text('{"format": "emodet-tea')
    with pytest.raises(EmodetError, match="is damaged"):
        TeachersAnswers(tmp_path)


def test_a_folder_is_gone_on_with_only_for_the_same(made: Any, answers: Path, tmp_path: Path) -> None:
    data = made()
    assert begin(answers, data).epochs == EPOCHS
    others = [{**TEACHERS[0], "weights_sha256": "fedcba"}]
    for more, difference in (
        ({"teachers": others}, r"the teachers \(teacher.pt 01234567 there, teacher.pt fedcba here\)"),
        ({"teachers": [*TEACHERS, *others]}, "the teachers"),
        ({"made": {**MADE, "flip": True}}, r"flip \(False there, True here\)"),
        ({"versions": {**VERSIONS, "numpy": "3.0"}}, r"numpy \(2.0 there, 3.0 here\)"),
        ({"augmented": False}, "augmented"),
    ):
        with pytest.raises(EmodetError, match=f"output={answers}: it holds other answers; .*{difference}"):
            begin(answers, data, **more)
    with pytest.raises(EmodetError, match="the number of processes"):
        begin(answers, data, processes=2)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(EmodetError, match="this folder holds something else"):
        begin(tmp_path, data)
    # What a process left that was killed while it began is no obstacle, and no manifest.
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed/answers.json.unfinished-7").write_text("{")
    assert begin(tmp_path / "killed", data).epochs == 0


def test_a_folder_that_cannot_be_written(made: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EmodetError, match="could not be written"):
        begin(tmp_path / "file" / "answers", made())
