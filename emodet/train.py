"""Train a net: ``python -m emodet.train experiment=NAME key=value …``.

Without an experiment it lists those that there are. ``resume=RUN_FOLDER`` continues a run with its own configuration.
"""

from emodet.laboratory import require_laboratory

require_laboratory("emodet.train")

import logging
import os
import sys
from pathlib import Path
from typing import Any

import cv2
import lightning as L
import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from emodet.commands import command, to_plain_dict
from emodet.data.corrections import CorrectedPack
from emodet.data.datamodule import EmotionDataModule
from emodet.errors import EmodetError
from emodet.evaluation.calibration import fit_temperature
from emodet.evaluation.contact_sheet import contact_sheet
from emodet.evaluation.curves import plot_curves
from emodet.evaluation.measuring import answer, to_predictions
from emodet.evaluation.reporting import report
from emodet.evaluation.statistics import format_table
from emodet.export.model_of_run import write_model_of_run
from emodet.models.classifier import EmotionClassifier
from emodet.models.cost import net_cost
from emodet.training.assembly import build_classifier, build_data, build_trainer
from emodet.training.checkpoints import load_classifier, set_temperature
from emodet.training.command_line import take_over_arguments
from emodet.training.console import quiet_lightning
from emodet.training.ending import ending_noted
from emodet.training.folder import RunFolder, now, provenance
from emodet.training.initial_weights import init_from
from emodet.training.interruption import Interrupted
from emodet.training.loggers import build_loggers
from emodet.training.processes import Processes, together
from emodet.training.resuming import batch_size_for
from emodet.training.tracking import Tracking, may_show_pictures
from emodet.training.trained import load_trained
from emodet.training.weights import write_weights
from emodet.sweeps.extras import require_extras
from emodet.sweeps.membership import join_sweep

log = logging.getLogger(__name__)


@command("train")
def main(config: DictConfig) -> float:
    """Compose, build, fit, calibrate, report. Returns the kept epoch's val metric."""
    run = RunFolder(Path(HydraConfig.get().runtime.output_dir))
    with ending_noted(run):
        return train(to_plain_dict(config), config, run)


def train(settings: dict[str, Any], config: DictConfig, run: RunFolder) -> float:
    """`main` on plain values, in the run's folder."""
    quiet_lightning()
    join_sweep(settings)
    if "threads" in settings:
        torch.set_num_threads(settings["threads"])
        cv2.setNumThreads(settings["threads"])
    L.seed_everything(settings["seed"], verbose=False)
    data = build_data(settings, settings["distillation"])
    trainer = build_trainer(settings, run)
    with together(trainer) as processes:
        data.trainer = trainer
        data.require_device()
        if "threads" not in settings and processes.count > 1:
            torch.set_num_threads(processes.threads)
        if "num_workers" not in settings["data"]:
            data.num_workers = min(8, processes.cores)
        processes.in_turn(data.prepare_data)
        data.setup()
        processes.require_same("data set", data.fingerprint, "give all nodes the same data")
        if "resume" in settings:
            keep_global_batch(data, config, run, processes)
        data.require_answers(processes.count, trainer.max_epochs if (trainer.max_epochs or 0) > 0 else None)
        classifier = build_classifier(settings, data)
        if "init_from" in settings and "resume" not in settings:
            for note in init_from(classifier, Path(settings["init_from"])):
                log.info("%s", note)
        pictures = may_show_pictures(settings["logger"]["pictures"], data.pack)
        trainer.loggers = build_loggers(settings["logger"], run, settings["name"])
        with Tracking(trainer.loggers, data.pack, pictures) as tracking:
            if trainer.is_global_zero:
                describe(run, config, data, classifier, tracking, processes.count)
            fit(trainer, classifier, data, run, resume="resume" in settings)
            processes.part()
            if trainer.is_global_zero:
                run.write_facts({"selected": {"metric": settings["training"]["select_by"], "value": selected(trainer)}})
                finish(run, data, tracking)
    return selected(trainer)


def selected(trainer: L.Trainer) -> float:
    """The kept epoch's val metric, NaN where no epoch was validated."""
    best = getattr(trainer.checkpoint_callback, "best_model_score", None)
    return float("nan") if best is None else float(best)


def keep_global_batch(data: EmotionDataModule, config: DictConfig, run: RunFolder, processes: Processes) -> None:
    """Let the processes of a resumed run share the batches that it had, however many they are now."""
    told = processes.of_first("batch", lambda: str(batch_size_for(run.facts(), data.batch_size, processes.count)))
    if int(told) != data.batch_size:
        whole = int(told) * processes.count
        log.info("data.batch_size=%s: %d process(es) share the run's %d faces a step", told, processes.count, whole)
        data.batch_size = config.data.batch_size = int(told)


