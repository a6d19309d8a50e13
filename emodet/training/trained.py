"""A trained net with everything that is known about it, from whatever kind of file holds it."""

import json
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

__all__ = ["TERMS", "Trained", "load_trained", "plain_metrics", "run_data", "run_folder_of"]

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
        file: The checkpoint or the weights.
        folder: The run folder, or the folder of `file` outside a run.
        data: The data settings of the run; None if unknown.
        metrics: Split to metric to value; empty if unknown.
        commit: The project's commit that trained it; empty if unknown.
        fingerprint: Of the training data (`EmotionDataModule.fingerprint`); empty if unknown.
        calibrated: Whether a temperature was fitted.
    """

    classifier: EmotionClassifier
    file: Path
    folder: Path
    data: Mapping[str, Any] | None
    training_data: tuple[TrainingData, ...]
    metrics: Mapping[str, Mapping[str, float]]
    commit: str
    fingerprint: str
    calibrated: bool

    @property
    def temperature(self) -> float:
        """The temperature as a person would write it: the shortest number that is the same in float32."""
        return float(str(np.float32(self.classifier.temperature.item())))

    @property
    def temperature_slope(self) -> tuple[float, float]:
        """See `EmotionClassifier`, in the same form."""
        b, c = (float(str(value)) for value in self.classifier.temperature_slope.numpy())
        return b, c

    def facts(self) -> dict[str, Any]:
        """What the ``run.json`` of its student says about it."""
        return {
            "file": str(self.file.resolve()),
            "fingerprint": self.fingerprint,
            "training_data": [asdict(data) for data in self.training_data],
        }

    def card(self) -> WeightsCard:
        """What `emodet.training.weights.write_weights` puts beside the weights."""
        return WeightsCard(
            net=dict(self.classifier.hparams["net"]),
            class_names=self.classifier.class_names,
            preprocessing=self.classifier.preprocessing.to_dict(),
            temperature=self.temperature,
            temperature_slope=self.temperature_slope,
            training_data=self.training_data,
            metrics=self.metrics,
            commit=self.commit,
            fingerprint=self.fingerprint,
            valence_arousal=self.classifier.has_va_head,
        )


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
    if path.suffix == ".pt":
        classifier, card = load_weights(path)
        known = {name: getattr(card, name) for name in ("training_data", "metrics", "commit", "fingerprint")}
        known["calibrated"] = True
    else:
        classifier = load_classifier(path)
        known = _known_of_checkpoint(path, run, calibrated=classifier.temperature.item() != 1)
    folder, data = (path.resolve().parent, None) if run is None else (run.path, _data_of(run))
    return Trained(classifier=classifier, file=path, folder=folder, data=data, **known)


def _known_of_checkpoint(path: Path, run: RunFolder | None, calibrated: bool) -> dict[str, Any]:
    if run is None:
        unknown = {"metrics": {}, "commit": "", "fingerprint": ""}
        return {**unknown, "training_data": (_UNKNOWN,), "calibrated": calibrated}
    facts = run.facts()
    # The metrics are those of the best checkpoint, which is also the one that was calibrated.
    is_best = path.resolve() == run.best.resolve()
    return {
        "training_data": _all_training_data(facts, _data_of(run)),
        "metrics": _metrics(facts) if is_best else {},
        "commit": facts.get("commit") or "",
        "fingerprint": facts.get("fingerprint") or facts.get("pack", {}).get("fingerprint", ""),
        "calibrated": is_best and "temperature" in facts,
    }


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
    pack = {**_manifest(facts), **facts.get("pack", {})}
    reader = str(pack.get("reader") or (data or {}).get("reader") or "")
    kind = "affectnet" if reader == "yolo" or reader.startswith("affectnet") else reader.removesuffix("_csv")
    return TrainingData(str(pack.get("title") or reader or _UNKNOWN.name), TERMS.get(kind, _UNKNOWN.terms))


def _manifest(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Reader and title of the pack that a run was trained on, where it is still there and still the same."""
    known = facts.get("pack", {})
    file = Path(known.get("folder", "")) / "manifest.json"
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if manifest.get("fingerprint") != known.get("fingerprint"):
        return {}
    return {key: manifest[key] for key in ("reader", "title") if key in manifest}
