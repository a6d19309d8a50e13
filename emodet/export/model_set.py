"""Make, measure and write the files of one trained net: the work behind ``python -m emodet.export``."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from emodet.data.datamodule import EmotionDataModule
from emodet.synthetic.faces import draw_face
from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError
from emodet.evaluation.outputs import SplitOutputs, predict_split_with_model_file, to_predictions
from emodet.evaluation.scores import evaluate_predictions
from emodet.export.gate import (
    Check,
    Gate,
    accuracy_check,
    accuracy_of,
    agreements_of,
    beside_checks,
    difference_check,
    machine,
    measure_speed,
    row_sum_check,
    speed_check,
)
from emodet.export.graph import to_onnx, to_program
from emodet.export.quantisation import calibration_rows, quantise
from emodet.export.staging import staged, taken
from emodet.modelfile import ModelFile, ModelInfo, Precision, read_model_file, write_model_file
from emodet.models.classifier import EmotionClassifier
from emodet.training.trained import Trained, plain_metrics

if TYPE_CHECKING:
    import onnx

__all__ = ["FORMATS", "ExportPlan", "example_crops", "export_set", "file_names"]

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]

log = logging.getLogger(__name__)

FORMATS = ("fp32", "int8", "pt2")

_COMPARED = 512  # faces on which torch and the files are compared; the labelled split is answered in full
_BATCH = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportPlan:
    """What is to be written.

    Attributes:
        output: The folder.
        name: The files' common name.
        formats: Of `FORMATS`.
        calibration_faces: How many training faces set the ranges of int8.
        reduce_range: See `emodet.export.quantisation.quantise`.
        threads: Of ONNX Runtime; None takes its own choice.
        force: Whether files that fail the gate are written all the same.
        overwrite: Whether files of that name may be replaced.
    """

    output: Path
    name: str
    formats: tuple[str, ...]
    calibration_faces: int
    reduce_range: bool
    threads: int | None
    force: bool
    overwrite: bool

    def __post_init__(self) -> None:
        unknown = [kind for kind in self.formats if kind not in FORMATS]
        if unknown or not self.formats:
            raise EmodetError(f"formats={list(self.formats)}: one or more of {', '.join(FORMATS)}")
        if not self.name or Path(self.name).name != self.name or "=" in self.name or self.name.startswith("."):
            raise EmodetError(f"name={self.name!r}: a file name without a folder, without =")
        if self.calibration_faces < 1:
            raise EmodetError(f"calibration_faces={self.calibration_faces}: one or more are needed")


def file_names(name: str) -> dict[str, str]:
    """What the files of a set are called, by format; the gate's record under ``gate``."""
    return {
        "fp32": f"{name}-fp32.onnx",
        "int8": f"{name}-int8.onnx",
        "pt2": f"{name}.pt2",
        "gate": f"{name}-gate.json",
    }


def export_set(trained: Trained, info: ModelInfo, data: EmotionDataModule | None, plan: ExportPlan) -> Gate:
    """Make the files, hold them to the gate, write what passes.

    Args:
        trained: What to export.
        info: What the files are to say; its precision and, where there is data, its metrics are each file's own.
        data: Set up; without it there is no int8, and files are compared on drawn faces.
        plan: What to write.

    Raises:
        EmodetError: The folder cannot be written to, files of that name are there, or the net cannot be exported. A
            failed gate raises nothing; see `Gate.written`.
    """
    names = file_names(plan.name)
    there = taken(plan.output, names.values())
    if there and not plan.overwrite:
        raise EmodetError(
            f"output={plan.output} holds {', '.join(there)} already; choose another output or name, or replace the "
            "set with overwrite=true"
        )
    with staged(plan.output, names.values()) as place:
        gate = _Making(trained, info, data, plan, place).make()
        for kind in FORMATS:
            if not gate.written.get(kind, False):
                (place / names[kind]).unlink(missing_ok=True)
        if any(gate.written.values()):
            content = {**gate.as_dict(), "files": _described(place), "made_from": _origin(trained, plan)}
            _write(json.dumps(content, indent=2) + "\n", place / names["gate"], plan.output)
    return gate


