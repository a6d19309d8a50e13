"""From answers to the page: one place for what `train` and `evaluate` both leave behind."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from emodet.data.datamodule import EmotionDataModule
from emodet.evaluation.measuring import Answers, to_predictions
from emodet.evaluation.report import write_report
from emodet.evaluation.statistics import Evaluation, evaluate_predictions

__all__ = ["report"]


def report(
    answers: Answers,
    data: EmotionDataModule,
    temperature: float,
    folder: Path,
    details: Mapping[str, str | int | float | None],
    *,
    resamples: int = 2000,
    errors: int = 48,
) -> Evaluation:
    """Measure answers and write the report's folder; see `evaluate_predictions` and `write_report`.

    Raises:
        EmodetError: The folder cannot be written.
    """
    predictions = to_predictions(answers, data, temperature)
    evaluation = evaluate_predictions(predictions, resamples=resamples)

    def face(number: int) -> npt.NDArray[np.uint8]:
        return data.pack.images(answers.index[number : number + 1])[0]

    faces = {"temperature": temperature, "pack fingerprint": data.pack.fingerprint}
    write_report(evaluation, predictions, face, folder, details={**details, **faces}, errors=errors)
    return evaluation
