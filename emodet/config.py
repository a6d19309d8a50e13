"""Configuration of the commands: the keys, their defaults and types, derived from signatures.

Signatures hold the defaults, ``conf/`` holds the choices. A dataclass per command lists its keys; a key annotated with
`Arguments` is a group with the arguments of one callable, one with `Spec` names its class itself (``_target_``).
"""

import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from emodet.data.augmentation import Augmentation
from emodet.data.build import SOURCE_KEYS, DataSettings
from emodet.errors import EmodetError
from emodet.models.build import target_of
from emodet.preprocessing import Preprocessing
from emodet.synthetic.releases import write_release

__all__ = [
    "RENAMED_KEYS",
    "Arguments",
    "AuditConfig",
    "EvaluateConfig",
    "ExportConfig",
    "PrepareConfig",
    "Spec",
    "Specs",
    "TrainConfig",
    "checked",
    "defaults",
]


@dataclass(frozen=True)
class Arguments:
    """Marks a group of keys that are the arguments of `target`, but for those in `without`.

    Attributes:
        target: Whose signature it is.
        without: Its arguments that are no keys.
        unset: ``no``: defaults are there from the start. ``at first``: keys are null until everything is composed, then
            they get their defaults; in a mix of data sets only those that no data set has of its own. ``always``: keys
            that nobody sets stay null, as those of a checkpoint's own run take their place.
    """

    target: Callable[..., Any]
    without: tuple[str, ...] = ()
    unset: Literal["no", "at first", "always"] = "no"


@dataclass(frozen=True)
class Spec:
    """Marks a group that names its own class: ``{_target_: …, **arguments}``; arguments in `without` are supplied."""

    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class Specs:
    """Marks a group of named specs, each of which may be null."""


Group = dict[str, Any]
_TRAINER_SUPPLIED = ("logger", "callbacks", "plugins", "default_root_dir", "use_distributed_sampler")
Data = Annotated[Group, Arguments(DataSettings, unset="at first")]
OtherData = Annotated[Group, Arguments(DataSettings, unset="always")]


@dataclass(kw_only=True)
class DistillationConfig:
    """Distillation from trained teachers, see `emodet.models.distillation.Distillation`.

    Attributes:
        teachers: Run folders, checkpoints (``.ckpt``) or plain weights (``.pt``) with their card; none trains without.
        weight: See `Distillation`.
        temperature: See `Distillation`.
        flip: See `Distillation`.
    """

    teachers: Sequence[str] = ()
    weight: float = 0.7
    temperature: float = 1.0
    flip: bool = False


@dataclass(kw_only=True)
class TrainingConfig:
    """Training-loop options.

    Attributes:
        monitor: The metric on the val split that chooses the best epoch.
        mixup: See `emodet.models.mixup.Mixup`.
        cutmix: Likewise.
        mix_prob: Likewise.
        sam_rho: See `emodet.models.sam.SharpnessAware`; null takes plain steps.
        progressive_sizes: See `emodet.models.extras.ProgressiveSizes`.
        valence_arousal: See `emodet.models.classifier.EmotionClassifier`.
        channels_last: Likewise.
        compile: Likewise.
    """

    monitor: str = "val/accuracy"
    mixup: float = 0.0
    cutmix: float = 0.0
    mix_prob: float = 1.0
    sam_rho: float | None = None
    progressive_sizes: Sequence[Any] = ()
    valence_arousal: float | None = None
    channels_last: bool = True
    compile: bool = False


@dataclass(kw_only=True)
class LoggerConfig:
    """Loggers besides the CSV files of every run.

    Attributes:
        name: ``csv`` (no other), ``wandb`` or ``tensorboard``.
        pictures: Whether the logger gets faces, see `emodet.training.tracking.may_show_pictures`.
        artifacts: Whether Weights & Biases keeps the best checkpoint and the model file.
        project: Of Weights & Biases.
        entity: Of Weights & Biases: the team or user; null is the one that is logged in.
        group: Of Weights & Biases.
        tags: Of Weights & Biases.
    """

    name: str = "csv"
    pictures: bool | str = "auto"
    artifacts: bool = True
    project: str = "emodet"
    entity: str | None = None
    group: str | None = None
    tags: Sequence[str] | None = None


