"""From answers to the page: one place for what `train` and `evaluate` both leave behind."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from emodet.data.corrections import CorrectedPack, in_words
from emodet.data.datamodule import EmotionDataModule
from emodet.evaluation.corruptions import Corruption, corrupt
from emodet.evaluation.measuring import Answers, Change, to_predictions
from emodet.evaluation.report import write_report
from emodet.evaluation.robustness import measure_robustness
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
    answer_on: Callable[[Change], Answers] | None = None,
) -> Evaluation:
    """Measure answers and write the report's folder; see `evaluate_predictions` and `write_report`.

    With `answer_on`, which answers on the same faces after a change to their crops, the report holds how the figures
    fall as pictures get worse.

    Raises:
        EmodetError: The folder cannot be written.
    """
    predictions = to_predictions(answers, data, temperature)
    evaluation = evaluate_predictions(predictions, resamples=resamples)
    chosen_on = int(np.isin(answers.index, data.splits.val).sum())
    if chosen_on:
        # In a mix, some data sets may select and report on the same faces.
        which = "these faces" if chosen_on == len(answers.index) else f"{chosen_on:,} of these faces"
        evaluation = evaluation.with_notes(
            f"Training chose its temperature on {which}, and its epoch unless it kept the last one: the figures are "
            "optimistic."
        )

    def face(number: int) -> npt.NDArray[np.uint8]:
        crop: npt.NDArray[np.uint8] = data.pack.images(answers.index[number : number + 1])[0]
        return crop

    described: dict[str, str | int | float | None] = {
        **details,
        "temperature": temperature,
        "pack fingerprint": data.pack.fingerprint,
    }
    if isinstance(data.pack, CorrectedPack):
        facts = data.pack.facts()
        described["corrections"] = f"{facts['file']}, SHA-256 {facts['sha256']}: {in_words(facts['faces'])}"
        split = data.pack.table.split[answers.index[0]]
        if split in facts["faces"]:
            evaluation = evaluation.with_notes(
                f"Corrections changed the faces measured here ({in_words({split: facts['faces'][split]})}): the "
                "figures cannot be compared with those of others on this split."
            )
    robustness = None
    if answer_on is not None:

        def measure(corruption: Corruption, level: float) -> Evaluation:
            answered = answer_on(lambda crops, index: corrupt(crops, index, corruption, level))
            return evaluate_predictions(to_predictions(answered, data, temperature), resamples=resamples)

        robustness = measure_robustness(evaluation, measure)
        print(robustness.as_text(), end="\n\n")
    write_report(evaluation, predictions, face, folder, details=described, errors=errors, robustness=robustness)
    return evaluation