class _Making:
    """One export under way: what is made once and needed by several of its steps."""

    def __init__(
        self, trained: Trained, info: ModelInfo, data: EmotionDataModule | None, plan: ExportPlan, place: Path
    ) -> None:
        self.classifier, self.info, self.data, self.plan, self.place = trained.classifier, info, data, plan, place
        self.own_pack = trained.fingerprint
        self.names = file_names(plan.name)
        self.crops, self.compared_on = _comparison_crops(self.classifier, data)
        self.expected, self.beside = _torch_answers(self.classifier, self.crops)
        self.checks: list[Check] = []

    def make(self) -> Gate:
        """All files of the plan into the folder, measured."""
        program = to_program(self.classifier)
        exported = to_onnx(program)
        fp32 = self._model_file("fp32", exported, self.info)
        answered, beside = fp32.run(self.crops)
        self.checks += [
            difference_check("fp32", self.expected, answered, limited=True),
            *beside_checks("fp32", self.beside, beside, limited=True),
            row_sum_check("fp32", answered),
        ]
        models, info = {"fp32": fp32}, self.info
        if self.data is not None:
            reference = self._answers(fp32, self.data)
            self.checks.append(accuracy_of("fp32", reference["val"]))
            info = self._with_figures("fp32", exported, reference)
            if "int8" in self.plan.formats:
                models["int8"] = self._quantised(exported, reference, self.data)
        if "pt2" in self.plan.formats:
            self._program(program, info)
        speeds = measure_speed(models, self.crops)
        if "int8" in models:
            self.checks += speed_check("int8", speeds)
        written = self._verdicts()
        slower = any(check.verdict == "warning" for check in self.checks)
        default = "int8" if written.get("int8") and not slower else "fp32" if written.get("fp32") else None
        return Gate(
            checks=tuple(self.checks),
            speeds=speeds,
            threads=self.plan.threads or machine()["cores"],
            machine=machine(),
            compared_on=self.compared_on,
            judged_on=""
            if self.data is None
            else f"{self.data.pack.manifest['title']}, {self.data.splits.val_name}",
            written=written,
            default=default,
        )

    def _quantised(
        self, exported: "onnx.ModelProto", reference: dict[str, SplitOutputs], data: EmotionDataModule
    ) -> ModelFile:
        rows = calibration_rows(data.splits.train, self.plan.calibration_faces)
        graph = quantise(exported, data.pack.images(rows), reduce_range=self.plan.reduce_range)
        model = self._model_file("int8", graph, replace(self.info, precision="int8", metrics={}))
        answers = self._answers(model, data)
        judged, val = answers["val"], reference["val"]
        probabilities = np.exp(judged.logits)
        self.checks += [
            accuracy_of("int8", judged),
            accuracy_check("int8", val, judged),
            difference_check("int8", np.exp(val.logits), probabilities, limited=False),
            *beside_checks("int8", val.valence_arousal, judged.valence_arousal, limited=False),
            row_sum_check("int8", model.probabilities(self.crops)),
        ]
        self._with_figures("int8", graph, answers)
        return model

    def _program(self, program: torch.export.ExportedProgram, info: ModelInfo) -> None:
        file = self.place / self.names["pt2"]
        values = {key.removeprefix("emodet."): json.loads(text) for key, text in info.to_metadata().items()}
        described = json.dumps(values, ensure_ascii=False, sort_keys=True)
        try:
            torch.export.save(program, file, extra_files={"emodet.json": described})
        except (OSError, RuntimeError) as problem:  # torch's own zip writer raises the latter on a full disk
            raise EmodetError(f"output={self.plan.output}: {self.names['pt2']} cannot be written ({problem})") from None
        loaded = torch.export.load(file).module()
        with torch.inference_mode():
            found = [loaded(torch.from_numpy(part)) for part in (self.crops[:1], *_batches(self.crops))]
        answered, beside = _joined(found)
        expected = np.concatenate([self.expected[:1], self.expected])
        expected_beside = None if self.beside is None else np.concatenate([self.beside[:1], self.beside])
        self.checks += [
            difference_check("pt2", expected, answered, limited=True),
            *beside_checks("pt2", expected_beside, beside, limited=True),
            row_sum_check("pt2", answered),
        ]

    def _model_file(self, kind: str, graph: "onnx.ModelProto", info: ModelInfo) -> ModelFile:
        return read_model_file(write_model_file(graph, info, self.place / self.names[kind]), threads=self.plan.threads)

    def _answers(self, model: ModelFile, data: EmotionDataModule) -> dict[str, SplitOutputs]:
        """On the val faces, and on the test faces where these are others."""
        answers = {"val": predict_split_with_model_file(model, data, "val")}
        if not np.array_equal(data.splits.val, data.splits.test):
            answers["test"] = predict_split_with_model_file(model, data, "test")
        return answers

    def _with_figures(self, kind: Precision, graph: "onnx.ModelProto", answers: Mapping[str, SplitOutputs]) -> ModelInfo:
        """Write the file once more, with its own figures inside; what it says is returned."""
        assert self.data is not None
        metrics: dict[str, Mapping[str, float]] = {}
        for split, part in answers.items():
            predictions = to_predictions(part, self.data, 1.0)
            evaluation = evaluate_predictions(predictions, resamples=0)
            if split == "val":
                self.checks += agreements_of(kind, evaluation)
            same = self.data.fingerprint == self.own_pack
            split = evaluation.split if same else f"{evaluation.data}: {evaluation.split}"
            metrics[split] = plain_metrics(evaluation.metrics(), evaluation.faces)
        info = replace(self.info, precision=kind, metrics=metrics)
        write_model_file(graph, info, self.place / self.names[kind])
        return info

    def _verdicts(self) -> dict[str, bool]:
        failed = {check.file for check in self.checks if check.verdict == "failed"}
        if "fp32" in failed:
            # int8 is made from it and measured against it.
            failed.add("int8")
        return {
            kind: self.plan.force or kind not in failed
            for kind in FORMATS
            if kind in self.plan.formats and (kind != "int8" or self.data is not None)
        }