@dataclass(kw_only=True)
class SweepConfig:
    """What ``--multirun`` runs; the groups `sweep` and `launcher` choose it.

    Attributes:
        params: Key to what it may be, as Hydra writes sweeps; the command line adds to it and replaces it.
        at_once: Runs side by side, which share the cores.
        batch: Runs that are handed to the launcher together; null: all of a grid, `at_once` of a search.
        trials: How many finished or stopped trials a search ends with, those of its study file included.
        study: The search's file (Optuna's journal); one that exists is continued.
        seed: Of the search.
        startup_trials: Trials drawn at random before the search learns from them.
        pruner: When a trial is stopped early; null lets all run to their end.
        trial: Number of the trial that a run is; the search sets it.
    """

    params: dict[str, Any] | None = None
    at_once: int = 1
    batch: int | None = None
    trials: int | None = None
    study: str | None = None
    seed: int = 0
    startup_trials: int | None = None
    pruner: dict[str, Any] | None = None
    trial: int | None = None


@dataclass(kw_only=True)
class TrainConfig:
    """Keys of ``python -m emodet.train``.

    Attributes:
        name: Of the run's folder and of the run in the logger.
        seed: Of initial weights, order, augmentation and dropout.
        init_from: A run folder, a checkpoint or a state dict whose weights training starts from.
        resume: A run folder to continue in.
        threads: Of torch on the CPU; null leaves it to torch.
        trust: Packages of your own whose classes a stored run or checkpoint may name.
        data: The data set, see `emodet.data.build.DataSettings`.
        preprocessing: See `Preprocessing`.
        augmentation: See `Augmentation`.
        net: Any ``torch.nn.Module`` that takes ``num_classes``.
        optimizer: Any ``torch.optim.Optimizer``.
        scheduler: A learning-rate scheduler.
        loss: Training objective.
        distillation: Teachers.
        training: Training-loop options.
        trainer: See `lightning.Trainer`.
        callbacks: Callbacks by name; null leaves one out.
        logger: Loggers by name, besides the CSV files of every run.
        sweep: Options of ``--multirun``.
    """

    name: str = "run"
    seed: int = 0
    init_from: str | None = None
    resume: str | None = None
    threads: int | None = None
    trust: Sequence[str] = ()
    data: Data
    preprocessing: Annotated[Group, Arguments(Preprocessing)]
    augmentation: Annotated[Group, Arguments(Augmentation)]
    net: Annotated[Group, Spec(("num_classes", "preprocessing"))]
    optimizer: Annotated[Group, Spec(("params",))]
    scheduler: Annotated[Group, Spec(("optimizer", "total_steps"))]
    loss: Annotated[Group, Spec(("class_counts",))]
    distillation: Annotated[Group, Arguments(DistillationConfig)]
    training: Annotated[Group, Arguments(TrainingConfig)]
    trainer: Annotated[Group, Spec(_TRAINER_SUPPLIED)]
    callbacks: Annotated[Group, Specs()]
    logger: Annotated[Group, Arguments(LoggerConfig)]
    sweep: Annotated[Group, Arguments(SweepConfig)]


@dataclass(kw_only=True)
class PrepareConfig(TrainConfig):
    """Keys of ``python -m emodet.prepare``, which takes every experiment, and so every key of ``train``.

    Attributes:
        verify: Whether to compare every byte of a pack that exists with its manifest.
        force: Whether to delete a pack that exists and make it again.
        list: Whether to report what the release holds, and pack nothing.
    """

    verify: bool = False
    force: bool = False
    list: bool = False


@dataclass(kw_only=True)
class EvaluateConfig:
    """Keys of ``python -m emodet.evaluate``.

    Attributes:
        checkpoint: The ``.ckpt`` to measure, a run folder, or plain weights (``.pt``) with their card. Its run's data
            is used unless `data` or `data.root` is given.
        model: The model file (``.onnx``) to measure instead.
        split: ``test`` or ``val``.
        output: The folder for the report; by default ``evaluation-SPLIT`` in the run folder.
        resamples: Of the bootstrap.
        errors: How many of the worst errors the page shows.
        corruptions: Whether to measure how accuracy falls with blur, noise, compression, darkness, distance, tilt and
            occlusion too; see `emodet.evaluation.corruptions`.
        flip: Whether to average over each crop and its mirror image: twice the work.
        accelerator: As Lightning names it.
        trust: Packages of your own whose classes the checkpoint may name.
        data: Other data than that of the checkpoint's run.
    """

    checkpoint: str | None = None
    model: str | None = None
    split: str = "test"
    output: str | None = None
    resamples: int = 2000
    errors: int = 48
    corruptions: bool = False
    flip: bool = False
    accelerator: str = "auto"
    trust: Sequence[str] = ()
    data: OtherData


