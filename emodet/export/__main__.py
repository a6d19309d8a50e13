"""Make model files out of a trained net: ``python -m emodet.export checkpoint=RUN/checkpoints/best.ckpt``.

A run's folder does as well, and so do plain weights with their card (``checkpoint=weights.pt``). What is
written is held to a gate first, against the checkpoint and, for int8, on labelled faces; without data at hand there is
no int8.

``format=web output=DIR`` writes the page that recognises in the browser, with the shipped model file or
``model=FILE``, as a folder that any file server can host.
"""

from emodet.laboratory import require_laboratory

require_laboratory("emodet.export")

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from emodet.commands import command, to_plain_dict
from emodet.data.datamodule import EmotionDataModule
from emodet.errors import EmodetError
from emodet.export.gate import Gate
from emodet.export.model_of_run import describe_trained
from emodet.export.model_set import FORMATS, ExportPlan, export_set, file_names
from emodet.modelfile import ModelInfo, TrainingData
from emodet.app.page.files import model_for_page, page_files
from emodet.app.page.folder import write_folder
from emodet.preprocessing import Preprocessing
from emodet.training.assembly import names_data, open_data
from emodet.training.folder import provenance
from emodet.training.trained import Trained, load_trained

log = logging.getLogger(__name__)

_FRAMING = ("margin", "alignment", "detail", "interpolation")


@command("export")
def main(config: DictConfig) -> None:
    """Load, open the data, make the files, say what came out."""
    settings = to_plain_dict(config)
    if "format" in settings:
        write_page(settings)
        return
    if "checkpoint" not in settings:
        raise EmodetError("say what to export: checkpoint=RUN/checkpoints/best.ckpt, a run's folder, or weights.pt")
    if "threads" in settings:
        torch.set_num_threads(settings["threads"])
    trained = load_trained(Path(settings["checkpoint"]))
    data = data_at_hand(settings, trained)
    plan = plan_of(settings, trained, with_data=data is not None)
    if not trained.calibrated:
        log.warning("%s: no temperature was fitted to it, so its confidence is not calibrated", trained.file)
    gate = export_set(trained, describe(settings, trained), data, plan)
    print(gate.table())
    finish(gate, plan)


def write_page(settings: Mapping[str, Any]) -> None:
    """The page that recognises in the browser, as a static folder.

    Raises:
        EmodetError: A value does not fit, or something that the page needs is not in this installation.
    """
    if settings["format"] != "web":
        raise EmodetError(f"format={settings['format']}: there is web; model files go by formats=[fp32,int8,pt2]")
    if "checkpoint" in settings:
        raise EmodetError(
            f"format=web takes a model file: export checkpoint={settings['checkpoint']} first, then name the file with "
            "model=FILE.onnx"
        )
    if "output" not in settings:
        raise EmodetError("say where to write the page: format=web output=DIR")
    output = Path(settings["output"]).expanduser()
    model, card = model_for_page(settings.get("model"))
    files = page_files(model, card=card)
    write_folder(files, output, overwrite=settings["overwrite"])
    size = sum(len(file.content) for file in files.values())
    print(f"page:  {output}  {len(files)} files, {size / 1e6:.1f} MB")
    print(f"to look at it:  python -m http.server --directory {output} --bind 127.0.0.1")


def data_at_hand(settings: Mapping[str, Any], trained: Trained) -> EmotionDataModule | None:
    """The data that was asked for, else that of the net's own run, else none.

    Raises:
        EmodetError: The data that was asked for cannot be opened.
    """
    classifier = trained.classifier
    try:
        return open_data(settings, trained.data, classifier.preprocessing.to_dict(), len(classifier.class_names))
    except EmodetError as problem:
        asked_for = names_data() or {"root", "sources"} & set(settings["data"])
        if asked_for or "int8" in settings.get("formats", ()):
            raise
        log.warning(
            "int8 is left out, because it needs faces to be calibrated and measured on, and there is no data at hand "
            "(%s). Name it with  data=NAME data.root=/path",
            problem,
        )
        return None


def plan_of(settings: Mapping[str, Any], trained: Trained, *, with_data: bool) -> ExportPlan:
    """What to write where.

    Raises:
        EmodetError: A value does not fit.
    """
    output = Path(settings["output"]).expanduser() if "output" in settings else trained.folder / "export"
    possible = tuple(kind for kind in FORMATS if with_data or kind != "int8")
    return ExportPlan(
        output=output,
        formats=tuple(settings.get("formats", possible)),
        threads=settings.get("threads"),
        **{key: settings[key] for key in ("name", "calibration_faces", "reduce_range", "force", "overwrite")},
    )


def describe(settings: Mapping[str, Any], trained: Trained) -> ModelInfo:
    """What the model files say about themselves.

    Raises:
        EmodetError: The preprocessing that was asked for is not the one that the net was trained with.
    """
    trained_with = trained.classifier.preprocessing.to_dict()
    changes = dict(settings.get("preprocessing", {}))
    fixed = sorted(key for key, value in changes.items() if key not in _FRAMING and value != trained_with[key])
    if fixed:
        raise EmodetError(
            f"preprocessing.{fixed[0]}={changes[fixed[0]]}: the net was trained with {trained_with[fixed[0]]}, and the "
            f"graph holds to it; only {', '.join(_FRAMING)} can be set for the faces that a detector finds"
        )
    stated = [
        TrainingData(settings.get("trained_on", known.name), settings.get("terms", known.terms))
        for known in trained.training_data
    ]
    return replace(
        describe_trained(trained),
        preprocessing=Preprocessing.from_dict({**trained_with, **changes}),
        training_data=tuple(dict.fromkeys(stated)),
        commit=provenance()["commit"] or trained.commit,
    )


def finish(gate: Gate, plan: ExportPlan) -> None:
    """Say what was written.

    Raises:
        EmodetError: Something failed the gate and was not written.
    """
    names = file_names(plan.name)
    for check in gate.checks:
        if check.verdict == "warning":
            log.warning("%s: %s is %.2f; fp32 stays the default", check.file, check.what, check.value)
        elif check.verdict == "failed" and plan.force:
            log.warning("%s: written although it failed the gate (%s)", check.file, check.what)
    print()
    for kind, written in gate.written.items():
        if written:
            file = plan.output / names[kind]
            note = "  (default)" if kind == gate.default else ""
            print(f"{kind}:  {file}  {file.stat().st_size / 1e6:.1f} MB{note}")
    failed = [kind for kind, written in gate.written.items() if not written]
    if failed:
        reasons = [f"{check.file}: {check.what}" for check in gate.checks if check.verdict == "failed"]
        raise EmodetError(
            f"{', '.join(failed)} failed the gate and was not written ({'; '.join(reasons)}). force=true writes it"
        )
    print(f"gate:  {plan.output / names['gate']}")


if __name__ == "__main__":
    main()
