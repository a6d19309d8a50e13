"""Optimizers and schedulers from specs: what decays, and the shape of the curves."""

import itertools

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR

from emodet.errors import EmodetError
from emodet.models.optimization import build_optimizer, build_scheduler
from emodet.models.residual_cnn import ResidualCNN
from emodet.training.assembly import build_trainer, default_precision
from emodet.training.folder import RunFolder


def optimizer_for(spec):
    return build_optimizer(spec, nn.Linear(2, 2))


def optimizer_of(lr=0.4):
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)


def spec(name, **arguments):
    return {"_target_": f"emodet.models.optimization.{name}", **arguments}


def curve(scheduler, steps=10):
    """The learning rate of each of `steps` optimizer steps."""
    optimizer = optimizer_of()
    built = build_scheduler(scheduler, optimizer, steps)
    assert built["interval"] == "step"
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        built["scheduler"].step()
    return rates


def test_norms_and_biases_do_not_decay_and_frozen_parameters_are_left_out():
    net = ResidualCNN()
    net.head[-1].requires_grad_(False)
    built = build_optimizer({"_target_": "torch.optim.AdamW", "lr": 0.1, "weight_decay": 0.3}, net)
    decays = {id(p): group["weight_decay"] for group in built.param_groups for p in group["params"]}
    names = {id(parameter): name for name, parameter in net.named_parameters() if parameter.requires_grad}
    assert decays.keys() == names.keys()
    kernels = {f"{path}.weight" for path, module in net.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)}
    assert {names[key] for key, decay in decays.items() if decay == 0.3} == kernels & set(names.values())
    assert {decay for key, decay in decays.items() if names[key] not in kernels} == {0.0}


def test_cosine_and_onecycle_rise_for_their_share_then_fall_to_the_end():
    rates = curve(spec("cosine", warmup=0.1, final=0.05), 200)
    peak = rates.index(max(rates))
    assert 18 <= peak <= 21
    assert max(rates) == pytest.approx(0.4, rel=0.01)
    assert rates[0] == pytest.approx(0.4 / 20)
    assert all(a < b for a, b in itertools.pairwise(rates[:peak]))
    assert all(a > b for a, b in itertools.pairwise(rates[peak:]))
    assert rates[110] == pytest.approx((0.4 + 0.02) / 2, rel=0.02)  # half way down
    assert rates[-1] == pytest.approx(0.4 * 0.05, rel=0.02)
    rates = curve(spec("onecycle", warmup=0.25, final=0.01), 100)
    assert rates[0] == pytest.approx(0.4 / 25)
    assert 23 <= rates.index(max(rates)) <= 25
    assert max(rates) == pytest.approx(0.4)
    assert rates[-1] == pytest.approx(0.4 * 0.01)


@pytest.mark.parametrize("name", ["cosine", "onecycle"])
@pytest.mark.parametrize("steps", [1, 2, 3, 5, 7])
def test_schedules_of_short_runs(name, steps):
    assert all(0 <= rate <= 0.4 + 1e-9 for rate in curve(spec(name, warmup=0.2), steps))


def test_plateau_takes_the_direction_of_its_metric_and_schedulers_of_torch_step_per_epoch():
    for monitor, mode in (("val/accuracy", "max"), ("val/loss", "min")):
        built = build_scheduler(spec("plateau", factor=0.1, patience=1, monitor=monitor), optimizer_of(1.0), 10)
        scheduler = built["scheduler"]
        assert isinstance(scheduler, ReduceLROnPlateau)
        assert (built["monitor"], scheduler.mode, scheduler.factor, scheduler.patience) == (monitor, mode, 0.1, 1)
    built = build_scheduler({"_target_": "torch.optim.lr_scheduler.StepLR", "step_size": 3}, optimizer_of(), 10)
    assert isinstance(built["scheduler"], StepLR)
    assert "interval" not in built


@pytest.mark.parametrize(
    ("build", "given", "message"),
    [
        (optimizer_for, {"_target_": "torch.optim.Adan"}, r"optimizer\._target_=torch\.optim\.Adan"),
        (optimizer_for, {"lr": 0.1}, r"optimizer\._target_=None"),
        (optimizer_for, {"_target_": "torch.optim.Adam", "momentum": 0.9}, "momentum"),
        (optimizer_for, {"_target_": "torch.optim.AdamW", "lr": -1.0}, "learning rate"),
        (optimizer_for, {"_target_": "torch.optim.AdamW", "lr": 0.1, "weight_decay": -1.0}, "weight_decay"),
        (curve, spec("cosin"), r"scheduler\._target_=emodet\.models\.optimization\.cosin"),
        (curve, spec("cosine", patience=3), "patience"),
        (curve, spec("cosine", warmup=1.0), r"scheduler\.warmup=1\.0"),
        (curve, spec("onecycle", final=-0.1), r"scheduler\.final=-0\.1"),
        (curve, spec("plateau", factor=1.0), "[Ff]actor"),
    ],
)
def test_invalid_optimizers_and_schedulers(build, given, message):
    with pytest.raises(EmodetError, match=message):
        build(given)


# Precision by the processor's features.


@pytest.mark.parametrize(
    ("flags", "precision"),
    [
        ({"avx2", "amx_tile", "amx_bf16"}, "bf16-mixed"),
        ({"avx512f", "avx512_bf16"}, "bf16-mixed"),
        ({"avx512f", "avx512_vnni"}, "32-true"),
        (None, "bf16-mixed|32-true"),
    ],
)
def test_a_cpu_uses_bf16_if_it_has_instructions_for_it(flags, precision):
    chosen, reason = default_precision("cpu", flags)
    assert chosen in precision.split("|")
    assert reason


def test_the_trainer_resolves_auto(tmp_path, caplog):
    options = {"_target_": "lightning.Trainer", "accelerator": "cpu", "precision": "auto"}
    with caplog.at_level("INFO"):
        trainer = build_trainer({"trainer": options, "callbacks": {}}, RunFolder(tmp_path))
    assert trainer.precision == default_precision("cpu")[0]
    assert f"precision: {trainer.precision} (" in caplog.text
