"""`python -m emodet.teach` and a student: what is stored is what the teachers say of the student's very crops."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from made_teachers import made_teacher

from emodet.data.datamodule import EmotionDataModule
from emodet.data.teachers_answers import TeachersAnswers
from emodet.errors import EmodetError
from emodet.models.classifier import EmotionClassifier
from emodet.training.folder import RunFolder
from emodet.training.teachers import Teachers, answers_to_faces, load_teachers
from emodet.training.trained import load_trained
from emodet.teach import answer_epochs, begin, epochs_of, teachers_of

pytestmark = pytest.mark.usefixtures("without_pictures")

Command = Callable[..., int]

STUDENT = [
    "experiment=ferplus",
    "training.resolutions=[]",
    "trainer.precision=32-true",
    "trainer.check_val_every_n_epoch=1",
]


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("teachers")
    return [made_teacher(folder / f"{seed}.pt", seed) for seed in (1, 2)]


def named(teachers: list[Path]) -> str:
    return f"checkpoint=[{','.join(map(str, teachers))}]"


@pytest.fixture(scope="module")
def answers(
    command_once: Command, small: list[str], teachers: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Both teachers', with mirror images, to two epochs."""
    folder = tmp_path_factory.mktemp("answers") / "both"
    assert command_once("emodet.teach", *STUDENT, *small, named(teachers), "flip=true", f"output={folder}") == 0
    return folder


