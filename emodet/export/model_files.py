"""Make, measure and write the model files of a trained net."""

import json
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from emodet.data.datamodule import EmotionDataModule
from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError
from emodet.evaluation.calibration import confidence_for
from emodet.evaluation.outputs import SplitOutputs, predict_split_with_model_file, to_predictions
from emodet.evaluation.scores import evaluate_predictions
from emodet.export.graph import OUTPUTS, to_onnx, to_program, torch_outputs
from emodet.export.parity import (
    Check,
    ParityReport,
    accuracy_checks,
    agreement_checks,
    difference_checks,
    machine,
    measure_speed,
    row_sum_check,
    speed_checks,
)
from emodet.export.quantisation import calibration_rows, quantise
from emodet.files import sha256_of
from emodet.modelfile import ModelFile, ModelInfo, Precision, read_model_file, write_model_file
from emodet.models.classifier import EmotionClassifier
from emodet.synthetic.faces import draw_face
from emodet.training.trained import Trained, plain_metrics

if TYPE_CHECKING:
    import onnx

UInt8 = npt.NDArray[np.uint8]

log = logging.getLogger(__name__)

FORMATS = ("fp32", "int8")

_COMPARED = 512  # faces on which torch and the files are compared; accuracy is measured on the whole split


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """What to write.

    Attributes:
        output: The folder.
        name: The files' common name.
        formats: Of `FORMATS`.
        calibration_faces: Number of training faces that set the ranges of int8.
        reduce_range: See `emodet.export.quantisation.quantise`.
        threads: Of ONNX Runtime; None takes its own choice.
        force: Whether files that fail the parity checks are written all the same.
        overwrite: Whether files of that name may be replaced.
    """

    output: Path
    name: str = "emodet"
    formats: tuple[str, ...] = FORMATS
    calibration_faces: int = 512
    reduce_range: bool = True
    threads: int | None = None
    force: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        if not self.formats or set(self.formats) - set(FORMATS):
            raise EmodetError(f"formats={list(self.formats)}: one or more of {', '.join(FORMATS)}")
        if not self.name or Path(self.name).name != self.name or "=" in self.name or self.name.startswith("."):
            raise EmodetError(f"name={self.name!r}: a file name without a folder, without =")
        if self.calibration_faces < 1:
            raise EmodetError(f"calibration_faces={self.calibration_faces}: one or more are needed")


def file_names(name: str) -> dict[str, str]:
    """File names by format; the parity report under ``parity``."""
    return {"fp32": f"{name}-fp32.onnx", "int8": f"{name}-int8.onnx", "parity": f"{name}-parity.json"}


def describe_trained(trained: Trained) -> ModelInfo:
    """Metadata of a model file, as far as the training determines it."""
    return ModelInfo(
        class_names=trained.classifier.class_names,
        preprocessing=trained.classifier.preprocessing,
        temperature=trained.card.temperature,
        temperature_slope=tuple(trained.card.temperature_slope),
        training_data=tuple(dict.fromkeys(trained.card.training_data)),
        metrics=trained.card.metrics,
        commit=trained.card.commit,
        fingerprint=trained.card.fingerprint,
        precision="fp32",
        outputs=OUTPUTS if trained.classifier.has_va_head else OUTPUTS[:1],
    )


def write_model_of_run(trained: Trained, data: EmotionDataModule, folder: Path) -> list[Path]:
    """Export the net of a finished run as fp32, with its scores on the run's data.

    What goes wrong is a warning: the run is complete without a model file.

    Returns:
        The model file and its parity report; nothing where it failed a check or could not be made.
    """
    options = ExportOptions(output=folder, formats=("fp32",), overwrite=True)
    try:
        report = export_model_files(trained, describe_trained(trained), data, options)
    except EmodetError as problem:
        log.warning("no model file was written: %s", problem)
        return []
    if not report.written["fp32"]:
        log.warning("no model file was written; it failed: %s", "; ".join(each.what for each in report.failures()))
        return []
    names = file_names(options.name)
    return [folder / names["fp32"], folder / names["parity"]]


def export_model_files(
    trained: Trained, info: ModelInfo, data: EmotionDataModule | None, options: ExportOptions
) -> ParityReport:
    """Make the files, compare them with the checkpoint, write those that pass.

    Args:
        trained: What to export.
        info: Metadata; precision and, where there is data, metrics are replaced by each file's own.
        data: Set up; without it there is no int8, and files are compared on drawn faces.
        options: What to write.

    Raises:
        EmodetError: The folder cannot be written to, files of that name exist, or the net cannot be exported. A failed
            check raises nothing; see `ParityReport.written`.
    """
    names = file_names(options.name)
    existing = [name for name in names.values() if (options.output / name).exists()]
    if existing and not options.overwrite:
        raise EmodetError(
            f"output={options.output} holds {', '.join(existing)} already; choose another output or name, or replace "
            "the files with overwrite=true"
        )
    try:
        options.output.mkdir(parents=True, exist_ok=True)
        # Inside the output folder, so that moving files out of it is one step of the file system.
        with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=options.output) as place:
            export = _Export(trained, info, data, options, Path(place))
            report = export.run()
            written = [export.files[kind] for kind, passed in report.written.items() if passed]
            if written:
                content = {**report.as_dict(), **_origin(trained, options, written)}
                parity = Path(place) / names["parity"]
                parity.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
                # No file of an earlier export stays beside the new ones.
                for name in existing:
                    (options.output / name).unlink()
                for file in (*written, parity):
                    file.replace(options.output / file.name)
    except OSError as problem:
        raise EmodetError(f"output={options.output}: cannot be written to ({problem.strerror or problem})") from None
    return report


