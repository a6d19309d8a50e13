"""Train a model: ``python -m emodet.train experiment=NAME key=value …``.

``resume=RUN`` continues a run with its own configuration. ``--help`` lists experiments, groups and keys.
"""

from emodet.installation import exit_with, named, terminate
from emodet.laboratory import begin

begin("train", __name__, __doc__)

import logging
import math
import signal
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.core.hydra_config import HydraConfig
from lightning.fabric.utilities.exceptions import MisconfigurationException

from emodet.commands import command
from emodet.errors import EmodetError
from emodet.models.build import trust_argument
from emodet.schema import without_none
from emodet.training.assembly import build_classifier, build_data, build_trainer, check_settings
from emodet.training.folder import RunFolder
from emodet.training.loggers import build_loggers, closing
from emodet.training.progress import quiet_lightning
from emodet.training.ranks import leave_process_group, rank, rank_arguments, set_threads
from emodet.training.resume import batch_size_for, resumed_arguments, was_requeued
from emodet.training.run import describe_run, draw_curves, finish_run, outcome_noted
from emodet.training.signals import Interrupted
from emodet.training.trained import init_from, load_trained

log = logging.getLogger(__name__)


@command("train", arguments=lambda typed: rank_arguments(resumed_arguments(typed)))
def main(values: dict[str, Any]) -> float:
    """Train in a new run folder, or continue one. Returns the monitored metric of the best epoch."""
    run = RunFolder(Path(HydraConfig.get().runtime.output_dir))
    with run.claimed(), outcome_noted(run):
        return train(values, run)


def train(values: dict[str, Any], run: RunFolder) -> float:
    """Build all parts, fit, calibrate on val, evaluate on test, and write the weights."""
    settings = without_none(values)
    check_settings(settings)
    quiet_lightning()
    set_threads(settings.get("threads"))
    L.seed_everything(settings["seed"], verbose=False)
    resumes = "resume" in settings or was_requeued(run)
    trainer = build_trainer(settings, run)
    if resumes:
        size = batch_size_for(run.facts_so_far(), settings["data"]["batch_size"], trainer.world_size)
        settings["data"]["batch_size"] = values["data"]["batch_size"] = size
    teachers = [load_trained(Path(each)) for each in settings["distillation"]["teachers"]]
    data = build_data(settings)
    data.prepare_data()
    data.setup()
    classifier = build_classifier(settings, data, [teacher.classifier for teacher in teachers])
    if resumes:
        run.check_same_data(data.fingerprint)
    elif "init_from" in settings:
        for note in init_from(classifier, Path(settings["init_from"])):
            log.info("%s", note)
    trainer.loggers = build_loggers(settings["logger"], run)
    with closing(trainer.loggers):
        if trainer.is_global_zero:
            describe_run(run, values, data, classifier, trainer, teachers)
        fit(trainer, classifier, data, run, resumes)
        leave_process_group()
        return finish_run(run, data, trainer, settings["training"]) if trainer.is_global_zero else math.nan


def fit(
    trainer: L.Trainer, classifier: L.LightningModule, data: L.LightningDataModule, run: RunFolder, resumes: bool
) -> None:
    """Train; draw the curves even after an error; exit with the signal's status after a signal."""
    if trainer.world_size > 1 and signal.getsignal(signal.SIGTERM) is terminate:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # ranks block in C++, where Python's handlers do not run
    try:
        trainer.fit(classifier, datamodule=data, ckpt_path=run.last if resumes else None, weights_only=True)
    except Interrupted as stop:
        if rank() > 0:  # only the first rank reports it
            raise SystemExit(0) from stop
        print(f"stopped by {stop}{how_to_continue(stop, run)}", file=sys.stderr)
        raise SystemExit(stop.exit_status) from stop
    except SystemExit as leaving:  # Lightning's, after a signal before the first step
        raise leaving.__context__ if isinstance(leaving.__context__, KeyboardInterrupt) else leaving from None
    except torch.OutOfMemoryError as problem:
        traceback.clear_frames(problem.__traceback__)  # they hold the batch
        raise EmodetError(out_of_memory(trainer)) from None
    except (MisconfigurationException, ValueError) as problem:  # Lightning checks some options only with the data
        if isinstance(problem, MisconfigurationException) or "`val_check_interval`" in str(problem):
            raise EmodetError(f"trainer: {' '.join(str(problem).split())}") from None
        raise
    finally:
        if trainer.is_global_zero and run.attempts:
            draw_curves(run)


def out_of_memory(trainer: Any) -> str:
    """Return the message, with the largest half, quarter, … of a batch whose forward and backward pass fit."""
    device, classifier, faces = trainer.strategy.root_device, trainer.lightning_module, trainer.datamodule.batch_size
    size, message = classifier.preprocessing.size, f"data.batch_size={faces} does not fit in the memory of {device}"
    classifier.to(device)  # Lightning has emptied it
    while (faces := faces // 2) > 1:
        with suppress(torch.OutOfMemoryError), trainer.precision_plugin.forward_context():
            image = torch.zeros((faces, size, size, 3), dtype=torch.uint8, device=device)
            classifier.net(classifier.normalise(image)).sum().backward()
            return f"{message}; data.batch_size={faces} does (trainer.accumulate_grad_batches keeps the step's size)"
    return f"{message}, nor do two faces: take a smaller net or preprocessing.size"


def how_to_continue(stop: Interrupted, run: RunFolder) -> str:
    """Return the hint how to continue after a signal."""
    if not run.last.is_file():
        return " before the first checkpoint"
    if stop.requeued:
        return f"; SLURM runs the job again, in {run.path}"
    return f"; continue with  {named('train')} resume='{run.path}'{trust_argument()}"


if __name__ == "__main__":
    exit_with(main)
