"""Export a trained net to model files: ``python -m emodet.export checkpoint=RUN/checkpoints/best.ckpt``.

A run folder or plain weights with their card (``checkpoint=weights.pt``) work as well. The files are compared with the
checkpoint before they are written; int8 needs labelled faces to be calibrated and measured on.

``format=web output=DIR`` writes the page that recognises in the browser as a static folder, with a shipped model file
or ``model=FILE``.
"""

import sys

from emodet.installation import exit_with
from emodet.laboratory import begin

if __name__ == "__main__" and any(argument.startswith("format=") for argument in sys.argv[1:]):
    # The page does not need the training packages.
    from emodet.app.page import files

    exit_with(lambda: files.main(sys.argv[1:]))
begin("export", __name__, __doc__)

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from emodet.commands import command
from emodet.data.datamodule import EmotionDataModule
from emodet.errors import EmodetError
from emodet.export.model_files import FORMATS, ExportOptions, export_model_files
from emodet.export.parity import ParityReport
from emodet.files import expanded
from emodet.modelfile import ModelInfo, TrainingData
from emodet.preprocessing import Preprocessing
from emodet.schema import without_none
from emodet.training.assembly import names_data, open_data
from emodet.training.folder import provenance
from emodet.training.trained import Trained, load_trained

log = logging.getLogger(__name__)

_FRAMING = ("margin", "alignment", "detail", "interpolation")


@command("export")
def main(values: dict[str, Any]) -> None:
    """Load the net, open its data, write the files, print the parity report."""
    settings = without_none(values)
    if "checkpoint" not in settings:
        raise EmodetError("nothing to export: give checkpoint=RUN/checkpoints/best.ckpt, a run folder, or weights.pt")
    if "threads" in settings:
        torch.set_num_threads(settings["threads"])
    trained = load_trained(Path(settings["checkpoint"]))
    net = trained.classifier.net
    if settings["mirror"]:
        if not hasattr(net, "mirror"):
            raise EmodetError(f"mirror=true: {type(net).__name__} does not average mirror images; leave mirror out")
        net.mirror = True  # type: ignore[assignment]
    data = open_data_if_any(settings, trained)
    possible = tuple(kind for kind in FORMATS if data is not None or kind != "int8")
    options = ExportOptions(
        output=expanded(settings["output"]) if "output" in settings else trained.folder / "export",
        formats=tuple(settings.get("formats", possible)),
        threads=settings.get("threads"),
        **{key: settings[key] for key in ("name", "calibration_faces", "reduce_range", "force", "overwrite")},
    )
    if not trained.calibrated:
        log.warning("%s: no temperature was fitted, so confidences are not calibrated", trained.file)
    print_files(export_model_files(trained, metadata(settings, trained), data, options), options)


def open_data_if_any(settings: Mapping[str, Any], trained: Trained) -> EmotionDataModule | None:
    """Open the data of the command or of the net's run; None if there is none and only fp32 is exported."""
    try:
        return open_data(settings, trained.data, trained.classifier)
    except EmodetError as problem:
        named = names_data() or {"root", "sources"} & set(settings.get("data", {}))
        if named or "int8" in settings.get("formats", ()):
            raise
        log.warning(
            "int8 is left out: it is calibrated and measured on faces, and there is no data (%s). Name it with  "
            "data=NAME data.root=/path",
            problem,
        )
        return None


def metadata(settings: Mapping[str, Any], trained: Trained) -> ModelInfo:
    """Return the metadata of the model files, with the command's changes, which do not concern the graph."""
    trained_with, changes = trained.classifier.preprocessing.to_dict(), settings.get("preprocessing", {})
    for key, value in changes.items():
        if key not in _FRAMING and value != trained_with[key]:
            raise EmodetError(
                f"preprocessing.{key}={value}: the net was trained with {trained_with[key]}, and the graph holds it; "
                f"only {', '.join(_FRAMING)} can be set for faces from a detector"
            )
    training_data = [
        TrainingData(settings.get("trained_on", known.name), settings.get("terms", known.terms))
        for known in trained.card.training_data
    ]
    return replace(
        trained.card,
        preprocessing=Preprocessing.from_dict({**trained_with, **changes}),
        training_data=tuple(dict.fromkeys(training_data)),
        commit=provenance()["commit"] or trained.card.commit,
    )


def print_files(report: ParityReport, options: ExportOptions) -> None:
    """Print the report and the written files; raises `EmodetError` if a file failed a check."""
    print(report.table())
    for check in report.checks:
        if check.verdict == "warning":
            log.warning("%s: %s is %.2f; fp32 stays the default", check.file, check.what, check.value)
        elif check.verdict == "failed" and options.force:
            log.warning("%s: written with force=true although it failed: %s", check.file, check.what)
    print()
    for kind, passed in report.written.items():
        if passed:
            file, note = options.files[kind], "  (default)" if kind == report.default else ""
            print(f"{kind}:  {file}  {file.stat().st_size / 1e6:.1f} MB{note}")
    if failed := [kind for kind, passed in report.written.items() if not passed]:
        reasons = "; ".join(f"{check.file}: {check.what}" for check in report.failures())
        raise EmodetError(
            f"not written, parity with the checkpoint failed: {', '.join(failed)} ({reasons}). force=true writes them"
        )
    print(f"parity:  {options.files['parity']}")


if __name__ == "__main__":
    exit_with(main)
