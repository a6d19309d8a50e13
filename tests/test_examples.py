"""The examples run as they are, and links of the documentation lead to files."""

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import lightning as L
import pytest
import torch
from made_reader import ready

from emodet.data.datamodule import EmotionDataModule
from emodet.data.sources import Source
from emodet.models.classifier import EmotionClassifier
from emodet.preprocessing import Preprocessing

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_pages_have_a_title_and_links_that_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    assert re.match(r"# \S", text)
    for target in re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", text):
        assert (page.parent / target).exists(), target


@pytest.mark.slow
def test_training_without_hydra_learns(tmp_path):
    assert runpy.run_path(str(EXAMPLES / "train_minimal.py"))["main"](tmp_path) > 0.4  # by chance 0.125


@pytest.mark.slow
def test_recognise_writes_the_annotated_portrait(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["recognise.py"])
    runpy.run_path(str(EXAMPLES / "recognise.py"), run_name="__main__")
    assert "happiness" in capsys.readouterr().out
    assert (tmp_path / "outputs" / "recognised" / "portrait.jpg").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fine_tune", "recognise"])
def test_notebooks_run_from_top_to_bottom(name, tmp_path, monkeypatch):
    cells = json.loads((EXAMPLES / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] for cell in code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    names = {}
    for cell in code:
        exec("".join(cell["source"]), names)
    if name == "fine_tune":
        assert names["right"] >= 0.7 * names["found"] >= 7


@pytest.mark.slow
def test_every_step_that_waits_for_a_gpu_runs_on_a_cpu(tmp_path):
    steps = "paths,speed,accuracy"
    command = ["bash", ROOT / "experiments" / "gpu" / "run.sh", tmp_path / "out", "--rehearse", "--steps", steps]
    environment = os.environ | {"PYTHON": sys.executable}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=1800, check=False)
    steps = json.loads((tmp_path / "out" / "report.json").read_text())["steps"]
    assert [name for name, step in steps.items() if not step["ok"]] == [], done.stdout[-2000:]
    assert done.returncode == 0
    trainings = {"teacher", "again", "again_dlib", "student_0", "accurate_first", "student_1", "accurate"}
    trained = {f"{name}, 1 epochs" for name in trainings}
    assert {"resume in mid-epoch", "ddp", "export", "profile", *trained} <= set(steps)
    files = {file.name for file in (tmp_path / "out").iterdir()}
    kept = {"again.pt", "student_0.pt", "student_1.pt", "accurate.pt"}
    assert files == {"report.json", "profile.txt", "runs.tar.gz", *kept}


# Training in ten lines of Python: data module, classifier and Lightning's trainer, without Hydra.


def test_ten_lines_of_python_train_what_can_be_exported(command, release, tmp_path):
    preprocessing = Preprocessing(size=48)
    source = Source(root=release, reader="yolo", packs=tmp_path / "packs", processes=1)
    data = ready(EmotionDataModule(source, preprocessing, batch_size=8, num_workers=0))
    assert data.places() == {"root": str(release.resolve()), "packs": str((tmp_path / "packs").resolve())}
    net = {"_target_": "emodet.models.residual_cnn.ResidualCNN", "channels": [4, 4, 8, 8], "features": 8}
    classifier = EmotionClassifier(net, data.class_names, preprocessing)
    trainer = L.Trainer(max_epochs=1, accelerator="cpu", default_root_dir=tmp_path, enable_progress_bar=False)
    trainer.fit(classifier, datamodule=data)
    metrics = trainer.validate(classifier, datamodule=data, verbose=False)[0]
    assert 0 <= metrics["val/accuracy"] <= 1
    image = torch.randint(0, 256, (2, 48, 48, 3), dtype=torch.uint8)
    assert classifier.eval().probabilities(image).sum(dim=1).allclose(torch.ones(2), atol=1e-5)
    checkpoint = trainer.checkpoint_callback.best_model_path  # its name holds a "="
    assert command("emodet.export", f"checkpoint={checkpoint}", f"output={tmp_path / 'out'}", "formats=[fp32]") == 0
    assert (tmp_path / "out" / "emodet-fp32.onnx").is_file()
