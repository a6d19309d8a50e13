"""`python -m emodet.train`, as a user would type it, on drawn faces."""

import json
import math
import re

import cv2
import pytest
import torch
import yaml
from made_files import csv_rows, json_lines

from emodet.emotions import EMOTIONS
from emodet.modelfile import read_model_file
from emodet.models.losses import SoftCrossEntropy
from emodet.models.residual_cnn import ResidualCNN
from emodet.training.checkpoints import load_classifier, load_weights, read_checkpoint
from emodet.training.folder import RunFolder


def rows(run):
    return csv_rows(run / "metrics.csv", empty=False)


@pytest.fixture(scope="module")
def finished(command, small, tmp_path_factory):
    run = tmp_path_factory.mktemp("finished") / "run"
    arguments = ["experiment=affectnet_yolo", *small, "trainer.precision=32-true", "logger=csv", "seed=5"]
    arguments += ["training.calibration=features", f"hydra.run.dir={run}"]
    assert command("emodet.train", *arguments) == 0
    return run


def test_a_run_records_configuration_and_provenance(finished):
    config = yaml.safe_load((finished / "config.yaml").read_text(encoding="utf-8"))
    assert config["name"] == "affectnet_yolo"
    assert config["trainer"]["max_epochs"] == 2
    assert config["net"]["channels"] == [4, 4, 8, 8]
    facts = RunFolder(finished).facts()
    assert facts["seed"] == 5
    assert len(facts["pack"]["fingerprint"]) >= 32
    assert facts["versions"].keys() >= {"python", "torch", "lightning", "numpy", "albumentations", "hydra-core"}
    assert facts.keys() >= {"command", "machine"}
    assert facts["faces"] == {"train": 72, "val": 24, "test": 24, "dropped": {}}
    assert facts["splits"] == {"val": "val", "test": "test"}
    assert facts["commit"] is None or len(facts["commit"].removesuffix("+changes")) == 40
    net = load_classifier(finished / "checkpoints/best.ckpt").net
    assert facts["trainable_parameters"] == sum(parameter.numel() for parameter in net.parameters())
    assert facts["started"] <= facts["ended"]
    assert facts["started"].endswith("Z")


