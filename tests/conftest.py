"""What the tests of the commands share: drawn faces on disk, folders of their own, and the command in this process."""

import os

import hypothesis
import pytest
from made_commands import TINY, run_command
from made_files import encoded
from PIL import Image

# Before anything imports a numerical library: many small tensors are slower on many threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

# How long an example takes is the machine's affair.
hypothesis.settings.register_profile("emodet", deadline=None)
hypothesis.settings.load_profile("emodet")


@pytest.fixture(scope="session", autouse=True)
def own_folders(tmp_path_factory):
    """No test writes into the checkout, finds a data set of this machine, or talks to the network."""
    base = tmp_path_factory.mktemp("emodet")
    own = {f"EMODET_{name.upper()}": str(base / name) for name in ("outputs", "packs", "synthetic")}
    own |= {"WANDB_DIR": str(base), "WANDB_MODE": "offline", "XDG_CACHE_HOME": str(base / "cache")}
    with pytest.MonkeyPatch.context() as patched:
        for name in [name for name in os.environ if name.startswith("EMODET_") or name == "WANDB_API_KEY"]:
            patched.delenv(name)
        for name, value in own.items():
            patched.setenv(name, value)
        yield base


@pytest.fixture(scope="session")
def astronaut():
    """NASA's portrait of Eileen Collins (public domain): uint8, (512, 512, 3), RGB; she smiles."""
    return pytest.importorskip("skimage.data").astronaut()


@pytest.fixture(scope="session")
def release(own_folders):
    """Drawn faces as the YOLO export, 48 px: 72 train, 24 val, 24 test."""
    from emodet.synthetic.releases import write_release

    return write_release(own_folders / "release", {"train": 72, "val": 24, "test": 24}, size=48)


@pytest.fixture(scope="session")
def small(release):
    """Overrides under which a training takes about a second."""
    return [*TINY, "data=affectnet_yolo", f"data.root={release}", "data.batch_size=8", "trainer.max_epochs=2"]


@pytest.fixture(scope="session")
def command():
    return run_command


@pytest.fixture(scope="session")
def trained_run(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "first"
    options = ["trainer.max_epochs=1", "logger=csv", f"hydra.run.dir={folder}", "trainer.precision=32-true"]
    assert run_command("emodet.train", "experiment=affectnet_yolo", *small, *options) == 0
    return folder


@pytest.fixture
def packs(tmp_path, monkeypatch):
    """An empty folder for packs."""
    monkeypatch.setenv("EMODET_PACKS", str(tmp_path / "packs"))
    return tmp_path / "packs"


@pytest.fixture
def output(capfd):
    """Run a command that succeeds and return what it prints."""

    def run(module, *arguments):
        capfd.readouterr()
        assert run_command(module, *arguments) == 0
        return capfd.readouterr().out

    return run


@pytest.fixture
def refused(capfd):
    """Run a command that must stop at a mistake: status 2 and a message without a traceback, which is returned."""

    def run(module, *arguments):
        capfd.readouterr()
        assert run_command(module, *arguments) == 2
        message = capfd.readouterr().err
        assert "error: " in message
        assert "Traceback" not in message
        return message

    return run


@pytest.fixture(scope="session")
def model_path(tmp_path_factory):
    """A tiny model file: see `model_stub`."""
    from model_stub import write_stub

    return write_stub(tmp_path_factory.mktemp("model") / "stub.onnx")


@pytest.fixture(scope="session")
def recognizer(model_path):
    from emodet import Recognizer

    return Recognizer(model_path, detector="centerface", threads=1)


@pytest.fixture(scope="session")
def video_path(astronaut, tmp_path_factory):
    """One face that wanders, 320×240, 24 frames in 2.4 s, AVI."""
    from made_videos import moving_face, write_video

    return write_video(tmp_path_factory.mktemp("video") / "face.avi", moving_face(astronaut, 24))


@pytest.fixture
def predict(model_path, capsys):
    """Run ``python -m emodet.predict`` with that model file; returns status, standard output and standard error."""
    from emodet.predict import main

    def run(*arguments, detector="centerface"):
        status = main([*map(str, arguments), "--model", str(model_path), "--detector", detector, "--threads", "1"])
        return (status, *capsys.readouterr())

    return run


def leave_out_pictures(patched):
    """Leave out the figures of a run and its reports: they cost far more than a small training."""
    patched.setattr("emodet.evaluation.report.write_report", lambda *_, **__: None)
    patched.setattr("emodet.training.run.plot_curves", lambda *_, **__: None)


@pytest.fixture
def without_pictures(monkeypatch):
    leave_out_pictures(monkeypatch)


@pytest.fixture
def plain_figures(monkeypatch):
    """Of a report's figures only that of valence and arousal is drawn: the others take seconds."""
    png = encoded(Image.new("RGB", (2, 2)))
    for name in ("plot_confusion", "plot_reliability", "plot_per_class", "plot_coverage"):
        monkeypatch.setattr(f"emodet.evaluation.plots.{name}", lambda *_, **__: png)


@pytest.fixture(scope="session")
def train_once():
    """Train without pictures, for several tests."""

    def run(*arguments):
        with pytest.MonkeyPatch.context() as patched:
            leave_out_pictures(patched)
            assert run_command("emodet.train", *arguments) == 0

    return run
