"""From outputs to the report's folder: shared by `train` and `evaluate`."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from emodet.data.corrections import in_words
from emodet.data.datamodule import EmotionDataModule
from emodet.evaluation.corruptions import Corruption, corrupt
from emodet.evaluation.outputs import Predict, SplitOutputs, to_predictions
from emodet.evaluation.report import write_report
from emodet.evaluation.robustness import measure_robustness
from emodet.evaluation.scores import Evaluation, evaluate_predictions
from emodet.evaluation.table import format_score

__all__ = ["report"]


def report(
    outputs: SplitOutputs,
    data: EmotionDataModule,
    temperature: float,
    folder: Path,
    details: Mapping[str, str | int | float | None],
    *,
    resamples: int = 2000,
    errors: int = 48,
    predict: Predict | None = None,
) -> Evaluation:
    """Evaluate outputs and write the report's folder; see `evaluate_predictions` and `write_report`.

    With `predict`, which runs the model on the same faces with changed crops, the report includes robustness.

    Raises:
        EmodetError: The folder cannot be written.
    """
    predictions = to_predictions(outputs, data, temperature)
    evaluation = evaluate_predictions(predictions, resamples=resamples)
    selected = int(np.isin(outputs.index, data.splits.val).sum())
    if selected:
        # In a mix, some data sets may select and report on the same faces.
        which = "these faces" if selected == len(outputs.index) else f"{selected:,} of these faces"
        evaluation = evaluation.with_notes(
            f"The temperature, and the epoch unless the last one was kept, were selected on {which}: scores are "
            "optimistic."
        )
    described = {**details, "temperature": temperature, "pack fingerprint": data.pack.fingerprint}
    if (facts := data.correction_facts) is not None:
        described["corrections"] = f"{facts['file']}, SHA-256 {facts['sha256']}: {in_words(facts['faces'])}"
        split = data.pack.table.split[outputs.index[0]]
        if split in facts["faces"]:
            evaluation = evaluation.with_notes(
                f"Corrections changed the faces measured here ({in_words({split: facts['faces'][split]})}): the "
                "scores cannot be compared with those of others on this split."
            )
    robustness = None
    if predict is not None:

        def measure(corruption: Corruption, level: float) -> Evaluation:
            corrupted = predict(lambda crops, index: corrupt(crops, index, corruption, level))
            return evaluate_predictions(to_predictions(corrupted, data, temperature), resamples=resamples)

        robustness = measure_robustness(evaluation, measure)
        print(f"mean accuracy over all corruptions and levels: {format_score(robustness.mean)}", end="\n\n")

    def image(number: int) -> npt.NDArray[np.uint8]:
        crop: npt.NDArray[np.uint8] = data.pack.images(outputs.index[number : number + 1])[0]
        return crop

    write_report(evaluation, predictions, image, folder, details=described, errors=errors, robustness=robustness)
    return evaluation