def test_a_run_keeps_best_and_last_checkpoint_and_weights(finished):
    best = load_classifier(finished / "checkpoints/best.ckpt")
    last = torch.load(finished / "checkpoints/last.ckpt", weights_only=True)
    assert last["optimizer_states"]
    assert last["global_step"] == 18
    weights = torch.load(finished / "weights.pt", weights_only=True)
    assert all(torch.equal(tensor, best.net.state_dict()[name]) for name, tensor in weights.items())
    temperature = RunFolder(finished).facts()["temperature"]
    assert float(best.temperature) == pytest.approx(temperature)
    assert temperature != 1
    assert sorted(path.name for path in (finished / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    best, (plain, card) = load_classifier(finished / "checkpoints/best.ckpt"), load_weights(finished / "weights.pt")
    assert best.temperature_curve.tolist() == pytest.approx(card.temperature_curve)
    assert card.temperature_curve[1] != 0
    crops = torch.randint(0, 256, (4, 24, 24, 3), dtype=torch.uint8)
    assert torch.allclose(best.probabilities(crops), plain.probabilities(crops), atol=1e-6)
    # The best checkpoint holds the averaged weights that were validated: its accuracy is the one in the curve.
    validated = [float(row["val/macro_f1"]) for row in rows(finished) if "val/macro_f1" in row]
    val = RunFolder(finished).facts()["results"]["val"]
    assert val["macro_f1"]["value"] == pytest.approx(max(validated), abs=1e-6)


def test_a_run_has_curves_pictures_and_reports(finished):
    log = (finished / "train.log").read_text(encoding="utf-8")
    assert all(f"epoch {number}/2, train/loss " in log for number in (1, 2))
    for name in ("curves.png", "augmentation.png"):
        picture = cv2.imread(str(finished / name))
        assert picture is not None
        assert picture.std() > 5
    page = (finished / "evaluation-test/report.html").read_text(encoding="utf-8")
    assert all(emotion in page for emotion in EMOTIONS)
    report = json.loads((finished / "evaluation-test/report.json").read_text(encoding="utf-8"))
    for name, score in RunFolder(finished).facts()["results"]["test"].items():
        assert report["metrics"][name]["value"] == score["value"], name
    names = {name for row in rows(finished) for name in row}
    assert names >= {"epoch", "step", "train/loss", "train/accuracy", "val/loss", "val/accuracy", "val/recall/fear"}
    assert not [*finished.glob(".best*"), *finished.glob(".last*")]


def test_the_best_checkpoint_holds_the_averaged_weights(trained_run):
    best, last = (read_checkpoint(trained_run / f"checkpoints/{name}.ckpt") for name in ("best", "last"))
    layer = "net.stages.0.0.weight"
    assert torch.equal(best["state_dict"][layer], last["state_dict"][layer])
    assert not torch.equal(best["state_dict"][layer], last["current_model_state"][layer])


def test_keep_last_keeps_the_last_epoch(command, small, tmp_path, without_pictures):
    # Only batch norm's averages move, and away from what fits: the first epoch has the least loss.
    arguments = [*small, *PLAIN, "trainer.max_epochs=3", "callbacks=[default]", "optimizer.lr=1e-12"]
    kept = ["training.monitor=val/loss", "callbacks.best.keep=last", f"hydra.run.dir={tmp_path}"]
    assert command("emodet.train", *arguments, *kept) == 0
    validated = [float(row["val/loss"]) for row in rows(tmp_path) if "val/loss" in row]
    assert validated[-1] > min(validated)
    assert RunFolder(tmp_path).facts()["selected"]["value"] == pytest.approx(validated[-1])
    best, last = (read_checkpoint(tmp_path / f"checkpoints/{name}.ckpt") for name in ("best", "last"))
    assert best["epoch"] == last["epoch"] == 2


def test_output_has_no_messages_of_libraries(command, small, tmp_path, capfd, without_pictures):
    arguments = ["experiment=ferplus", *small, "training.progressive_sizes=[]"]
    assert command("emodet.train", *arguments, f"hydra.run.dir={tmp_path / 'a run'}") == 0
    captured = capfd.readouterr()
    for unwanted in ("litlogger", "LeafSpec", "smaller than the logging interval", "TPU", "Traceback"):
        assert unwanted not in captured.out + captured.err
    assert f"run folder:  {tmp_path / 'a run'}" in captured.out
    assert f"python -m emodet.export checkpoint='{tmp_path / 'a run'}' output=" in captured.out
    assert (tmp_path / "a run" / "train.log").is_file()


def test_missing_data_and_unusable_outputs_name_the_way_out(refused, tmp_path, monkeypatch):
    error = refused("emodet.train", "experiment=baseline", f"hydra.run.dir={tmp_path}")
    for part in ("mohammadmahoor.com", "data.root=/path", "EMODET_AFFECTNET", "data=synthetic"):
        assert part in error
    (tmp_path / "file").touch()
    monkeypatch.setenv("EMODET_OUTPUTS", str(tmp_path / "file" / "outputs"))
    assert "EMODET_OUTPUTS=" in refused("emodet.train", "experiment=baseline")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data.batch_size=73"], "data.batch_size=73"),
        (["data.batch_size=1"], "data.batch_size=1: expected 2"),
        (["net._target_=emodet.NoNet"], "net._target_=emodet.NoNet"),
        (["scheduler=plateau", "scheduler.monitor=val/acuracy"], "scheduler.monitor=val/acuracy"),
        (["trainer.precision=8"], "trainer.precision=8"),
        (["trainer.max_epochs=1"], "trainer.check_val_every_n_epoch=2: expected at most trainer.max_epochs=1"),
        (["callbacks.ema.decay=1"], "callbacks.ema.decay=1.0: expected"),
        (["callbacks.best.keep=first"], "callbacks.best.keep='first': expected best"),
        (["callbacks.best.keep=last", "callbacks=[default,early_stopping]"], "early stopping lets the val split"),
        (["callbacks.best.keep=last", "trainer.max_epochs=3"], "expected a divisor of trainer.max_epochs=3"),
        (["trainer.limit_val_batches=0"], "trainer.limit_val_batches=0"),
        (["trainer.max_epochs=-1", "trainer.max_time=00:00:00:20"], "trainer.max_epochs=-1: expected a length"),
        (["trainer.max_steps=3"], "trainer.max_steps=3"),
        (["trainer.fast_dev_run=true"], "debug=one_batch"),
        (["trainer.overfit_batches=2"], "debug=overfit"),
        (["trainer.limit_val_batches=0.5"], "val_dataloader"),
        (["trainer.val_check_interval=30"], "val_check_interval"),
        (["trainer.accumulate_grad_batches=0"], "trainer.accumulate_grad_batches=0: expected 1 or more"),
        (["callbacks.best=null"], "callbacks.best=null"),
        *(([f"trainer.accelerator={name}"], f"{{'accelerator': '{name}', 'devices': 1") for name in ("tpu", "gpuu")),
        (["trainer.precision=bf16-true"], "trainer.precision='bf16-true': expected 16-mixed or bf16-mixed"),
    ],
)
def test_unsuitable_options_are_refused(arguments, message, refused, small, tmp_path, without_pictures):
    ferplus = ["experiment=ferplus", *small, "training.progressive_sizes=[]", f"hydra.run.dir={tmp_path}"]
    error = refused("emodet.train", *ferplus, *arguments)
    assert message in error
    assert "HYDRA_FULL_ERROR" not in error
    assert "barebones" not in error  # all arguments of Lightning's


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        *((f"training.{name}", f"training.{name}") for name in ("mixup=-1", "cutmix=nan", "mix_prob=1.5", "sam_rho=0")),
        *(
            (f"training.progressive_sizes=[[{start},{size}]]", f"training.progressive_sizes=[({start}, {size})]")
            for start, size in ((0, 96), (0, 15), (-1, 16))
        ),
        ("training.progressive_sizes=[[3,32],[0,16]]", "rising"),
        ("training.valence_arousal=-1", "training.valence_arousal=-1"),
        ("training.calibration=sharpness", "training.calibration=sharpness"),
        ("training.monitor=val/f1", "training.monitor=val/f1: there is no such metric; there are val/loss"),
        ("optimizer.lr=-1", "optimizer"),
        *((f"{key}=-1", f"{key}=-1: expected 0") for key in ("seed", "data.split_seed")),
        ("scheduler.warmup=2", "scheduler.warmup=2"),
        ("data.root=/nowhere/at/all", "data.root=/nowhere/at/all"),
        ("init_from=/no/weights.pt", "/no/weights.pt"),
        *(
            (f"{key}={value}", f"{key}={value}: put text in double quotes")
            for key, value in (("name", "ä"), ("distillation.teachers", "[a=1]"), ("distillation.teachers", "[b (2)]"))
        ),
        ("distillation.teachers=['b=1 (ü)']", "b=1 (ü)"),
    ],
)
def test_invalid_values_are_refused_before_anything_is_written(argument, message, refused, small, packs):
    ferplus = ["experiment=ferplus", *small, "training.progressive_sizes=[]", "scheduler=onecycle"]
    every = ["trainer.check_val_every_n_epoch=1", f"hydra.run.dir={packs.parent / 'run'}"]
    assert message in refused("emodet.train", *ferplus, *every, argument)
    assert list(packs.parent.iterdir()) == []


