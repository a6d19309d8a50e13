"""Steps of a training run before and after `Trainer.fit`: description, calibration, evaluation, results."""

import logging
import math
import os
import shlex
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import lightning as L
import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig

from emodet.arrays import Float32, Int64
from emodet.data.datamodule import EmotionDataModule
from emodet.errors import EmodetError
from emodet.evaluation.calibration import fit_temperature, fit_temperature_by_strength
from emodet.evaluation.corruptions import CORRUPTIONS, corrupt
from emodet.evaluation.outputs import device_of, predict_split
from emodet.evaluation.pages import contact_sheet, encode_image
from emodet.evaluation.plots import plot_curves
from emodet.evaluation.report import report
from emodet.evaluation.table import format_table
from emodet.export.model_files import write_model_of_run
from emodet.files import write_files
from emodet.installation import named, signal_of
from emodet.models.build import trust_argument
from emodet.models.classifier import EmotionClassifier
from emodet.models.nets import FeatureNet, net_cost, strength
from emodet.training.checkpoints import load_classifier, set_temperature, write_weights
from emodet.training.folder import RunFolder, now, provenance
from emodet.training.ranks import rank
from emodet.training.run_logger import Result, RunLogger
from emodet.training.trained import Trained, load_trained

log = logging.getLogger(__name__)

CLEAN = "clean"
_FEW_FACES = 100


@contextmanager
def outcome_noted(run: RunFolder) -> Iterator[None]:
    """Record in ``run.json`` that a run ended before its report: ``failed`` or ``interrupted``."""
    try:
        yield
    except Exception as problem:
        kind = "" if isinstance(problem, EmodetError) else f"{type(problem).__name__}: "
        _note(run, failed=f"{kind}{problem}")
        raise
    except KeyboardInterrupt as stop:
        _note(run, interrupted=signal_of(stop).name)
        raise
    except SystemExit as leaving:
        if isinstance(leaving.code, int) and leaving.code > 128:
            _note(run, interrupted=signal.Signals(leaving.code - 128).name)
        raise


def _note(run: RunFolder, **facts: Any) -> None:
    if rank() == 0:
        with suppress(OSError, EmodetError):  # a full disk must not hide the original error
            run.write_facts({**facts, "left": now()})


def describe_run(
    run: RunFolder,
    values: Mapping[str, Any],
    data: EmotionDataModule,
    classifier: EmotionClassifier,
    trainer: L.Trainer,
    teachers: Sequence[Trained] = (),
) -> None:
    """Write ``config.yaml``, ``run.json`` and ``augmentation.png``; log net and data."""
    if teachers:
        paths = [str(teacher.file.resolve()) for teacher in teachers]
        values = {**values, "distillation": {**values["distillation"], "teachers": paths}}
    run.write_config(values, places=data.places(), corrections=data.corrections)
    splits, (parameters, multiply_adds) = data.splits, net_cost(classifier.net, data.preprocessing.size)
    choices = {key: choice for key, choice in HydraConfig.get().runtime.choices.items() if "/" not in key}
    facts: dict[str, Any] = {
        **provenance(),
        **({"choices": choices} if choices else {}),  # a resumed run has none
        "seed": int(values["seed"]),
        # Of the first start only.
        "overrides": run.facts_so_far().get("overrides") or list(HydraConfig.get().overrides.task),
        "pack": {
            "folder": str(data.pack.folder),
            "fingerprint": data.pack.fingerprint,
            **{key: data.pack.manifest[key] for key in ("title", "reader", "sources") if key in data.pack.manifest},
        },
        "corrections": data.correction_facts,
        "distillation": {**values["distillation"], "teachers": [teacher.facts() for teacher in teachers]}
        if teachers
        else None,
        "fingerprint": data.fingerprint,
        "faces": {
            **{"train": len(splits.train), "val": len(splits.val), "test": len(splits.test)},
            "dropped": dict(splits.dropped),
        },
        "splits": {"val": splits.val_name, "test": splits.test_name},
        "trainable_parameters": parameters,
        "multiply_adds": multiply_adds,
        "threads": torch.get_num_threads(),
        "num_workers": data.num_workers,
        "process": os.getpid(),
        "batch": {"processes": trainer.world_size, "per_process": data.batch_size},
    }
    run.write_facts(facts)
    pairs = data.augmented(32)
    sheet = contact_sheet(pairs.reshape(-1, *pairs.shape[2:]), ["original", "augmented"] * len(pairs), columns=16)
    write_files(run.path, {"augmentation.png": encode_image(sheet, ".png")})
    absent = [name for name, count in zip(data.class_names, data.class_counts(), strict=True) if not count]
    if absent:
        present = ",".join(name for name in data.class_names if name not in absent)
        log.info("no training face shows %s; data.classes=[%s] trains a net without", ", ".join(absent), present)
    measured = f"{len(splits.val):,} val ({splits.val_name}), {len(splits.test):,} test ({splits.test_name})"
    if splits.val_name == splits.test_name:
        measured = f"{len(splits.test):,} val and test ({splits.test_name})"
    measured = measured.replace("val (val)", "val").replace("test (test)", "test")
    log.info(
        "%s: %s training, %s faces; %s trainable parameters, %.3g G multiply-adds for a face of %d px; run folder: %s",
        *(data.pack.manifest["title"], f"{len(splits.train):,}", measured, f"{parameters:,}"),
        *(multiply_adds / 1e9, data.preprocessing.size, run.path),
    )


