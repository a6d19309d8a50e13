"""Every file under conf/ trains: each experiment, each choice of each group."""

from pathlib import Path

import pytest
import yaml
from made_classifiers import made_teacher
from made_releases import as_affectnet_csv, as_ferplus

from emodet.data.sources import build_datamodule
from emodet.datasets.readers import READERS
from emodet.errors import EmodetError
from emodet.synthetic.releases import write_release
from emodet.training.folder import RunFolder

CONF = Path(__file__).parents[1] / "conf"


def options(group):
    return sorted(file.stem for file in (CONF / group).glob("*.yaml"))


@pytest.fixture(scope="session")
def releases(own_folders):
    """Drawn faces for each reader, by its name."""
    faces = {"train": 120, "val": 24, "test": 24}
    yolo = write_release(own_folders / "uniform", faces, size=48, balance="uniform")
    others = {
        "auto": as_affectnet_csv(yolo, own_folders / "auto"),
        "ferplus": as_ferplus(yolo, own_folders / "ferplus"),
    }
    return {"yolo": yolo, **others}


FERPLUS = Path(__file__).parents[1] / "experiments" / "ferplus" / "conf"
EXPERIMENTS = {
    file.relative_to(folder / "experiment").with_suffix("").as_posix(): file
    for folder in (CONF, FERPLUS)
    for file in sorted((folder / "experiment").rglob("*.yaml"))
}
ONE_BATCH = [
    *("data.num_workers=0", "data.processes=1", "data.batch_size=4", "trainer.max_epochs=1", "trainer.accelerator=cpu"),
    *("trainer.limit_train_batches=1", "trainer.limit_val_batches=1", "trainer.check_val_every_n_epoch=1"),
    *("trainer.enable_progress_bar=false", "trainer.num_sanity_val_steps=0"),
]


def reader_of(data):
    settings = yaml.safe_load((CONF / "data" / f"{data}.yaml").read_text(encoding="utf-8"))
    return str(settings.get("reader", "auto"))


def data_of(experiment):
    """Which data an experiment's file, or one that it builds on, chooses."""
    defaults = yaml.safe_load(EXPERIMENTS[experiment].read_text(encoding="utf-8")).get("defaults")
    for entry in defaults or []:
        if isinstance(entry, dict) and "override /data" in entry:
            return str(entry["override /data"])
        if isinstance(entry, str) and (name := entry.removeprefix("/experiment/")) in EXPERIMENTS:
            return data_of(name)
    return "affectnet"


# One of each kind; the others, which share most of their settings with these, take minutes together.
QUICK = ("affectnet8", "baseline", "ferplus_live", "affectnet8_distill")


@pytest.mark.parametrize(
    "experiment",
    [
        pytest.param(experiment, marks=[] if experiment in QUICK else [pytest.mark.slow])
        for experiment in EXPERIMENTS
        if experiment != "finetune"  # see test_finetune.py
    ],
)
def test_every_experiment_runs_one_batch(experiment, command, releases, tmp_path, without_pictures):
    file, run = EXPERIMENTS[experiment], tmp_path / "run"
    root = releases[reader_of(data_of(experiment))]
    # Without its tracker, which takes seconds to start and has tests of its own.
    arguments = [f"experiment={experiment}", f"data.root={root}", *ONE_BATCH, "logger=csv"]
    if FERPLUS in file.parents:
        arguments[:0] = ["--config-dir", str(FERPLUS)]
    if "\ndistillation:" in file.read_text(encoding="utf-8"):
        arguments.append(f"distillation.teachers=['{made_teacher(tmp_path / 'teacher.pt')}']")
    assert command("emodet.train", *arguments, f"hydra.run.dir={run}") == 0
    assert "test" in RunFolder(run).facts()["results"]


@pytest.mark.parametrize("experiment", ["affectnet8_distill", "ferplus_accurate", "ferplus_student"])
def test_an_experiment_with_teachers_is_refused_without_them(experiment, command, releases, tmp_path, capsys):
    folder = ["--config-dir", str(FERPLUS)] if FERPLUS in EXPERIMENTS[experiment].parents else []
    root = f"data.root={releases[reader_of(data_of(experiment))]}"
    assert command("emodet.train", *folder, f"experiment={experiment}", root, f"hydra.run.dir={tmp_path / 'run'}") == 2
    assert "distillation.teachers=[" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_is_a_document(experiment):
    text = EXPERIMENTS[experiment].read_text(encoding="utf-8")
    for part in ("Purpose", "Command", "Data", "Hardware", "Expected", "Recipe"):
        assert f"\n# {part} " in text, part
    assert f"experiment={experiment}" in text
    assert "data.root=/" not in text.replace("data.root=/path", "")


# Every choice of every other group, several groups in one run.
CHOICES = {
    group: [
        option
        for option in options(group)
        # A mix has tests of its own.
        if group != "data" or (reader_of(option) in ("auto", "yolo", "ferplus") and option != "mixed")
    ]
    for group in ("augmentation", "data", "debug", "logger", "loss", "net", "optimizer", "scheduler", "trainer")
}
EXTRA = {
    "timm": ["net.model=test_resnet"],
    "residual_cnn": ["net.channels=[4,4,8,8]"],
    "face_resnet": ["net.pretrained=false"],
    "ferplus_rare": ["data.classes=8"],
    "synthetic": ["data.synthetic.faces={train:40,val:16,test:16}", "data.synthetic.progress=false"],
    "wandb": ["logger.wandb.tags=[a,b]"],
}


@pytest.mark.parametrize("turn", range(max(map(len, CHOICES.values()))))
@pytest.mark.slow
def test_every_choice_runs_one_batch(turn, command, releases, tmp_path, without_pictures):
    chosen = {group: names[turn % len(names)] for group, names in CHOICES.items()}
    if chosen["net"] == "timm":
        pytest.importorskip("timm")
    arguments = [f"{group}={name}" for group, name in chosen.items()]
    arguments += [argument for name in chosen.values() for argument in EXTRA.get(name, [])]
    if chosen["data"] != "synthetic":
        arguments.append(f"data.root={releases[reader_of(chosen['data'])]}")
    small = [*ONE_BATCH, "preprocessing.size=48", "training.progressive_sizes=[]", "callbacks=[default]"]
    assert command("emodet.train", "experiment=ferplus", *arguments, *small, f"hydra.run.dir={tmp_path}") == 0
    assert "test" in RunFolder(tmp_path).facts()["results"]


@pytest.mark.parametrize("data", [name for name in options("data") if name not in ("synthetic", "mixed")])
def test_every_data_set_that_is_not_there_says_how_to_point_at_it(data):
    reader, affectnet = reader_of(data), dict.fromkeys(("auto", "yolo", "affectnet_plus"), "EMODET_AFFECTNET")
    with pytest.raises(EmodetError, match=r"data\.root is not set\..*data\.root=/path") as caught:
        build_datamodule({"reader": reader})
    assert ({"ferplus": "EMODET_FERPLUS", **affectnet}.get(reader) or READERS[reader].title) in str(caught.value)
