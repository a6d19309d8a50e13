"""The examples run as they are, and links of the documentation lead to files."""

import json
import re
import runpy
import sys
from pathlib import Path

import pytest

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
