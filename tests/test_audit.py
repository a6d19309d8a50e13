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

from emodet.emotions import EMOTIONS

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
def audited(command_once: Command, asked: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audited")
    assert command_once("emodet.audit", *asked, f"output={folder}") == 0
    return folder


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_what_was_planted_is_found_and_proposed(audited: Path, planted: Path) -> None:
    found = json.loads((audited / "audit.json").read_text())
    across = [group for group in found["groups"] if group["splits"] == ["train", "val"]]
    assert any(any("copied" in key for key in group["keys"]) and group["identical"] for group in across)
    at_odds = [group for group in found["groups"] if any("again" in key for key in group["keys"])]
    assert len(at_odds) == 1
    assert len(at_odds[0]["emotions"]) == 2
    assert not at_odds[0]["identical"]
    assert found["pictures"]["faults"]["uniform"]["faces"] == 1
    assert found["faces_not_found"]["looked_at"] == 3
    assert found["pictures"]["stored_sides"]["50 %"] == 48
    assert found["label_noise"]["splits"]["train"]["judged"] == 73
    said = {row["reason"].partition(":")[0].split(" train")[0]: row for row in rows(audited / "corrections.csv")}
    assert {row["action"] for row in said.values()} <= {"exclude", "relabel"}
    assert all(row["split"] == "train" and row["was"] in EMOTIONS for row in rows(audited / "corrections.csv"))
    assert any("again" in row["key"] for row in rows(audited / "corrections.csv"))
    assert "one colour all over" in said
    assert any(reason.startswith("same picture as valid") for reason in said)


def test_the_page_asks_for_nothing_and_holds_every_section(audited: Path) -> None:
    page = (audited / "audit.html").read_text(encoding="utf-8")
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


def test_quick_and_own_answers(command: Command, asked: list[str], audited: Path, tmp_path: Path, capsys: Any) -> None:
    assert command("emodet.audit", *asked, f"output={tmp_path}", "quick=true") == 0
    said = capsys.readouterr().out
    assert "Label noise was not looked at: quick=true" in said
    assert "photographs" in said
    assert not (tmp_path / "label_noise.csv").exists()
    answers = f"probabilities={audited}/out_of_fold.parquet"
    assert command("emodet.audit", *asked, f"output={tmp_path}", "quick=true", answers) == 0
    assert (tmp_path / "label_noise.csv").read_text() == (audited / "label_noise.csv").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["data.corrections=some.csv"], "looks at a data set as it was released"),
        (["probabilities=nowhere.csv", "quick=true"], "nowhere.csv"),
        (["out_of_fold.folds=1"], "out_of_fold.folds=1: at least 2"),
        (["proposals.splits=[training]", "quick=true"], "training is not train, val or test"),
        (["copies.radius=40", "quick=true"], "radius=40"),
        (["detector_faces=0"], "detector_faces=0"),
        (["detector=eyes"], "detector='eyes' is not known"),
        (["gallery=-1", "quick=true"], "gallery=-1"),
        (["model=nowhere.onnx", "quick=true"], "nowhere.onnx"),
    ],
)
def test_bad_values_are_named(
    command: Command, asked: list[str], tmp_path: Path, capsys: Any, arguments: list[str], said: str
) -> None:
    assert command("emodet.audit", *asked, f"output={tmp_path}", *arguments) == 2
    assert said in capsys.readouterr().err


def test_hostile_names_stay_text() -> None:
    from made_faces import looks_of, table_of

    from emodet.auditing.findings import Findings
    from emodet.auditing.page import audit_page
    from emodet.auditing.quality import QualityRules, judge

    hostile = '"><script>alert(1)</script>'
    table = table_of(1, key=[hostile])
    findings = Findings(
        title=hostile,
        table=table,
        class_names=EMOTIONS,
        published={},
        left_out={hostile: 3},
        unreadable=0,
        groups=(),
        quality=judge(looks_of(contrast=[0.0]), QualityRules()),
        sides=None,
        crop_side=48,
        order=(),
        noise=None,
        answered_by="",
        unfound=None,
        corrections=(),
        skipped=(hostile,),
    )
    page = audit_page(findings, None, {"command": hostile}, 8)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 5
