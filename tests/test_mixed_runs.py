"""``data=mixed`` through the real commands, and what is said when something is wrong."""

import json
import shutil

import pytest
from made_commands import TINY
from made_releases import as_ferplus
from omegaconf import OmegaConf

from emodet.errors import EmodetError
from emodet.modelfile import read_model_file
from emodet.synthetic.releases import write_release
from emodet.training.assembly import build_data
from emodet.training.mix import resolved_sources

SMALL = ["data.num_workers=0", "data.processes=1", "preprocessing.size=48"]
NET = [*TINY, "data.batch_size=8", "data.sampling=natural", "logger=csv"]
NET += ["trainer.max_epochs=1", "trainer.precision=32-true"]


@pytest.fixture(scope="module")
def ferplus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    return as_ferplus(write_release(folder / "drawn", {"train": 40, "val": 16}, seed=1, size=48), folder / "ferplus")


@pytest.fixture(scope="module")
def mixed(release, ferplus):
    sources = f"{{affectnet_yolo: {{root: {release}}}, ferplus: {{root: {ferplus}, weight: 2}}}}"
    return ["data=mixed", f"data.sources={sources}", *SMALL]


@pytest.fixture(scope="module")
def run(train_once, mixed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    arguments = [*mixed, *NET, "training.monitor=val/macro_f1/ferplus", f"hydra.run.dir={folder}"]
    train_once("experiment=affectnet8", *arguments)
    return folder


def test_prepare_lists_every_data_set_and_makes_a_pack_for_each(output, mixed, packs):
    said = output("emodet.prepare", *mixed, "list=true")
    assert said.index("== affectnet_yolo") < said.index("AffectNet (YOLO export) in") < said.index("== ferplus")
    assert said.index("== ferplus") < said.index("FER+ in")
    assert "found  published  difference" in said
    assert "fingerprint" not in said
    assert not packs.exists()
    said = output("emodet.prepare", *mixed)
    assert said.index("split  class") < said.index("faces packed")
    assert len([folder for folder in packs.iterdir() if (folder / "manifest.json").is_file()]) == 2
    assert "fingerprint of the mix: " in said
    assert "(affectnet_yolo 72, ferplus 40)" in said
    said = output("emodet.prepare", *mixed, "verify=true")
    assert said.count("(was there)") == 2
    assert said.count("every crop and annotation agrees with the manifest") == 2


def test_data_sets_by_name_take_their_roots_from_the_environment(output, release, ferplus, packs, monkeypatch):
    monkeypatch.setenv("EMODET_FERPLUS", str(ferplus))
    monkeypatch.setenv("EMODET_AFFECTNET", str(release))
    said = output("emodet.prepare", "data=mixed", "data.sources=[affectnet8,ferplus]", *SMALL)
    assert "(affectnet8 72, ferplus 40)" in said
    assert "val" in said
    # FER+'s own file says that its val selects; what is said for the whole mix goes over that.
    assert "affectnet8 val + ferplus val (also used for model selection)" in said
    named = ["data=mixed", "data.sources=[affectnet8,ferplus]", *SMALL]
    assert "faces of 30 % of train" in output("emodet.prepare", *named, "data.val_from=0.3")


def test_impossible_mixes_are_refused(refused, release, mixed, tmp_path):
    twice = f"{{mine: {{data: affectnet_yolo, root: {release}}}, other: {{root: {release}}}}}"
    for arguments, message in (
        (["data.sources={rafdb: {root: /x}}", "data.root=/y"], "data.root=/y is for one data set"),
        ([f"data.sources={twice}"], "training faces of other are left"),  # the same pictures: none left to train on
    ):
        assert message in refused("emodet.prepare", "data=mixed", *arguments, *SMALL)
    arguments = [*mixed, *NET, "training.monitor=val/accuracy/rafdb", f"hydra.run.dir={tmp_path}"]
    assert "val/accuracy/ferplus" in refused("emodet.train", "experiment=affectnet8", *arguments)


def test_a_run_has_metrics_for_each_data_set(run):
    header = (run / "metrics.csv").read_text().splitlines()[0].split(",")
    for name in ("affectnet_yolo", "ferplus"):
        assert f"val/accuracy/{name}" in header
        assert f"val/macro_f1/{name}" in header
    facts = json.loads((run / "run.json").read_text())
    assert set(facts["results"]["test"]) >= {"accuracy", "accuracy/ferplus", "macro_f1/affectnet_yolo"}
    assert facts["pack"]["reader"] == "mixed"
    assert list(facts["pack"]["sources"]) == ["affectnet_yolo", "ferplus"]
    assert facts["splits"]["test"] == "affectnet_yolo test + ferplus val (also used for model selection)"


@pytest.mark.slow
def test_evaluate_and_export_name_the_data_sets(run, command, output, tmp_path):
    arguments = [f"checkpoint={run}", f"output={tmp_path / 'ev'}", "resamples=50", "errors=0"]
    assert "\ndata set " in output("emodet.evaluate", *arguments)
    assert "Data sets of the mix" in (tmp_path / "ev/report.html").read_text()
    report = json.loads((tmp_path / "ev/report.json").read_text())
    faces = {"affectnet_yolo": 24, "ferplus": report["faces"] - 24}
    right = sum(count * report["metrics"][f"accuracy/{name}"]["value"] for name, count in faces.items())
    assert right / report["faces"] == pytest.approx(report["metrics"]["accuracy"]["value"])
    before = json.loads((run / "run.json").read_text())["results"]["test"]["accuracy/ferplus"]["value"]
    assert report["metrics"]["accuracy/ferplus"]["value"] == pytest.approx(before)
    assert command("emodet.export", f"checkpoint={run}", f"output={tmp_path / 'ex'}", "formats=[fp32]") == 0
    info = read_model_file(tmp_path / "ex/emodet-fp32.onnx").info
    assert [data.name for data in info.training_data] == ["drawn faces, as AffectNet (YOLO export)", "FER+"]
    assert "MIT licence" in info.training_data[1].terms
    tested = info.metrics["affectnet_yolo test + ferplus val (also used for model selection)"]
    assert tested["accuracy/ferplus"] == before


@pytest.mark.slow
def test_a_moved_data_set_is_given_by_its_root(run, ferplus, command, refused, tmp_path, monkeypatch):
    monkeypatch.setenv("EMODET_PACKS", str(tmp_path / "packs"))
    moved = tmp_path / "moved"
    shutil.copytree(ferplus, moved)
    config = OmegaConf.load(run / "config.yaml")
    config.data.sources.ferplus.root = str(tmp_path / "gone")
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    OmegaConf.save(config, copy / "config.yaml")
    arguments = [f"checkpoint={copy}", f"output={tmp_path / 'ev'}", "resamples=0", "errors=0"]
    message = refused("emodet.evaluate", *arguments)
    assert "data.sources: ferplus: data.root=" in message
    assert "does not exist" in message
    assert command("emodet.evaluate", *arguments, f"data.sources={{ferplus: {{root: {moved}}}}}") == 0


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([], "data.sources is empty: name data sets, as in data.sources=[affectnet8,rafdb]. There are affectnet"),
        (["rafdbb"], "data.sources: rafdbb: there is no data set 'rafdbb'; there are affectnet"),
        (["rafdb", "rafdb"], "names of data sets, each once"),
        (["mixed"], "there is no data set 'mixed'"),
        (["rafdb"], "data.sources={rafdb: {root: /path}}"),
        ({"rafdb": "/path"}, "'/path'}: expected names of data sets, each once, or settings by name"),
        (7, "data.sources=7: expected names of data sets"),
        ({"rafdb": {"root": "/x", "batch_size": 3}}, "data.sources: rafdb: batch_size cannot be set"),
        ({"mine": {"data": "nothing", "root": "/x"}}, "data.sources: mine: there is no data set 'nothing'"),
        ({"a b": {"root": "x"}}, "'data.sources: a b': expected a name of letters"),
        ({"a": {"root": "x", "rot": 1}}, "data.sources: a: rot cannot be set for one data set; there are root"),
        ({"a": {"root": "x", "weight": 0}}, "data.sources: a: weight=0"),
        ({"a": {"root": "x", "weight": float("nan")}}, "weight=nan"),
        ({"a": {"root": "x", "labels": "both"}}, "data.sources: a: data.labels='both'"),
        ({"a": {"root": "x", "classes": 6}}, "data.sources: a: data.classes=6"),
    ],
)
def test_sources_that_cannot_be_resolved(sources, message):
    with pytest.raises(EmodetError) as caught:
        build_data({"data": {"sources": sources}})
    assert message in str(caught.value)


def test_settings_of_a_data_set_override_those_of_all_and_its_file():
    sources = {"expw": {"root": "/x"}, "ferplus": {"root": "/y", "labels": "soft"}, "mine": {"root": "/z", "weight": 2}}
    plain = resolved_sources({"sources": sources})
    assert plain["expw"] == {"root": "/x", "reader": "expw", "crop": "box", "classes": 7}
    assert plain["ferplus"]["val_from"] == "val"
    assert plain["mine"] == {"root": "/z", "weight": 2}
    over = resolved_sources({"sources": sources, "crop": "image", "labels": "hard", "val_from": 0.2})
    assert [over[name]["crop"] for name in over] == ["image"] * 3
    assert [over[name]["labels"] for name in over] == ["hard", "soft", "hard"]
    assert [over[name]["val_from"] for name in over] == [0.2] * 3
    # What a run's folder holds is resolved to itself.
    assert resolved_sources({"sources": plain}) == plain
