"""Parameters and multiply-adds."""

import torch
from torch import nn

from emodet.models.cost import net_cost
from emodet.models.residual_cnn import ResidualCNN


def test_the_net_as_published() -> None:
    cost = net_cost(ResidualCNN(), 96)
    assert cost.parameters == 1_976_072
    assert cost.statistics == 3_008
    assert round(cost.multiply_adds / 1e9, 3) == 0.815
    assert str(cost) == "1,976,072 trainable parameters, 0.815 G multiply-adds for a face of 96 px"


def test_a_multiply_add_is_one_and_biases_and_norms_are_none() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5, 2),
    )
    assert net_cost(net, 8).multiply_adds == 8 * 8 * 5 * 3 * 9 + 5 * 2


def test_counting_leaves_no_trace() -> None:
    net = ResidualCNN(channels=(4, 4, 8, 8), features=8).train()
    net.head[1].weight.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    torch.manual_seed(0)
    state = torch.get_rng_state()
    cost = net_cost(net, 32)
    assert torch.equal(torch.get_rng_state(), state)
    assert net.training
    assert all(module.training for module in net.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert cost.parameters == sum(each.numel() for each in net.parameters()) - net.head[1].weight.numel()