def example_crops(classifier: EmotionClassifier, count: int) -> UInt8:
    """Drawn faces of all emotions and, in every fourth place, noise: crops where there is no data.

    Returns:
        uint8 (count, size, size, 3) RGB, cut as the net was trained; the same every time.
    """
    preprocessing, rng = classifier.preprocessing, np.random.default_rng(0)
    crops = []
    for number in range(count):
        if number % 4 == 3:
            picture = rng.integers(0, 256, (preprocessing.size, preprocessing.size, 3), dtype=np.uint8)
        else:
            picture = draw_face(number % len(EMOTIONS), (0, number), preprocessing.size).image
        crops.append(preprocessing.crop(picture))
    return np.stack(crops)


def _comparison_crops(classifier: EmotionClassifier, data: EmotionDataModule | None) -> tuple[UInt8, str]:
    if data is None:
        return example_crops(classifier, 64), "64 drawn faces and pictures of noise"
    rows = data.splits.val
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(_COMPARED, len(rows))).astype(int))]
    return data.pack.images(rows), f"{len(rows):,} faces of {data.pack.manifest['title']}, {data.splits.val_name}"


@torch.inference_mode()
def _torch_answers(classifier: EmotionClassifier, crops: UInt8) -> tuple[Float32, Float32 | None]:
    """Probabilities (N, K), and valence and arousal (N, 2) or None, of the checkpoint."""
    classifier.cpu().eval()
    parts = []
    for part in _batches(crops):
        logits, said = classifier.predict_heads(torch.from_numpy(part))
        probabilities = torch.softmax(logits / classifier.temperature, dim=1)
        parts.append(probabilities if said is None else (probabilities, said))
    return _joined(parts)


def _joined(parts: Sequence[torch.Tensor | tuple[torch.Tensor, torch.Tensor]]) -> tuple[Float32, Float32 | None]:
    """Batches of what a `ProbabilityGraph` gives, as one."""
    first = [part if isinstance(part, torch.Tensor) else part[0] for part in parts]
    second = [part[1] for part in parts if not isinstance(part, torch.Tensor)]
    return torch.cat(first).numpy(), torch.cat(second).numpy() if second else None


def _batches(crops: UInt8) -> Sequence[UInt8]:
    return [crops[start : start + _BATCH] for start in range(0, len(crops), _BATCH)]


def _write(text: str, file: Path, output: Path) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as problem:
        raise EmodetError(f"output={output}: {file.name} cannot be written ({problem.strerror or problem})") from None


def _described(place: Path) -> dict[str, dict[str, Any]]:
    return {
        file.name: {"bytes": file.stat().st_size, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
        for file in sorted(place.iterdir())
    }


def _origin(trained: Trained, plan: ExportPlan) -> dict[str, Any]:
    return {
        "checkpoint": trained.file.name,
        "commit": trained.commit,
        "fingerprint": trained.fingerprint,
        "calibration_faces": plan.calibration_faces,
        "reduce_range": plan.reduce_range,
        "forced": plan.force,
    }
