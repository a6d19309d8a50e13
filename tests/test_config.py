"""The configuration: keys and defaults from signatures, groups that replace cleanly; every file in conf/ trains."""

import shutil
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from made_classifiers import made_teacher
from made_files import put_text
from made_releases import as_affectnet_csv, as_ferplus
from omegaconf import OmegaConf

import emodet.train  # noqa: F401  registers the schema
from emodet.command_line import conf_folder
from emodet.config import TrainConfig
from emodet.data.datamodule import build_datamodule
from emodet.datasets.readers import READERS
from emodet.errors import EmodetError
from emodet.schema import RENAMED_KEYS, checked
from emodet.synthetic.releases import write_release
from emodet.training.folder import RunFolder

CONF = Path(conf_folder())
FERPLUS = Path(__file__).parents[1] / "experiments" / "ferplus" / "conf"
EXPERIMENTS = {
    file.relative_to(folder / "experiment").with_suffix("").as_posix(): file
    for folder in (CONF, FERPLUS)
    for file in sorted((folder / "experiment").rglob("*.yaml"))
}
SHIPPED = [name for name, file in EXPERIMENTS.items() if CONF in file.parents]


def composed(*overrides):
    GlobalHydra.instance().clear()
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        config = compose("train", [*overrides, "name=test"])
    given = [override.lstrip("+~").partition("=")[0] for override in overrides]
    return checked(TrainConfig, OmegaConf.to_container(config, resolve=True), given)


def options(group):
    return sorted(file.stem for file in (CONF / group).glob("*.yaml"))


OLD_NAMES = {"workers": "num_workers", "evaluation_batch_size": "eval_batch_size", "selection_seed": "split_seed"}


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        *((f"{plus}trainer.max_epoch=3", "did you mean trainer.max_epochs?") for plus in ("", "+")),
        ("sed=1", "did you mean seed?"),
        ("data.batchsize=3", "did you mean data.batch_size?"),
        # As earlier versions called them.
        *((f"data.{old}=1", f"did you mean data.{new}?") for old, new in OLD_NAMES.items()),
        ("+schedule=cosine", "did you mean scheduler?"),
        ("optimizer.learning_rate=1", "there are optimizer."),
        ("callbacks.best.moniter=val/loss", "did you mean callbacks.best.monitor?"),
        *(("optimizer.lr=abc", "abc"), ("training.mixup=[1]", "1"), ("trainer.max_epochs=0.5", "int or null")),
        # What does not suit the net, the data or the machine.
        ("net.channels=[0,4,8,8]", "[0, 4, 8, 8]"),
        ("preprocessing.size=8", "preprocessing.size=8"),
        ("data.batch_size=0", "data.batch_size=0"),
        ("data.crop=fce", "data.crop='fce'"),
        # Two choices in a group of one, of which Hydra would silently take the last.
        *((two, f"{two}: one choice was expected") for two in ("data=[synthetic,ferplus]", "net=[residual_cnn,timm]")),
    ],
)
def test_a_mistyped_key_or_unsuitable_value_is_refused(argument, said, refused, tmp_path):
    chosen = ("experiment=baseline", "data=synthetic", "trainer.accelerator=cpu", argument)
    error = refused("emodet.train", *chosen, f"data.root={tmp_path / 'faces'}", f"hydra.run.dir={tmp_path / 'run'}")
    assert error.startswith((f"error: {argument.lstrip('+').partition('=')[0]}", "error: net"))
    assert said in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("trainer: {max_epoch: 3}", "trainer.max_epoch"),
        ("optimiser: {lr: 0.1}", "optimiser"),
        ("trainer: {max_epochs: many}", "trainer.max_epochs=many"),
        ("augmentation: {step: []}", "augmentation.step"),
        ("seed: 1.5", "seed=1.5"),
    ],
)
def test_a_mistake_in_an_experiment_file_is_refused(text, wrong, refused, tmp_path):
    put_text(tmp_path / "experiment" / "mine.yaml", "# @package _global_", text)
    run = tmp_path / "run"
    own = ["--config-dir", str(tmp_path), "experiment=mine", f"hydra.run.dir={run}"]
    assert refused("emodet.train", *own).startswith(f"error: {wrong}")
    assert not (run / "checkpoints").exists()


