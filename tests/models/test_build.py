"""Nets by class, and what a file may name: nothing that runs code of others."""

import shutil
import sys

import own_classes
import pytest
import torch
from made_classifiers import RESIDUAL
from torch import nn

from emodet.errors import EmodetError
from emodet.models.build import require_trusted, spec_of, trust
from emodet.models.classifier import EmotionClassifier
from emodet.models.nets import build_net
from emodet.preprocessing import Preprocessing

TIMM = {"_target_": "emodet.models.nets.TimmNet", "model": "test_resnet"}


@pytest.fixture
def own_package(tmp_path, monkeypatch):
    """`own_classes` under a name of each test's own: what was trusted once stays so in a process."""
    name = f"classes_of_{tmp_path.name}"
    shutil.copy(own_classes.__file__, tmp_path / f"{name}.py")
    monkeypatch.syspath_prepend(tmp_path)
    return name


@pytest.mark.parametrize(
    ("net", "message"),
    [
        ({"name": "os.system"}, r"net\._target_=None"),
        ({"_target_": RESIDUAL, "chanels": [1]}, r"net\.chanels: .*there are channels"),
        ({"_target_": RESIDUAL, "num_classes": 3}, r"net\.num_classes: "),
        ({"_target_": "os.system", "command": "true"}, r"net\._target_=os\.system: refused.*trust=\[os\]"),
        ({"_target_": "torch.hub.load", "repo_or_dir": "x", "model": "y"}, r"torch\.hub\.load: refused"),
        ({"_target_": "torch.optim.SGD", "lr": 1.0}, r"torch\.optim\.SGD: refused.*Module"),
        ({"_target_": "emodet.models.build.pydoc.locate", "path": "x"}, "refused"),
        ({"_target_": "emodet.models.nets.nn.Module.apply"}, "refused"),
        ({"_target_": "torch.nn.Nothing"}, r"torch\.nn\.Nothing: cannot be imported"),
        ({"_target_": RESIDUAL, "channels": {"_target_": "os.getcwd"}}, r"os\.getcwd: refused"),
        # Arguments of timm that name files and addresses.
        *(({**TIMM, key: "elsewhere"}, rf"net\.{key}: .*init_from") for key in ("checkpoint_path", "cache_dir")),
        *(({**TIMM, key: {}}, rf"net\.{key}: .*init_from") for key in ("pretrained_cfg", "pretrained_cfg_overlay")),
    ],
)
def test_nets_that_are_refused(net, message):
    with pytest.raises(EmodetError, match=message):
        build_net(net, 8)


def test_a_package_of_the_users_is_refused_until_it_is_trusted(own_package):
    spec = {"_target_": f"{own_package}.OwnNet", "width": 2}
    with pytest.raises(EmodetError, match=rf"trust=\[{own_package}\]"):
        build_net(spec, 3)
    assert own_package not in sys.modules
    trust(own_package)
    assert build_net(spec, 3)(torch.zeros(1, 3, 16, 16)).shape == (1, 3)
    assert build_net({"_target_": f"{own_package}.make_net"}, 3)(torch.zeros(1, 3, 16, 16)).shape == (1, 3)


def test_a_net_that_an_installed_package_registers_is_accepted(own_package, tmp_path):
    metadata = tmp_path / "mylab-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: mylab\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[emodet.nets]\nmine = {own_package}:OwnNet\n")
    assert build_net({"_target_": f"{own_package}.OwnNet", "width": 2}, 3)(torch.zeros(1, 3, 16, 16)).shape == (1, 3)
    with pytest.raises(EmodetError, match=rf"trust=\[{own_package}\]"):
        build_net({"_target_": f"{own_package}.make_net"}, 3)


def test_functions_of_emodet_are_accepted_for_what_they_return_and_objects_asked_for_again():
    scheduler = {"_target_": "emodet.models.optimization.cosine"}
    require_trusted(scheduler, (torch.optim.lr_scheduler.LRScheduler, dict), "config.yaml: scheduler")
    with pytest.raises(EmodetError, match=r"config\.yaml: scheduler\._target_=.*refused"):
        require_trusted(scheduler, nn.Module, "config.yaml: scheduler")
    stored = spec_of(nn.Linear(1, 1))
    assert stored == {"_object_": "torch.nn.modules.linear.Linear"}
    with pytest.raises(EmodetError, match=r"net: .*torch\.nn\.modules\.linear\.Linear.*net="):
        EmotionClassifier(stored, ["a", "b"])


def test_nets_of_timm_and_without_timm_the_extra_is_named(monkeypatch):
    pytest.importorskip("timm")
    net = build_net({**TIMM, "in_chans": 3}, 7, Preprocessing().to_dict()).eval()
    assert net(torch.zeros(2, 3, 64, 64)).shape == (2, 7)
    with pytest.raises(EmodetError, match="no_such_argument"):
        build_net({**TIMM, "no_such_argument": 1}, 8)
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(EmodetError, match=r"needs timm: pip install 'emodet\[timm\]'"):
        build_net(TIMM, 8)
