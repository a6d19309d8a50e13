"""What a run tells Weights & Biases, read back from the log that it left offline; and which pictures it may show."""

import hashlib
import math
import re
import runpy
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from wandb_log import WandbLog, read_wandb_log

from emodet.data.pack import Pack
from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError
from emodet.training.folder import RunFolder
from emodet.training.tracking import may_show_pictures

pytest.importorskip("wandb")

CHARTS = {
    "confusion_matrix": "wandb/confusion_matrix/v1",
    "reliability": "wandb/lineseries/v0",
    "faces_by_confidence": "wandb/bar/v0",
    "recall_by_class": "wandb/bar/v0",
}
FIGURES = ("accuracy", "macro_f1", "balanced_accuracy", "nll", "calibration_error", "brier")


@pytest.fixture(scope="module")
def tracked(command_once: Any, small: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, WandbLog]:
    """A run on drawn faces with everything that is logged, and its log."""
    run = tmp_path_factory.mktemp("tracked")
    arguments = ["experiment=affectnet_yolo", *small, "logger=wandb", "logger.group=some", "optimizer.lr=0.002"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("emodet.evaluation.reporting.write_report", lambda *_, **__: None)
        patched.setattr("emodet.evaluation.curves.plot_curves", lambda *_, **__: None)
        patched.setenv("WANDB_SILENT", "true")
        assert command_once("emodet.train", *arguments, f"hydra.run.dir={run}") == 0
    return run, read_wandb_log(run)


def test_what_the_run_is_made_of_is_nested_plain_and_complete(tracked: tuple[Path, WandbLog]) -> None:
    run, log = tracked
    facts = RunFolder(run).facts()
    assert log.name == facts["command"].partition("experiment=")[2].split()[0] == "affectnet_yolo"
    assert log.group == "some"
    assert log.config["optimizer"]["lr"] == 0.002
    assert log.config["choices"]["experiment"] == "affectnet_yolo"
    assert log.config["net"]["channels"] == [4, 4, 8, 8]
    for key in ("commit", "fingerprint", "seed", "trainable_parameters", "multiply_adds", "faces", "splits"):
        assert log.config[key] == facts[key], key
    assert log.config["pack"]["fingerprint"] == facts["pack"]["fingerprint"]
    # The classifier's own arguments would be a second, differing copy.
    assert not {"class_names", "label_smoothing", "class_weights"} & set(log.config)


def test_metrics_of_every_epoch(tracked: tuple[Path, WandbLog]) -> None:
    _, log = tracked
    metrics = ("loss", "accuracy", "macro_f1", "balanced_accuracy", "calibration_error", "nll")
    names = [f"val/{name}" for name in (*metrics, *(f"recall/{emotion}" for emotion in EMOTIONS))]
    names += [f"train/{name}" for name in ("loss", "accuracy", "macro_f1", "faces_per_second")]
    for name in names:
        rows = [row for row in log.history if name in row]
        assert [row["epoch"] for row in rows] == [0, 1], name
        assert all(math.isfinite(row[name]) for row in rows)
    assert [key for row in log.history for key in row if key.startswith("lr-")]


def test_final_figures_with_intervals_are_in_the_summary(tracked: tuple[Path, WandbLog]) -> None:
    run, log = tracked
    results = RunFolder(run).facts()["results"]
    for split in ("val", "test"):
        for figure in FIGURES:
            known = results[split]["ece" if figure == "calibration_error" else figure]
            assert log.summary[f"final/{split}/{figure}"] == pytest.approx(known["value"])
            if known["low"] is not None:
                assert log.summary[f"final/{split}/{figure}/low"] == pytest.approx(known["low"])
                assert log.summary[f"final/{split}/{figure}/high"] == pytest.approx(known["high"])
        assert f"final/{split}/recall/fear" in log.summary
    facts = RunFolder(run).facts()
    assert log.summary["temperature"] == pytest.approx(facts["temperature"])
    assert log.summary["faces_per_second"] == facts["faces_per_second"] > 0


@pytest.mark.parametrize("split", ["val", "test"])
def test_charts_are_the_services_own_and_hold_the_figures(split: str, tracked: tuple[Path, WandbLog]) -> None:
    _, log = tracked
    assert {name: log.charts[f"final/{split}/{name}"] for name in CHARTS} == CHARTS
    faces = log.config["faces"][split]
    matrix = log.table(f"Custom Chart Tables/final/{split}/confusion_matrix_table")
    assert matrix["columns"] == ["Actual", "Predicted", "nPredictions"]
    assert len(matrix["data"]) == len(EMOTIONS) ** 2
    right = sum(count for true, answer, count in matrix["data"] if true == answer)
    assert right / faces == pytest.approx(log.summary[f"final/{split}/accuracy"])
    bins = log.table(f"Custom Chart Tables/final/{split}/faces_by_confidence_table")["data"]
    assert sum(row[1] for row in bins) == faces
    lines = log.table(f"Custom Chart Tables/final/{split}/reliability_table")["data"]
    assert {row[1] for row in lines} == {"accuracy", "perfectly calibrated"}
    assert all(row[0] == row[2] for row in lines if row[1] == "perfectly calibrated")
    rows = log.table(f"Custom Chart Tables/final/{split}/recall_by_class_table")["data"]
    assert {row[0]: row[1] for row in rows} == {
        emotion: pytest.approx(log.summary[f"final/{split}/recall/{emotion}"]) for emotion in EMOTIONS
    }


def test_pictures_of_drawn_faces_are_shown(tracked: tuple[Path, WandbLog]) -> None:
    run, log = tracked
    (sheet,) = {row["augmentation.path"] for row in log.history if "augmentation.path" in row}
    assert list(run.glob(f"wandb/offline-run-*/files/{sheet}"))
    table = log.table("final/test/worst_errors")
    assert table["columns"] == ["face", "key", "emotion", "answer", "confidence", *(f"p_{name}" for name in EMOTIONS)]
    assert table["data"]
    confidences = [row[4] for row in table["data"]]
    assert confidences == sorted(confidences, reverse=True)
    for face, key, emotion, answer, confidence, *shares in table["data"]:
        assert face["_type"] == "image-file"
        assert key.startswith("test/images/")
        assert emotion != answer
        assert shares[EMOTIONS.index(answer)] == confidence == max(shares)


def test_the_lineage_is_manifest_run_checkpoint_and_model_file(tracked: tuple[Path, WandbLog]) -> None:
    run, log = tracked
    facts = RunFolder(run).facts()
    pack, checkpoint, model = (log.artifact(kind) for kind in ("pack-", "checkpoint-", "model-file-"))
    assert (pack["type"], pack["used"], set(pack["files"])) == ("dataset", True, {"manifest.json"})
    assert pack["metadata"]["fingerprint"] == facts["pack"]["fingerprint"]
    assert (checkpoint["type"], checkpoint["used"], set(checkpoint["aliases"])) == ("model", False, {"best", "latest"})
    assert set(model["files"]) == {"emodet-fp32.onnx", "emodet-gate.json"}
    assert model["metadata"]["fingerprint"] == checkpoint["metadata"]["fingerprint"] == facts["fingerprint"]
    assert checkpoint["metadata"]["metrics"]["test"]["accuracy"] == facts["results"]["test"]["accuracy"]["value"]
    # What waits to be uploaded is in the run's folder, and is what the run ended with.
    for artifact, own in ((checkpoint, "checkpoints/best.ckpt"), (model, "model/emodet-fp32.onnx")):
        waiting = Path(artifact["files"][Path(own).name])
        assert waiting.is_relative_to(run / "wandb")
        assert sha256(waiting) == sha256(run / own)


def test_the_run_has_ended_and_its_id_is_remembered(tracked: tuple[Path, WandbLog]) -> None:
    import wandb

    run, log = tracked
    assert log.ended == [0]
    assert log.run_ids == [RunFolder(run).facts()["wandb"]["id"]]
    assert wandb.run is None


def test_the_dashboard_names_only_what_a_run_logs(tracked: tuple[Path, WandbLog]) -> None:
    pytest.importorskip("wandb_workspaces")
    file = Path(__file__).parents[2] / "experiments" / "dashboards" / "workspace.py"
    build = runpy.run_path(str(file))["build"]
    _, log = tracked
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
            assert key in logged or f"{key}.path" in logged, key


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
            for place in places:
                yield named(place)
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
    from emodet.config import TrainConfig
    from emodet.schema import defaults

    schema: Any = defaults(TrainConfig)
    return {f"{group}.{key}" for group, keys in schema.items() if isinstance(keys, dict) for key in keys} | set(schema)


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


# Pictures.


@pytest.fixture(scope="module")
def affectnet(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same pictures without the mark that they are drawn: to the reader this is AffectNet."""
    root = tmp_path_factory.mktemp("affectnet") / "yolo"
    shutil.copytree(release, root, ignore=shutil.ignore_patterns("*.json", ".*"))
    return root


def test_no_picture_of_affectnet_gets_into_the_log(
    affectnet: Path, command: Any, small: list[str], tmp_path: Path, without_pictures: None
) -> None:
    arguments = ["experiment=affectnet_yolo", *small, f"data.root={affectnet}", "logger=wandb", "trainer.max_epochs=1"]
    assert command("emodet.train", *arguments, "logger.artifacts=false", f"hydra.run.dir={tmp_path}") == 0
    assert (tmp_path / "augmentation.png").is_file()  # it stays on this machine
    log = read_wandb_log(tmp_path)
    assert not log.config["pack"]["title"].startswith("drawn")
    table = log.table("final/test/worst_errors")
    assert table["data"]
    assert "face" not in table["columns"]
    assert not [row for row in log.history if "augmentation.path" in row]
    assert not [name for name in log.artifacts if name.startswith(("checkpoint", "model-file"))]
    files = [file for file in (tmp_path / "wandb").rglob("*") if file.is_file()]
    assert len(files) > 10
    magic = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF", b"GIF8", b"BM", b"\x93NUMPY")
    assert not [file for file in files if file.read_bytes().startswith(magic)]
    assert not [file for file in files if b"data:image" in file.read_bytes()]


class Fake(Pack):
    def __init__(self, **manifest: Any) -> None:
        self.manifest = manifest


OPEN = Fake(title="drawn faces", reader="yolo", redistributable=True)
AFFECTNET = Fake(title="AffectNet", reader="yolo", redistributable=False)
OLD = Fake(title="AffectNet", reader="affectnet_csv")
OWN = Fake(title="own pictures", reader="own_csv", redistributable=False)


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


@pytest.mark.parametrize("pack", [AFFECTNET, OLD])
def test_insisting_on_pictures_of_affectnet_is_refused(pack: Pack) -> None:
    with pytest.raises(EmodetError, match=r"logger\.pictures=true: the terms of AffectNet do not let its pictures"):
        may_show_pictures(True, pack)


def test_other_words_for_pictures_are_refused() -> None:
    with pytest.raises(EmodetError, match=r"logger\.pictures='yes': there are auto, true and false"):
        may_show_pictures("yes", OPEN)


def test_trackers_alone_send_things() -> None:
    """Nothing else in the package hands anything to wandb or to TensorBoard."""
    package = Path(sys.modules["emodet"].__file__ or "").parent
    users = set()
    for file in package.rglob("*.py"):
        if re.search(r"^\s*(import|from) (wandb|tensorboard)\b", file.read_text(encoding="utf-8"), re.MULTILINE):
            users.add(file.name)
    assert users == {"wandb_tracker.py", "wandb_charts.py"}
