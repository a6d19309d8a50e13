"""What a run logs, read back from an offline run of Weights & Biases and from TensorBoard's event files."""

import math
import runpy
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from wandb_log import WandbLog, read_wandb_log

from emodet.config import TrainConfig
from emodet.data.pack import Pack
from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError
from emodet.files import sha256_of
from emodet.schema import defaults
from emodet.training.folder import RunFolder
from emodet.training.run_logger import may_show_pictures

Command = Callable[..., int]
wandb = pytest.importorskip("wandb")
accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

CHARTS = {
    "confusion_matrix": "wandb/confusion_matrix/v1",
    "reliability": "wandb/lineseries/v0",
    "faces_by_confidence": "wandb/bar/v0",
    "recall_by_class": "wandb/bar/v0",
}
PREFIXES = {"val": "final/val", "test": "test"}


@pytest.fixture(scope="module")
def run(command_once: Command, small: list[str], tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of one epoch on drawn faces, continued for another, with both loggers and everything that is logged."""
    folder = tmp_path_factory.mktemp("logged")
    arguments = ["experiment=affectnet_yolo", *small, "logger=[wandb,tensorboard]", "logger.wandb.group=some"]
    arguments += ["optimizer.lr=0.002", "scheduler=constant", "trainer.max_epochs=1", f"hydra.run.dir={folder}"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("emodet.evaluation.reporting.write_report", lambda *_, **__: None)
        patched.setattr("emodet.training.run.plot_curves", lambda *_, **__: None)
        patched.setenv("WANDB_SILENT", "true")
        assert command_once("emodet.train", *arguments) == 0
        assert command_once("emodet.train", f"resume={folder}", "trainer.max_epochs=2") == 0
    return RunFolder(folder)


@pytest.fixture(scope="module")
def log(run: RunFolder) -> WandbLog:
    return read_wandb_log(run.path)


@pytest.fixture(scope="module")
def events(run: RunFolder) -> Any:
    everything = {"scalars": 0, "images": 0, "tensors": 0}
    return accumulator.EventAccumulator(str(run.path / "tensorboard"), size_guidance=everything).Reload()


def test_the_configuration_is_nested_and_complete(run: RunFolder, log: WandbLog, events: Any) -> None:
    facts = run.facts()
    assert (log.name, log.group) == ("affectnet_yolo", "some")
    assert log.config["optimizer"]["lr"] == 0.002
    assert log.config["net"]["channels"] == [4, 4, 8, 8]
    assert log.config["choices"]["experiment"] == facts["choices"]["experiment"] == "affectnet_yolo"
    for key in ("commit", "fingerprint", "seed", "trainable_parameters", "multiply_adds", "faces", "splits", "pack"):
        assert log.config[key] == facts[key], key
    text = events.Tensors("configuration/text_summary")[-1].tensor_proto.string_val[0].decode()
    assert facts["fingerprint"] in text
    assert "      lr: " in text


def test_metrics_of_every_epoch_are_one_curve(log: WandbLog, events: Any) -> None:
    metrics = ("loss", "accuracy", "macro_f1", "balanced_accuracy", "calibration_error", "nll", "recall/fear")
    names = [f"val/{name}" for name in metrics]
    names += [f"train/{name}" for name in ("loss", "accuracy", "macro_f1", "faces_per_second")]
    for name in names:
        rows = [row for row in log.history if name in row]
        assert [row["epoch"] for row in rows] == [0, 1], name
        assert all(math.isfinite(row[name]) for row in rows)
        steps = [event.step for event in events.Scalars(name)]
        assert len(steps) == 2, name
        assert steps[0] < steps[1]
    assert [key for row in log.history for key in row if key.startswith("lr-")]


@pytest.mark.parametrize("split", ["val", "test"])
def test_final_scores_have_intervals(split: str, run: RunFolder, log: WandbLog, events: Any) -> None:
    results, prefix = run.facts()["results"][split], PREFIXES[split]
    for name in ("accuracy", "macro_f1", "balanced_accuracy", "nll", "calibration_error", "brier"):
        known = results["ece" if name == "calibration_error" else name]
        for end, key in (("", "value"), ("/low", "low"), ("/high", "high")):
            if known[key] is not None:
                assert log.summary[f"{prefix}/{name}{end}"] == pytest.approx(known[key])
                assert events.Scalars(f"{prefix}/{name}{end}")[-1].value == pytest.approx(known[key], rel=1e-5)
    assert f"{prefix}/recall/fear" in log.summary
    for name in ("temperature", "faces_per_second"):
        assert log.summary[name] == pytest.approx(run.facts()[name])


@pytest.mark.parametrize("split", ["val", "test"])
def test_charts_of_wandb_hold_the_scores(split: str, log: WandbLog) -> None:
    prefix, faces = PREFIXES[split], log.config["faces"][split]
    assert {name: log.charts[f"{prefix}/{name}"] for name in CHARTS} == CHARTS
    matrix = log.table(f"Custom Chart Tables/{prefix}/confusion_matrix_table")
    assert matrix["columns"] == ["Actual", "Predicted", "nPredictions"]
    assert len(matrix["data"]) == len(EMOTIONS) ** 2
    right = sum(count for true, answer, count in matrix["data"] if true == answer)
    assert right / faces == pytest.approx(log.summary[f"{prefix}/accuracy"])
    bins = log.table(f"Custom Chart Tables/{prefix}/faces_by_confidence_table")["data"]
    assert sum(row[1] for row in bins) == faces
    lines = log.table(f"Custom Chart Tables/{prefix}/reliability_table")["data"]
    assert {row[1] for row in lines} == {"accuracy", "perfectly calibrated"}
    rows = log.table(f"Custom Chart Tables/{prefix}/recall_by_class_table")["data"]
    for row in rows:
        assert row[1] == pytest.approx(log.summary[f"{prefix}/recall/{row[0]}"])


def test_figures_of_tensorboard(events: Any) -> None:
    names = ("confusion_matrix", "reliability", "recall_by_class", "worst_errors")
    pictures = {f"{prefix}/{name}" for prefix in PREFIXES.values() for name in names}
    assert set(events.Tags()["images"]) == {*pictures, "augmentation"}
    assert all(events.Images(name)[-1].width > 300 for name in pictures)


def test_pictures_of_drawn_faces_are_shown(run: RunFolder, log: WandbLog) -> None:
    sheets = [row["augmentation"] for row in log.history if "augmentation" in row] or [
        row for row in log.history if any(key.startswith("augmentation.") for key in row)
    ]
    assert sheets
    assert list(run.path.glob("wandb/offline-run-*/files/media/images/augmentation*.png"))
    table = log.table("test/worst_errors")
    assert table["columns"][:5] == ["face", "key", "emotion", "predicted", "confidence"]
    confidences = [row[4] for row in table["data"]]
    assert confidences
    assert confidences == sorted(confidences, reverse=True)
    for face, key, emotion, predicted, confidence, *shares in table["data"]:
        assert face["_type"] == "image-file"
        assert key.startswith("test/images/")
        assert emotion != predicted
        assert confidence == pytest.approx(max(shares))


def test_checkpoint_and_model_file_are_artifacts_in_the_run_folder(run: RunFolder, log: WandbLog) -> None:
    checkpoint, model = log.artifact("checkpoint-"), log.artifact("model-file-")
    assert (checkpoint["type"], set(checkpoint["aliases"])) == ("model", {"best", "latest"})
    assert "emodet-fp32.onnx" in model["files"]
    results = run.facts()["results"]
    assert checkpoint["metadata"]["metrics"]["test"]["accuracy"] == results["test"]["accuracy"]["value"]
    for artifact, own in ((checkpoint, "checkpoints/best.ckpt"), (model, "model/emodet-fp32.onnx")):
        staged = Path(artifact["files"][Path(own).name])
        assert staged.is_relative_to(run.path / "wandb")
        assert sha256_of(staged) == sha256_of(run.path / own)


def test_the_dashboard_names_only_what_a_run_logs(log: WandbLog) -> None:
    pytest.importorskip("wandb_workspaces")
    file = Path(__file__).parents[2] / "experiments" / "dashboards" / "workspace.py"
    build = runpy.run_path(str(file))["build"]
    logged = {key for row in log.history for key in row} | set(log.summary)
    used = list(panel_keys(build("somebody")._to_model().model_dump(by_alias=True)))
    assert len(used) > 40
    for kind, key in used:
        if kind == "config":
            assert key in configuration_keys() or key.split(".")[0] in log.config, key
        elif kind == "table":
            assert any(f"{key}.table.json" in artifact["files"] for artifact in log.artifacts.values()), key
        elif kind == "regex":
            assert any(name.startswith(key.lstrip("^")) for name in logged)
        else:
            assert any(name == key or name.startswith(f"{key}.") for name in logged), key


def panel_keys(model: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What the panels of a workspace name: metrics, tables, keys of the configuration."""
    for section in model["spec"]["section"]["panelBankConfig"]["sections"]:
        for panel in section["panels"]:
            config = panel["config"]
            if "userQuery" in config:
                yield "table", config["userQuery"]["queryFields"][0]["fields"][0]["args"][0]["value"]
            elif "panel2Config" in config:
                yield "table", config["panel2Config"]["exp"]["fromOp"]["inputs"]["key"]["val"]
            places = [*(config.get("metrics") or ()), *(config.get("mediaKeys") or ())]
            places += [column["accessor"] for column in config.get("columns") or ()]
            places += [config[key] for key in ("xAxis", "yAxis", "targetKey") if config.get(key)]
            yield from map(named, places)
            if config.get("metricRegex"):
                yield "regex", config["metricRegex"]
    for column in model["spec"]["section"]["runSets"][0]["runFeed"]["columnOrder"]:
        if not column.startswith("run:"):
            yield named(column)


def named(place: str) -> tuple[str, str]:
    for before in ("config:", "summary:", "summary_metrics."):
        if place.startswith(before):
            key = place.removeprefix(before)
            return before.rstrip(":."), key.replace(".value", "", 1) if before == "config:" else key
    return "metric", place


def configuration_keys() -> set[str]:
    schema: Any = defaults(TrainConfig)
    return {f"{group}.{key}" for group, keys in schema.items() if isinstance(keys, dict) for key in keys} | set(schema)


@pytest.mark.slow
def test_no_picture_of_affectnet_gets_into_the_log(
    release: Path, command: Command, small: list[str], tmp_path: Path, without_pictures: None
) -> None:
    """The drawn faces without the mark that they are drawn: to the reader this is AffectNet."""
    affectnet, run = tmp_path / "yolo", tmp_path / "run"
    shutil.copytree(release, affectnet, ignore=shutil.ignore_patterns("*.json", ".*"))
    arguments = ["experiment=affectnet_yolo", *small, f"data.root={affectnet}", "logger=wandb", "trainer.max_epochs=1"]
    assert command("emodet.train", *arguments, "callbacks.run_logger.artifacts=false", f"hydra.run.dir={run}") == 0
    assert (run / "augmentation.png").is_file()  # it stays on this machine
    log = read_wandb_log(run)
    assert "face" not in log.table("test/worst_errors")["columns"]
    assert not [name for name in log.artifacts if name.startswith(("checkpoint", "model-file"))]
    files = [file for file in (run / "wandb").rglob("*") if file.is_file()]
    assert len(files) > 10
    magic = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF", b"GIF8", b"BM", b"\x93NUMPY")
    assert not [file for file in files if file.read_bytes().startswith(magic)]
    assert not [file for file in files if b"data:image" in file.read_bytes()]


class MadePack(Pack):
    def __init__(self, **manifest: Any) -> None:
        self.manifest = manifest


OPEN = MadePack(title="drawn faces", reader="yolo", redistributable=True)
AFFECTNET = MadePack(title="AffectNet", reader="yolo", redistributable=False)
OLD = MadePack(title="AffectNet", reader="affectnet_csv")
OWN = MadePack(title="own pictures", reader="own_csv", redistributable=False)


@pytest.mark.parametrize(
    ("choice", "pack", "shown"),
    [
        *(("auto", OPEN, True), ("auto", AFFECTNET, False), ("auto", OLD, False), ("auto", OWN, False)),
        *((False, OPEN, False), (True, OPEN, True), (True, OWN, True)),
    ],
)
def test_which_pictures_are_shown(choice: Any, pack: Pack, shown: bool, caplog: pytest.LogCaptureFixture) -> None:
    assert may_show_pictures(choice, pack) is shown
    assert ("WILL BE SENT" in caplog.text) == (choice is True and pack is OWN)


@pytest.mark.parametrize(("choice", "pack"), [(True, AFFECTNET), (True, OLD), ("yes", OPEN)])
def test_pictures_that_may_not_be_shown_are_refused(choice: Any, pack: Pack) -> None:
    with pytest.raises(EmodetError, match=r"callbacks\.run_logger\.pictures="):
        may_show_pictures(choice, pack)