def test_a_sweep_has_a_folder_of_its_own(command, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("EMODET_OUTPUTS", "~")  # as an environment file has it, which no shell expands
    assert command("emodet.train", "-m", "experiment=ferplus", "data.root=/no/such/folder", "seed=1,2") == 1
    (sweep,) = (tmp_path / "ferplus").glob("*_sweep")
    assert {"0", "1", "comparison.html"} <= {path.name for path in sweep.iterdir()}


CLASSES = {
    **{"net": "emodet.models.residual_cnn.ResidualCNN", "loss": "emodet.models.losses.SoftCrossEntropy"},
    **{"optimizer": "torch.optim.SGD", "scheduler": "emodet.models.optimization.cosine"},
}


@pytest.mark.parametrize("old", RENAMED_KEYS)
def test_an_old_key_names_the_new_one(old):
    group, _, key = old.rpartition(".")
    own = {key: 1, **({"_target_": CLASSES[group]} if group in CLASSES else {})}
    with pytest.raises(EmodetError) as caught:
        checked(TrainConfig, {group: own} if group else own)
    assert str(caught.value).startswith(old)
    assert RENAMED_KEYS[old] in str(caught.value)


def test_values_are_converted_to_the_types_of_the_signature():
    given = ["data.root=2020", "trainer.max_epochs=1e2", "optimizer.lr=1", "data.reader_options={label_source: folder}"]
    config = composed("experiment=baseline", *given, "callbacks.x={_target_: lightning.Callback}")
    assert config["data"]["root"] == "2020"
    assert config["data"]["reader_options"] == {"label_source": "folder"}
    assert repr((config["trainer"]["max_epochs"], config["optimizer"]["lr"])) == "(100, 1.0)"
    assert config["callbacks"]["x"]["_target_"] == "lightning.Callback"


def test_a_choice_replaces_all_options_of_the_one_before():
    assert composed("experiment=baseline", "optimizer=sgd")["optimizer"]["lr"] == 0.1
    assert set(composed("experiment=affectnet8", "callbacks=[default]")["callbacks"]) == {
        *("best", "last", "lr_monitor", "throughput", "run_logger", "epoch_lines")
    }
    path = "callbacks.best._target_=lightning.pytorch.callbacks.ModelCheckpoint"
    best = composed("experiment=baseline", path, "callbacks.best.save_top_k=2")["callbacks"]["best"]
    assert best["save_top_k"] == 2
    assert best["monitor"] is None
    with pytest.raises(EmodetError, match=r"callbacks.x._target_=nowhere.Class: cannot be imported"):
        composed("experiment=baseline", "+callbacks.x._target_=nowhere.Class")


@pytest.mark.parametrize("experiment", ["baseline", pytest.param("ferplus_live", marks=pytest.mark.slow)])
def test_a_choice_is_the_same_in_every_experiment(experiment):
    groups = {group: options(group) for group in ("optimizer", "scheduler", "loss", "net")}
    for turn in range(max(map(len, groups.values()))):
        chosen = {group: choices[turn % len(choices)] for group, choices in groups.items()}
        overrides = ["training.monitor=val/macro_f1", *(f"{group}={choice}" for group, choice in chosen.items())]
        config, other = (composed(f"experiment={each}", *overrides) for each in (experiment, "affectnet_va"))
        for group, choice in chosen.items():
            assert config[group] == other[group], (group, choice)


@pytest.mark.parametrize("name", ["a b[brackets] {x} Müller=1 写真", "it's, all\\"])
def test_paths_may_contain_any_character(name, command, refused, release, tmp_path):
    root = tmp_path / name
    shutil.copytree(release, root)
    assert command("emodet.prepare", "data=affectnet_yolo", f"data.root={root}", "list=true") == 0
    for file in (root / "none.ckpt", "~nosuchuser/none.ckpt"):
        assert f"{file}: there is no such file" in refused("emodet.evaluate", f"checkpoint={file}")


def test_help_and_the_bare_command_list_at_most_twelve_experiments(output, command, capfd):
    assert len(SHIPPED) <= 12
    said = output("emodet.train", "--help")
    for experiment in SHIPPED:
        assert f"  {experiment} " in said
    assert "The reference recipe for this net" in said
    assert "--config-dir" in output("emodet.train", "--hydra-help")
    assert command("emodet.train") == 2
    said = capfd.readouterr()
    assert all(experiment in said.out + said.err for experiment in SHIPPED)


# Every file under conf/ trains: each experiment, each choice of each group.


@pytest.fixture(scope="module")
def releases(own_folders):
    """Drawn faces for each reader, by its name."""
    faces = {"train": 120, "val": 24, "test": 24}
    yolo = write_release(own_folders / "uniform", faces, size=48, balance="uniform")
    made = {"auto": as_affectnet_csv, "ferplus": as_ferplus}
    return {"yolo": yolo, **{name: write(yolo, own_folders / name) for name, write in made.items()}}


ONE_BATCH = [
    *("data.num_workers=0", "data.processes=1", "data.batch_size=4", "trainer.max_epochs=1", "trainer.accelerator=cpu"),
    *("trainer.limit_train_batches=1", "trainer.limit_val_batches=1", "trainer.check_val_every_n_epoch=1"),
    *("trainer.enable_progress_bar=false", "trainer.num_sanity_val_steps=0"),
]


def reader_of(data):
    settings = yaml.safe_load((CONF / "data" / f"{data}.yaml").read_text(encoding="utf-8"))
    return str(settings.get("reader", "auto"))


def reader_in(experiment):
    """The reader of an experiment's data, as Hydra composes it."""
    return composed(f"hydra.searchpath=[file://{FERPLUS}]", f"experiment={experiment}")["data"]["reader"]


# One of each kind; the others, which share most of their settings with these, take minutes together.
QUICK = ("affectnet8", "baseline", "ferplus_live", "affectnet8_distill")


@pytest.mark.parametrize(
    "experiment",  # but finetune, which test_own_classes.py runs
    [pytest.param(each, marks=[pytest.mark.slow] * (each not in QUICK)) for each in EXPERIMENTS if each != "finetune"],
)
def test_every_experiment_runs_one_batch(experiment, command, releases, tmp_path, without_pictures):
    file, run = EXPERIMENTS[experiment], tmp_path / "run"
    root = releases[reader_in(experiment)]
    # Without its tracker, which takes seconds to start and has tests of its own.
    arguments = [f"experiment={experiment}", f"data.root={root}", *ONE_BATCH, "logger=csv"]
    if FERPLUS in file.parents:
        arguments[:0] = ["--config-dir", str(FERPLUS)]
    if "\ndistillation:" in file.read_text(encoding="utf-8"):
        arguments.append(f"distillation.teachers=['{made_teacher(tmp_path / 'teacher.pt')}']")
    assert command("emodet.train", *arguments, f"hydra.run.dir={run}") == 0
    assert "test" in RunFolder(run).facts()["results"]


@pytest.mark.parametrize("experiment", ["affectnet8_distill", "ferplus_accurate", "ferplus_student"])
def test_an_experiment_with_teachers_is_refused_without_them(experiment, refused, releases, tmp_path):
    folder = ["--config-dir", str(FERPLUS)] if FERPLUS in EXPERIMENTS[experiment].parents else []
    root = f"data.root={releases[reader_in(experiment)]}"
    error = refused("emodet.train", *folder, f"experiment={experiment}", root, f"hydra.run.dir={tmp_path / 'run'}")
    assert "distillation.teachers=[" in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_is_documented(experiment):
    text = EXPERIMENTS[experiment].read_text(encoding="utf-8")
    if experiment in SHIPPED:
        assert not {"net", "optimizer", "scheduler", "loss", "callbacks"} & set(yaml.safe_load(text))
    for part in ("Purpose", "Command", "Data", "Hardware", "Expected", "Recipe"):
        assert f"\n# {part} " in text, part
    assert f"experiment={experiment}" in text
    assert "data.root=/" not in text.replace("data.root=/path", "")


# Every choice of every other group, several groups in one run.
GROUPS = ("augmentation", "debug", "logger", "loss", "net", "optimizer", "scheduler", "trainer")
CHOICES = {group: options(group) for group in GROUPS}
CHOICES["data"] = [each for each in options("data") if reader_of(each) in ("auto", "yolo", "ferplus")]
CHOICES["data"].remove("mixed")  # has tests of its own
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
def test_a_missing_data_set_names_its_option(data):
    reader, affectnet = reader_of(data), dict.fromkeys(("auto", "yolo", "affectnet_plus"), "EMODET_AFFECTNET")
    with pytest.raises(EmodetError, match=r"data\.root is not set\..*data\.root=/path") as caught:
        build_datamodule({"reader": reader})
    assert ({"ferplus": "EMODET_FERPLUS", **affectnet}.get(reader) or READERS[reader].title) in str(caught.value)
