"""From a composed configuration, as plain values, to the data module, the classifier and the trainer."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
import numpy as np
import numpy.typing as npt
from hydra.core.hydra_config import HydraConfig
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    EMAWeightAveraging,
    LearningRateMonitor,
    ModelCheckpoint,
)
from lightning.pytorch.loggers import Logger
from torch import Tensor

from emodet.data.datamodule import EmotionDataModule
from emodet.datasets.readers import READERS
from emodet.errors import EmodetError
from emodet.models.agreement import agreement_names
from emodet.models.classifier import EmotionClassifier, balanced_class_weights
from emodet.models.metrics import lower_is_better, monitored_names
from emodet.training.checkpoints import AtomicCheckpointIO
from emodet.training.folder import RunFolder
from emodet.training.interruption import Interruption
from emodet.training.launching import on_devices
from emodet.training.mixed_settings import merged_sources, resolved_sources
from emodet.training.throughput import Throughput
from emodet.sweeps.callbacks import sweep_callbacks

__all__ = ["build_classifier", "build_data", "build_trainer", "names_data", "open_data"]

log = logging.getLogger(__name__)

# What of the group `training` the classifier is built from; the rest makes callbacks.
_TAUGHT_BY = ("mixup", "cutmix", "mixing_chance", "sharpness", "resolutions", "channels_last", "compile")

_HOW_TO_GET = {
    "affectnet": (
        "AffectNet is given to researchers by its authors, who ask for a signed agreement: "
        "https://mohammadmahoor.com/pages/databases/affectnet/. Unpack it and say where it lies, with "
        "data.root=/path/to/AffectNet or the environment variable EMODET_AFFECTNET. Without it, data=synthetic runs "
        "the same on drawn faces"
    ),
    "ferplus": (
        "FER+ is one Parquet file with the pictures of FER2013 and the votes of FER+ (README, Data sets). Say where it "
        "lies with data.root=/path/to/ferplus or the environment variable EMODET_FERPLUS. Without it, data=synthetic "
        "runs the same on drawn faces"
    ),
}


def build_data(settings: Mapping[str, Any], distillation: Mapping[str, Any] | None = None) -> EmotionDataModule:
    """The data module.

    Args:
        settings: Of the command.
        distillation: See `EmotionDataModule`; of `settings` only training takes it.

    Raises:
        EmodetError: `data.root` is not set, or a value does not fit.
    """
    data = dict(settings["data"])
    root = data.pop("root", None)
    if "sources" in data:
        data["sources"] = resolved_sources(data)
    elif root is None:
        raise EmodetError(f"data.root is not set. {_how_to_get(data.get('reader', 'auto'))}")
    return EmotionDataModule(
        root=root,
        preprocessing=settings.get("preprocessing", {}),
        augmentation=settings.get("augmentation", {}).get("steps", ()),
        seed=settings.get("seed", 0),
        distillation=distillation,
        **data,
    )


def open_data(
    settings: Mapping[str, Any], own: Mapping[str, Any] | None, preprocessing: Mapping[str, Any], classes: int
) -> EmotionDataModule:
    """The data that a command asks for, or that of a net's own run, cut as the net was trained; set up.

    Args:
        settings: Of the command. ``data=NAME`` takes other data than the run's; ``data.root=…`` alone says where the
            run's own data lies on this machine, as ``data.sources={NAME: {root: …}}`` does for a mix.
        own: The data settings of the net's run, None where not known.
        preprocessing: `Preprocessing.to_dict`'s values, of the net.
        classes: Of the net.

    Raises:
        EmodetError: Nothing says which data, or it cannot be opened.
    """
    chosen = dict(settings.get("data", {}))
    if not names_data():
        if own is None and not {"root", "sources"} & set(chosen):
            raise EmodetError(
                "the net does not lie in a run's folder, so its data is not known: add data=NAME data.root=/path "
                "(--help lists the names)"
            )
        if own is not None and {"sources"} <= set(own) & set(chosen):
            chosen["sources"] = merged_sources(own["sources"], chosen["sources"])
        chosen = {**(own or {}), **chosen}
    data = build_data({"data": {**chosen, "classes": classes}, "preprocessing": preprocessing})
    data.prepare_data()
    data.setup()
    return data


def names_data() -> bool:
    """Whether the command was given ``data=NAME``."""
    return HydraConfig.get().runtime.choices.get("data") is not None


def _how_to_get(reader: str) -> str:
    if reader in _HOW_TO_GET:
        return _HOW_TO_GET[reader]
    if reader not in READERS or reader.startswith("affectnet") or reader == "yolo":
        return _HOW_TO_GET["affectnet"]
    return f"Say with data.root=/path where {READERS[reader].title} lies: {READERS[reader].signs}"


def build_classifier(settings: Mapping[str, Any], data: EmotionDataModule) -> EmotionClassifier:
    """The classifier with fresh weights, for the classes and crops of `data`, which is set up.

    Raises:
        EmodetError: A value does not fit.
    """
    net = dict(settings["net"])
    net.update(net.pop("arguments", {}))
    loss = dict(settings.get("loss", {}))
    if loss.get("class_weights") == "balanced":
        loss["class_weights"] = balanced_class_weights(data.class_counts())
    if loss.get("logit_adjustment"):
        counts = data.class_counts()
        loss["class_prior"] = [count / sum(counts) for count in counts]
    schedule = settings.get("schedule", {})
    both = bool(loss.get("valence_arousal"))
    monitored = monitored_names(data.class_names, data.source_names, valence_arousal=both)
    _require_metric("schedule.monitor", schedule.get("monitor"), monitored)
    training = settings["training"]
    _require_metric("training.select_by", training["select_by"], monitored)
    if both:
        _require_annotations(f"loss.valence_arousal={loss['valence_arousal']:g}", "training", data, data.splits.train)
        for argument, metric in (
            ("training.select_by", training["select_by"]),
            ("schedule.monitor", schedule.get("monitor")),
        ):
            if metric is not None and metric.removeprefix("val/") in agreement_names():
                _require_annotations(f"{argument}={metric}", "val", data, data.splits.val)
    chosen = {key: training[key] for key in _TAUGHT_BY if key in training}
    return EmotionClassifier(
        net=net,
        class_names=list(data.class_names),
        preprocessing=data.preprocessing.to_dict(),
        optimizer=settings["optimizer"],
        schedule=schedule if "name" in schedule else None,
        seed=settings["seed"],
        source_names=list(data.source_names) or None,
        **loss,
        **chosen,
    )


def _require_metric(argument: str, metric: str | None, known: Sequence[str]) -> None:
    # Lightning would say so after the first epoch, which may be an hour later.
    if metric is not None and metric not in known:
        raise EmodetError(f"{argument}={metric}: there is no such metric; there are {', '.join(known)}")


def _require_annotations(argument: str, split: str, data: EmotionDataModule, rows: npt.NDArray[np.int64]) -> None:
    """Refuse to learn, or to select by, valence and arousal that nobody annotated; say how many faces have them."""
    table = data.pack.table
    known = np.isfinite([table.valence[rows], table.arousal[rows]])
    if not known.any(axis=1).all():
        raise EmodetError(
            f"{argument}: none of the {len(rows):,} {split} faces of {data.pack.manifest['title']} has valence and "
            "arousal annotated. AffectNet's CSV and npy releases have them, and so may a CSV of your own (data=own_csv)"
        )
    log.info("valence and arousal: annotated on %d of %d %s faces", known.all(axis=0).sum(), len(rows), split)


def build_trainer(settings: Mapping[str, Any], run: RunFolder, loggers: Sequence[Logger] = ()) -> L.Trainer:
    """The trainer with its callbacks; loggers may also be given to it later.

    Raises:
        EmodetError: A value does not fit.
    """
    arguments = dict(settings["trainer"])
    epochs, every = arguments.get("max_epochs"), arguments.get("check_val_every_n_epoch")
    if epochs is not None and every is not None and 0 <= epochs < every:
        raise EmodetError(
            f"trainer.check_val_every_n_epoch={every}: no validation in trainer.max_epochs={epochs}, so no epoch could "
            "be selected"
        )
    _require_kept(settings["training"], epochs, every)
    arguments = on_devices(arguments)
    plugins = [*arguments.pop("plugins"), AtomicCheckpointIO()]
    try:
        trainer = L.Trainer(
            default_root_dir=run.path,
            logger=list(loggers),
            callbacks=[*sweep_callbacks(settings, run), *_callbacks(settings["training"], run)],
            plugins=plugins,
            # Order, augmentation and the sharing of faces between processes are the data module's.
            use_distributed_sampler=False,
            enable_model_summary=False,
            **arguments,
        )
    except (TypeError, ValueError, MisconfigurationException) as problem:
        raise EmodetError(f"trainer: Lightning does not take {settings['trainer']} ({problem})") from None
    # Its handler of SIGTERM waits for other processes from within the signal, and ends with status 0 and without a
    # checkpoint; `Interruption` has the only handlers.
    trainer._signal_connector.register_signal_handlers = _no_handlers  # type: ignore[method-assign]
    return trainer


def _require_kept(training: Mapping[str, Any], epochs: int | None, every: int | None) -> None:
    """Refuse what would make another epoch than the last one the one that is kept."""
    if training["keep"] not in ("best", "last"):
        raise EmodetError(f"training.keep={training['keep']}: best (by training.select_by) or last")
    if training["keep"] == "best":
        return
    if "patience" in training:
        raise EmodetError(
            f"training.keep=last and training.patience={training['patience']}: patience lets the val faces "
            "choose the last epoch, which keep=last is there to avoid; leave one of them out (training.patience=null)"
        )
    if epochs is not None and epochs > 0 and epochs % (every or 1):
        raise EmodetError(
            f"training.keep=last: epoch {epochs}, the last one, would not be validated, as "
            f"trainer.check_val_every_n_epoch={every} does not divide trainer.max_epochs={epochs}; "
            "trainer.check_val_every_n_epoch=1 does"
        )


class LastEpoch(ModelCheckpoint):
    """Keeps the epoch that was validated last, whatever its metric, and notes that metric as the best one."""

    def check_monitor_top_k(self, trainer: L.Trainer, current: Tensor | None = None) -> bool:
        """Whether this epoch replaces the one that is kept: always."""
        return True


def _no_handlers() -> None:
    pass


def _callbacks(training: Mapping[str, Any], run: RunFolder) -> list[Callback]:
    monitor = training["select_by"]
    mode = "min" if lower_is_better(monitor) else "max"
    callbacks: list[Callback] = [
        (LastEpoch if training["keep"] == "last" else ModelCheckpoint)(
            run.best.parent,
            run.best.stem,
            monitor=monitor,
            mode=mode,
            # Not save_weights_only: Lightning then leaves the callbacks out, and with them the averaged weights that
            # were validated.
            enable_version_counter=False,
        ),
        # A second one, because Lightning's save_last follows the monitored metric.
        ModelCheckpoint(run.last.parent, run.last.stem, save_on_train_epoch_end=True, enable_version_counter=False),
        LearningRateMonitor("epoch"),
        Throughput(run),
    ]
    if "patience" in training:
        callbacks.append(EarlyStopping(monitor, mode=mode, patience=training["patience"], check_finite=False))
    if "weight_averaging" in training:
        callbacks.append(EMAWeightAveraging(decay=training["weight_averaging"]))
    # The last one: what it saves must hold what the others did in the same step.
    return [*callbacks, Interruption(run.last)]
