"""The optimizer, against torch's own class."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from reluscope import build_network
from reluscope.networks.fixup import scalar_parameters
from reluscope.training.methods import method_from_config
from reluscope.training.sgd import SGD


def networks(name: str) -> tuple[nn.Module, nn.Module]:
    made = []
    for _ in range(2):
        torch.manual_seed(0)
        made.append(build_network(name, in_channels=1).to(memory_format=torch.channels_last))
    return made[0], made[1]


def torchs(network: nn.Module, nesterov: bool, weight_decay: float, factor: float) -> torch.optim.SGD:
    scalars = {id(parameter) for parameter in scalar_parameters(network)}
    groups = [
        {"params": [p for p in network.parameters() if (id(p) in scalars) == of_scalars], "factor": f}
        for of_scalars, f in ((False, 1.0), (True, factor))
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.SGD(groups, lr=1, momentum=0.9, nesterov=nesterov, weight_decay=weight_decay, fused=True)


@pytest.mark.parametrize("name", ["resnet8", "fixup_resnet8"])
@pytest.mark.parametrize("settings", [{}, {"nesterov": True, "weight_decay": 0.01}])
def test_every_bit_is_that_of_torchs_class(name: str, settings: dict[str, object]) -> None:
    method = method_from_config("fixup", settings)
    ours, theirs = networks(name)
    optimizer = SGD(ours, method)
    expected = torchs(theirs, method.nesterov, method.weight_decay, method.scalar_learning_rate_factor)
    for step, (rate, momentum) in enumerate([(0.1, 0.9), (0.3, 0.85), (0.01, 0.95)]):
        images = torch.randn(12, 1, 8, 8, generator=torch.Generator().manual_seed(step))
        for network in (ours, theirs):
            network.zero_grad()
            network(images).square().sum().backward()
        for group in expected.param_groups:
            group["lr"], group["momentum"] = rate * group["factor"], momentum
        expected.step()
        optimizer.step(rate, momentum)
        if step == 1:  # from here on with what was saved
            saved, optimizer = optimizer.state(), SGD(ours, method)
            optimizer.load_state(saved, torch.device("cpu"))
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)


def test_fixups_scalars_learn_more_slowly() -> None:
    network, _ = networks("fixup_resnet8")
    before = [parameter.detach().clone() for parameter in network.parameters()]
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    SGD(network, method_from_config("fixup", {"weight_decay": 0.0})).step(0.5, 0.9)
    pairs = zip(network.parameters(), before, strict=True)
    moved = {parameter.numel(): float((then - parameter.detach()).mean()) for parameter, then in pairs}
    assert moved[1] == pytest.approx(0.05)
    assert moved[64 * 64 * 9] == pytest.approx(0.5)


def test_parameters_without_a_gradient_stay_and_momentum_may_be_none() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    before = [parameter.detach().clone() for parameter in network.parameters()]
    for parameter in network[0].parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer = SGD(network, method_from_config("stepwise", {"weight_decay": 0.0}))
    optimizer.step(0.5, 0.0)
    moved = [torch.equal(then, now) for then, now in zip(before, network.parameters(), strict=True)]
    assert moved == [False, False, True, True]
    assert optimizer.state() == {}
    optimizer.step(0.5, 0.9)
    assert set(optimizer.state()) == {"0", "1"}


def test_the_compiler_is_not_imported() -> None:
    script = (
        "import sys, torch; from torch import nn; from reluscope.training.sgd import SGD\n"
        "from reluscope.training.methods import method_from_config\n"
        "network = nn.Linear(2, 1); optimizer = SGD(network, method_from_config('stepwise', {}))\n"
        "network(torch.ones(1, 2)).sum().backward(); optimizer.step(0.1, 0.9)\n"
        "assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
