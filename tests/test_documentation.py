"""Links lead to files, examples run as they are, and every command line that is printed anywhere parses."""

import argparse
import ast
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from importlib import import_module
from itertools import chain
from pathlib import Path
from types import ModuleType

import lightning as L
import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from lightning.pytorch.loggers import CSVLogger
from made_reader import ready

from emodet.__main__ import COMMANDS
from emodet.command_line import checked_arguments, help_text
from emodet.config import SCHEMAS
from emodet.data.datamodule import EmotionDataModule
from emodet.data.sources import Source
from emodet.errors import EmodetError
from emodet.models.classifier import EmotionClassifier
from emodet.preprocessing import Preprocessing

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
SITE = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", SITE, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_pages_have_a_title_and_working_links(page):
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


def test_training_in_ten_lines_of_python(command, release, tmp_path):
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
    for other in (EmotionClassifier(net, ["a", "b"], preprocessing), EmotionClassifier(net, data.class_names)):
        with pytest.raises(EmodetError, match=r"(class_names|preprocessing) of the classifier"):
            trainer.fit(other, datamodule=data)
    image = torch.randint(0, 256, (2, 48, 48, 3), dtype=torch.uint8)
    assert classifier.eval().probabilities(image).sum(dim=1).allclose(torch.ones(2), atol=1e-5)
    checkpoint = trainer.checkpoint_callback.best_model_path  # its name holds a "="
    assert command("emodet.export", f"checkpoint={checkpoint}", f"output={tmp_path / 'out'}", "formats=[fp32]") == 0
    assert (tmp_path / "out" / "emodet-fp32.onnx").is_file()


# Every command line that the documentation, a help text or a message prints parses: keys, choices, options, values.


PAGES = [*SITE, *ROOT.glob("*.md"), *(ROOT / "experiments").rglob("*.md"), *(ROOT / "emodet").rglob("*.md")]
LINE = re.compile(rf"(?:-m emodet[. ]|\bemodet )({'|'.join(COMMANDS)}) (?!needs)([^\n`…|]+)")


def commands_in(text):
    """Pairs of a command and its arguments, which a comment or two spaces end."""
    text = re.sub(r" *\\\n[# ]*", " ", text)
    return [(name, re.split(r" {2}| #", rest)[0].strip()) for name, rest in LINE.findall(text)]


def code_of(page):
    """The fenced blocks and inline code of a Markdown file."""
    text = page.read_text(encoding="utf-8")
    return "\n".join(chain(re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S), re.findall(r"`([^`\n]+)`", text)))


def printed_by(file):
    """The strings of a module but for its functions' docstrings, with X for what is formatted into them."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    documented = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    hidden = {id(node.body[0].value) for node in documented if isinstance(node.body[0], ast.Expr)}
    hidden |= {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}

    def text(node):
        if isinstance(node, ast.JoinedStr):
            return "".join(map(text, node.values))
        if isinstance(node, ast.FormattedValue):
            name = re.fullmatch(r"named\('(\w+)'\)", ast.unparse(node.value))
            return f"python -m emodet.{name[1]}" if name else "X"
        return str(getattr(node, "value", ""))

    strings = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr | ast.Constant)]
    return "\n".join(text(node) for node in strings if id(node) not in hidden)


def printed():
    found = [(page, code_of(page)) for page in PAGES]
    prose = [(file, printed_by(file)) for file in (ROOT / "emodet").rglob("*.py")]
    prose += [(file, file.read_text(encoding="utf-8")) for file in (ROOT / "conf").glob("*.yaml")]
    found += [(file, re.sub(r"[,;]( .*|$)", "", text, flags=re.M)) for file, text in prose]
    # X alone: all arguments are computed when the command is printed.
    lines = {(name, rest): file for file, text in found for name, rest in commands_in(text) if rest != "X"}
    lines = {line: file for line, file in lines.items() if "NAME" not in line[1]}
    return [pytest.param(*line, id=f"{file.name}: {' '.join(line)}") for line, file in sorted(lines.items())]


@pytest.fixture
def mylab(monkeypatch):
    """The package of the user's own classes that the documentation names."""
    bases = {"MyNet": torch.nn.Module, "MyLoss": torch.nn.Module, "MyLogger": CSVLogger, "MyCallback": L.Callback}
    package = ModuleType("mylab")
    for name, base in {**bases, "MyTransform": object}.items():
        setattr(package, name, type(name, (base,), {}))
    monkeypatch.setitem(sys.modules, "mylab", package)
    monkeypatch.chdir(ROOT)
    yield
    HydraConfig.instance().cfg = None


def test_commands_are_found():
    assert len(printed()) > 80
    assert commands_in("$ emodet predict a.jpg \\\n   --rows csv   # rows\n") == [("predict", "a.jpg --rows csv")]


@pytest.mark.usefixtures("mylab")
@pytest.mark.parametrize(("name", "arguments"), printed())
def test_a_printed_command_parses(name, arguments, monkeypatch):
    typed = shlex.split(arguments)
    if name in SCHEMAS:
        flags = ("-m", "--multirun", "--help")
        sweeps = any(flag in typed for flag in flags[:2])
        typed = checked_arguments(name, [each for each in typed if each not in flags[2:]])
        # A resumed run brings its experiment.
        typed = ["experiment=baseline" if each.startswith("resume=") else each for each in typed if each not in flags]
        assert all("=" in each for each in typed if each not in ("--config-dir", "experiments/ferplus/conf"))
        assert help_text(name, "", [first_of(each) for each in typed] if sweeps else typed)
        return

    real = argparse.ArgumentParser.parse_args

    def parse(parser, *given):
        real(parser, *given)
        raise SystemExit(0)  # after parsing, so that nothing runs

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    main = import_module("emodet.app.__main__" if name == "app" else f"emodet.{name}").main
    with pytest.raises(SystemExit) as stop:
        main(typed)
    assert stop.value.code == 0


def first_of(argument):
    """An argument of a sweep with the first of its values."""
    if argument.startswith("-") or "=" not in argument:
        return argument
    (override,) = OverridesParser.create().parse_overrides([argument])
    if not override.is_sweep_override():
        return argument
    return f"{override.key_or_group}={next(override.sweep_string_iterator())}"
