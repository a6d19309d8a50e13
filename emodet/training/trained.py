"""A trained net from whatever kind of file holds it: with all that is known about it, or as weights to start from."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import emodet
from emodet.config import EvaluateConfig
from emodet.emotions import place_of
from emodet.errors import EmodetError, errors_of
from emodet.files import expanded
from emodet.modelinfo import OUTPUTS, ModelInfo, TrainingData
from emodet.models.agreement import DIMENSIONS
from emodet.models.classifier import EmotionClassifier
from emodet.models.nets import build_net
from emodet.preprocessing import Preprocessing
from emodet.schema import checked, without_none
from emodet.training.checkpoints import load_classifier, load_weights, read_card, read_checkpoint
from emodet.training.folder import RunFolder

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

SHIPPED = Path(emodet.__file__).parent / "weights" / "emodet.pt"
"""The weights of the shipped model in half precision, for ``init_from=shipped``; see
experiments/ferplus/shipped_weights.py."""

_UNKNOWN = TrainingData("not known", "not known")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Trained:
    """A classifier and its origin."""

    classifier: EmotionClassifier  # in evaluation mode
    card: ModelInfo  # of a checkpoint outside a run only what it says itself
    file: Path  # the checkpoint or the weights
    folder: Path  # the run folder, or the folder of `file` outside a run
    data: Mapping[str, Any] | None  # the data settings of the run; None if unknown
    calibrated: bool  # whether a temperature was fitted

    def facts(self) -> dict[str, Any]:
        """What the ``run.json`` of its student says about it."""
        return {
            "file": str(self.file.resolve()),
            "fingerprint": self.card.fingerprint,
            "training_data": [asdict(data) for data in self.card.training_data],
        }


def load_trained(path: Path) -> Trained:
    """Load a trained net.

    `path` is a run's folder (its best checkpoint is taken), a checkpoint, or plain weights (``.pt``) with their card;
    anything else is an `EmodetError`.
    """
    path = expanded(path)
    if path.is_dir():
        if not RunFolder(path).best.is_file():
            raise EmodetError(f"checkpoint={path}: this folder has no {RunFolder(path).best.relative_to(path)}")
        path = RunFolder(path).best
    if path.suffix == ".onnx":
        raise EmodetError(f"checkpoint={path}: this is a model file already; export takes what training wrote")
    run = run_folder_of(path)
    folder, data = path.resolve().parent if run is None else run.path, data_of(run)
    if path.suffix == ".pt":
        classifier, card = load_weights(path)
        calibrated = True
    else:
        classifier = load_classifier(path)
        facts = run.facts() if run else {}
        # Metrics are those of the best checkpoint, which is also the one that was calibrated.
        is_best = run is not None and path.resolve() == run.best.resolve()
        calibrated = is_best and "temperature" in facts if run else classifier.temperature.item() != 1
        kinds = (TypeError, ValueError, AttributeError, LookupError, OverflowError)
        with errors_of(path, "the run.json of its run is damaged", *kinds):
            card = ModelInfo(
                class_names=classifier.class_names,
                preprocessing=classifier.preprocessing,
                # As a person would write it: the shortest number that is the same in float32.
                temperature=float(str(np.float32(classifier.temperature.item()))),
                temperature_curve=tuple(float(str(value)) for value in classifier.temperature_curve.numpy()),
                training_data=_all_training_data(facts, data) if run else (_UNKNOWN,),
                metrics=_metrics(facts) if is_best else {},
                commit=facts.get("commit") or "",
                fingerprint=facts.get("fingerprint", ""),
                precision="fp32",
                outputs=OUTPUTS if classifier.has_va_head else OUTPUTS[:1],
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


def data_of(folder: RunFolder | None) -> dict[str, Any] | None:
    """The data settings of a run; None without one, or where it has stored none."""
    if folder is None or not folder.config.is_file():
        return None
    # Plain data: nothing that a stored configuration holds is resolved or imported.
    stored = folder.read_config().get("data") or {}
    try:
        data: dict[str, Any] = without_none(checked(EvaluateConfig, {"data": stored}))["data"]
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


def init_from(classifier: EmotionClassifier, file: Path) -> list[str]:
    """Start from trained weights: a run folder, a checkpoint of ours, a plain state dict of the net, or ``shipped``.

    The last layer is carried over row by row, by name: classes (also by another name of the same emotion), valence and
    arousal. A checkpoint names them, and so does the card of plain weights; without either, a last layer of another
    size stays fresh. Returns sentences that say what was carried over, and what was not.

    Raises:
        EmodetError: The weights are of another net; or they have a valence/arousal head, and whether this net is to
            have one was left open.
    """
    file = SHIPPED if str(file) == "shipped" and not file.exists() else expanded(file)
    if file.is_dir():
        file = RunFolder(file).best
    state, names, crops = _net_state(read_checkpoint(file), file)
    wanted = _names_of_outputs(classifier.class_names, classifier.has_va_head)
    if names is not None and set(DIMENSIONS) <= set(names) and classifier.hparams["valence_arousal"] is None:
        raise EmodetError(
            f"init_from={file}: the weights have a valence/arousal head. Set training.valence_arousal=1 to keep "
            "it, or training.valence_arousal=0 to leave it out"
        )
    own = classifier.net.state_dict()
    if set(state) != set(own):
        odd = sorted(set(state) ^ set(own))
        raise EmodetError(f"init_from={file}: weights of another net; differing names: {', '.join(odd[:6])} …")
    notes = [f"weights carried over from {file}"]
    if crops is not None and (other := _differences(crops, classifier.preprocessing)):
        notes.append(f"these weights were trained with other crops: {other}")
    per_output = _rows_per_output(classifier)
    for name, tensor in own.items():
        given = state[name]
        same_rows = names == wanted or (names is None and given.shape == tensor.shape)
        if name in per_output and not same_rows and given.shape[1:] == tensor.shape[1:]:
            notes.append(_carry_rows(name, tensor, given, wanted, names))
        elif given.shape == tensor.shape:
            tensor.copy_(given)
        else:
            raise EmodetError(
                f"init_from={file}: {name} has shape {tuple(given.shape)}, this net needs {tuple(tensor.shape)}; "
                "use the same net arguments"
            )
    classifier.net.load_state_dict(own)
    return notes


def _names_of_outputs(class_names: Iterable[str], has_va_head: bool) -> tuple[str, ...]:
    """What the rows of the last layer say, in order."""
    return (*class_names, *(DIMENSIONS if has_va_head else ()))


def _net_state(
    content: Mapping[str, Any], file: Path
) -> tuple[dict[str, torch.Tensor], tuple[str, ...] | None, Mapping[str, Any] | None]:
    """State dict of the net, names of its outputs, and its preprocessing, the latter two None if unknown."""
    if "state_dict" in content:
        state = {name[4:]: value for name, value in content["state_dict"].items() if name.startswith("net.")}
        settings = content.get("hyper_parameters", {})
    else:
        state, settings = dict(content), {}
        if file.with_suffix(".json").is_file():
            card = read_card(file)[1]
            settings = {**card.to_dict(), "valence_arousal": card.outputs == OUTPUTS}
    if "class_names" not in settings:
        return state, None, None
    names = _names_of_outputs(settings["class_names"], bool(settings.get("valence_arousal")))
    return state, names, settings.get("preprocessing")


def _differences(given: Mapping[str, Any], own: Preprocessing) -> str:
    """In words, without the size: the net takes any."""
    here = own.to_dict()
    return ", ".join(
        f"preprocessing.{key}={value}, not {here[key]}"
        for key, value in given.items()
        if key != "size" and key in here and value != here[key]
    )


def _rows_per_output(classifier: EmotionClassifier) -> set[str]:
    """Which tensors of the net have a row per output: those that would differ with one output more."""
    own = classifier.net.state_dict()
    outputs = len(_names_of_outputs(classifier.class_names, classifier.has_va_head))
    with torch.device("meta"):
        wider = build_net(classifier.hparams["net"], outputs + 1).state_dict()
    return {name for name, tensor in own.items() if tensor.shape != wider[name].shape}


def _carry_rows(
    layer: str, tensor: torch.Tensor, given: torch.Tensor, wanted: tuple[str, ...], names: tuple[str, ...] | None
) -> str:
    if names is None or len(names) != len(given):
        return f"{layer} stays fresh: the file does not say which classes its {len(given)} rows are"
    fresh, carried = [], []
    for row, name in enumerate(wanted):
        place = place_of(name, names)
        if place is None:
            fresh.append(name)
        else:
            tensor[row] = given[place]
            carried.append(name)
    parts = [f"rows of {', '.join(carried)} carried over"] if carried else []
    parts += [f"fresh rows for {', '.join(fresh)}"] if fresh else []
    return f"{layer}: {'; '.join(parts)}"
