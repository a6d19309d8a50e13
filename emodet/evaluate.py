"""Measure a checkpoint or a model file: ``python -m emodet.evaluate checkpoint=RUN/checkpoints/best.ckpt``.

Without ``data=…`` it measures on the data of the checkpoint's own run. ``role=selection`` takes the faces that chose
the epoch instead of the ones that report.
"""

from emodet.laboratory import require_laboratory

require_laboratory("emodet.evaluate")

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from emodet.config import command, given
from emodet.data.datamodule import EmotionDataModule
from emodet.errors import EmodetError
from emodet.evaluation.measuring import Answers, answer, answer_with_model_file
from emodet.evaluation.reporting import report
from emodet.evaluation.statistics import format_table
from emodet.modelfile import read_model_file
from emodet.runs.assembly import build_data
from emodet.runs.checkpoints import load_classifier


@command("evaluate")
def main(config: DictConfig) -> None:
    """Let it answer on every face of the role, then write the report and print its table."""
    settings = given(config)
    if ("checkpoint" in settings) == ("model" in settings):
        raise EmodetError("say what to measure: either checkpoint=FILE.ckpt or model=FILE.onnx")
    measured = Path(settings.get("checkpoint") or settings["model"]).expanduser()
    if "checkpoint" in settings:
        answers, data, temperature = measure_checkpoint(measured, settings)
    else:
        answers, data, temperature = measure_model_file(measured, settings)
    folder = (
        Path(settings["output"]) if "output" in settings else measured.parent / f"{measured.stem}-{settings['role']}"
    )
    evaluation = report(
        answers,
        data,
        temperature,
        folder,
        {"measured": str(measured)},
        resamples=settings["resamples"],
        errors=settings["errors"],
    )
    print(format_table(evaluation))
    print(f"\nreport: {folder / 'report.html'}")


def measure_checkpoint(file: Path, settings: dict[str, Any]) -> tuple[Answers, EmotionDataModule, float]:
    """A checkpoint's answers in float32, its data, and the temperature that training fitted."""
    classifier = load_classifier(file)
    data = open_data(file, settings, classifier.preprocessing.to_dict(), len(classifier.class_names))
    return answer(classifier, data, settings["role"], settings["accelerator"]), data, classifier.temperature.item()


def measure_model_file(file: Path, settings: dict[str, Any]) -> tuple[Answers, EmotionDataModule, float]:
    """A model file's answers; its probabilities are calibrated already."""
    model = read_model_file(file)
    data = open_data(file, settings, model.info.preprocessing.to_dict(), len(model.info.class_names))
    return answer_with_model_file(model, data, settings["role"]), data, 1.0


def open_data(file: Path, settings: dict[str, Any], preprocessing: dict[str, Any], classes: int) -> EmotionDataModule:
    """The data that was asked for, or that of the run that `file` lies in, cut as the net was trained."""
    chosen = dict(settings.get("data", {}))
    if HydraConfig.get().runtime.choices.get("data") is None:
        chosen = {**own_data(file), **chosen}
    data = build_data({"data": {**chosen, "classes": classes}, "preprocessing": preprocessing})
    data.prepare_data()
    data.setup()
    return data


def own_data(file: Path) -> dict[str, Any]:
    """The data settings of the run whose folder `file` lies in, at most two levels up."""
    for folder in file.resolve().parents[:2]:
        config = folder / "config.yaml"
        if config.is_file():
            found: dict[str, Any] = given(OmegaConf.load(config))["data"]
            return found
    raise EmodetError(
        f"{file} does not lie in a run's folder, so its data is not known: add data=NAME data.root=/path (there are "
        "affectnet, affectnet_yolo, ferplus, synthetic)"
    )


if __name__ == "__main__":
    main()
