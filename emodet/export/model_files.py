"""Create, check and write the model files of a trained net."""

import json
import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from emodet.arrays import UInt8
from emodet.data.datamodule import EmotionDataModule
from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError, os_errors, require
from emodet.evaluation.calibration import confidence_for
from emodet.evaluation.outputs import predict_split
from emodet.evaluation.scores import Evaluation, evaluate_predictions
from emodet.export import parity
from emodet.export.graph import calibration_rows, quantise, to_onnx, torch_outputs
from emodet.export.parity import ParityReport
from emodet.files import sha256_of, write_atomically
from emodet.modelfile import ModelFile, ModelInfo, Precision, model_file_bytes, write_model_file
from emodet.models.classifier import EmotionClassifier
from emodet.synthetic.faces import draw_face
from emodet.training.trained import Trained, plain_metrics

if TYPE_CHECKING:
    import onnx


log = logging.getLogger(__name__)

FORMATS: tuple[Precision, ...] = ("fp32", "int8")

_COMPARED = 512  # faces on which torch and the files are compared; accuracy is measured on the whole split


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """Options of the export, see `emodet.config.ExportConfig`; `formats` are names in `FORMATS`."""

    output: Path
    name: str = "emodet"
    formats: tuple[str, ...] = FORMATS
    calibration_faces: int = 512
    reduce_range: bool = True
    threads: int | None = None
    force: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        known = bool(self.formats) and set(self.formats) <= set(FORMATS)
        require(known, "formats", list(self.formats), f"one or more of {', '.join(FORMATS)}")
        plain = self.name and Path(self.name).name == self.name and "=" not in self.name and self.name[0] != "."
        require(bool(plain), "name", self.name, "a file name without a folder, without =")
        require(self.calibration_faces >= 1, "calibration_faces", self.calibration_faces, "1 or more")

    @property
    def files(self) -> dict[str, Path]:
        """Paths of the files by format; of the parity report under ``parity``."""
        ends = {"fp32": "fp32.onnx", "int8": "int8.onnx", "parity": "parity.json"}
        return {kind: self.output / f"{self.name}-{end}" for kind, end in ends.items()}


def write_model_of_run(trained: Trained, data: EmotionDataModule, folder: Path) -> list[Path]:
    """Export the net of a finished run as an fp32 model file, with its scores on the run's data, and a parity report.

    Problems are logged as warnings, because the run is complete without a model file.
    """
    options = ExportOptions(output=folder, formats=("fp32",), overwrite=True)
    try:
        report = export_model_files(trained, trained.card, data, options)
    except EmodetError as problem:
        log.warning("no model file was written: %s", problem)
        return []
    if not report.written["fp32"]:
        log.warning("no model file was written; it failed: %s", "; ".join(each.what for each in report.failures()))
        return []
    return [options.files["fp32"], options.files["parity"]]


def export_model_files(
    trained: Trained, info: ModelInfo, data: EmotionDataModule | None, options: ExportOptions
) -> ParityReport:
    """Create the files, compare them with the checkpoint, and write those that pass, see `ParityReport.written`.

    In `info`, precision and, with data, metrics are replaced by those of each file. Without data there is no int8, and
    the comparison uses drawn faces.

    Raises:
        EmodetError: The folder cannot be written, files of that name exist, or the net cannot be exported. A failed
            check raises no error; see `ParityReport.written`.
    """
    files = options.files
    existing = [file for file in files.values() if file.exists()]
    if existing and not options.overwrite:
        raise EmodetError(
            f"output={options.output} holds {', '.join(file.name for file in existing)} already; choose another output "
            "or name, or replace the files with overwrite=true"
        )
    with os_errors(f"output={options.output}: cannot be written to"):
        options.output.mkdir(parents=True, exist_ok=True)
        report, made = _measured(trained, info, data, options)
        written = [write_model_file(*made[kind], files[kind]) for kind, passed in report.written.items() if passed]
        if written:
            content = {**asdict(report), **_origin(trained, options, written)}
            write_atomically(files["parity"], json.dumps(content, indent=2) + "\n")
            for earlier in {*existing} - {*written, files["parity"]}:
                earlier.unlink()
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