PLAIN = ["experiment=ferplus", "training.progressive_sizes=[]", "trainer.check_val_every_n_epoch=1"]


@pytest.mark.usefixtures("without_pictures")
def test_a_loss_that_becomes_nan_keeps_the_last_good_checkpoint(command, refused, small, tmp_path, monkeypatch):
    forward, batches = SoftCrossEntropy.forward, iter(range(9))

    def nan_after_the_first_epoch(self, *given):
        return forward(self, *given) * (math.nan if torch.is_grad_enabled() and next(batches, None) is None else 1)

    with monkeypatch.context() as patched:
        patched.setattr(SoftCrossEntropy, "forward", nan_after_the_first_epoch)
        error = refused("emodet.train", *small, *PLAIN, f"hydra.run.dir={tmp_path}")
    assert "nan in epoch 1, batch 0" in error
    last = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)
    assert (last["epoch"], last["global_step"]) == (0, 9)
    assert all(torch.isfinite(tensor).all() for tensor in last["state_dict"].values())
    load_classifier(tmp_path / "checkpoints/best.ckpt")
    assert [path.name for path in tmp_path.rglob(".*ckpt")] == []
    assert command("emodet.train", f"resume={tmp_path}") == 0


@pytest.mark.parametrize(("most", "words"), [(5, "data.batch_size=4 does"), (1, "nor do two faces")])
def test_a_card_without_room_for_the_batch_names_one_that_fits(most, words, refused, small, tmp_path, monkeypatch):
    def on_a_small_card(self, x, forward=ResidualCNN.forward):
        if len(x) > most:
            raise torch.OutOfMemoryError
        return forward(self, x)

    monkeypatch.setattr(ResidualCNN, "forward", on_a_small_card)
    error = refused("emodet.train", *small, *PLAIN, "data.batch_size=16", f"hydra.run.dir={tmp_path}")
    assert "data.batch_size=16 does not fit in the memory of cpu" in error
    assert words in error


