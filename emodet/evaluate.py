"""Measure a checkpoint or a model file: ``python -m emodet.evaluate checkpoint=RUN/checkpoints/best.ckpt``.

Without ``data=…`` it measures on the data of the checkpoint's own run. ``role=selection`` takes the faces that chose
the epoch instead of the ones that report.
"""

from emodet.laboratory import require_laboratory

require_laboratory("emodet.evaluate")

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from emodet.config import command, given
from emodet.data.datamodule import EmotionDataModule
from emodet.errors import EmodetError
from emodet.evaluation.measuring import Answers, answer, answer_with_model_file
from emodet.evaluation.reporting import report
from emodet.evaluation.statistics import format_table
from emodet.modelfile import read_model_file
from emodet.runs.assembly import build_data
from emodet.runs.trained import load_trained, run_data


@command("evaluate")
def main(config: DictConfig) -> None:
    """Let it answer on every face of the role, then write the report and print its table."""
    settings = given(config)
    if ("checkpoint" in settings) == ("model" in settings):
        raise EmodetError("say what to measure: either checkpoint=RUN_OR_FILE (.ckpt, .pt) or model=FILE.onnx")
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


def measure_checkpoint(path: Path, settings: dict[str, Any]) -> tuple[Answers, EmotionDataModule, float]:
    """A checkpoint's (a run's, or plain weights') answers in float32, its data, and the temperature it was fitted."""
    trained = load_trained(path)
    classifier = trained.classifier
    data = open_data(settings, path, trained.data, classifier.preprocessing.to_dict(), len(classifier.class_names))
    return answer(classifier, data, settings["role"], settings["accelerator"]), data, trained.temperature


def measure_model_file(path: Path, settings: dict[str, Any]) -> tuple[Answers, EmotionDataModule, float]:
    """A model file's answers; its probabilities are calibrated already."""
    model = read_model_file(path)
    data = open_data(settings, path, run_data(path), model.info.preprocessing.to_dict(), len(model.info.class_names))
    return answer_with_model_file(model, data, settings["role"]), data, 1.0


def open_data(
    settings: dict[str, Any], path: Path, own: Mapping[str, Any] | None, preprocessing: dict[str, Any], classes: int
) -> EmotionDataModule:
    """The data that was asked for, or that of the run that `path` lies in, cut as the net was trained."""
    chosen = dict(settings.get("data", {}))
    if HydraConfig.get().runtime.choices.get("data") is None:
        if own is None and "root" not in chosen:
            raise EmodetError(
                f"{path} does not lie in a run's folder, so its data is not known: add data=NAME data.root=/path "
                "(python -m emodet.evaluate --help lists the names)"
            )
        # data.root=… alone says where the run's own data lies on this machine.
        chosen = {**(own or {}), **chosen}
    data = build_data({"data": {**chosen, "classes": classes}, "preprocessing": preprocessing})
    data.prepare_data()
    data.setup()
    return data


if __name__ == "__main__":
    main()
