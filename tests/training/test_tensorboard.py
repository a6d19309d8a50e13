"""What a run tells TensorBoard, read back from its event files."""

from typing import Any

import pytest

from emodet.emotions import EMOTIONS
from emodet.training.folder import RunFolder

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
pytestmark = pytest.mark.slow

CHARTS = ("confusion_matrix", "reliability", "recall_by_class", "worst_errors")


@pytest.fixture(scope="module")
def continued(command_once: Any, small: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, Any]:
    """A run of one epoch that was continued for another, and its events."""
    run = tmp_path_factory.mktemp("tensorboard")
    arguments = [
        "experiment=affectnet_yolo",
        *small,
        "logger=tensorboard",
        "scheduler=constant",
        "trainer.max_epochs=1",
    ]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("emodet.evaluation.reporting.write_report", lambda *_, **__: None)
        patched.setattr("emodet.evaluation.curves.plot_curves", lambda *_, **__: None)
        assert command_once("emodet.train", *arguments, f"hydra.run.dir={run}") == 0
        assert command_once("emodet.train", f"resume={run}", "trainer.max_epochs=2") == 0
    everything = {"scalars": 0, "images": 0, "tensors": 0}
    events = accumulator.EventAccumulator(str(run / "tensorboard"), size_guidance=everything).Reload()
    return RunFolder(run), events


@pytest.mark.parametrize(
    "name", ["val/loss", "val/accuracy", "train/loss", "train/faces_per_second", "val/recall/fear", "val/nll"]
)
def test_the_curves_of_both_parts_are_one(name: str, continued: tuple[RunFolder, Any]) -> None:
    _, events = continued
    steps = [event.step for event in events.Scalars(name)]
    assert steps == sorted(set(steps))
    assert len(steps) == 2


def test_figures_with_intervals(continued: tuple[RunFolder, Any]) -> None:
    run, events = continued
    report = run.facts()["results"]["test"]
    for end, key in (("", "value"), ("/low", "low"), ("/high", "high")):
        assert events.Scalars(f"final/test/accuracy{end}")[-1].value == pytest.approx(report["accuracy"][key])
    assert {f"final/test/recall/{emotion}" for emotion in EMOTIONS} <= set(events.Tags()["scalars"])


def test_charts_are_pictures(continued: tuple[RunFolder, Any]) -> None:
    _, events = continued
    pictures = {f"final/{split}/{name}" for split in ("val", "test") for name in CHARTS}
    assert set(events.Tags()["images"]) == {*pictures, "augmentation"}
    for name in pictures:
        assert events.Images(name)[-1].width > 300


def test_the_configuration_as_text(continued: tuple[RunFolder, Any]) -> None:
    run, events = continued
    text = events.Tensors("configuration/text_summary")[-1].tensor_proto.string_val[0].decode()
    assert run.facts()["fingerprint"] in text
    assert "      lr: " in text
