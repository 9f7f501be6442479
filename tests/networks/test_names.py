import subprocess
import sys

import pytest

from reluscope.networks import check_network, network_families
from reluscope.networks.names import NetworkSpec, resolve_network


def test_families():
    assert network_families() == ["convnet", "fixup_resnet", "pyramidnet", "resnet", "toynet"]


@pytest.mark.parametrize(
    ("name", "options", "spec"),
    [
        ("resnet20", {}, NetworkSpec("resnet", 20, "relu", (16, 32, 64))),
        ("resnet", {}, NetworkSpec("resnet", 20, "relu", (16, 32, 64))),
        ("convnet", {"depth": 8}, NetworkSpec("convnet", 8, "relu", (16, 32, 64))),
        ("toynet32", {"depth": 32}, NetworkSpec("toynet", 32, "relu", (32, 32, 32))),
        ("pyramidnet20", {"activation": "prelu"}, NetworkSpec("pyramidnet", 20, "prelu", ())),
        ("fixup_resnet14", {"widths": [8, 8, 12]}, NetworkSpec("fixup_resnet", 14, "relu", (8, 8, 12))),
        ("toynet8", {"widths": [9, 5, 7]}, NetworkSpec("toynet", 8, "relu", (9, 5, 7))),
    ],
)
def test_resolved(name, options, spec):
    assert resolve_network(name, **options) == spec


@pytest.mark.parametrize(("depth", "blocks_per_stage"), [(8, 1), (14, 2), (20, 3), (26, 4), (32, 5)])
def test_blocks_per_stage(depth, blocks_per_stage):
    assert resolve_network(f"resnet{depth}").blocks_per_stage == blocks_per_stage


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "resnt20",
            {},
            "^network: unknown family 'resnt' in 'resnt20'; did you mean 'resnet'\\? "
            "allowed are convnet, fixup_resnet, pyramidnet, resnet, toynet$",
        ),
        ("ResNet20", {}, "unknown family 'ResNet' in 'ResNet20'; did you mean 'resnet'\\?"),
        ("vgg", {}, "unknown family 'vgg'; allowed are convnet, "),
        ("", {}, "network: unknown family ''; allowed are"),
        ("20", {}, "network: unknown family '' in '20'; allowed are"),
        ("resnet20\n", {}, "network: unknown family 'resnet20.*did you mean 'resnet'"),
        (None, {}, "network: unknown family None; allowed are"),
        ("resnet20", {"depth": 32}, "depth: expected 20, as in network 'resnet20', but got 32"),
        ("resnet18", {}, "nearest: 14 and 20\\), but got 18"),
        ("resnet", {"depth": 21}, "nearest: 20 and 26\\), but got 21"),
        ("resnet2", {}, "nearest: 8\\), but got 2"),
        ("resnet0", {}, "depth: expected an integer 6n \\+ 2 .* but got 0"),
        ("resnet", {"depth": "20"}, "depth: expected an integer 6n \\+ 2 .* but got '20'"),
        ("resnet", {"depth": 20.0}, "depth: expected an integer 6n \\+ 2 .* but got 20.0"),
        ("resnet20", {"activation": "rellu"}, "activation: unknown 'rellu'; did you mean 'relu'\\? allowed are relu, "),
        ("resnet20", {"activation": None}, "activation: unknown None; allowed are relu, prelu, leaky_relu$"),
        (
            "resnet20",
            {"widths": [16, 32]},
            "widths: expected three positive integers, one a stage, but got \\[16, 32\\]",
        ),
        ("resnet20", {"widths": [0, 1, 2]}, "widths: expected three positive integers"),
        ("resnet20", {"widths": [True, 1, 2]}, "widths: expected three positive integers"),
        ("resnet20", {"widths": 16}, "widths: expected three positive integers, one a stage, but got 16"),
        ("resnet20", {"widths": [32, 16, 64]}, "widths: expected none below the one before, as resnet pads"),
        ("fixup_resnet20", {"widths": [32, 64, 16]}, "widths: expected none below the one before"),
        ("pyramidnet20", {"widths": [16, 32, 64]}, "widths: expected none, as pyramidnet grows its own"),
    ],
)
def test_refused_in_one_line(name, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        check_network(name, **options)
    assert len(str(caught.value).splitlines()) == 1


def test_checking_does_not_import_torch():
    code = (
        "import sys; from reluscope.networks import check_network, network_families; "
        "from reluscope.networks.names import resolve_network; "
        "[check_network(family) for family in network_families()]; print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
