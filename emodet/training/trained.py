"""Load trained nets from run folders, checkpoints or plain weights, for use or as initial weights."""

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
"""Terms of use of data sets, which model files and cards repeat."""

SHIPPED = Path(emodet.__file__).parent / "weights" / "emodet.pt"
"""The weights of the shipped model in half precision, for ``init_from=shipped``; see
experiments/ferplus/shipped_weights.py."""

_UNKNOWN = TrainingData("not known", "not known")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Trained:
    """A classifier and its origin."""

    classifier: EmotionClassifier  # in evaluation mode
    card: ModelInfo  # for a checkpoint outside a run only its own information
    file: Path  # checkpoint or weights
    folder: Path  # the run folder, or the folder of `file` outside a run
    data: Mapping[str, Any] | None  # the data settings of the run; None if unknown
    calibrated: bool  # whether a temperature was fitted

    def facts(self) -> dict[str, Any]:
        """Description of a teacher for the ``run.json`` of its student."""
        return {
            "file": str(self.file.resolve()),
            "fingerprint": self.card.fingerprint,
            "training_data": [asdict(data) for data in self.card.training_data],
        }


def load_trained(path: Path) -> Trained:
    """Load a trained net.

    `path` is a run folder (its best checkpoint is loaded), a checkpoint, or plain weights (``.pt``) with their card;
    raises `EmodetError` for anything else.
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
        # Metrics belong to the best checkpoint, which is also the calibrated one.
        is_best = run is not None and path.resolve() == run.best.resolve()
        calibrated = is_best and "temperature" in facts if run else classifier.temperature.item() != 1
        kinds = (TypeError, ValueError, AttributeError, LookupError, OverflowError)
        with errors_of(path, "the run.json of its run is damaged", *kinds):
            card = ModelInfo(
                class_names=classifier.class_names,
                preprocessing=classifier.preprocessing,
                # The shortest decimal number with the same float32 value.
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
    """Return the run folder that contains `file`, at most two levels up, or None."""
    folders = (RunFolder(folder) for folder in file.resolve().parents[:2])
    return next((folder for folder in folders if (folder.path / "run.json").is_file()), None)


def plain_metrics(estimates: Mapping[str, Any], faces: int | None = None) -> dict[str, float]:
    """Return `Evaluation.metrics()` as values by name, without intervals and undefined metrics."""
    values = {name: float(each["value"]) for name, each in estimates.items() if each["value"] is not None}
    return values if faces is None else {"faces": float(faces), **values}


def _metrics(facts: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    splits, faces = facts.get("splits", {}), facts.get("faces", {})
    return {
        splits.get(split, split): plain_metrics(estimates, faces.get(split))
        for split, estimates in facts.get("results", {}).items()
    }


def data_of(folder: RunFolder | None) -> dict[str, Any] | None:
    """Return the data settings of a run; None without a run or stored settings."""
    if folder is None or not folder.config.is_file():
        return None
    # Plain data: interpolations are not resolved, and classes are not imported.
    stored = folder.read_config().get("data") or {}
    try:
        data: dict[str, Any] = without_none(checked(EvaluateConfig, {"data": stored}))["data"]
    except EmodetError as problem:
        raise EmodetError(f"{folder.config}: {problem}") from None
    if "corrections" in data and folder.corrections.is_file():
        # The folder may have been moved.
        data["corrections"] = str(folder.corrections)
    return data


def _all_training_data(facts: Mapping[str, Any], data: Mapping[str, Any] | None) -> tuple[TrainingData, ...]:
    """Return all data sets of a run and of its teachers, with their terms."""
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
    """Initialise a classifier from a run folder, a checkpoint, a plain state dict of the net, or ``shipped``.

    The rows of the last layer are copied by name: classes (also by an alias of the emotion), valence and arousal. The
    names come from the checkpoint or the card of plain weights; without names, a last layer of another size keeps its
    initial values. Returns sentences about what was copied and what was not.

    Raises:
        EmodetError: The weights are of another net, or they have a valence/arousal head and
            ``training.valence_arousal`` is not set.
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
    """Return the names of the rows of the last layer, in order."""
    return (*class_names, *(DIMENSIONS if has_va_head else ()))


def _net_state(
    content: Mapping[str, Any], file: Path
) -> tuple[dict[str, torch.Tensor], tuple[str, ...] | None, Mapping[str, Any] | None]:
    """Return the state dict of the net, and names of outputs and preprocessing, or None if unknown."""
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
    """Describe differences between preprocessings; the size does not matter."""
    here = own.to_dict()
    return ", ".join(
        f"preprocessing.{key}={value}, not {here[key]}"
        for key, value in given.items()
        if key != "size" and key in here and value != here[key]
    )


def _rows_per_output(classifier: EmotionClassifier) -> set[str]:
    """Return the names of tensors with one row per output: their shapes differ in a net with one more output."""
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
