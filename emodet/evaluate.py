"""Evaluate a checkpoint or a model file: ``python -m emodet.evaluate checkpoint=RUN/checkpoints/best.ckpt``.

Without ``data=…`` it uses the data of the checkpoint's own run. ``split=val`` evaluates the faces that selected the
epoch instead of the test faces; ``split=all`` evaluates all faces, for data that the model was not trained on.
"""

from emodet.installation import exit_with
from emodet.laboratory import begin

begin("evaluate", __name__, __doc__)

from functools import partial
from pathlib import Path
from typing import Any

from emodet.commands import command
from emodet.errors import EmodetError
from emodet.evaluation.outputs import predict_split
from emodet.evaluation.report import report
from emodet.evaluation.table import format_table
from emodet.files import expanded
from emodet.modelfile import SHIPPED, ModelFile, model_path, read_model_file
from emodet.models.classifier import EmotionClassifier
from emodet.schema import without_none
from emodet.training.assembly import names_data, open_data
from emodet.training.trained import data_of, load_trained, run_folder_of


@command("evaluate")
def main(values: dict[str, Any]) -> None:
    """Run the model on every face of the split, write the report and print its table."""
    settings = without_none(values)
    if ("checkpoint" in settings) == ("model" in settings):
        given = "both were given" if "model" in settings else "neither was given"
        raise EmodetError(
            f"give either checkpoint=RUN_OR_FILE (.ckpt, .pt) or model=FILE_OR_NAME (.onnx, int8); {given}"
        )
    model: EmotionClassifier | ModelFile
    if "checkpoint" in settings:
        kind, path = "checkpoint", expanded(settings["checkpoint"])
        trained = load_trained(path)
        model, own, details = trained.classifier, trained.data, {"temperature": trained.card.temperature}
    else:
        kind, path = "model", model_path(settings["model"])
        model, own, details = read_model_file(path), data_of(run_folder_of(path)), {}
    data = open_data(settings, own, model.info if isinstance(model, ModelFile) else model)
    predict = partial(predict_split, model, data, settings["split"], settings["accelerator"])
    name = f"evaluation-{settings['split']}"
    folder = expanded(settings["output"]) if "output" in settings else default_folder(path, name)
    evaluation = report(
        predict(None),
        data,
        folder,
        {kind: str(path), **details},
        resamples=settings["resamples"],
        errors=settings["errors"],
        predict=predict if settings["corruptions"] else None,
    )
    print(format_table(evaluation))
    print(f"\nreport: {folder / 'report.html'}")
    if names_data() and settings["split"] != "all" and data.splits.val_name == data.splits.test_name:
        print("if the model was not trained on this data, split=all evaluates all of it")


def default_folder(path: Path, name: str) -> Path:
    """Return ``evaluation-SPLIT`` in the run's folder, or ``FILE-evaluation-SPLIT`` beside a file outside any run.

    For a shipped model file the folder is in the working directory.
    """
    if path.is_dir():
        return path / name
    run = run_folder_of(path)
    if run is None:
        return (Path() if path in SHIPPED.values() else path.parent) / f"{path.stem}-{name}"
    # The name of the folder contains that of the file, unless it is the best checkpoint.
    return run.path / (name if path.resolve() == run.best.resolve() else f"{name}-{path.stem}")


if __name__ == "__main__":
    exit_with(main)
