"""Valence and arousal from the training on drawn faces to the recognizer, as a user would type it."""

import json

import numpy as np
import pytest
import torch
from made_commands import TINY
from made_files import csv_rows
from made_releases import as_affectnet_csv

from emodet import Recognizer
from emodet.modelfile import read_model_file
from emodet.synthetic.faces import draw_face
from emodet.synthetic.releases import write_release
from emodet.training.checkpoints import load_classifier
from emodet.training.folder import RunFolder

SMALL = [
    *(*TINY, "data.batch_size=12", "trainer.max_epochs=2", "logger=csv"),
    *("trainer.precision=32-true", "callbacks=[default]", "optimizer.lr=0.02"),
]


@pytest.fixture(scope="module")
def annotated(own_folders):
    """Drawn faces as AffectNet of 2017, with valence and arousal; some rows are uncertain or no faces, with -2."""
    drawn = write_release(own_folders / "drawn", {"train": 96, "val": 24}, size=48)
    return as_affectnet_csv(drawn, own_folders / "annotated")


@pytest.fixture(scope="module")
def run(train_once, annotated, tmp_path_factory):
    """A run of two epochs, chosen by the concordance of valence."""
    folder = tmp_path_factory.mktemp("run") / "both"
    arguments = (f"data.root={annotated}", *SMALL, "training.monitor=val/ccc_valence", f"hydra.run.dir={folder}")
    train_once("experiment=affectnet_va", *arguments)
    return folder


@pytest.fixture(scope="module")
def model_file(command, run):
    assert command("emodet.export", f"checkpoint={run}", "formats=[fp32]", "threads=1") == 0
    return run / "export" / "emodet-fp32.onnx"


def test_a_run_logs_and_selects_by_them(run):
    rows = csv_rows(run / "metrics.csv", empty=False)
    logged = [float(row["val/ccc_valence"]) for row in rows if "val/ccc_valence" in row]
    assert len(logged) == 2
    assert len(set(logged)) == 2
    facts = RunFolder(run).facts()
    assert facts["selected"]["metric"] == "val/ccc_valence"
    assert facts["selected"]["value"] == pytest.approx(max(logged), abs=1e-6)
    for split in ("val", "test"):
        assert {"ccc_arousal", "rmse_valence", "sagr_arousal"} <= set(facts["results"][split])
    # The best epoch's figure again, from its checkpoint: the same faces, the same sums.
    assert facts["results"]["val"]["ccc_valence"]["value"] == pytest.approx(max(logged), abs=1e-4)
    assert load_classifier(run / "checkpoints/best.ckpt").has_va_head


@pytest.mark.usefixtures("plain_figures")
def test_the_model_file_measures_as_the_checkpoint_did(output, run, model_file, annotated, tmp_path):
    info = read_model_file(model_file).info
    assert info.outputs == ("probabilities", "valence_arousal")
    facts = RunFolder(run).facts()
    for split, title in facts["splits"].items():
        known = facts["results"][split]["ccc_valence"]["value"]
        assert info.metrics[title]["ccc_valence"] == pytest.approx(known, abs=1e-4)
    report = json.loads((run / "export" / "emodet-parity.json").read_text())
    beside = [check for check in report["checks"] if "valence or arousal" in check["what"]]
    assert [(check["file"], check["verdict"]) for check in beside] == [("fp32", "passed")]
    data = ("data=affectnet", f"data.root={annotated}", "data.num_workers=0", "resamples=50", "errors=0")
    assert "valence" in output("emodet.evaluate", f"model={model_file}", *data, f"output={tmp_path}/report")
    measured = json.loads((tmp_path / "report" / "report.json").read_text())["metrics"]
    for name in ("ccc_valence", "rmse_arousal", "accuracy"):
        assert measured[name]["value"] == pytest.approx(facts["results"]["test"][name]["value"], abs=1e-4)
    assert measured["rmse_arousal"]["low"] < measured["rmse_arousal"]["value"] < measured["rmse_arousal"]["high"]
    assert (tmp_path / "report" / "valence_arousal.png").is_file()


def test_a_recognizer_answers_as_the_checkpoint(run, model_file):
    classifier = load_classifier(run / "checkpoints/best.ckpt")
    recognizer = Recognizer(model_file, detector="none")
    found = []
    for emotion in ("happiness", "sadness", "surprise"):
        picture = draw_face(emotion, 1, 96).image
        (face,) = recognizer(picture)
        with torch.inference_mode():
            _, said = classifier.predict_heads(torch.from_numpy(classifier.preprocessing.crop(picture)[None]))
        assert (face.valence, face.arousal) == pytest.approx(tuple(said[0].tolist()), abs=1e-4)
        found.append((face.valence, face.arousal))
    assert np.ptp(np.array(found), axis=0).min() > 1e-3  # the faces are told apart at all


def test_data_without_annotations_are_refused_before_the_first_epoch(refused, small, tmp_path):
    own = ["experiment=affectnet_yolo", *small, "logger=csv", f"hydra.run.dir={tmp_path}"]
    error = refused("emodet.train", *own, "training.valence_arousal=1")
    assert "training.valence_arousal=1: none of the 72 training faces (drawn faces" in error
    assert not (tmp_path / "checkpoints").exists()