def _measured(
    trained: Trained, info: ModelInfo, data: EmotionDataModule | None, options: ExportOptions
) -> tuple[ParityReport, dict[str, tuple["onnx.ModelProto", ModelInfo]]]:
    """Create and check the files in memory; return the report, and each file's graph and metadata."""
    crops, compared_on = _comparison_crops(trained.classifier, data)
    expected = torch_outputs(trained.classifier, crops)
    made: dict[str, tuple[onnx.ModelProto, ModelInfo]] = {}
    models: dict[str, ModelFile] = {}
    scores: dict[str, Evaluation] = {}
    checks: list[parity.Check] = []
    for kind in FORMATS if data is not None and "int8" in options.formats else FORMATS[:1]:
        described = replace(info, precision=kind)
        if data is None or kind == "fp32":
            graph = to_onnx(trained.classifier)
        else:
            rows = calibration_rows(data.splits.train, options.calibration_faces)
            graph = quantise(made["fp32"][0], data.pack.images(rows), reduce_range=options.reduce_range)
        models[kind] = ModelFile(model_file_bytes(graph, described), threads=options.threads)
        found = models[kind].run(crops)
        checks += parity.difference_checks(kind, expected, found, limited=kind == "fp32")
        if data is not None:
            own = data.fingerprint == trained.card.fingerprint
            scores[kind], described = _with_scores(described, models[kind], data, own)
            checks += parity.score_checks(kind, scores[kind], scores["fp32"])
        made[kind], expected = (graph, described), found  # int8 is compared with fp32
    checks += parity.speed_checks(parity.measure_speed(models, crops))
    failed = {check.file for check in checks if check.verdict == "failed"}
    if "fp32" in failed:
        failed.add("int8")  # int8 is made from fp32 and compared with it
    written = {kind: options.force or kind not in failed for kind in models if kind in options.formats}
    slower = any(check.verdict == "warning" for check in checks)
    report = ParityReport(
        checks=tuple(checks),
        threads=options.threads or parity.machine()["cores"],
        machine=parity.machine(),
        compared_on=compared_on,
        judged_on="" if data is None else f"{data.pack.manifest['title']}, {data.splits.val_name}",
        written=written,
        default="int8" if written.get("int8") and not slower else "fp32" if written.get("fp32") else None,
    )
    return report, made


def _with_scores(info: ModelInfo, model: ModelFile, data: EmotionDataModule, own: bool) -> tuple[Evaluation, ModelInfo]:
    """Return scores on val, and a file's metadata with its own metrics; `own`: whether it was trained on this data."""
    same = np.array_equal(data.splits.val, data.splits.test)
    found = [predict_split(model, data, split) for split in ("val", "test")[: 1 if same else 2]]
    scores = [evaluate_predictions(each, resamples=0) for each in found]
    info = replace(
        info,
        metrics={
            each.split if own else f"{each.data}: {each.split}": plain_metrics(each.metrics(), each.faces)
            for each in scores
        },
        min_confidence=confidence_for(found[0].probabilities, found[0].emotion),
        class_shares=data.class_shares() if own else info.class_shares,
    )
    return scores[0], info


def drawn_crops(classifier: EmotionClassifier, count: int) -> UInt8:
    """Return deterministic drawn faces for a comparison without data: uint8 (count, size, size, 3) RGB."""
    preprocessing = classifier.preprocessing
    faces = (draw_face(number % len(EMOTIONS), (0, number), preprocessing.size) for number in range(count))
    return np.stack([preprocessing.crop(face.image) for face in faces])


def _comparison_crops(classifier: EmotionClassifier, data: EmotionDataModule | None) -> tuple[UInt8, str]:
    if data is None:
        return drawn_crops(classifier, 64), "64 drawn faces"
    rows = data.splits.val
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(_COMPARED, len(rows))).astype(int))]
    return data.pack.images(rows), f"{len(rows):,} faces ({data.pack.manifest['title']}, {data.splits.val_name})"
