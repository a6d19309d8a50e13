"""A training to which something happens: ``python conducted_training.py ARGUMENTS`` trains as ``emodet.train`` does.

``CONDUCT`` is JSON: ``record`` (a folder that gets the faces of each batch), and ``at`` [rank, epoch, batch] with
``do``: a signal's number, ``kill`` or ``fail``.
"""

import json
import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Any

import emodet.evaluation.curves
import emodet.evaluation.reporting
from emodet.errors import EmodetError
from emodet.models.classifier import EmotionClassifier

PLAN = json.loads(os.environ["CONDUCT"])
original = EmotionClassifier.training_step


def conducted(self: EmotionClassifier, batch: Any, batch_idx: int) -> Any:
    place = [self.global_rank, self.current_epoch, batch_idx]
    if "record" in PLAN:
        with (Path(PLAN["record"]) / f"{self.global_rank}-{os.getpid()}.jsonl").open("a") as stream:
            print(json.dumps([self.current_epoch, batch_idx, batch["index"].tolist()]), file=stream)
    if place == PLAN.get("at"):
        if PLAN["do"] == "fail":
            raise EmodetError("made to fail")
        os.kill(os.getpid(), signal.SIGKILL if PLAN["do"] == "kill" else PLAN["do"])
    return original(self, batch, batch_idx)


EmotionClassifier.training_step = conducted  # type: ignore[method-assign]
# They cost far more than a small training.
emodet.evaluation.reporting.write_report = lambda *_, **__: None
emodet.evaluation.curves.plot_curves = lambda *_, **__: None
sys.argv[0] = "emodet.train"
runpy.run_module("emodet.train", run_name="__main__", alter_sys=True)
