"""Measure a checkpoint or a model file: ``python -m emodet.evaluate checkpoint=RUN/checkpoints/best.ckpt``.

Without ``data=…`` it measures on the data of the checkpoint's own run. ``split=val`` takes the faces that chose
the epoch instead of the ones that report; ``flip=true`` lets it answer on each crop and its mirror image.
"""

from emodet.laboratory import require_laboratory

require_laboratory("emodet.evaluate")

from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from emodet.commands import command, to_plain_dict
from emodet.data.datamodule import EmotionDataModule
from emodet.errors import EmodetError
from emodet.evaluation.measuring import AnswerOn, answer, answer_with_model_file, with_mirror_images
from emodet.evaluation.reporting import report
from emodet.evaluation.statistics import format_table
from emodet.modelfile import read_model_file
from emodet.training.assembly import open_data
from emodet.training.trained import load_trained, run_data


@command("evaluate")
def main(config: DictConfig) -> None:
    """Let it answer on every face of the split, then write the report and print its table."""
    settings = to_plain_dict(config)
    if ("checkpoint" in settings) == ("model" in settings):
        raise EmodetError("say what to measure: either checkpoint=RUN_OR_FILE (.ckpt, .pt) or model=FILE.onnx")
    measured = Path(settings.get("checkpoint") or settings["model"]).expanduser()
    if "checkpoint" in settings:
        answer_on, data, temperature = measure_checkpoint(measured, settings)
    else:
        answer_on, data, temperature = measure_model_file(measured, settings)
    details = {"measured": str(measured)}
    name = f"{measured.stem}-{settings['split']}"
    if settings["flip"]:
        answer_on = with_mirror_images(answer_on, temperature)
        details["answers"], name = "mean of each crop and its mirror image", f"{name}-flip"
    folder = Path(settings["output"]) if "output" in settings else measured.parent / name
    evaluation = report(
        answer_on(None),
        data,
        temperature,
        folder,
        details,
        resamples=settings["resamples"],
        errors=settings["errors"],
        answer_on=answer_on if settings["corruptions"] else None,
    )
    print(format_table(evaluation))
    print(f"\nreport: {folder / 'report.html'}")


def measure_checkpoint(path: Path, settings: dict[str, Any]) -> tuple[AnswerOn, EmotionDataModule, float]:
    """How a checkpoint (a run, or plain weights) answers in float32, its data, and the temperature it was fitted."""
    trained = load_trained(path)
    classifier = trained.classifier
    data = open_data(settings, trained.data, classifier.preprocessing.to_dict(), len(classifier.class_names))
    answer_on = partial(answer, classifier, data, settings["split"], settings["accelerator"])
    return answer_on, data, trained.temperature


def measure_model_file(path: Path, settings: dict[str, Any]) -> tuple[AnswerOn, EmotionDataModule, float]:
    """How a model file answers; its probabilities are calibrated already."""
    model = read_model_file(path)
    data = open_data(settings, run_data(path), model.info.preprocessing.to_dict(), len(model.info.class_names))
    return partial(answer_with_model_file, model, data, settings["split"]), data, 1.0


if __name__ == "__main__":
    main()
