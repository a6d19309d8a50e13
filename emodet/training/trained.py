"""A trained net with everything that is known about it, from whatever kind of file holds it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emodet.commands import to_plain_dict
from emodet.config import EvaluateConfig
from emodet.errors import EmodetError
from emodet.modelfile import TrainingData
from emodet.models.classifier import EmotionClassifier
from emodet.schema import checked
from emodet.training.checkpoints import load_classifier
from emodet.training.folder import RunFolder
from emodet.training.weights import WeightsCard, load_weights

TERMS: Mapping[str, str] = {
    "affectnet": (
        "AffectNet is licensed by its authors to research groups, for research only; its pictures may not be passed on"
    ),
    "ferplus": (
        "The votes are under the MIT licence (Microsoft). The pictures (FER2013: web search results, ICML 2013 "
        "challenge) have no open licence: research use only"
    ),
    "fer2013": ("The pictures (web search results, ICML 2013 challenge) have no open licence: research use only"),
    "rafdb": ("RAF-DB is for non-commercial research only; its pictures come from the web and may not be passed on"),
    "jaffe": "JAFFE is for non-commercial scientific research that names its source",
    "synthetic": "Drawn by emodet; no picture of a person",
}
"""On which terms the owners of a data set let it be used, as model files and cards repeat them."""

_UNKNOWN = TrainingData("not known", "not known")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Trained:
    """A classifier and its origin.

    Attributes:
        classifier: In evaluation mode.
        card: Net, classes, temperature, training data, figures; of a checkpoint outside a run only what it says itself.
        file: The checkpoint or the weights.
        folder: The run folder, or the folder of `file` outside a run.
        data: The data settings of the run; None if unknown.
        calibrated: Whether a temperature was fitted.
    """

    classifier: EmotionClassifier
    card: WeightsCard
    file: Path
    folder: Path
    data: Mapping[str, Any] | None
    calibrated: bool

    def facts(self) -> dict[str, Any]:
        """What the ``run.json`` of its student says about it."""
        return {
            "file": str(self.file.resolve()),
            "fingerprint": self.card.fingerprint,
            "training_data": [asdict(data) for data in self.card.training_data],
        }


def load_trained(path: Path) -> Trained:
    """Load a trained net.

    Args:
        path: A run's folder (its best checkpoint is taken), a checkpoint, or plain weights with their card.

    Raises:
        EmodetError: It is none of these.
    """
    path = path.expanduser()
    if path.is_dir():
        if not RunFolder(path).best.is_file():
            raise EmodetError(f"checkpoint={path}: this folder has no {RunFolder(path).best.relative_to(path)}")
        path = RunFolder(path).best
    if path.suffix == ".onnx":
        raise EmodetError(f"checkpoint={path}: this is a model file already; export takes what training wrote")
    run = run_folder_of(path)
    folder, data = (path.resolve().parent, None) if run is None else (run.path, _data_of(run))
    if path.suffix == ".pt":
        classifier, card = load_weights(path)
        calibrated = True
    else:
        classifier = load_classifier(path)
        facts = run.facts() if run else {}
        # Metrics are those of the best checkpoint, which is also the one that was calibrated.
        is_best = run is not None and path.resolve() == run.best.resolve()
        calibrated = is_best and "temperature" in facts if run else classifier.temperature.item() != 1
        card = WeightsCard(
            net=dict(classifier.hparams["net"]),
            class_names=classifier.class_names,
            preprocessing=classifier.preprocessing.to_dict(),
            # As a person would write it: the shortest number that is the same in float32.
            temperature=float(str(np.float32(classifier.temperature.item()))),
            temperature_slope=tuple(float(str(value)) for value in classifier.temperature_slope.numpy()),
            training_data=_all_training_data(facts, data) if run else (_UNKNOWN,),
            metrics=_metrics(facts) if is_best else {},
            commit=facts.get("commit") or "",
            fingerprint=facts.get("fingerprint", ""),
            valence_arousal=classifier.has_va_head,
        )
    return Trained(classifier=classifier, card=card, file=path, folder=folder, data=data, calibrated=calibrated)


def run_folder_of(file: Path) -> RunFolder | None:
    """The run's folder that `file` lies in, at most two levels up; None where it lies in none."""
    folders = (RunFolder(folder) for folder in file.resolve().parents[:2])
    return next((folder for folder in folders if (folder.path / "run.json").is_file()), None)


def plain_metrics(estimates: Mapping[str, Any], faces: int | None = None) -> dict[str, float]:
    """`Evaluation.metrics()` without their intervals: name to value, undefined ones left out."""
    values = {name: float(each["value"]) for name, each in estimates.items() if each["value"] is not None}
    return values if faces is None else {"faces": float(faces), **values}


def _metrics(facts: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    splits, faces = facts.get("splits", {}), facts.get("faces", {})
    return {
        splits.get(split, split): plain_metrics(estimates, faces.get(split))
        for split, estimates in facts.get("results", {}).items()
    }


def run_data(file: Path) -> dict[str, Any] | None:
    """The data settings of the run that `file` lies in; None where it lies in none."""
    folder = run_folder_of(file)
    return None if folder is None else _data_of(folder)


def _data_of(folder: RunFolder) -> dict[str, Any] | None:
    if not folder.config.is_file():
        return None
    # Plain data: nothing that a stored configuration holds is resolved or imported.
    stored = folder.read_config().get("data") or {}
    try:
        data: dict[str, Any] = to_plain_dict(checked(EvaluateConfig, {"data": stored}))["data"]
    except EmodetError as problem:
        raise EmodetError(f"{folder.config}: {problem}") from None
    if "corrections" in data and folder.corrections.is_file():
        # Wherever the folder lies now.
        data["corrections"] = str(folder.corrections)
    return data


def _all_training_data(facts: Mapping[str, Any], data: Mapping[str, Any] | None) -> tuple[TrainingData, ...]:
    """What a run was trained on, each data set of a mix on its own terms, and what its teachers were: all hold."""
    taught = [
        TrainingData(str(known["name"]), str(known["terms"]))
        for teacher in (facts.get("distillation") or {}).get("teachers", ())
        for known in teacher["training_data"]
    ]
    packs = facts.get("pack", {}).get("sources")
    if not packs:
        return tuple(dict.fromkeys([_training_data(facts, data), *taught]))
    sources = (data or {}).get("sources", {})
    every = (_training_data({"pack": pack}, sources.get(name)) for name, pack in packs.items())
    return tuple(dict.fromkeys([*every, *taught]))


def _training_data(facts: Mapping[str, Any], data: Mapping[str, Any] | None) -> TrainingData:
    if data is not None and "synthetic" in data:
        return TrainingData("faces drawn by emodet", TERMS["synthetic"])
    pack = facts.get("pack", {})
    reader = str(pack.get("reader") or (data or {}).get("reader") or "")
    kind = "affectnet" if reader == "yolo" or reader.startswith("affectnet") else reader.removesuffix("_csv")
    return TrainingData(str(pack.get("title") or reader or _UNKNOWN.name), TERMS.get(kind, _UNKNOWN.terms))
