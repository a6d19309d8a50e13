"""Optimizers and schedules: what decays, and the shape of the curves."""

import itertools

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from emodet.errors import EmodetError
from emodet.models.optimization import build_optimizer, build_schedule
from emodet.models.residual_cnn import ResidualCNN


def curve(settings: dict[str, object], steps: int, lr: float = 0.4) -> list[float]:
    """The learning rate of each of `steps` optimizer steps."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = build_schedule(settings, optimizer, steps, epochs=5)["scheduler"]
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(("name", "kind"), [("adam", "Adam"), ("adamw", "AdamW"), ("sgd", "SGD")])
def test_norms_and_biases_do_not_decay(name: str, kind: str) -> None:
    net = ResidualCNN()
    optimizer = build_optimizer({"name": name, "lr": 0.1, "weight_decay": 0.3}, net)
    assert type(optimizer).__name__ == kind
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    assert decays.keys() == names.keys()
    kernels = {f"{path}.weight" for path, module in net.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)}
    assert {names[key] for key, decay in decays.items() if decay == 0.3} == kernels
    assert {decay for key, decay in decays.items() if names[key] not in kernels} == {0.0}


def test_frozen_parameters_are_left_out() -> None:
    net = nn.Linear(2, 2)
    net.bias.requires_grad_(False)
    optimizer = build_optimizer({"name": "sgd", "lr": 1.0}, net)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "adan"}, r"optimizer\.name='adan': there are adam, adamw, sgd"),
        ({}, "there are adam, adamw, sgd"),
        ({"name": "adam", "momentum": 0.9}, "adam does not take .*momentum"),
        ({"name": "adamw", "lr": -1.0}, "adamw does not take .*learning rate"),
        ({"name": "adamw", "lr": 0.1, "weight_decay": -1.0}, "adamw does not take .*weight_decay"),
    ],
)
def test_optimizers_that_cannot_be(settings: dict[str, object], message: str) -> None:
    with pytest.raises(EmodetError, match=message):
        build_optimizer(settings, nn.Linear(2, 2))


def test_cosine_rises_for_its_share_then_falls_to_the_end() -> None:
    rates = curve({"name": "cosine", "warmup": 0.1, "final": 0.05}, 200)
    peak = rates.index(max(rates))
    assert 18 <= peak <= 21
    assert max(rates) == pytest.approx(0.4, rel=0.01)
    assert rates[0] == pytest.approx(0.4 / 20)
    assert all(a < b for a, b in itertools.pairwise(rates[:peak]))
    assert all(a > b for a, b in itertools.pairwise(rates[peak:]))
    assert rates[110] == pytest.approx((0.4 + 0.02) / 2, rel=0.02)  # half way down
    assert rates[-1] == pytest.approx(0.4 * 0.05, rel=0.02)


def test_onecycle_starts_at_a_25th_and_ends_at_its_final_share() -> None:
    rates = curve({"name": "onecycle", "warmup": 0.25, "final": 0.01}, 100)
    assert rates[0] == pytest.approx(0.4 / 25)
    assert 23 <= rates.index(max(rates)) <= 25
    assert max(rates) == pytest.approx(0.4)
    assert rates[-1] == pytest.approx(0.4 * 0.01)


@pytest.mark.parametrize("name", ["cosine", "onecycle"])
@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_short_runs_have_a_schedule_too(name: str, steps: int) -> None:
    assert all(0 <= rate <= 0.4 + 1e-9 for rate in curve({"name": name}, steps))


def test_plateau_lowers_when_the_monitored_value_stops_improving() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    built = build_schedule(
        {"name": "plateau", "factor": 0.1, "patience": 1, "monitor": "val/accuracy"}, optimizer, 10, 5
    )
    scheduler = built["scheduler"]
    assert isinstance(scheduler, ReduceLROnPlateau)
    assert built["monitor"] == "val/accuracy"
    for accuracy in (0.1, 0.5, 0.6):  # improves: the larger the better
        scheduler.step(accuracy)
    assert optimizer.param_groups[0]["lr"] == 1.0
    scheduler.step(0.6)
    scheduler.step(0.5)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "cosin"}, r"schedule\.name='cosin': there are plateau, cosine, onecycle"),
        ({"name": "cosine", "patience": 3}, "cosine does not take .*patience"),
        ({"name": "cosine", "warmup": 1.0}, r"schedule\.warmup=1\.0"),
        ({"name": "onecycle", "final": -0.1}, r"schedule\.final=-0\.1"),
        ({"name": "plateau", "factor": 1.0}, "plateau does not take"),
    ],
)
def test_schedules_that_cannot_be(settings: dict[str, object], message: str) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    with pytest.raises(EmodetError, match=message):
        build_schedule(settings, optimizer, 10, 5)