@dataclass(kw_only=True)
class ExportConfig:
    """Keys of ``python -m emodet.export``.

    Attributes:
        checkpoint: A ``.ckpt``, a run folder, or plain weights (``.pt``) with their card. Its run's data is used
            unless other data is named.
        output: The folder for the files; by default ``export`` in the run folder.
        name: The files' common name.
        formats: Of fp32, int8 and pt2; null makes what can be made.
        format: ``web`` writes the page that recognises in the browser, as a static folder, and nothing else.
        model: For the page: a model file, or ``int8`` or ``fp32`` for a shipped one.
        force: Whether files that fail the parity check are written all the same.
        overwrite: Whether files of that name may be replaced.
        trained_on: What the files call their training data; by default what the run says.
        terms: On which terms the training data may be used, as the files repeat it; known for AffectNet and FER+.
        calibration_faces: How many training faces set the ranges of int8.
        reduce_range: Whether int8 weights have 7 bits, which is safe on processors without VNNI.
        threads: Of torch and ONNX Runtime while measuring; null leaves it to them.
        trust: Packages of your own whose classes the checkpoint may name.
        preprocessing: Margin, alignment and detail with which a detector's faces are cut, where training pictures were
            face crops already or framed otherwise.
        data: Faces to calibrate and to measure on.
    """

    checkpoint: str | None = None
    output: str | None = None
    name: str = "emodet"
    formats: Sequence[str] | None = None
    format: str | None = None
    model: str | None = None
    force: bool = False
    overwrite: bool = False
    trained_on: str | None = None
    terms: str | None = None
    calibration_faces: int = 512
    reduce_range: bool = True
    threads: int | None = None
    trust: Sequence[str] = ()
    preprocessing: dict[str, Any]
    data: OtherData


@dataclass(kw_only=True)
class AuditConfig(TrainConfig):
    """Keys of ``python -m emodet.audit``, which trains short runs, and so takes every key of ``train``.

    Attributes:
        output: The folder for the page and the corrections; by default ``audit/NAME`` in the folder for outputs.
        quick: Whether to leave out what takes long: no net is trained, no detector runs.
        probabilities: A file with out-of-fold class probabilities, instead of training nets: see
            `emodet.auditing.probabilities`.
        model: The model file that checks the class order: a path, ``int8`` or ``fp32`` for a shipped one, ``none`` to
            leave it out.
        detector: As in `emodet.inference.detectors.DETECTORS`; ``none`` leaves it out.
        detector_faces: How many faces, drawn at random, the detector checks; null takes all.
        gallery: How many pictures a gallery of the page shows.
        pictures: Whether the page shows pictures at all.
        out_of_fold: Options of the out-of-fold training.
        copies: What counts as a copy.
        quality: What counts as a bad picture.
        proposals: What is proposed for correction.
    """

    output: str | None = None
    quick: bool = False
    probabilities: str | None = None
    model: str = "int8"
    detector: str = "auto"
    detector_faces: int | None = 10000
    gallery: int = 48
    pictures: bool = True
    out_of_fold: dict[str, Any]
    copies: dict[str, Any]
    quality: dict[str, Any]
    proposals: dict[str, Any]


