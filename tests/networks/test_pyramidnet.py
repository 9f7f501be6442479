import pytest
import torch
from torch import nn

import reluscope
from reluscope.networks.pyramidnet import PoolShortcut, pyramid_widths


def test_widths_of_pyramidnet20():
    # 16 + 84 k / 9 = 25.33, 34.67, 44, 53.33, 62.67, 72, 81.33, 90.67, 100
    assert pyramid_widths(3) == [[25, 35, 44], [53, 63, 72], [81, 91, 100]]


@pytest.mark.parametrize("blocks_per_stage", [1, 2, 4, 5, 8])
def test_widths_rise_linearly_to_100(blocks_per_stage):
    widths = [16, *(width for stage in pyramid_widths(blocks_per_stage) for width in stage)]
    assert len(widths) == 3 * blocks_per_stage + 1
    assert widths[-1] == 100
    assert all(abs(width - 16 - 84 * k / (3 * blocks_per_stage)) <= 0.5 for k, width in enumerate(widths))


def test_pool_shortcut_by_hand():
    # 3 x 3 pixels: the windows at the right and lower border hold 2, 2 and 1 of them.
    image = torch.tensor([[[[0.0, 1, 2], [3, 4, 5], [6, 7, 8]]]])
    pooled = torch.tensor([[2.0, 3.5], [6.5, 8.0]])
    expected = torch.stack([pooled, torch.zeros(2, 2), torch.zeros(2, 2)])[None]
    assert torch.equal(PoolShortcut(1, 3, stride=2)(image), expected)


def test_block_ends_in_batch_norm():
    """BN, convolution, BN, ReLU, convolution, BN, recomputed; the shortcut leaves before the first BN."""
    torch.manual_seed(0)
    block = reluscope.build_network("pyramidnet8").stage1.block0
    x = torch.randn(4, 16, 6, 6)

    def normalised(tensor):
        var, mean = torch.var_mean(tensor, (0, 2, 3), correction=0, keepdim=True)
        return (tensor - mean) / (var + 1e-5).sqrt()

    out = nn.functional.conv2d(normalised(x), block.conv1.weight, padding=1)
    out = normalised(nn.functional.conv2d(normalised(out).clamp(min=0), block.conv2.weight, padding=1))
    out[:, :16] += x
    torch.testing.assert_close(block(x), out)


def test_first_convolution_is_followed_by_bn_alone():
    network = reluscope.build_network("pyramidnet20")
    assert [type(child) for child in list(network)[:3]] == [nn.Conv2d, nn.BatchNorm2d, nn.Sequential]
