"""Let trained nets say what a student is to learn: ``python -m emodet.teach experiment=NAME checkpoint=TEACHER``.

The settings are those of the student's training, and the teachers answer to what it will show: the same faces in the
same order, augmented in the same way, as all of that follows from its seed. The answers are stored in a folder, and
``python -m emodet.train`` with ``distillation.answers=FOLDER`` learns from them. ``augmented=false`` stores one answer
for each face instead. Whatever was stored is not done again.
"""

from emodet.laboratory import require_laboratory

require_laboratory("emodet.teach")

import hashlib
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import torch
from omegaconf import DictConfig

from emodet.commands import command, to_plain_dict
from emodet.data.answers_files import write_answers
from emodet.data.datamodule import EmotionDataModule
from emodet.data.teachers_answers import Asked, TeachersAnswers, begin_answers
from emodet.errors import EmodetError
from emodet.training.assembly import build_data
from emodet.training.console import quiet_lightning
from emodet.training.folder import provenance
from emodet.training.teachers import Teachers, answers_to_epoch, answers_to_faces, load_teachers

log = logging.getLogger(__name__)

_MADE_BY = ("albumentations", "opencv-python", "numpy")


@command("teach")
def main(config: DictConfig) -> None:
    """Load the teachers, let them answer to what is missing, and say how a student is trained with it."""
    quiet_lightning()
    settings = to_plain_dict(config)
    if "threads" in settings:
        torch.set_num_threads(settings["threads"])
        cv2.setNumThreads(settings["threads"])
    checkpoints, processes, epochs = teachers_of(settings), settings["student_processes"], epochs_of(settings)
    if processes < 1:
        raise EmodetError(f"student_processes={processes}: how many share the student's training, 1 or more")
    data = build_data(settings)
    data.prepare_data()
    data.setup()
    teachers = load_teachers(
        checkpoints,
        data,
        flip=settings["flip"],
        precision=settings["precision"],
        accelerator=settings["accelerator"],
    )
    answers = begin(settings, data.asked(processes, augmented=settings["augmented"]), teachers, data)
    try:
        if settings["augmented"]:
            answer_epochs(answers, teachers, data, epochs, processes)
        else:
            answer_faces(answers, teachers, data)
    except KeyboardInterrupt:
        print(f"{answers.folder}: the same command goes on there", file=sys.stderr)
        raise
    print(
        f"answers:     {answers.folder}\nstudent:     python -m emodet.train with the same settings and "
        f"distillation.answers={answers.folder}"
    )


def teachers_of(settings: Mapping[str, Any]) -> list[Path]:
    """The checkpoints that were named.

    Raises:
        EmodetError: None was.
    """
    named = settings.get("checkpoint")
    paths = [named] if isinstance(named, str) else named
    if not isinstance(paths, list) or not paths or not all(isinstance(path, str) for path in paths):
        raise EmodetError(
            "checkpoint is not set: say who teaches, as in checkpoint=RUN_OR_FILE or checkpoint=[RUN_1,RUN_2]"
        )
    return [Path(path).expanduser() for path in paths]


def epochs_of(settings: Mapping[str, Any]) -> int:
    """How many epochs are to be answered.

    Raises:
        EmodetError: It is not known, or none.
    """
    epochs = settings.get("epochs", settings["trainer"].get("max_epochs"))
    if epochs is None or epochs < 1:
        raise EmodetError(f"epochs={epochs}: how many epochs the student will be trained, 1 or more")
    return int(epochs)


def begin(settings: Mapping[str, Any], asked: Asked, teachers: Teachers, data: EmotionDataModule) -> TeachersAnswers:
    """The folder of these answers, begun or gone on with."""
    described = teachers.described()
    made = {"flip": teachers.flip, "precision": teachers.precision}
    from_where = provenance("emodet.teach")
    versions = {name: from_where["versions"][name] for name in _MADE_BY if name in from_where["versions"]}
    if "output" in settings:
        folder = Path(settings["output"]).expanduser()
    else:
        identity = repr((asked, [(it["weights_sha256"], it["temperature"]) for it in described], made, versions))
        name = "-".join(data.source_names) or str(data.pack.manifest["reader"])
        place = f"{name}-{data.preprocessing.size}px-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"
        folder = Path(os.environ.get("EMODET_OUTPUTS") or "outputs") / "teach" / place
    return begin_answers(folder, asked, described, made, versions, from_where)


def answer_epochs(
    answers: TeachersAnswers, teachers: Teachers, data: EmotionDataModule, epochs: int, processes: int
) -> None:
    """Store the answers to each epoch that is not there yet."""
    for epoch in range(epochs):
        if answers.holds(epoch):
            continue
        said, note = answers_to_epoch(teachers, data, epoch, processes)
        write_answers(answers.file_of(epoch), said)
        log.info("epoch %d of %d: %s", epoch + 1, epochs, note)


def answer_faces(answers: TeachersAnswers, teachers: Teachers, data: EmotionDataModule) -> None:
    """Store the answers to each face as it is, unless they are there."""
    if not answers.holds(None):
        said, note = answers_to_faces(teachers, data)
        write_answers(answers.file_of(None), said)
        log.info("%s", note)


if __name__ == "__main__":
    main()