RENAMED_KEYS: Mapping[str, str] = {
    "data.workers": "data.num_workers",
    "data.selection": "data.val_from",
    "data.balanced": "data.sampling=balanced",
    "data.evaluation_batch_size": "data.eval_batch_size",
    "data.selection_seed": "data.split_seed",
    "schedule": "scheduler",
    "training.select_by": "training.monitor",
    "training.sharpness": "training.sam_rho",
    "training.mixing_chance": "training.mix_prob",
    "training.resolutions": "training.progressive_sizes",
    "training.keep": "callbacks.best.keep",
    "training.patience": "callbacks.early_stopping.patience, with callbacks=[default,early_stopping]",
    "training.weight_averaging": "callbacks.ema.decay, with callbacks=[default,ema]",
    "net.name": "net=NAME, or net._target_=PACKAGE.CLASS",
    "net.arguments": "net.KEY for each argument",
    "optimizer.name": "optimizer=NAME, or optimizer._target_=PACKAGE.CLASS",
    "scheduler.name": "scheduler=NAME",
    "role": "split",
    "shard": "no key: one machine packs a data set",
    "merge": "no key: one machine packs a data set",
    "data.device": "no key: workers load and augment the faces",
    "data.changed": "no key: force=true makes a pack again",
    "distillation.answers": "distillation.teachers",
    "loss.valence_arousal": "training.valence_arousal",
}
"""Old keys and what takes their place; consulted for keys that are not known."""


# The tree of keys.


class Tree(dict[str, Any]):
    """Keys of a group: nested groups, `Spec`s and `Specs` as they are, leaves as (type, default)."""

    unset: str = "no"


def tree_of(target: Callable[..., Any], without: Sequence[str] = ()) -> Tree:
    """The keys of a signature."""
    function = target.__init__ if inspect.isclass(target) else target
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError):  # a class of the user's whose annotations cannot be evaluated
        hints = {}
    tree = Tree()
    for name, parameter in inspect.signature(target).parameters.items():
        if name in without or name == "self" or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        hint = hints.get(name, Any)
        markers = getattr(hint, "__metadata__", ())
        if markers and isinstance(markers[0], Arguments):
            tree[name] = tree_of(markers[0].target, markers[0].without)
            tree[name].unset = markers[0].unset
            if markers[0].target is DataSettings:
                tree[name]["synthetic"] = tree_of(write_release, ("root", "size"))
        elif markers:
            tree[name] = markers[0]
        elif hint == dict[str, Any] and parameter.default is parameter.empty:
            tree[name] = Tree()
        else:
            tree[name] = (hint, None if parameter.default is parameter.empty else parameter.default)
    return tree


def defaults(command: type, composed: bool = True) -> dict[str, Any]:
    """Plain nested values of a command's keys before anything is chosen; specs are empty.

    Args:
        command: The dataclass.
        composed: Whether keys that are null while a configuration is composed have their defaults.
    """
    return _values(tree_of(command), composed)


def _values(tree: Tree, composed: bool) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for name, entry in tree.items():
        if name == "synthetic" and isinstance(entry, Tree):  # drawn faces are a choice
            plain[name] = None
        elif isinstance(entry, Tree):
            plain[name] = _values(entry, composed)
            if entry.unset != "no" and not composed:
                plain[name] = dict.fromkeys(plain[name])
        else:
            plain[name] = {} if isinstance(entry, Spec | Specs) else _plain(entry[1])
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(member) for member in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(member) for key, member in value.items()}
    return str(value) if isinstance(value, Path) else value


def checked(command: type, values: Mapping[str, Any], replaced: Sequence[str] = ()) -> dict[str, Any]:
    """Check composed values against a command's keys and types, and fill in the defaults of specs' classes.

    Args:
        command: The dataclass.
        values: Plain nested values.
        replaced: Dotted keys given on the command line. A ``_target_`` among them replaces the group's class, and
            options of the class that was there go, but for those that the command line gives too.

    Raises:
        EmodetError: A key is not known, or a value has another type.
    """
    return _checked(tree_of(command), values, "", set(replaced))


