"""`emodet COMMAND`: dispatch, help, version, demo, doctor, mistyped names, and output that nobody reads."""

import os
import re
import signal
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from made_commands import python
from made_releases import affectnet_npy, affectnet_plus, class_folders, labels_csv, yolo

import emodet
from emodet import laboratory
from emodet.__main__ import COMMANDS
from emodet.command_line import help_text
from emodet.config import SCHEMAS
from emodet.errors import EmodetError
from emodet.installation import typed_as

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def typed_as_modules():
    """In a process of its own, a command is spelled as it was typed; here each test begins with the modules."""
    yield
    typed_as("python -m emodet.")


WORKFLOWS = [f".github/workflows/{name}.yml" for name in ("ci", "release", "site")]


@pytest.mark.parametrize("file", [*WORKFLOWS, "Dockerfile", ".ci/run"])
def test_workflows_name_existing_commands_and_extras(file):
    text = (ROOT / file).read_text(encoding="utf-8")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    named = {each for group in re.findall(r"(?:\.|/source)\[([a-z,]+)\]", text) for each in group.split(",")}
    assert named <= set(extras)
    assert set(re.findall(r"\bemodet\"?,? \"?([a-z]+)", text)) <= set(COMMANDS)
    targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    assert set(re.findall(r"(?:run: |^)make ([a-z-]+)", text, re.M)) <= set(targets)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        *((made, "experiment=affectnet8 .*error: nothing:") for made in (affectnet_npy, labels_csv)),
        (affectnet_plus, "experiment=affectnet8 data=affectnet_plus .*error: nothing:"),
        (yolo, "experiment=affectnet_yolo .*error: nothing:"),
        (class_folders, "EXPERIMENT=finetune"),
    ],
)
def test_make_train_chooses_the_experiment_for_the_release(made, said, tmp_path):
    """The training itself ends at a key that there is not, after its experiment was found."""
    command = ["make", "-o", ".venv/.installed", "train", f"BIN={Path(sys.executable).parent}", "OPTIONS=nothing=1"]
    data = f"DATA={made(tmp_path / 'release').root}"
    done = subprocess.run([*command, data], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert re.search(said, done.stderr, re.S)


def printed(module, *arguments):
    """Standard output of a command in a process of its own, and the modules that it has loaded at its end."""
    code = (
        "import runpy, sys\n"
        f"sys.argv = {[module, *arguments]!r}\n"
        f"try: runpy.run_module({module!r}, run_name='__main__', alter_sys=True)\n"
        "except SystemExit: print('loaded:', *sys.modules)"
    )
    text, _, loaded = python("-c", code, check=True).stdout.rpartition("loaded: ")
    return text, set(loaded.split())


def test_version_and_help_import_little():
    text, loaded = printed("emodet", "--help")
    assert all(f"  {name} " in text for name in COMMANDS)
    assert not {"numpy", "cv2", "torch", "hydra", "onnxruntime"} & loaded
    assert printed("emodet", "--version")[0] == f"emodet {emodet.__version__}\n"
    text, loaded = printed("emodet.train", "--help")
    assert not {"torch", "lightning", "albumentations", "hydra"} & loaded
    assert "  batch_size: 32" in text
    assert "torch" not in printed("emodet.train", "seed=1")[1]


@pytest.mark.parametrize("arguments", [(), ("train",), ("predict",)], ids=" ".join)
def test_help_into_a_closed_pipe(arguments):
    """As in ``emodet train --help | head -3``."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "emodet", *arguments, "--help"]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, env=buffered, timeout=120)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command(output, name):
    said = output(f"emodet.{name}", "--help")
    assert said.startswith(f"usage: python -m emodet.{name} ")
    assert re.search("example|exit status", said)
    trains = name in ("train", "prepare", "audit")
    for part in ("experiments (experiment=NAME):", "  net  ", "\nseed: 0"):
        assert (part in said) == trains
    said = output("emodet", name, "--help")
    assert said.startswith(f"usage: emodet {name} ")
    assert "python -m emodet" not in said


def assert_same(plain, composed, key):
    if isinstance(plain, dict):
        for name, value in plain.items():
            assert_same(value, composed[name], f"{key}.{name}")
    elif "${" not in str(plain):
        assert plain == composed, key


@pytest.mark.parametrize("name", SCHEMAS)
def test_help_without_hydra_shows_the_values_that_hydra_composes(name):
    given = {"evaluate": "split=test", "export": "threads=null"}.get(name, "seed=0")
    texts = (help_text(name, "", typed).partition("\nkeys with their values")[2] for typed in ([], [given]))
    assert_same(*(yaml.safe_load(text.partition("\n")[2]) for text in texts), name)


def test_help_of_an_experiment_and_unknown_commands(output, refused):
    said = output("emodet.train", "experiment=baseline", "seed=7", "--help")
    for line in ("seed: 7", "  lr: 0.01", "  head_dropout: 0.4", "  accumulate_grad_batches: 1"):
        assert f"\n{line}" in said
    assert "did you mean train?" in refused("emodet", "trian", "experiment=baseline")
    assert "affectnet8, " in refused("emodet.train", "seed=1")
    assert all(f"predict {name}" in refused("emodet", name) for name in ("photo.jpg", "0", "http://127.0.0.1/video"))
    assert "did you mean --min-confidence?" in refused("emodet", "predict", "photo.jpg", "--conf", "0.5")
    assert "there are --help" in refused("emodet", "doctor", "--x")
    assert "--min-confidence" in output("emodet", "help", "predict")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("train experiment=baselin", "did you mean baseline?"),
        ("train experiment=baseline net=residual_cn", "did you mean residual_cnn?"),
        ("train experiment=baseline callbacks=[default,emma]", "did you mean ema?"),
        ("train experiment=baseline logger=null", "there are csv, tensorboard, wandb"),
        ("train experimnt=baseline", "did you mean experiment?"),
        ("prepare data=synthetik", "did you mean synthetic?"),
        ("evaluate chekpoint=RUN", "did you mean checkpoint?"),
        # With dashes.
        ("train --experiment baseline", "as experiment=VALUE"),
        ("train --data.root=/data", "as data.root=VALUE"),
        # Groups of other commands.
        ("evaluate checkpoint=none.ckpt experiment=baseline", "experiment"),
        ("evaluate checkpoint=none.ckpt +experiment=baseline", "experiment"),
        ("evaluate checkpoint=none.ckpt net=residual_cnn", "net"),
    ],
)
def test_unknown_choices_and_keys_name_the_nearest(typed, said, refused):
    name, *arguments = typed.split()
    error = refused(f"emodet.{name}", *arguments)
    assert error.startswith("error: ")
    assert said in error
    assert "To append" not in error  # Hydra's advice


def test_ctrl_c_during_imports_has_no_traceback():
    code = "from emodet.laboratory import begin; begin('evaluate', '__main__', ''); raise KeyboardInterrupt"
    done = python("-c", code)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "stopped by SIGINT\n")


def test_the_demo_recognises_its_portrait(output, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    said = output("emodet.demo", "--output=~/demo")  # no shell expands it
    assert "happiness" in said
    assert (tmp_path / "demo" / "portrait.annotated.jpg").is_file()
    assert str(tmp_path / "demo" / "portrait.annotated.jpg") in said


def test_the_doctor_lists_versions_and_what_is_missing(command, capfd, monkeypatch):
    from emodet import doctor

    needed = [*metadata.requires("emodet"), 'no-such-package>=1; extra == "nothing"']
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: needed)

    assert doctor.main([]) == 0
    said = capfd.readouterr().out
    assert emodet.__version__ in said
    for part in ("onnxruntime", "detector", "model", "camera 0", "page"):
        assert re.search(rf"^(ok|--)  {part} ", said, re.M), part
    assert "missing no-such-package: pip install 'emodet[nothing]'" in said


def test_missing_packages_are_named_with_the_extra(monkeypatch, capsys):
    laboratory.require_laboratory("train")
    real = laboratory.find_spec
    monkeypatch.setattr(laboratory, "find_spec", lambda name: None if name in ("torch", "hydra") else real(name))
    monkeypatch.setattr(sys, "argv", ["emodet", "--help"])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # set by the command
    with pytest.raises(SystemExit) as stop:
        laboratory.begin("train", "__main__", "Train a net.")
    assert stop.value.code == 2
    parts = ("torch, hydra", "pip install 'emodet[train]'", "pip install -e '.[train]'")
    said = capsys.readouterr()
    assert re.search(".*".join(map(re.escape, parts)), said.err)
    assert said.out == "Train a net.\n\n"  # what it would help with


def test_two_builds_of_opencv_must_have_one_version(monkeypatch):
    real = metadata.version
    versions = {"opencv-python": "5.0.0.93", "opencv-python-headless": "4.12.0.88"}
    monkeypatch.setattr(metadata, "version", lambda name: versions.get(name) or real(name))
    with pytest.raises(EmodetError, match=r"opencv-python-headless==5.0.0.93 opencv-python==5.0.0.93"):
        laboratory.require_laboratory("train")


@pytest.mark.parametrize(
    "typed",
    [
        "train experiment=affectnet_yolo logger=csv hydra.run.dir={out}",
        *("prepare force=true", "audit quick=true model=none output={out}"),
        *("evaluate model={model} output={out}", "export checkpoint={run} formats=[fp32] output={out}"),
    ],
)
def test_sigterm_cleans_up(typed, command, release, small, trained_run, model_path, tmp_path, monkeypatch, capfd):
    """At the first file that is written atomically, in its folder or in that of its pack."""
    monkeypatch.setenv("EMODET_PACKS", str(tmp_path / "packs"))
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(Path, "replace", lambda *_: signal.raise_signal(signal.SIGTERM))
    name, *own = typed.format(out=tmp_path / "out", model=model_path, run=trained_run).split()
    data = ["data=affectnet_yolo", f"data.root={release}", "data.num_workers=0", "data.processes=1"]
    assert command(f"emodet.{name}", *own, *{"train": small, "export": []}.get(name, data)) == 143
    assert not [*tmp_path.rglob(".*-????????.*")]  # as temporary files are named
    assert capfd.readouterr().err.endswith("stopped by SIGTERM\n")
    assert signal.getsignal(signal.SIGTERM) is before
