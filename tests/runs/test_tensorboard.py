"""What a run tells TensorBoard, read back from its event files."""

from pathlib import Path
from typing import Any

import pytest
import torch

from emodet.emotions import EMOTIONS
from emodet.runs.folder import RunFolder

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def read(run: Path) -> Any:
    everything = {"scalars": 0, "images": 0, "tensors": 0}
    return accumulator.EventAccumulator(str(run / "tensorboard"), size_guidance=everything).Reload()


def values(events: Any, name: str) -> list[float]:
    return [event.value for event in events.Scalars(name)]


@pytest.fixture
def arguments(small: list[str]) -> list[str]:
    return ["experiment=affectnet_yolo", *small, "logger=tensorboard"]


def test_metrics_figures_charts_and_configuration(
    arguments: list[str], command: Any, tmp_path: Path, without_pictures: None
) -> None:
    assert command("emodet.train", *arguments, f"hydra.run.dir={tmp_path}") == 0
    events, facts = read(tmp_path), RunFolder(tmp_path).facts()
    for name in ("val/loss", "val/accuracy", "train/loss", "train/faces_per_second", "val/recall/fear", "epoch"):
        assert len(values(events, name)) >= 2, name
    report = facts["results"]["report"]
    assert values(events, "report/accuracy") == [pytest.approx(report["accuracy"]["value"])]
    assert values(events, "report/accuracy/low") == [pytest.approx(report["accuracy"]["low"])]
    assert {f"report/recall/{emotion}" for emotion in EMOTIONS} <= set(events.Tags()["scalars"])
    pictures = {f"{role}/{name}" for role in ("selection", "report") for name in (*CHARTS, "worst_errors")}
    assert set(events.Tags()["images"]) == {*pictures, "augmentation"}
    (chart,) = events.Images("report/confusion_matrix")
    assert chart.width > 300
    assert chart.height > 300
    (told,) = events.Tensors("configuration/text_summary")
    text = told.tensor_proto.string_val[0].decode()
    assert facts["fingerprint"] in text
    assert "      lr: " in text
    assert "_hparams_/session_start_info" in events.Tags()["tensors"] or "_hparams_/session_start_info" in str(
        events.summary_metadata
    )


CHARTS = ("confusion_matrix", "reliability", "recall_by_class")


@pytest.mark.slow
def test_a_run_that_is_continued_goes_on_in_the_same_curves(
    arguments: list[str], command: Any, tmp_path: Path, without_pictures: None
) -> None:
    arguments = [*arguments, "schedule=constant", "trainer.max_epochs=1"]
    assert command("emodet.train", *arguments, f"hydra.run.dir={tmp_path}") == 0
    assert command("emodet.train", f"resume={tmp_path}", "trainer.max_epochs=2") == 0
    events = read(tmp_path)
    steps = [event.step for event in events.Scalars("val/accuracy")]
    assert len(steps) == len(set(steps)) == 2
    last = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["epoch"] == 1
