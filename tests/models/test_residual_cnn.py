"""The net is the published one, layer for layer, and costs what it did."""

import pytest
import torch
from torch import nn

from emodet.errors import EmodetError
from emodet.models.nets import net_cost
from emodet.models.residual_cnn import ResidualCNN


def test_layers_in_the_published_order_with_their_widths_kernels_dropouts_and_biases():
    stage = [*3 * ("Conv2d", "BatchNorm2d", "ReLU"), "MaxPool2d", "Dropout"]
    head = ["AdaptiveAvgPool2d", "Flatten", "Linear", "ReLU", "BatchNorm1d", "Dropout", "Linear"]
    net, calls = ResidualCNN().eval(), []
    for module in net.modules():
        if not list(module.children()):
            module.register_forward_hook(lambda layer, _i, _o: calls.append(type(layer).__name__))
    net(torch.zeros(1, 3, 96, 96))
    assert calls == [*4 * stage, *head]
    convolutions = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    widths = [32, 32, 32, 64, 64, 64, 128, 128, 128, 256, 256, 256]
    assert [layer.out_channels for layer in convolutions] == widths
    assert {layer.kernel_size for layer in convolutions} == {(3, 3)}
    assert all(layer.bias is not None for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.Linear))
    assert [layer.p for layer in net.modules() if isinstance(layer, nn.Dropout)] == [0.2, 0.2, 0.3, 0.3, 0.4]
    assert [layer.out_features for layer in net.modules() if isinstance(layer, nn.Linear)] == [64, 8]


def test_the_residual_block_adds_its_input_before_the_last_relu():
    block = ResidualCNN().stages[0].get_submodule("3").eval()
    x = torch.randn(2, 32, 6, 6)
    inner = block.norm2(block.conv2(torch.relu(block.norm1(block.conv1(x)))))
    torch.testing.assert_close(block(x), torch.relu(inner + x))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("side", [16, 48, 96, 100, 112])
def test_logits_come_out_in_both_modes_and_at_other_sizes(training, side):
    torch.manual_seed(0)
    logits = ResidualCNN(num_classes=7).train(training)(torch.randn(3, 3, side, side))
    assert logits.shape == (3, 7)
    assert not torch.allclose(logits.sum(dim=1), torch.ones(3))  # not probabilities
    assert (logits < 0).any()


def test_the_net_as_published_and_its_stages_and_dropouts_must_fit():
    net = ResidualCNN()
    parameters, multiply_adds = net_cost(net, 96)
    assert parameters == 1_976_072
    assert sum(each.numel() for name, each in net.named_buffers() if "running" in name) == 3_008
    assert round(multiply_adds / 1e9, 3) == 0.815
    with pytest.raises(EmodetError, match=r"net\.channels=\[8, 8\].*net\.stage_dropout=\[0\.1\].*equally long"):
        ResidualCNN(channels=[8, 8], stage_dropout=[0.1])


def test_the_cost_is_trainable_parameters_and_multiply_adds_without_biases_and_norms():
    body = nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    net = nn.Sequential(*body, nn.Linear(5, 2))
    net[0].weight.requires_grad_(False)
    assert net_cost(net, 8) == (5 + 10 + 12, 8 * 8 * 5 * 3 * 9 + 5 * 2)


def test_mirror_averages_the_logits_of_both_images_in_evaluation_mode():
    plain, net = (ResidualCNN(num_classes=7, mirror=mirror).eval() for mirror in (False, True))
    net.load_state_dict(plain.state_dict())
    x = torch.randn(3, 3, 32, 32)
    torch.testing.assert_close(net(x), (plain(x) + plain(x.flip(3))) / 2)
    torch.testing.assert_close(net(x), net(x.flip(3)))
    torch.testing.assert_close(net(x[:1]), net(x)[:1])
    assert net.pooled_features(x).shape == (3, 512)