def _checked(tree: Tree, values: Mapping[str, Any], path: str, given: set[str]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{path}{name}"
        if name not in tree:
            raise _unknown(key, [f"{path}{known}" for known in tree])
        entry = tree[name]
        if isinstance(entry, Spec):
            result[name] = _checked_spec(entry, value, key, given)
        elif isinstance(entry, Specs):
            result[name] = {
                each: None if spec is None else _checked_spec(Spec(), spec, f"{key}.{each}", given)
                for each, spec in (value or {}).items()
            }
        elif isinstance(entry, Tree):
            if value is not None and not isinstance(value, Mapping):
                raise EmodetError(f"{key}={value}: a group of keys was expected ({', '.join(entry) or 'key: value'})")
            result[name] = dict(value or {}) if not entry else value and _checked(entry, value, f"{key}.", given)
        elif value is not None or tree.unset == "no":
            result[name] = _converted_or_error(value, entry[0], key)
        else:
            is_of_sources = values.get("sources") is not None and name in SOURCE_KEYS
            result[name] = None if tree.unset == "always" or is_of_sources else _plain(entry[1])
    return result


def _checked_spec(spec: Spec, values: Any, key: str, given: set[str]) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise EmodetError(f"{key}={values}: {{_target_: PACKAGE.CLASS, …}} was expected")
    if "_target_" not in values:
        return dict(values)
    if f"{key}._target_" in given:
        values = {name: value for name, value in values.items() if name.startswith("_") or f"{key}.{name}" in given}
    target = target_of(values, key)
    tree = tree_of(target, spec.without)
    parameters = inspect.signature(target).parameters.values()
    is_open = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    own = {}
    for name, value in values.items():
        if name in tree and not isinstance(tree[name], Tree | Spec | Specs):
            own[name] = _converted_or_error(value, tree[name][0], f"{key}.{name}")
        elif is_open or name.startswith("_") or name in tree:
            own[name] = value
        else:
            raise _unknown(f"{key}.{name}", [f"{key}.{known}" for known in tree], values["_target_"])
    filled = {
        parameter.name: _plain(parameter.default)
        for parameter in parameters
        if parameter.name in tree and parameter.default is not parameter.empty and _is_plain(parameter.default)
    }
    return {"_target_": values["_target_"], **filled, **own}


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float | bool)


def _unknown(key: str, known: Sequence[str], target: str = "") -> EmodetError:
    for old, new in RENAMED_KEYS.items():
        if key == old or key.startswith(f"{old}."):
            return EmodetError(f"{key}: renamed; now it is {new}")
    near = get_close_matches(key, known, 1)
    of = f" {target} has" if target else " there is"
    names = ", ".join(name.rpartition(".")[2] for name in known)
    return EmodetError(f"{key}:{of} no such key; {f'did you mean {near[0]}?' if near else f'there are {names}'}")


def _converted_or_error(value: Any, hint: Any, key: str) -> Any:
    try:
        return converted(value, hint)
    except (TypeError, ValueError):
        expected = getattr(hint, "__name__", str(hint)) if inspect.isclass(hint) else str(hint)
        expected = expected.replace("typing.", "").replace("collections.abc.", "")
        raise EmodetError(f"{key}={value}: {expected} was expected") from None


def converted(value: Any, hint: Any) -> Any:
    """`value` as `hint` describes it; whole floats become ints where those are expected, numbers become text.

    Raises:
        TypeError, ValueError: It does not fit.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return converted(value, arguments[0])
    if origin in (typing.Union, types.UnionType):
        return _first_that_fits(value, arguments)
    if origin is Literal:
        if value in arguments:
            return value
        raise ValueError
    if hint in (None, type(None)):
        if value is None:
            return None
        raise TypeError
    kind = origin or hint
    if kind in (bool, int, float, str) or kind is Path:
        return _scalar(value, kind)
    if kind in (list, tuple, set, Sequence):
        if not isinstance(value, list | tuple):
            raise TypeError
        return [converted(member, arguments[0]) for member in value] if len(arguments) in (1, 2) else list(value)
    if kind in (dict, Mapping) and not isinstance(value, Mapping):
        raise TypeError
    return value


def _first_that_fits(value: Any, hints: Sequence[Any]) -> Any:
    exact = [hint for hint in hints if inspect.isclass(hint) and type(value) is hint]
    for hint in (*exact, *hints):
        try:
            return converted(value, hint)
        except (TypeError, ValueError):
            continue
    raise TypeError


def _scalar(value: Any, kind: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is bool and isinstance(value, bool):
        return value
    if kind is int and is_number and float(value).is_integer():
        return int(value)
    if kind is float and is_number and not math.isnan(value):
        return value
    if kind in (str, Path) and (isinstance(value, str) or is_number):
        return str(value)
    raise TypeError
