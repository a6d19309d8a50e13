"""The net is the published one, layer for layer."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from emodet.errors import EmodetError
from emodet.models.residual_cnn import ResidualCNN


def order_of_calls(net: nn.Module, x: torch.Tensor) -> list[str]:
    """The names of the leaf modules' classes in the order in which a forward pass runs them."""
    calls: list[str] = []
    for module in net.modules():
        if not list(module.children()):
            module.register_forward_hook(lambda layer, _i, _o: calls.append(type(layer).__name__))
    net(x)
    return calls


def test_it_has_the_published_number_of_parameters() -> None:
    net = ResidualCNN()
    assert sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad) == 1_976_072
    running = sum(
        value.numel() for name, value in net.named_buffers() if name.endswith(("running_mean", "running_var"))
    )
    assert running == 3_008
    assert 1_976_072 + running == 1_979_080


def test_its_layers_run_in_the_published_order() -> None:
    stage = [
        *("Conv2d", "BatchNorm2d", "ReLU"),
        *("Conv2d", "BatchNorm2d", "ReLU", "Conv2d", "BatchNorm2d", "ReLU"),
        *("MaxPool2d", "Dropout"),
    ]
    head = ["AdaptiveAvgPool2d", "Flatten", "Linear", "ReLU", "BatchNorm1d", "Dropout", "Linear"]
    assert order_of_calls(ResidualCNN().eval(), torch.zeros(1, 3, 96, 96)) == [*4 * stage, *head]


def test_widths_kernels_dropouts_and_biases() -> None:
    net = ResidualCNN()
    convolutions = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    widths = [32, 32, 32, 64, 64, 64, 128, 128, 128, 256, 256, 256]
    assert [layer.out_channels for layer in convolutions] == widths
    assert {layer.kernel_size for layer in convolutions} == {(3, 3)}
    assert all(layer.bias is not None for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.Linear))
    assert [layer.p for layer in net.modules() if isinstance(layer, nn.Dropout)] == [0.2, 0.2, 0.3, 0.3, 0.4]
    assert [layer.out_features for layer in net.modules() if isinstance(layer, nn.Linear)] == [64, 8]


def test_the_residual_block_adds_its_input_before_the_last_relu() -> None:
    block = ResidualCNN().stages[0].get_submodule("3").eval()
    x = torch.randn(2, 32, 6, 6)
    inner = block.norm2(block.conv2(torch.relu(block.norm1(block.conv1(x)))))
    torch.testing.assert_close(block(x), torch.relu(inner + x))


def test_one_pass_costs_the_published_work() -> None:
    with FlopCounterMode(display=False) as counter:
        ResidualCNN().eval()(torch.zeros(1, 3, 96, 96))
    assert counter.get_total_flops() / 2 == pytest.approx(0.815e9, rel=1e-3)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("side", [16, 48, 96, 100, 112])
def test_logits_come_out_in_both_modes_and_at_other_sizes(training: bool, side: int) -> None:
    logits = ResidualCNN(num_classes=7).train(training)(torch.randn(3, 3, side, side))
    assert logits.shape == (3, 7)
    assert not torch.allclose(logits.sum(dim=1), torch.ones(3))  # not probabilities
    assert (logits < 0).any()


def test_stages_and_dropouts_must_fit() -> None:
    with pytest.raises(EmodetError, match=r"net\.channels=\[8, 8\].*net\.stage_dropout=\[0\.1\].*equally long"):
        ResidualCNN(channels=[8, 8], stage_dropout=[0.1])