def describe(
    run: RunFolder,
    config: DictConfig,
    data: EmotionDataModule,
    classifier: EmotionClassifier,
    tracking: Tracking,
    processes: int,
) -> None:
    """Write down what the run is made of, and show what augmentation does to its faces."""
    run.check_same_data(data.fingerprint)
    run.write_config(config, places=data.places(), corrections=data.corrections)
    cost = net_cost(classifier.net, data.preprocessing.size)
    facts: dict[str, Any] = {
        **provenance(),
        "seed": int(config.seed),
        "pack": {
            "folder": str(data.pack.folder),
            "fingerprint": data.pack.fingerprint,
            **{key: data.pack.manifest[key] for key in ("title", "reader", "sources") if key in data.pack.manifest},
        },
        "corrections": data.pack.facts() if isinstance(data.pack, CorrectedPack) else None,
        "distillation": data.distillation.facts() if data.distillation is not None else None,
        "fingerprint": data.fingerprint,
        "faces": {
            "train": len(data.splits.train),
            "val": len(data.splits.val),
            "test": len(data.splits.test),
            "dropped": dict(data.splits.dropped),
        },
        "splits": {"val": data.splits.val_name, "test": data.splits.test_name},
        "trainable_parameters": cost.parameters,
        "multiply_adds": cost.multiply_adds,
        "threads": torch.get_num_threads(),
        "num_workers": data.num_workers,
        "data_device": None if data.device is None else str(data.device),
        "process": os.getpid(),
        "batch": {"processes": processes, "per_process": data.batch_size},
    }
    run.write_facts(facts)
    pairs = data.augmented(32)
    captions = ["as it is", "augmented"] * len(pairs)
    sheet = contact_sheet(pairs.reshape(-1, *pairs.shape[2:]), captions, columns=16)
    cv2.imwrite(str(run.path / "augmentation.png"), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    choices = {key: choice for key, choice in HydraConfig.get().runtime.choices.items() if "/" not in key}
    tracking.begin({**to_plain_dict(config), **facts, "folder": str(run.path), "choices": choices}, sheet)
    splits = data.splits
    measured = (
        f"{len(splits.val)} val ({splits.val_name}), {len(splits.test)} test ({splits.test_name})"
    )
    if splits.val_name == splits.test_name:
        measured = f"{len(splits.test)} {splits.test_name}"
    log.info(
        "%s: %d training, %s faces; %s; everything goes to %s",
        *(data.pack.manifest["title"], len(splits.train), measured, cost, run.path),
    )


def fit(
    trainer: L.Trainer, classifier: EmotionClassifier, data: EmotionDataModule, run: RunFolder, *, resume: bool
) -> None:
    """Train; leave curves whatever happens, and the signal's exit status after Ctrl-C or SIGTERM."""
    try:
        trainer.fit(classifier, data, ckpt_path=run.last if resume else None, weights_only=True)
    except Interrupted as stop:
        if trainer.is_global_zero:
            print(how_to_go_on(stop, run), file=sys.stderr)
        raise SystemExit(stop.exit_status) from stop
    finally:
        if trainer.is_global_zero and run.attempts:
            draw_curves(run)


def draw_curves(run: RunFolder) -> None:
    """Leave a picture of the metrics so far; what keeps it from being drawn is said, and takes no other's place."""
    try:
        plot_curves(run.merge_metrics(), run.path / "curves.png")
    except EmodetError as problem:  # stopped in its first epoch, say
        log.warning("no curves were drawn: %s", problem)


def how_to_go_on(stop: Interrupted, run: RunFolder) -> str:
    """A sentence for who stopped a run."""
    if stop.requeued:
        return f"stopped by {stop}; its job is back in the queue and goes on in {run.path}"
    if stop.checkpoint is None:
        return f"stopped by {stop} before there was a checkpoint"
    return f"stopped by {stop}; continue with  python -m emodet.train resume={run.path}"


def finish(run: RunFolder, data: EmotionDataModule, tracking: Tracking) -> None:
    """Calibrate the best checkpoint on the val faces, then measure it on the test faces."""
    if not run.best.is_file():
        raise EmodetError(f"{run.path}: no epoch was validated, so there is no best checkpoint to report on")
    classifier = load_classifier(run.best)
    chosen = answer(classifier, data, "val")
    temperature = fit_temperature(chosen.logits, chosen.emotion)
    set_temperature(run.best, temperature)
    results: dict[str, Any] = {}
    details = {"checkpoint": str(run.best), **{key: run.facts()[key] for key in ("commit", "seed")}}
    both_are_one = np.array_equal(data.splits.val, data.splits.test)
    for split in ("test",) if both_are_one else ("val", "test"):
        answers = chosen if split == "val" or both_are_one else answer(classifier, data, split)
        evaluation = report(answers, data, temperature, run.path / f"evaluation-{split}", details)
        results[split] = evaluation.as_dict()["metrics"]
        print(format_table(evaluation), end="\n\n")
        tracking.evaluated(split, evaluation, to_predictions(answers, data, temperature), answers.index)
    run.write_facts({"temperature": temperature, "results": results, "ended": now()})
    trained = load_trained(run.best)
    write_weights(trained.classifier, trained.card(), run.path / "weights.pt")
    facts = run.facts()
    selected_by, rate = facts["selected"], facts.get("faces_per_second")
    own = {"temperature": temperature, "faces_per_second": rate}
    tracking.end({**own, f"selected/{selected_by['metric']}": selected_by["value"]})
    if tracking.keeps_files:
        about = {"temperature": temperature, "metrics": trained.metrics, "fingerprint": data.fingerprint}
        tracking.keep("checkpoint", [run.best], about, ["best"])
        tracking.keep("model-file", write_model_of_run(trained, data, run.path / "model"), about)
    if rate is not None:
        print(f"trained at:  {rate:,.1f} faces/s, median of the epochs")
    print(
        f"run folder:  {run.path}\ncheckpoint:  {run.best}\nreport:      {run.path / 'evaluation-test/report.html'}"
    )


if __name__ == "__main__":
    take_over_arguments()
    require_extras(sys.argv[1:])
    main()