Seen = dict[tuple[int, int], dict[str, torch.Tensor]]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Every training batch by epoch and number, as the classifier gets it."""
    batches: Seen = {}
    original = EmotionClassifier.training_step

    def recording(self: EmotionClassifier, batch: Any, batch_idx: int) -> torch.Tensor:
        batches[self.current_epoch, batch_idx] = {name: value.clone() for name, value in batch.items()}
        return original(self, batch, batch_idx)

    monkeypatch.setattr(EmotionClassifier, "training_step", recording)
    return batches


def said_by(teachers: list[Path], image: torch.Tensor, *, flip: bool) -> torch.Tensor:
    """The mean of their calibrated probabilities, over mirror images too."""
    nets = [load_trained(path).classifier for path in teachers]
    views = [image, image.flip(2)] if flip else [image]
    with torch.inference_mode():
        return torch.stack([net.probabilities(view) for net in nets for view in views]).mean(0)


def softened(shares: torch.Tensor, temperature: float) -> torch.Tensor:
    powers = shares ** (1 / temperature)
    return powers / powers.sum(dim=1, keepdim=True)


def test_targets_hold_what_the_teachers_say_of_the_very_crops(
    command: Command, small: list[str], teachers: list[Path], answers: Path, seen: Seen, tmp_path: Path
) -> None:
    chosen = [f"distillation.answers={answers}", "distillation.weight=0.6", "distillation.temperature=2"]
    assert command("emodet.train", *STUDENT, *small, *chosen, f"hydra.run.dir={tmp_path / 'run'}") == 0
    assert sorted(seen) == [(epoch, batch) for epoch in range(2) for batch in range(9)]
    spread = []
    for batch in seen.values():
        shares = softened(said_by(teachers, batch["image"], flip=True), 2)
        labels = F.one_hot(batch["emotion"], 8)
        torch.testing.assert_close(batch["target"], 0.4 * labels + 0.6 * shares, atol=3e-4, rtol=0)
        spread.append(shares)
    # Teachers that say the same of every face, or of two views of one, would let any mistake pass.
    assert torch.cat(spread).std(dim=0).max() > 0.01
    facts = RunFolder(tmp_path / "run").facts()["distillation"]
    assert (facts["weight"], facts["temperature"], facts["augmented"], facts["flip"]) == (0.6, 2, True, True)
    assert [teacher["file"] for teacher in facts["teachers"]] == [str(teacher) for teacher in teachers]
    terms = load_trained(tmp_path / "run").training_data
    assert [data.terms for data in terms[1:]] == ["may teach", "may teach"]


@pytest.mark.slow
def test_a_student_that_was_stopped_goes_on_with_the_same_answers(
    command: Command,
    small: list[str],
    teachers: list[Path],
    answers: Path,
    seen: Seen,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(answers.parent)
    run, original = tmp_path / "run", EmotionClassifier.training_step

    def stopped(self: EmotionClassifier, batch: Any, batch_idx: int) -> torch.Tensor:
        if (self.current_epoch, batch_idx) == (1, 3):
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, batch, batch_idx)

    chosen = [f"distillation.answers={answers.name}", "distillation.weight=1"]
    with monkeypatch.context() as patched:
        patched.setattr(EmotionClassifier, "training_step", stopped)
        assert command("emodet.train", *STUDENT, *small, *chosen, f"hydra.run.dir={run}") == 130
    monkeypatch.chdir(tmp_path)
    seen.clear()
    assert command("emodet.train", f"resume={run}") == 0
    assert sorted(seen) == [(1, batch) for batch in range(4, 9)]
    for batch in seen.values():
        shares = said_by(teachers, batch["image"], flip=True)
        torch.testing.assert_close(batch["target"], shares, atol=1e-3, rtol=0)


# Refused.


def test_a_student_of_another_seed_is_refused_before_it_leaves_anything(
    command: Command, small: list[str], answers: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    chosen = [f"distillation.answers={answers}", "seed=1", "trainer.max_epochs=3"]
    assert command("emodet.train", *STUDENT, *small, *chosen, f"hydra.run.dir={run}") == 2
    error = capfd.readouterr().err
    assert f"error: distillation.answers={answers}: these are not answers to what this training shows" in error
    assert "seed (0 there, 1 here)" in error
    assert "Traceback" not in error
    assert not (run / "checkpoints").exists()
    assert not (run / "run.json").exists() or "pack" not in RunFolder(run).facts()


@pytest.mark.parametrize("named", [None, [], 3, [3], {"a": "b"}])
def test_who_teaches_must_be_said(named: Any) -> None:
    with pytest.raises(EmodetError, match="checkpoint is not set: say who teaches"):
        teachers_of({} if named is None else {"checkpoint": named})


def test_one_teacher_or_several_are_named() -> None:
    assert teachers_of({"checkpoint": "a.ckpt"}) == [Path("a.ckpt")]
    assert teachers_of({"checkpoint": ["a.ckpt", "~/b"]}) == [Path("a.ckpt"), Path.home() / "b"]


def test_how_many_epochs() -> None:
    assert epochs_of({"trainer": {"max_epochs": 7}}) == 7
    assert epochs_of({"trainer": {"max_epochs": 7}, "epochs": 9}) == 9
    for settings in ({"trainer": {}}, {"trainer": {"max_epochs": -1}}, {"trainer": {"max_epochs": 7}, "epochs": 0}):
        with pytest.raises(EmodetError, match=r"epochs=.*1 or more"):
            epochs_of(settings)


@pytest.fixture(scope="module")
def data(release: Path) -> EmotionDataModule:
    """What `STUDENT` and `small` make, without augmentation."""
    made = EmotionDataModule(release, {"size": 48}, reader="yolo", batch_size=8, num_workers=0, processes=1)
    made.prepare_data()
    made.setup()
    return made


def loaded(paths: list[Path], data: EmotionDataModule, **changed: Any) -> Teachers:
    return load_teachers(paths, data, **{"flip": False, "precision": "32-true", "accelerator": "cpu"} | changed)


def test_teachers_that_cannot_teach(data: EmotionDataModule, teachers: list[Path], tmp_path: Path) -> None:
    with pytest.raises(EmodetError, match=r"none\.ckpt: there is no such file"):
        loaded([tmp_path / "none.ckpt"], data)
    with pytest.raises(EmodetError, match="these weights are named twice"):
        loaded([teachers[0], teachers[1], teachers[0]], data)
    with pytest.raises(EmodetError, match=r"it knows .*anger; the student is to know .*contempt\. Set data\.classes"):
        loaded([made_teacher(tmp_path / "seven.pt", classes=7)], data)
    with pytest.raises(EmodetError, match="precision=16: there are 32-true and bf16-mixed"):
        loaded(teachers, data, precision="16")
    ill = made_teacher(tmp_path / "ill.pt", temperature=float("nan"))
    with pytest.raises(EmodetError, match="not finite"):
        answers_to_faces(loaded([ill], data), data)


def test_a_teacher_of_another_size_gets_the_crops_at_its_own(
    data: EmotionDataModule, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = [made_teacher(tmp_path / f"{size}.pt", size=size) for size in (24, 64)]
    with caplog.at_level("INFO"):
        teachers = loaded(paths, data)
    assert "the student's crops of 48 pixels are resized to its 24" in caplog.text
    crops = data.pack.images(data.splits.train[:6])
    for one, size in zip(teachers.trained, (24, 64), strict=True):
        interpolation = cv2.INTER_AREA if size < 48 else cv2.INTER_LINEAR
        resized = np.stack([cv2.resize(crop, (size, size), interpolation=interpolation) for crop in crops])
        with torch.inference_mode():
            expected = one.classifier.probabilities(torch.from_numpy(resized)).numpy()
        alone = Teachers((one,), flip=False, precision="32-true", device=torch.device("cpu"))
        np.testing.assert_allclose(np.exp(alone.say(torch.from_numpy(crops))), expected, atol=0.02)


def test_bf16_says_nearly_the_same(data: EmotionDataModule, teachers: list[Path]) -> None:
    crops = torch.from_numpy(data.pack.images(data.splits.train[:6]))
    exact, rough = (np.exp(loaded(teachers, data, precision=way).say(crops)) for way in ("32-true", "bf16-mixed"))
    assert not np.array_equal(exact, rough)
    np.testing.assert_allclose(rough, exact, atol=0.05)


def test_each_face_as_it_is(data: EmotionDataModule, teachers: list[Path]) -> None:
    said, note = answers_to_faces(loaded(teachers, data, flip=True), data)
    assert np.array_equal(said.index, data.splits.train)
    shares = said_by(teachers, torch.from_numpy(data.pack.images(said.index)), flip=True)
    np.testing.assert_allclose(np.exp(said.log_probabilities.astype(np.float32)), shares, atol=1e-3)
    right = (shares.argmax(1).numpy() == data.pack.table.emotion[said.index]).mean()
    assert f"72 faces, {right:.1%} of the labelled ones" in note


# Stopped and gone on with.


def test_what_was_stored_is_kept_and_what_is_missing_or_damaged_is_made(
    data: EmotionDataModule, teachers: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the second epoch of two, then a file is damaged, then three epochs are asked for."""
    both = loaded(teachers, data)

    def begun(name: str) -> TeachersAnswers:
        return begin({"output": str(tmp_path / name)}, data.asked(), both, data)

    answer_epochs(begun("whole"), both, data, 2, 1)
    original, calls = Teachers.say, []

    def stopped(self: Teachers, image: torch.Tensor) -> Any:
        calls.append(len(image))
        if len(calls) == 12:
            raise KeyboardInterrupt
        return original(self, image)

    halfway = begun("halfway")
    with monkeypatch.context() as patched:
        patched.setattr(Teachers, "say", stopped)
        with pytest.raises(KeyboardInterrupt):
            answer_epochs(halfway, both, data, 2, 1)
    folder, whole = tmp_path / "halfway", tmp_path / "whole"
    assert sorted(file.name for file in folder.iterdir()) == ["answers.json", "epoch-0000.npz"]
    first = folder / "epoch-0000.npz"
    assert first.read_bytes() == (whole / first.name).read_bytes()
    kept = first.stat().st_mtime_ns
    answer_epochs(begun("halfway"), both, data, 2, 1)
    assert first.stat().st_mtime_ns == kept
    first.write_bytes(first.read_bytes()[:700])
    answer_epochs(begun("halfway"), both, data, 3, 1)
    for epoch in range(2):
        assert (folder / f"epoch-{epoch:04d}.npz").read_bytes() == (whole / f"epoch-{epoch:04d}.npz").read_bytes()
    there = sorted(file.name for file in folder.iterdir())
    assert there == ["answers.json", "epoch-0000.npz", "epoch-0001.npz", "epoch-0002.npz"]


