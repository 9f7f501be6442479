"""Option A shortcuts, and the pre-activation block."""

import pytest
import torch
from torch import nn

import reluscope
from reluscope.networks.parts import PadShortcut, pad_shortcut


def test_pad_shortcut_by_hand():
    # Two channels of 3 x 4 pixels; three new channels: one before, two after.
    image = torch.tensor(
        [[[0.0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]], [[20, 21, 22, 23], [24] * 4, [28, 29, 30, 31]]]
    )
    zero = torch.zeros(2, 2)
    expected = torch.stack([zero, torch.tensor([[0.0, 2], [8, 10]]), torch.tensor([[20.0, 22], [28, 30]]), zero, zero])
    assert torch.equal(PadShortcut(2, 5, stride=2)(image[None]), expected[None])


def test_pad_shortcut_widens_without_stride():
    x = torch.arange(18.0).reshape(2, 1, 3, 3)
    assert torch.equal(pad_shortcut(1, 3, 1)(x), torch.cat([0 * x, x, 0 * x], dim=1))


def test_pad_shortcut_is_the_identity_where_nothing_changes():
    x = torch.randn(2, 4, 5, 5)
    assert pad_shortcut(4, 4, 1)(x) is x


def silence_branches(network: nn.Module) -> None:
    for name, parameter in network.named_parameters():
        if name.endswith("conv2.weight"):
            nn.init.zeros_(parameter)


@pytest.mark.parametrize("size", [(16, 16), (9, 11)])
def test_silenced_branches_leave_the_shortcuts(size):
    torch.manual_seed(0)
    network = reluscope.build_network("resnet20")
    silence_branches(network)
    images = torch.randn(4, 3, *size)
    convolved = network.conv(images).detach()
    passed = torch.zeros(4, 64, -(-size[0] // 4), -(-size[1] // 4))
    passed[:, 24:40] = convolved[:, :, ::4, ::4]  # 8 zero channels on either side, then 16
    assert torch.equal(network.stage3(network.stage2(network.stage1(convolved))), passed)


def test_convnet_has_no_shortcuts():
    torch.manual_seed(0)
    network = reluscope.build_network("convnet20")
    silence_branches(network)
    assert not network.stage1(torch.randn(2, 16, 8, 8)).any()


def test_block_is_preactivated():
    """The branch, recomputed in the order BN, ReLU, convolution, twice; the shortcut leaves before the first BN."""
    torch.manual_seed(0)
    block = reluscope.build_network("resnet8").stage2.block0
    x = torch.randn(5, 16, 8, 8)
    out = x
    for stride, conv in ((2, block.conv1), (1, block.conv2)):
        mean, var = out.mean((0, 2, 3), keepdim=True), out.var((0, 2, 3), unbiased=False, keepdim=True)
        out = nn.functional.conv2d(((out - mean) / (var + 1e-5).sqrt()).clamp(min=0), conv.weight, None, stride, 1)
    out[:, 8:24] += x[:, :, ::2, ::2]
    torch.testing.assert_close(block(x), out)


def test_widths():
    network = reluscope.build_network("resnet8", widths=(8, 13, 21))
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert [conv.out_channels for conv in convolutions] == [8, 8, 8, 13, 13, 21, 21]
    assert [conv.stride[0] for conv in convolutions] == [1, 1, 1, 2, 1, 2, 1]
