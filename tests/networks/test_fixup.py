import pytest
import torch
from torch import nn

import reluscope
from reluscope.networks.fixup import scalar_parameters


def test_starts_with_zero_logits():
    torch.manual_seed(0)
    network = reluscope.build_network("fixup_resnet20")
    assert torch.equal(network(torch.randn(4, 3, 16, 16)), torch.zeros(4, 10))


@pytest.mark.parametrize("size", [(16, 16), (9, 11)])
def test_starts_with_blocks_that_pass_on_their_shortcut(size):
    network = reluscope.build_network("fixup_resnet20")
    x = torch.rand(2, 16, *size)  # as after an activation
    assert torch.equal(network.stage1(x), x)
    passed = torch.zeros(2, 32, -(-size[0] // 2), -(-size[1] // 2))
    passed[:, 8:24] = x[:, :, ::2, ::2]
    assert torch.equal(network.stage2(x), passed)


def test_block_in_post_activation_order():
    """Every scalar at a value of its own; the block recomputed from its parameters."""
    torch.manual_seed(0)
    block = reluscope.build_network("fixup_resnet8").stage1.block0
    nn.init.normal_(block.conv2.weight, std=0.1)
    a, b, c, m, d = 0.3, -0.2, 0.7, 1.5, -0.4
    for parameter, value in zip(scalar_parameters(block), (a, b, c, m, d), strict=True):
        nn.init.constant_(parameter, value)
    x = torch.randn(2, 16, 6, 6)
    inner = (nn.functional.conv2d(x + a, block.conv1.weight, padding=1) + b).clamp(min=0)
    expected = (nn.functional.conv2d(inner + c, block.conv2.weight, padding=1) * m + d + x).clamp(min=0)
    torch.testing.assert_close(block(x), expected)


def test_has_no_normalisation():
    network = reluscope.build_network("fixup_resnet20")
    assert not list(network.buffers())
    assert not any("norm" in type(module).__name__.lower() for module in network.modules())


def test_scalar_parameters():
    network = reluscope.build_network("fixup_resnet20")
    scalars = scalar_parameters(network)
    assert len(scalars) == len(set(map(id, scalars))) == 9 * 5 + 2
    assert all(parameter.shape == (1,) for parameter in scalars)
    assert sorted(parameter.item() for parameter in scalars) == [0.0] * 38 + [1.0] * 9
    assert [id(p) for p in scalars] == [id(p) for p in network.parameters() if p.numel() == 1]


@pytest.mark.parametrize("name", ["resnet8", "pyramidnet8", "convnet8"])
def test_other_networks_have_no_scalar_parameters(name):
    # A PReLU's slope has shape [1] too, but is not one of FixUp's scalars.
    assert scalar_parameters(reluscope.build_network(name, activation="prelu")) == []


def test_every_parameter_learns():
    """Within three steps nothing that starts at zero keeps its part of the network silent."""
    torch.manual_seed(0)
    network = reluscope.build_network("fixup_resnet8")
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    images, labels = torch.randn(8, 3, 12, 12), torch.arange(8)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
    unmoved = [name for name, parameter in network.named_parameters() if torch.equal(parameter, before[name])]
    assert unmoved == []