@pytest.mark.slow
def test_a_killed_command_goes_on_where_it_was(
    command: Command, small: list[str], teachers: list[Path], answers: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "answers"
    ask = [*STUDENT, *small, named(teachers), "flip=true", f"output={folder}"]
    process = subprocess.Popen([sys.executable, "-m", "emodet.teach", *ask, "epochs=4000", "data.num_workers=1"])
    deadline = time.monotonic() + 300
    while not (folder / "epoch-0001.npz").is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    kept = {file.name: file.stat().st_mtime_ns for file in folder.iterdir() if "unfinished" not in file.name}
    assert "epoch-0001.npz" in kept
    epochs = len(kept)
    assert command("emodet.teach", *ask, f"epochs={epochs}") == 0
    assert TeachersAnswers(folder).epochs == epochs
    assert all((folder / name).stat().st_mtime_ns == then for name, then in kept.items())
    for epoch in range(2):
        assert (folder / f"epoch-{epoch:04d}.npz").read_bytes() == (answers / f"epoch-{epoch:04d}.npz").read_bytes()


@pytest.mark.slow
def test_without_a_name_the_same_command_finds_its_folder(
    command: Command, small: list[str], teachers: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    ask = ["emodet.teach", *STUDENT, *small, f"checkpoint={teachers[0]}", "augmented=false"]
    folders = []
    for more in ([], [], ["flip=true"]):
        assert command(*ask, *more) == 0
        said = capfd.readouterr().out
        folders.append(next(line.split()[-1] for line in said.splitlines() if line.startswith("answers:")))
    assert folders[0] == folders[1] != folders[2]
    assert (Path(folders[0]) / "faces.npz").is_file()
    manifest = json.loads((Path(folders[0]) / "answers.json").read_text())
    assert "emodet.teach" in manifest["details"]["command"]


@pytest.mark.slow
def test_a_student_of_two_processes(small: list[str], command: Command, teachers: list[Path], tmp_path: Path) -> None:
    ask = [*STUDENT, *small, f"checkpoint={teachers[0]}", "epochs=1"]
    for processes in (1, 2):
        assert (
            command("emodet.teach", *ask, f"student_processes={processes}", f"output={tmp_path / str(processes)}") == 0
        )
    train = [sys.executable, "-m", "emodet.train", *STUDENT, *small, "trainer.strategy=ddp", "trainer.devices=2"]
    done = {}
    for processes in (1, 2):
        chosen = ["trainer.max_epochs=1", f"distillation.answers={tmp_path / str(processes)}"]
        run = [*train, *chosen, f"hydra.run.dir={tmp_path / f'run{processes}'}"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done[processes] = subprocess.run(run, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done[2].returncode == 0, done[2].stderr
    assert done[1].returncode == 2
    assert "the number of processes (student_processes there) (1 there, 2 here)" in done[1].stderr
