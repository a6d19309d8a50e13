"""A net, loss, callback, logger and augmentation of one's own, through train, evaluate and export."""

import json

import pytest

from emodet.modelfile import read_model_file
from emodet.training.checkpoints import read_checkpoint
from emodet.training.folder import RunFolder

pytestmark = pytest.mark.usefixtures("without_pictures")


def test_own_classes_are_trained_evaluated_and_exported(command, small, tmp_path, capfd):
    marker, run = tmp_path / "epochs", tmp_path / "run"
    own = [
        *("net._target_=own_classes.OwnNet", "net.width=6", "loss._target_=own_classes.OwnLoss", "loss.scale=0.5"),
        *("+callbacks.mine._target_=own_classes.OwnCallback", f"callbacks.mine.file={marker}"),
        *("+logger.mine._target_=own_classes.OwnLogger", "logger.mine.speed=2"),
        "augmentation.steps=[{_target_: own_classes.OwnAugmentation, p: 1.0}]",
    ]
    arguments = [argument for argument in small if not argument.startswith("net.")]
    arguments += ["experiment=ferplus_live", "training.progressive_sizes=[]", f"hydra.run.dir={run}"]
    assert command("emodet.train", *arguments, *own) == 0
    assert marker.read_text(encoding="utf-8").split() == ["0", "1"]
    logged = [json.loads(line) for line in (run / "mine.jsonl").read_text(encoding="utf-8").splitlines()]
    names = {name for metrics in logged for name in metrics}
    assert {"val/accuracy", "train/faces_per_second", "test/accuracy", "test/accuracy/low", "temperature"} <= names
    assert {metrics["speed"] for metrics in logged} == {2}
    # Options of the classes before are not the new ones'.
    net = read_checkpoint(RunFolder(run).best)["hyper_parameters"]["net"]
    assert net == {"_target_": "own_classes.OwnNet", "width": 6}
    capfd.readouterr()
    trusting = [f"checkpoint={run}", "trust=[own_classes]"]
    assert command("emodet.evaluate", *trusting, "resamples=0", "errors=0") == 0
    assert command("emodet.export", *trusting, "formats=[fp32]", "calibration_faces=16", "force=true") == 0
    (file,) = run.rglob("*.onnx")
    assert len(read_model_file(file).info.class_names) == 8


def test_an_unknown_argument_of_ones_own_class_is_refused(refused, small, tmp_path):
    arguments = [argument for argument in small if not argument.startswith("net.")]
    own = ["net._target_=own_classes.OwnNet", "net.widht=6", f"hydra.run.dir={tmp_path}"]
    error = refused("emodet.train", "experiment=baseline", *arguments, *own)
    assert "net.widht: own_classes.OwnNet has no such key; did you mean net.width?" in error
