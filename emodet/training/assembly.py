"""Build the data module, the classifier and the trainer from composed settings, which are plain values."""

import inspect
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ProgressBar as AnyProgressBar
from lightning.pytorch.loggers import Logger

from emodet.arrays import Int64
from emodet.cpu import cpu_info
from emodet.data.datamodule import EmotionDataModule, build_datamodule
from emodet.data.sources import naming
from emodet.emotions import EMOTIONS, chosen_classes, place_of
from emodet.errors import EmodetError, require
from emodet.files import expanded
from emodet.modelinfo import ModelInfo
from emodet.models.agreement import agreement_names
from emodet.models.build import build, target_of
from emodet.models.classifier import EmotionClassifier, check_va_weight
from emodet.models.extras import Distillation, Mixup, ProgressiveSizes, SharpnessAware, TrainingExtra
from emodet.models.metrics import monitored_names
from emodet.models.nets import FeatureNet, build_net
from emodet.models.optimization import build_scheduler
from emodet.synthetic.releases import write_release
from emodet.training.checkpoints import AtomicCheckpointIO
from emodet.training.folder import RunFolder
from emodet.training.mix import merged_sources, resolved_sources
from emodet.training.progress import ProgressBar
from emodet.training.signals import StopOnSignal

log = logging.getLogger(__name__)


def build_data(settings: Mapping[str, Any], *, draw: bool = True) -> EmotionDataModule:
    """Build the data module of a command's settings; with `draw`, synthetic faces are written first."""
    data = dict(settings["data"])
    if data.get("sources") is not None:
        data["sources"] = {name: _drawn(source, draw) for name, source in resolved_sources(data).items()}
    groups = {name: settings[name] for name in ("preprocessing", "augmentation", "seed") if name in settings}
    return build_datamodule(_drawn(data, draw), **groups)


def _drawn(data: Mapping[str, Any], draw: bool) -> dict[str, Any]:
    settings = {key: value for key, value in data.items() if key != "synthetic"}
    if draw and data.get("synthetic") and "root" in data:
        write_release(expanded(data["root"]), **data["synthetic"])
    return settings


def undrawn(settings: Mapping[str, Any]) -> list[str]:
    """Return the names of synthetic data sets that are not drawn yet; the name of a single data set is empty."""
    data = settings["data"]
    sources = {"": data} if data.get("sources") is None else resolved_sources(data)
    drawn = {name: expanded(each["root"]) for name, each in sources.items() if each.get("synthetic")}
    return [name for name, root in drawn.items() if not root.is_dir()]


def open_data(
    settings: Mapping[str, Any], own: Mapping[str, Any] | None, net: EmotionClassifier | ModelInfo
) -> EmotionDataModule:
    """Set up the data of a command, or of a net's own run, with the crops and classes of the net.

    Args:
        settings: Settings of the command. ``data=NAME`` chooses other data than the run's. ``data.root=…`` alone, or
            ``data.sources={NAME: {root: …}}`` for a mix, sets the place of the run's own data on this machine.
        own: Data settings of the net's run; None if unknown.
        net: Classifier or model information, with classes and preprocessing.
    """
    chosen = dict(settings.get("data", {}))
    asked = chosen.get("classes") or net.class_names
    if lacking := [name for name in net.class_names if place_of(name, chosen_classes(asked)) is None]:
        log.warning("data.classes=%s: the net also has %s; these faces are used too", asked, ", ".join(lacking))
    if not names_data():
        if own is None and not {"root", "sources"} & set(chosen):
            raise EmodetError(
                "the net is not in a run folder, so its data is unknown: add data=NAME data.root=/path "
                "(--help lists the names)"
            )
        if own is not None and {"sources"} <= set(own) & set(chosen):
            chosen["sources"] = merged_sources(own["sources"], chosen["sources"])
        chosen = {**(own or {}), **chosen}
    groups = {"data": {**chosen, "classes": list(net.class_names)}, "preprocessing": net.preprocessing.to_dict()}
    data = build_data(groups)
    data.prepare_data()
    data.setup()
    return data


