"""`python -m emodet.audit`: planted faults are found, shown and proposed; finished folds are not trained again."""

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from made_files import csv_rows
from made_reader import put_picture

from emodet.audit import Audit
from emodet.config import AuditConfig
from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError
from emodet.schema import defaults


@pytest.fixture(scope="module")
def options(small, release, tmp_path_factory):
    """Drawn faces with a training face copied into val, a mirrored copy with another label, and a black image."""
    root = tmp_path_factory.mktemp("planted") / "release"
    shutil.copytree(release, root)
    first, second, third = sorted((root / "train/images").iterdir())[:3]
    shutil.copy(first, root / "valid/images/copied.jpg")
    shutil.copy(root / f"train/labels/{first.stem}.txt", root / "valid/labels/copied.txt")
    face = np.ascontiguousarray(cv2.imread(str(second))[:, ::-1])
    cv2.imwrite(str(root / "train/images/again.jpg"), face, [cv2.IMWRITE_JPEG_QUALITY, 80])
    number, *box = (root / f"train/labels/{second.stem}.txt").read_text().split()
    (root / "train/labels/again.txt").write_text(" ".join([str((int(number) + 1) % 8), *box]))
    cv2.imwrite(str(third), np.zeros_like(face))
    out_of_fold = ["out_of_fold.folds=2", "out_of_fold.epochs=1", "out_of_fold.side=24"]
    data = [f"data.root={root}", f"data.packs={root.parent}/packs", "data.batch_size=16"]
    return [*small, *data, *out_of_fold, "detector=centerface", "detector_faces=3"]


@pytest.fixture(scope="module")
def quick(command, options, tmp_path_factory):
    folder = tmp_path_factory.mktemp("quick")
    assert command("emodet.audit", *options, "quick=true", "model=none", f"output={folder}") == 0
    return folder


@pytest.fixture(scope="module")
def audited(command, options, tmp_path_factory):
    folder = tmp_path_factory.mktemp("audited")
    assert command("emodet.audit", *options, f"output={folder}") == 0
    return folder


def test_planted_faults_are_found(quick):
    found = json.loads((quick / "audit.json").read_text())
    across = [group for group in found["groups"] if group["splits"] == ["train", "val"]]
    assert any(any("copied" in key for key in group["keys"]) and group["identical"] for group in across)
    (mirrored,) = [group for group in found["groups"] if any("again" in key for key in group["keys"])]
    assert (len(mirrored["emotions"]), mirrored["identical"]) == (2, False)
    assert found["pictures"]["faults"]["uniform"]["faces"] == 1
    proposed = csv_rows(quick / "corrections.csv")
    assert all(row["split"] == "train" and row["was"] in EMOTIONS and row["action"] == "exclude" for row in proposed)
    assert any("again" in row["key"] for row in proposed)
    reasons = " ".join(row["reason"] for row in proposed)
    assert "one colour all over" in reasons
    assert "same picture as valid" in reasons
    assert found["label_noise"] is None
    assert len(found["skipped"]) == 2
    assert not (quick / "label_noise.csv").exists()