def draw_curves(run: RunFolder) -> None:
    """Draw ``curves.png`` of the metrics so far."""
    with suppress(EmodetError):  # stopped in the first epoch, without metrics
        plot_curves(run.metrics(), run.write_metrics().with_name("curves.png"))


def calibrate(classifier: EmotionClassifier, data: EmotionDataModule, method: str) -> None:
    """Fit temperature scaling on val and set the buffers; `method` is ``temperature``, ``features`` or ``none``.

    ``features`` is fitted on clean faces and, with the same total weight, on the strongest level of each corruption.
    """
    classifier.temperature.fill_(1.0)
    classifier.temperature_curve.copy_(torch.tensor([1.0, 0.0]))
    if method == "temperature":
        clean = predict_split(classifier, data, "val")
        classifier.temperature.fill_(fit_temperature(clean.logits, clean.emotion))
    if method != "features":
        return
    found = [outputs_with_strength(classifier, data)] * len(CORRUPTIONS)
    typical = float(np.median(found[0][2]))
    for name, corruption in CORRUPTIONS.items():
        found.append(outputs_with_strength(classifier, data, name, corruption.levels[-1]))
    logits, emotion, strengths = map(np.concatenate, zip(*found, strict=True))
    temperature, power = fit_temperature_by_strength(logits, emotion, np.minimum(strengths / typical, 1))
    classifier.temperature.fill_(temperature)
    classifier.temperature_curve.copy_(torch.tensor([typical, power]))


@torch.inference_mode()
def outputs_with_strength(
    classifier: EmotionClassifier, data: EmotionDataModule, corruption: str = CLEAN, level: float = 0.0
) -> tuple[Float32, Int64, Float32]:
    """Return logits float32 (N, K), emotions (N,) and `strength` (N,) on val, optionally with a corruption."""
    assert isinstance(classifier.net, FeatureNet)
    classifier.to(device_of("auto")).eval()
    found = []
    for batch in data.evaluation_dataloader("val"):
        crops, emotion = batch["image"].numpy(), batch["emotion"].numpy()
        if corruption != CLEAN:
            crops = corrupt(crops, batch["index"].numpy(), CORRUPTIONS[corruption], level)
        features = classifier.net.pooled_features(classifier.normalise(torch.from_numpy(crops).to(classifier.device)))
        outputs = classifier.net.from_features(features)[:, : len(classifier.class_names)]
        found.append((outputs.cpu().numpy(), emotion, strength(features).flatten().cpu().numpy()))
    logits, emotions, strengths = (np.concatenate(each) for each in zip(*found, strict=True))
    return logits, emotions, strengths


def finish_run(run: RunFolder, data: EmotionDataModule, trainer: L.Trainer, training: Mapping[str, Any]) -> float:
    """Calibrate the best checkpoint on val, evaluate it on val and test, write plain weights with their card.

    ``training.export`` also writes a model file and prints the command that uses it. Returns the monitored metric of
    the kept epoch, NaN if unknown.
    """
    monitor = training["monitor"]
    if not run.best.is_file():
        raise EmodetError(
            f"{run.path}: no epoch was validated (trainer.max_steps={trainer.max_steps}, trainer.max_epochs="
            f"{trainer.max_epochs}), so there is no best checkpoint to report on; train for at least one epoch"
        )
    best = getattr(trainer.checkpoint_callback, "best_model_score", None)
    score = None if best is None else float(best)
    run.write_facts({"selected": {"metric": monitor, "value": score}})
    classifier = load_classifier(run.best)
    calibrate(classifier, data, training["calibration"])
    temperature, curve = classifier.temperature.item(), classifier.temperature_curve.tolist()
    set_temperature(run.best, temperature, curve)
    results: dict[str, Result] = {}
    details = {"checkpoint": str(run.best), **{key: run.facts()[key] for key in ("commit", "seed")}}
    details["temperature"] = temperature
    both_are_one = np.array_equal(data.splits.val, data.splits.test)
    for split in ("test",) if both_are_one else ("val", "test"):
        predictions = predict_split(classifier, data, split)
        evaluation = report(predictions, data, run.path / f"evaluation-{split}", details)
        results[split] = evaluation, predictions
        print(format_table(evaluation), end="\n\n")
        if evaluation.faces < _FEW_FACES:
            print(f"faces measured: {evaluation.faces}, too few for reliable figures (see the intervals)\n")
    metrics = {split: evaluation.metrics() for split, (evaluation, _) in results.items()}
    run.write_facts({"temperature": temperature, "temperature_curve": curve, "results": metrics, "ended": now()})
    trained = load_trained(run.best)
    write_weights(trained.classifier, trained.card, run.path / "weights.pt")
    rate = run.facts().get("faces_per_second")
    scores = {"temperature": temperature, "faces_per_second": rate, f"selected/{monitor}": score}
    about = {"temperature": temperature, "metrics": trained.card.metrics, "fingerprint": data.fingerprint}
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, RunLogger):
            callback.log_results(results, scores, about)
    files = write_model_of_run(trained, data, run.path / "model") if training["export"] else []
    if rate is not None:
        print(f"trained at:  {rate:,.1f} faces/s, median of the epochs")
    print(f"run folder:  {run.path}\ncheckpoint:  {run.best}\nreport:      {run.path / 'evaluation-test/report.html'}")
    following = [f"{named('export')} checkpoint={shlex.quote(str(run.path))} output=out{trust_argument()}"]
    if files:
        print(f"model file:  {files[0]}")
        model = shlex.quote(str(files[0]))
        following = [f"{named(each)} --model {model}" for each in ("predict photo.jpg", "app --open")]
    print("next:       ", "\n             ".join(following))
    return math.nan if score is None else score
