"""`python -m emodet.audit`: what is planted is found, shown and proposed; what was done is not done again."""

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emodet.audit import Rules
from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError

Command = Callable[..., int]


@pytest.fixture(scope="module")
def planted(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn faces, with a training face copied into val, one that has two labels, and a black one."""
    import cv2

    root = tmp_path_factory.mktemp("planted") / "release"
    shutil.copytree(release, root)
    first, second, third = sorted((root / "train/images").iterdir())[:3]
    shutil.copy(first, root / "valid/images/copied.jpg")
    label = (root / f"train/labels/{first.stem}.txt").read_text()
    (root / "valid/labels/copied.txt").write_text(label)
    face = cv2.imread(str(second))
    cv2.imwrite(
        str(root / "train/images/again.jpg"), np.ascontiguousarray(face[:, ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 80]
    )
    number, *box = (root / f"train/labels/{second.stem}.txt").read_text().split()
    (root / "train/labels/again.txt").write_text(" ".join([str((int(number) + 1) % 8), *box]))
    cv2.imwrite(str(third), np.zeros_like(face))
    return root


@pytest.fixture(scope="module")
def asked(small: list[str], planted: Path) -> list[str]:
    return [
        *small,
        f"data.root={planted}",
        "data.batch_size=16",
        "out_of_fold.folds=2",
        "out_of_fold.epochs=1",
        "out_of_fold.side=24",
        "detector=centerface",
        "detector_faces=3",
    ]


@pytest.fixture(scope="module")
def quickly(command_once: Command, asked: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without nets, a detector and sizes."""
    folder = tmp_path_factory.mktemp("quickly")
    assert command_once("emodet.audit", *asked, "quick=true", "model=none", f"output={folder}") == 0
    return folder


@pytest.fixture(scope="module")
def audited(command_once: Command, asked: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With everything."""
    folder = tmp_path_factory.mktemp("audited")
    assert command_once("emodet.audit", *asked, f"output={folder}") == 0
    return folder


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_what_was_planted_is_found_and_proposed(quickly: Path) -> None:
    found = json.loads((quickly / "audit.json").read_text())
    across = [group for group in found["groups"] if group["splits"] == ["train", "val"]]
    assert any(any("copied" in key for key in group["keys"]) and group["identical"] for group in across)
    at_odds = [group for group in found["groups"] if any("again" in key for key in group["keys"])]
    assert len(at_odds) == 1
    assert len(at_odds[0]["emotions"]) == 2
    assert not at_odds[0]["identical"]
    assert found["pictures"]["faults"]["uniform"]["faces"] == 1
    said = {row["reason"].partition(":")[0].split(" train")[0]: row for row in rows(quickly / "corrections.csv")}
    assert {row["action"] for row in said.values()} <= {"exclude", "relabel"}
    assert all(row["split"] == "train" and row["was"] in EMOTIONS for row in rows(quickly / "corrections.csv"))
    assert any("again" in row["key"] for row in rows(quickly / "corrections.csv"))
    assert "one colour all over" in said
    assert any(reason.startswith("same picture as valid") for reason in said)
    assert found["label_noise"] is None
    assert "Label noise was not looked at: quick=true leaves out the nets that it needs." in found["skipped"]
    assert not (quickly / "label_noise.csv").exists()


def test_the_page_asks_for_nothing_and_holds_every_section(quickly: Path) -> None:
    page = (quickly / "audit.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in page
    assert set(re.findall(r'(?:src|href)="(.{5})', page)) <= {
        "data:",
        *(f"#{name[:4]}" for name in page_sections(page)),
    }
    for section in ("classes", "order", "copies", "labels", "pictures", "faces", "corrections", "details"):
        assert f'id="{section}"' in page
    assert "Its terms say who may see them" in page
    assert "<img" in page


def page_sections(page: str) -> list[str]:
    return re.findall(r'id="(\w+)"', page)


@pytest.mark.slow
def test_the_whole_audit_looks_at_everything(audited: Path) -> None:
    found = json.loads((audited / "audit.json").read_text())
    assert found["faces_not_found"]["looked_at"] == 3
    assert found["pictures"]["stored_sides"]["50 %"] == 48
    assert found["label_noise"]["splits"]["train"]["judged"] == 73
    assert found["skipped"] == []
    assert len(found["class_order"]) == 5
    page = (audited / "audit.html").read_text(encoding="utf-8")
    assert "Not looked" not in page


@pytest.mark.slow
def test_every_labelled_face_is_answered_by_a_net_that_did_not_see_it(audited: Path) -> None:
    import pyarrow.parquet as pq

    answers = pq.read_table(audited / "out_of_fold.parquet")
    assert answers.num_rows == 73 + 25 + 24
    shares = np.stack([answers.column(f"p_{name}").to_numpy() for name in EMOTIONS], axis=1)
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)
    folds = sorted(audited.glob("folds-*/fold-*/answers.npz"))
    held_out = [set(np.load(file)["index"].tolist()) for file in folds]
    # Faces of val and test are answered by both nets, those of train by one.
    assert len(held_out[0] & held_out[1]) == 25 + 24
    assert len(held_out[0] | held_out[1]) == 73 + 25 + 24
    assert not list(audited.glob("folds-*/fold-*/checkpoints"))


@pytest.mark.slow
def test_the_proposals_train(
    command: Command, asked: list[str], audited: Path, tmp_path: Path, without_pictures: None
) -> None:
    arguments = [each for each in asked if not each.startswith(("out_of_fold", "detector"))]
    given = f"data.corrections={audited}/corrections.csv"
    run = tmp_path / "run"
    command_line = ("experiment=affectnet_yolo", *arguments, given, "logger=csv", f"hydra.run.dir={run}")
    assert command("emodet.train", *command_line, "trainer.max_epochs=1", "trainer.precision=32-true") == 0
    facts = json.loads((run / "run.json").read_text())
    assert sum(facts["corrections"]["faces"]["train"].values()) == len(rows(audited / "corrections.csv"))


@pytest.mark.slow
def test_what_was_done_is_not_done_again(
    command: Command, asked: list[str], audited: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    import lightning

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("a fold was trained again")

    monkeypatch.setattr(lightning.Trainer, "fit", fail)
    before = (audited / "corrections.csv").read_bytes()
    assert command("emodet.audit", *asked, f"output={audited}", "pictures=false", "gallery=4") == 0
    assert (audited / "corrections.csv").read_bytes() == before
    page = (audited / "audit.html").read_text(encoding="utf-8")
    assert "<img" not in page
    assert "This page holds no pictures" in page
    # Other settings are other nets.
    assert command("emodet.audit", *asked, f"output={audited}", "optimizer.lr=0.5") == 1
    assert "a fold was trained again" in capfd.readouterr().err


@pytest.mark.slow
def test_own_answers_take_the_place_of_nets(command: Command, asked: list[str], audited: Path, tmp_path: Path) -> None:
    answers = f"probabilities={audited}/out_of_fold.parquet"
    assert command("emodet.audit", *asked, f"output={tmp_path}", "quick=true", answers) == 0
    assert (tmp_path / "label_noise.csv").read_text() == (audited / "label_noise.csv").read_text()
    assert not list(tmp_path.glob("folds-*"))


SETTINGS: dict[str, Any] = {
    **{"copies": {}, "quality": {}, "proposals": {}, "out_of_fold": {}},
    **{"gallery": 4, "quick": True, "detector": "none", "model": "none"},
}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"probabilities": "nowhere.csv"}, "probabilities=nowhere.csv: there is no such file"),
        ({"out_of_fold": {"folds": 1}}, "out_of_fold.folds=1: at least 2"),
        ({"out_of_fold": {"side": 8}}, "out_of_fold.side=8: at least 16"),
        ({"proposals": {"splits": ["training"]}}, "training is not train, val or test"),
        ({"copies": {"radius": 40}}, "copies.radius=40"),
        ({"gallery": -1}, "gallery=-1"),
        ({"model": "nowhere.onnx"}, "nowhere.onnx"),
        ({"detector_faces": 0}, "detector_faces=0"),
        ({"detector": "eyes", "quick": False}, "detector='eyes' is not known"),
    ],
)
def test_bad_values_are_named_before_anything_takes_long(given: dict[str, Any], said: str) -> None:
    with pytest.raises(EmodetError) as problem:
        Rules.of(SETTINGS | given)
    assert said in str(problem.value)


def test_corrected_data_is_not_audited(command: Command, asked: list[str], tmp_path: Path, capsys: Any) -> None:
    assert command("emodet.audit", *asked, f"output={tmp_path}", "data.corrections=some.csv") == 2
    assert "looks at a data set as it was released" in capsys.readouterr().err