def test_the_page_has_every_section_and_requests_nothing(quick):
    page = (quick / "audit.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in page
    sections = {"classes", "order", "copies", "labels", "pictures", "faces", "corrections", "details"}
    assert sections <= set(re.findall(r'id="(\w+)"', page))
    assert {each for each in re.findall(r'(?:src|href)="([^"]{5})', page) if each[0] != "#"} == {"data:"}
    assert "whose terms restrict access" in page


@pytest.mark.slow
def test_the_whole_audit_checks_everything(audited):
    found = json.loads((audited / "audit.json").read_text())
    assert found["faces_not_found"]["looked_at"] == 3
    assert found["label_noise"]["splits"]["train"]["judged"] == 73
    assert found["skipped"] == []
    assert len(found["class_order"]) == 5
    assert "Not checked" not in (audited / "audit.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_faces_are_predicted_by_nets_that_did_not_train_on_them(audited, options):
    import pyarrow.parquet as pq

    table = pq.read_table(audited / "out_of_fold.parquet")
    assert table.num_rows == 73 + 25 + 24
    shares = np.stack([table.column(f"p_{name}").to_numpy() for name in EMOTIONS], axis=1)
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)
    folds = sorted(audited.glob("folds-*/fold-*/predictions.npz"))
    predicted = [set(np.load(file)["index"].tolist()) for file in folds]
    # Faces of val and test are predicted by both nets, those of train by one.
    assert len(predicted[0] & predicted[1]) == 25 + 24
    assert len(predicted[0] | predicted[1]) == 73 + 25 + 24
    assert not list(audited.glob("folds-*/fold-*/checkpoints"))
    packs = Path(next(each for each in options if each.startswith("data.packs=")).partition("=")[2])
    assert len(list(packs.glob("*/manifest.json"))) == 1  # reduced crops are not packed


@pytest.mark.slow
def test_a_training_takes_the_proposed_corrections(command, options, audited, tmp_path, without_pictures):
    data = [each for each in options if not each.startswith(("out_of_fold", "detector"))]
    arguments = [*data, f"data.corrections={audited}/corrections.csv", f"hydra.run.dir={tmp_path / 'run'}"]
    arguments += ["trainer.max_epochs=1", "trainer.precision=32-true", "logger=csv"]
    assert command("emodet.train", "experiment=affectnet_yolo", *arguments) == 0
    facts = json.loads((tmp_path / "run/run.json").read_text())
    assert sum(facts["corrections"]["faces"]["train"].values()) == len(csv_rows(audited / "corrections.csv"))


@pytest.mark.slow
def test_finished_folds_are_reused_for_the_same_settings(command, options, audited, monkeypatch):
    import lightning

    def fail(*_, **__):
        raise AssertionError("a fold was trained again")

    monkeypatch.setattr(lightning.Trainer, "fit", fail)
    before = (audited / "corrections.csv").read_bytes()
    assert command("emodet.audit", *options, f"output={audited}", "pictures=false", "gallery=4") == 0
    assert (audited / "corrections.csv").read_bytes() == before
    assert "<img" not in (audited / "audit.html").read_text(encoding="utf-8")
    with pytest.raises(AssertionError, match="a fold was trained again"):
        command("emodet.audit", *options, f"output={audited}", "optimizer.lr=0.5")


def test_tiny_splits_and_classes(output, refused, small, tmp_path):
    for number, place in enumerate(("train/happy",) * 4 + ("train/sad",) * 2 + ("val/happy", "test/sad")):
        put_picture(tmp_path / f"data/{place}/{number}.png", number)
    options = [*small, "data=class_folders", f"data.root={tmp_path}/data", f"data.packs={tmp_path}/packs"]
    options += ["data.batch_size=2", "model=none", "detector=none", f"output={tmp_path}/out", "out_of_fold.epochs=1"]
    said = output("emodet.audit", *options, "out_of_fold.folds=2")
    assert re.search(r"val: \d+\.0 % of the predictions \(1\) agree", said)
    assert "nan" not in said.lower()
    assert not re.search(r"\bnan\b", (tmp_path / "out/audit.json").read_text(encoding="utf-8").lower())
    assert "quick=true trains no nets" in refused("emodet.audit", *options, "out_of_fold.folds=5")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"out_of_fold": {"folds": 1}}, "out_of_fold.folds=1: expected 2 or more"),
        ({"out_of_fold": {"side": 8}}, "out_of_fold.side=8: expected 16 or more"),
        ({"gallery": -1}, "gallery=-1"),
        ({"model": "nowhere.onnx"}, "nowhere.onnx"),
        ({"detector_faces": 0}, "detector_faces=0"),
        ({"detector": "eyes", "quick": False}, "detector='eyes'"),
        ({"data": {"corrections": "some.csv"}}, "data.corrections"),
    ],
)
def test_invalid_values_are_refused(given, message):
    keys = ("proposals", "out_of_fold", "gallery")
    settings = {key: value for key, value in defaults(AuditConfig).items() if key in keys}
    with pytest.raises(EmodetError, match=re.escape(message)):
        Audit(settings | {"quick": True, "detector": "none", "model": "none"} | given)