def names_data() -> bool:
    """Return whether the command line contains ``data=NAME``."""
    return HydraConfig.get().runtime.choices.get("data") is not None


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raise `EmodetError` for values that are invalid with any data, before files are written."""
    _require_validation(settings)
    training, trainer, seed = settings["training"], settings["trainer"], settings["seed"]
    batch_size = settings["data"]["batch_size"]
    require(batch_size > 1, "data.batch_size", batch_size, "2 or more, for batch norm")
    require(0 <= seed < 2**32, "seed", seed, f"0 to {2**32 - 1}")
    precision = trainer.get("precision")
    require(precision not in ("16-true", "bf16-true"), "trainer.precision", precision, "16-mixed or bf16-mixed")
    steps = 1 if trainer.get("accumulate_grad_batches") is None else trainer["accumulate_grad_batches"]
    require(steps >= 1, "trainer.accumulate_grad_batches", steps, "1 or more")
    for extra in build_extras(training):
        extra.check(settings["preprocessing"]["size"], steps, precision)
    _check_monitors(settings)
    optimizer = build(settings["optimizer"], "optimizer", [torch.nn.Parameter(torch.zeros(1))])
    build_scheduler(settings["scheduler"], optimizer, total_steps=100)
    _check_net(settings["net"], settings["preprocessing"])
    data = build_data(settings, draw=False)
    for name in set(data.sources) - set(undrawn(settings)):
        with naming(name):
            data.sources[name].open_reader(data.preprocessing)
    for teacher in settings["distillation"]["teachers"]:
        if not expanded(teacher).exists():
            way_out = "'distillation.teachers=[RUN_OR_WEIGHTS]' names trained nets"
            raise EmodetError(f"distillation.teachers=[{teacher}]: there is no such file or folder; {way_out}")
    start = None if "resume" in settings else settings.get("init_from")
    if start not in (None, "shipped") and not expanded(start).exists():
        raise EmodetError(f"init_from={start}: there is no such file or folder")


def _check_net(net: Mapping[str, Any], preprocessing: Mapping[str, Any]) -> None:
    """Build a net of emodet and run it once, on the meta device unless it reads a file; skip user classes."""
    if not str(net.get("_target_")).startswith("emodet."):
        return
    # What timm would download waits.
    spec = {**net, "pretrained": False} if "model" in net else net
    size = preprocessing["size"]
    with torch.device("cpu" if spec.get("pretrained") else "meta"), torch.inference_mode():
        try:
            build_net(spec, len(EMOTIONS), preprocessing).eval()(torch.zeros(1, 3, size, size))
        except (RuntimeError, IndexError) as problem:
            raise EmodetError(f"net={dict(net)} does not work with preprocessing.size={size} ({problem})") from None


def _check_monitors(settings: Mapping[str, Any], data: EmotionDataModule | None = None) -> None:
    """Raise `EmodetError` for an unknown monitored metric; without `data`, any class or data set is accepted."""
    training, scheduler = settings["training"], settings["scheduler"]
    with_va = check_va_weight(training.get("valence_arousal")) > 0
    names, sources = (data.class_names, data.source_names) if data else ((), ())
    known = monitored_names(names, sources, valence_arousal=with_va)
    for argument, metric in {"training": training["monitor"], "scheduler": scheduler.get("monitor")}.items():
        end = [] if data or metric is None else [metric.rpartition("/")[2]]
        if metric not in (None, *known, *monitored_names(end, end)):
            raise EmodetError(f"{argument}.monitor={metric}: there is no such metric; there are {', '.join(known)}")
        if data and metric and metric.removeprefix("val/") in agreement_names():
            _require_annotations(f"{argument}.monitor={metric}", "val", data, data.splits.val)


def _require_validation(settings: Mapping[str, Any]) -> None:
    """Raise `EmodetError` if no epoch, or not the kept epoch, would be validated."""
    trainer, callbacks = settings["trainer"], settings["callbacks"]
    for option, instead in {
        "fast_dev_run": "as no checkpoint is kept; debug=one_batch runs every step once",
        "overfit_batches": "as batches differ by epoch; debug=overfit or data.training_faces=N takes the same faces",
    }.items():
        require(not trainer.get(option), f"trainer.{option}", trainer.get(option), f"none, {instead}")
    epochs, every, limit = (trainer.get(it) for it in ("max_epochs", "check_val_every_n_epoch", "limit_val_batches"))
    length = "a length for the learning-rate schedule, or trainer.max_steps; trainer.max_time may end the run before it"
    require(epochs != -1 or trainer.get("max_steps", -1) != -1, "trainer.max_epochs", epochs, length)
    require(limit != 0, "trainer.limit_val_batches", limit, "more, as validation chooses the epoch; leave it out")
    validates = epochs is None or every is None or not 0 <= epochs < every
    require(validates, "trainer.check_val_every_n_epoch", every, f"at most trainer.max_epochs={epochs}")
    if callbacks.get("best") is None:
        raise EmodetError("callbacks.best=null: no checkpoint to report on; callbacks=[default] has it")
    if (keep := callbacks["best"].get("keep")) == "last":
        way_out = "best, or callbacks.early_stopping=null: early stopping lets the val split choose the last epoch"
        require(not callbacks.get("early_stopping"), "callbacks.best.keep", keep, way_out)
        way_out = (
            f"a divisor of trainer.max_epochs={epochs}, as callbacks.best.keep=last needs its last epoch validated"
        )
        fits = epochs is None or epochs < 1 or epochs % (every or 1) == 0
        require(fits, "trainer.check_val_every_n_epoch", every, way_out)


def build_classifier(
    settings: Mapping[str, Any], data: EmotionDataModule, teachers: Sequence[EmotionClassifier] = ()
) -> EmotionClassifier:
    """Build the classifier with new weights, for the classes and crops of `data`, which must be set up."""
    training, loss = settings["training"], dict(settings["loss"])
    if "class_counts" in inspect.signature(target_of(loss, "loss")).parameters:
        loss["class_counts"] = data.class_counts()
    weight = training.get("valence_arousal")
    if weight:
        _require_annotations(f"training.valence_arousal={weight:g}", "training", data, data.splits.train)
    _check_monitors(settings, data)
    extras = build_extras(training)
    if teachers:
        options = {key: value for key, value in settings["distillation"].items() if key != "teachers"}
        # First, so that teachers receive full-size crops.
        extras.insert(0, Distillation(teachers, **options))
    classifier = EmotionClassifier(
        net=settings["net"],
        class_names=data.class_names,
        preprocessing=data.preprocessing,
        optimizer=settings["optimizer"],
        scheduler=settings["scheduler"],
        loss=loss,
        extras=extras,
        valence_arousal=weight,
        source_names=data.source_names,
        channels_last=training["channels_last"],
        compile=training["compile"],
        seed=settings["seed"],
    )
    classifier.setup("fit")  # raises for invalid values before loggers start
    if training["calibration"] == "features" and not isinstance(classifier.net, FeatureNet):
        raise EmodetError(
            f"training.calibration=features: {type(classifier.net).__name__} has no pooled_features and from_features; "
            "set training.calibration=temperature"
        )
    return classifier


def build_extras(training: Mapping[str, Any]) -> list[TrainingExtra]:
    """Build the changes to the training step for ``training.*``."""
    mixup, sam_rho = Mixup(training["mixup"], training["cutmix"], training["mix_prob"]), training.get("sam_rho")
    extras: list[TrainingExtra] = []
    if training["progressive_sizes"]:
        extras.append(ProgressiveSizes(training["progressive_sizes"]))
    if mixup.kinds:
        extras.append(mixup)
    if sam_rho is not None:
        extras.append(SharpnessAware(sam_rho))
    return extras


def _require_annotations(argument: str, split: str, data: EmotionDataModule, rows: Int64) -> None:
    """Raise `EmodetError` if valence and arousal are needed but not annotated; log the number of annotated faces."""
    table = data.pack.table
    known = np.isfinite([table.valence[rows], table.arousal[rows]])
    if not known.any(axis=1).all():
        raise EmodetError(
            f"{argument}: none of the {len(rows):,} {split} faces ({data.pack.manifest['title']}) has valence and "
            "arousal annotated. AffectNet's CSV and npy releases have them, and so may a CSV of your own (data=own_csv)"
        )
    log.info("valence and arousal: annotated on %d of %d %s faces", known.all(axis=0).sum(), len(rows), split)


def build_trainer(settings: Mapping[str, Any], run: RunFolder, loggers: Sequence[Logger] = ()) -> L.Trainer:
    """Build the trainer and its callbacks from ``trainer`` and ``callbacks`` in `settings`, for the run folder."""
    specs = {name: spec for name, spec in settings["callbacks"].items() if spec is not None}
    callbacks = [build(spec, f"callbacks.{name}") for name, spec in specs.items()]
    options = dict(settings["trainer"])
    if options.get("enable_progress_bar") is not False and not any(
        isinstance(each, AnyProgressBar) for each in callbacks
    ):
        callbacks.append(ProgressBar())
    if options.get("precision") == "auto":
        options["precision"], reason = default_precision(options.get("accelerator", "auto"))
        log.info("precision: %s (%s)", options["precision"], reason)
    try:
        trainer: L.Trainer = build(
            options,
            "trainer",
            default_root_dir=str(run.path),
            logger=list(loggers),
            # Last, so that its checkpoint contains the changes of the others in the same step.
            callbacks=[*callbacks, StopOnSignal()],
            plugins=[AtomicCheckpointIO()],
            # The data module controls order, augmentation and the distribution of samples to ranks.
            use_distributed_sampler=False,
        )
    except (MisconfigurationException, ModuleNotFoundError) as problem:
        named = ("accelerator", "devices", "num_nodes", "strategy", "precision")
        given = {key: settings["trainer"].get(key) for key in named}
        raise EmodetError(f"trainer: Lightning does not accept {given} ({problem})") from None
    return trainer


def default_precision(accelerator: str = "auto", cpu_flags: set[str] | None = None) -> tuple[str, str]:
    """Return the precision for ``trainer.precision=auto``, ``bf16-mixed`` or ``32-true``, and the reason.

    Training at 48 px, faces/s: 69 in fp32 and 133 in bf16 on a CPU with avx512_bf16, 93 and 240 with AMX; without such
    instructions bf16 is not faster. `accelerator` is Lightning's name; ``auto`` uses a GPU if available.
    `cpu_flags` are the features of the processor; None reads those of this machine (only on Linux).
    """
    if accelerator != "cpu" and torch.cuda.is_available():
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16-mixed", "the GPU computes in bf16"
        return "32-true", "the GPU does not compute in bf16"
    if accelerator != "cpu" and torch.backends.mps.is_available():
        return "32-true", "an Apple GPU"
    known = set(cpu_info().get("flags", "").split()) if cpu_flags is None else cpu_flags
    if found := known & {"amx_bf16", "avx512_bf16"}:
        return "bf16-mixed", f"the processor has {min(found)}"
    return "32-true", "the processor is not known to compute in bf16"
