"""A run folder or checkpoint that someone sent runs no code, whatever it names."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from test_checkpoints import Marks

from emodet.errors import EmodetError
from emodet.training.trained import load_trained

pytestmark = pytest.mark.usefixtures("without_pictures")


@pytest.fixture
def run(trained_run, tmp_path):
    """A copy of a finished run, as someone may have changed it."""
    return shutil.copytree(trained_run, tmp_path / "run")


def hostile(marker):
    """Changes to ``config.yaml`` that would make a folder if they ran, or open a pickle."""
    evil = {"_target_": "os.mkdir", "path": str(marker)}
    opens = {"_target_": "torch.load", "f": str(marker.parent / "evil.pt"), "weights_only": False}
    return {
        "net": {"net": {**evil, "_target_": "os.system", "command": f"mkdir {marker}"}},
        "a function of a trusted package": {"net": opens},
        "an alias of another package's": {"net": {"_target_": "torch.os.mkdir", "path": str(marker)}},
        "nested": {
            "callbacks": {"mine": {"_target_": "lightning.pytorch.callbacks.LambdaCallback", "on_fit_start": evil}}
        },
        "callbacks": {"callbacks": {"mine": evil}},
        "logger": {"logger": {"mine": evil}},
        "trainer": {"trainer": {"_target_": "subprocess.run", "args": ["mkdir", str(marker)]}},
        "where no class belongs": {"data": {"root": opens}},
        "Hydra's callbacks": {"hydra": {"callbacks": {"mine": evil}}},
        "a defaults list": {"defaults": [{"/hydra/callbacks@hydra.callbacks": "mine"}, "/etc/evil"]},
        "an interpolation": {"name": "${oc.env:HOME}"},
        "its own word of trust": {"trust": ["os"], "net": {**evil, "_target_": "os.system"}},
    }


QUICK = ("net", "nested", "a defaults list")


@pytest.mark.parametrize(
    "change", [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in hostile(Path("/x"))]
)
def test_a_hostile_configuration_is_refused(change, run, command, refused, tmp_path):
    marker = tmp_path / "it_ran"
    torch.save(Marks(marker), tmp_path / "evil.pt")
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    text = yaml.safe_dump({**config, **hostile(marker)[change]}, sort_keys=False)
    (run / "config.yaml").write_text(text, encoding="utf-8")
    refused("emodet.train", f"resume={run}")
    assert not marker.exists()
    command("emodet.evaluate", f"checkpoint={run}", "errors=0", "resamples=0")
    assert not marker.exists()
    assert (run / "config.yaml").read_text(encoding="utf-8") == text


@pytest.mark.parametrize("damage", [{"results": 5}, {"pack": []}, {"splits": None}, {"results": {"test": {"nll": {}}}}])
def test_a_damaged_record_is_refused(run, damage):
    facts = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**facts, **damage}))
    with pytest.raises(EmodetError, match=r"run\.json of its run is damaged"):
        load_trained(run)


def test_a_pickle_is_refused(run, refused, tmp_path):
    marker = tmp_path / "it_ran"
    for name in ("best.ckpt", "last.ckpt"):
        (run / "checkpoints" / name).write_bytes(pickle.dumps(Marks(marker)))
    refused("emodet.train", f"resume={run}")
    assert not marker.exists()