def test_early_stopping_and_validation_every_second_epoch(command, small, tmp_path, without_pictures):
    stopping = ["callbacks=[default,early_stopping]", "callbacks.early_stopping.patience=1", "trainer.max_epochs=20"]
    arguments = [*small, *PLAIN, *stopping, "trainer.check_val_every_n_epoch=2", "optimizer.lr=1e-12"]
    assert command("emodet.train", *arguments, f"hydra.run.dir={tmp_path}") == 0
    table = rows(tmp_path)
    assert [row["epoch"] for row in table if "val/loss" in row] == ["1", "3"]
    assert [row["epoch"] for row in table if "train/loss" in row] == ["0", "1", "2", "3"]
    assert "stopped early: no better val/accuracy in 1 validations" in (tmp_path / "train.log").read_text()


def test_validation_counted_over_epochs_and_averages_in_double_precision(command, small, tmp_path, without_pictures):
    counted = ["trainer.check_val_every_n_epoch=null", "trainer.val_check_interval=7", "trainer.precision=64-true"]
    run = [*small, *PLAIN, *counted, "callbacks=[default,ema]", f"hydra.run.dir={tmp_path}"]
    assert command("emodet.train", *run) == 0
    assert [row["step"] for row in rows(tmp_path) if "val/loss" in row] == ["6", "13"]


@pytest.mark.slow
def test_the_overfit_preset_fits_sixteen_faces(command, small, tmp_path, without_pictures):
    data = [argument for argument in small if argument.startswith(("data=", "data.root", "data.processes", "preproc"))]
    # With the net's own widths: narrow ones cannot.
    arguments = ["experiment=ferplus", "debug=overfit", *data, "trainer.max_epochs=20", "trainer.precision=32-true"]
    assert command("emodet.train", *arguments, f"hydra.run.dir={tmp_path}") == 0
    assert RunFolder(tmp_path).facts()["faces"]["train"] == 16
    table = [row for row in rows(tmp_path) if "train/accuracy" in row]
    assert len(table) == 20
    assert float(table[-1]["train/accuracy"]) == 1


def test_fine_tuning_to_seven_classes_starts_from_a_run_folder(finished, command, small, tmp_path, without_pictures):
    arguments = [*PLAIN, "data.classes=7", "optimizer.lr=1e-12", "trainer.max_epochs=1", "trainer.precision=32-true"]
    assert command("emodet.train", *small, *arguments, f"init_from={finished}", f"hydra.run.dir={tmp_path}") == 0
    own, given = (torch.load(run / "weights.pt", weights_only=True) for run in (tmp_path, finished))
    assert own["head.5.weight"].shape[0] == 7
    torch.testing.assert_close(own["head.5.weight"], given["head.5.weight"][:7])
    torch.testing.assert_close(own["stages.3.0.weight"], given["stages.3.0.weight"])


def test_a_multirun_makes_a_folder_per_seed_and_they_differ(command, small, tmp_path, without_pictures):
    arguments = [*PLAIN, "trainer.max_epochs=1", "trainer.limit_train_batches=1", "seed=0,1"]
    assert command("emodet.train", *small, *arguments, f"hydra.sweep.dir={tmp_path}", "-m") == 0
    weights = [torch.load(tmp_path / job / "weights.pt", weights_only=True) for job in ("0", "1")]
    assert not torch.equal(weights[0]["head.5.weight"], weights[1]["head.5.weight"])
    assert [RunFolder(tmp_path / job).facts()["seed"] for job in ("0", "1")] == [0, 1]


def test_own_classes_are_trained_evaluated_and_exported(command, small, tmp_path, capfd, without_pictures):
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
    logged = json_lines((run / "mine.jsonl").read_text(encoding="utf-8"))
    names = {name for metrics in logged for name in metrics}
    assert {"val/accuracy", "train/faces_per_second", "test/accuracy", "test/accuracy/low", "temperature"} <= names
    assert {metrics["speed"] for metrics in logged} == {2}
    # Options of the classes before are not the new ones'.
    net = read_checkpoint(RunFolder(run).best)["hyper_parameters"]["net"]
    assert net == {"_target_": "own_classes.OwnNet", "width": 6}
    # Other tests of this process may have trusted more packages.
    command_line = rf"emodet\.export checkpoint={run} output=out 'trust=\[(\w+,)*own_classes\]'"
    assert re.search(command_line, capfd.readouterr().out)
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