def _origin(trained: Trained, options: ExportOptions, written: list[Path]) -> dict[str, object]:
    made_from = {
        "checkpoint": trained.file.name,
        "commit": trained.card.commit,
        "fingerprint": trained.card.fingerprint,
        "calibration_faces": options.calibration_faces,
        "reduce_range": options.reduce_range,
        "forced": options.force,
    }
    files = {file.name: {"bytes": file.stat().st_size, "sha256": sha256_of(file)} for file in written}
    return {"files": files, "made_from": made_from}


class _Export:
    """One export: what several of its steps need. The files are written into the folder `place`."""

    def __init__(
        self, trained: Trained, info: ModelInfo, data: EmotionDataModule | None, options: ExportOptions, place: Path
    ) -> None:
        self.trained, self.info, self.data, self.options = trained, info, data, options
        self.files = {kind: place / name for kind, name in file_names(options.name).items()}
        self.crops, self.compared_on = _comparison_crops(trained.classifier, data)
        self.checks: list[Check] = []

    def run(self) -> ParityReport:
        """Write all files of the options and measure them."""
        data, options = self.data, self.options
        graph = to_onnx(to_program(self.trained.classifier))
        models = {"fp32": self.write("fp32", graph, self.info)}
        found = models["fp32"].run(self.crops)
        self.checks += difference_checks(
            "fp32", torch_outputs(self.trained.classifier, self.crops), found, limited=True
        )
        self.checks.append(row_sum_check("fp32", found[0]))
        if data is not None:
            reference = self.predict(models["fp32"], data)
            self.checks += accuracy_checks("fp32", reference["val"])
            self.write_with_metrics("fp32", graph, reference, data)
            if "int8" in options.formats:
                models["int8"] = self.quantise(graph, reference["val"], data)
        self.checks += speed_checks(measure_speed(models, self.crops))
        failed = {check.file for check in self.checks if check.verdict == "failed"}
        if "fp32" in failed:
            failed.add("int8")  # which is made from it and compared with it
        written = {kind: options.force or kind not in failed for kind in models if kind in options.formats}
        slower = any(check.verdict == "warning" for check in self.checks)
        return ParityReport(
            checks=tuple(self.checks),
            threads=options.threads or machine()["cores"],
            machine=machine(),
            compared_on=self.compared_on,
            judged_on="" if data is None else f"{data.pack.manifest['title']}, {data.splits.val_name}",
            written=written,
            default="int8" if written.get("int8") and not slower else "fp32" if written.get("fp32") else None,
        )

    def quantise(self, graph: "onnx.ModelProto", reference: SplitOutputs, data: EmotionDataModule) -> ModelFile:
        """Make the int8 file and compare it with fp32 on the val faces."""
        rows = calibration_rows(data.splits.train, self.options.calibration_faces)
        graph = quantise(graph, data.pack.images(rows), reduce_range=self.options.reduce_range)
        model = self.write("int8", graph, replace(self.info, precision="int8", metrics={}))
        outputs = self.predict(model, data)
        self.checks += accuracy_checks("int8", outputs["val"], reference)
        pair = [(np.exp(each.logits), each.valence_arousal) for each in (reference, outputs["val"])]
        self.checks += difference_checks("int8", *pair, limited=False)
        self.checks.append(row_sum_check("int8", model.probabilities(self.crops)))
        self.write_with_metrics("int8", graph, outputs, data)
        return model

    def write(self, kind: Precision, graph: "onnx.ModelProto", info: ModelInfo) -> ModelFile:
        """Write a model file and open it."""
        return read_model_file(write_model_file(graph, info, self.files[kind]), threads=self.options.threads)

    def predict(self, model: ModelFile, data: EmotionDataModule) -> dict[str, SplitOutputs]:
        """Outputs on val, and on test where its faces are others."""
        same = np.array_equal(data.splits.val, data.splits.test)
        splits = ("val",) if same else ("val", "test")
        return {split: predict_split_with_model_file(model, data, split) for split in splits}

    def write_with_metrics(
        self, kind: Precision, graph: "onnx.ModelProto", outputs: Mapping[str, SplitOutputs], data: EmotionDataModule
    ) -> None:
        """Write the file once more with its own metrics."""
        own = data.fingerprint == self.trained.card.fingerprint
        metrics: dict[str, Mapping[str, float]] = {}
        for split, part in outputs.items():
            evaluation = evaluate_predictions(to_predictions(part, data, 1.0), resamples=0)
            if split == "val":
                self.checks += agreement_checks(kind, evaluation)
            title = evaluation.split if own else f"{evaluation.data}: {evaluation.split}"
            metrics[title] = plain_metrics(evaluation.metrics(), evaluation.faces)
        if own:
            self.info = replace(self.info, class_shares=data.class_shares())
        val = outputs["val"]
        least = confidence_for(np.exp(val.logits), val.emotion)
        info = replace(self.info, precision=kind, metrics=metrics, min_confidence=least)
        write_model_file(graph, info, self.files[kind])


def drawn_crops(classifier: EmotionClassifier, count: int) -> UInt8:
    """Crops to compare on without data: uint8 (count, size, size, 3) RGB, drawn faces, the same every time."""
    preprocessing = classifier.preprocessing
    faces = (draw_face(number % len(EMOTIONS), (0, number), preprocessing.size) for number in range(count))
    return np.stack([preprocessing.crop(face.image) for face in faces])


def _comparison_crops(classifier: EmotionClassifier, data: EmotionDataModule | None) -> tuple[UInt8, str]:
    if data is None:
        return drawn_crops(classifier, 64), "64 drawn faces"
    rows = data.splits.val
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(_COMPARED, len(rows))).astype(int))]
    return data.pack.images(rows), f"{len(rows):,} faces ({data.pack.manifest['title']}, {data.splits.val_name})"
