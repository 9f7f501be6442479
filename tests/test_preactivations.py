"""Pre-activations: which layers are seen, what they are called, and that the network stays as it was."""

import copy
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn

from reluscope.preactivations import Site, counting_mode, device_of, observe


def layers_of(network: nn.Module, batch: Tensor) -> list[tuple[int, str, Tensor]]:
    seen: list[tuple[int, str, Tensor]] = []
    with observe(network, lambda site, tensor: seen.append((site.index, site.name, tensor.clone()))), torch.no_grad():
        network(batch)
    return seen


class Reuser(nn.Module):
    """Registers its modules in another order than it calls them, one of them twice, one by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.LeakyReLU()
        self.relu_1 = nn.ReLU6()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.relu_1(input=self.relu(self.relu(x) - 1) - 2) - 3)


def test_layers_come_in_forward_order_with_unique_names() -> None:
    names = [name for _, name, _ in layers_of(Reuser(), torch.zeros(2, 3))]
    assert names == ["relu", "relu_2", "relu_1", "last"]


class Block(nn.Module):
    """The calls of torchvision's BasicBlock: one ReLU module, twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.relu, self.conv2 = nn.Linear(3, 3), nn.ReLU(inplace=True), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.conv2(self.relu(self.conv1(x))) + x)


def test_repeated_calls_are_named_as_torchvision_names_the_nodes_of_a_resnet() -> None:
    network = nn.Sequential()
    network.add_module("relu", nn.ReLU())
    network.add_module("layer1", nn.Sequential(Block(), Block()))
    names = [name for _, name, _ in layers_of(network, torch.zeros(2, 3))]
    assert names == ["relu", "layer1.0.relu", "layer1.0.relu_1", "layer1.1.relu", "layer1.1.relu_1"]


def test_a_bare_activation_is_named_after_its_type() -> None:
    assert [name for _, name, _ in layers_of(nn.ReLU(), torch.zeros(2, 3))] == ["relu"]


def test_visit_sees_the_tensor_before_an_in_place_activation_overwrites_it() -> None:
    batch = torch.tensor([[-2.0, 3.0]])
    network = nn.Sequential(nn.Linear(2, 2), nn.ReLU(inplace=True))
    ((index, name, tensor),) = layers_of(network, batch)
    assert (index, name) == (0, "1")
    torch.testing.assert_close(tensor, network[0](batch).detach(), rtol=0, atol=0)


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(), nn.PReLU()], ids=repr)
def test_every_activation_of_the_study_is_found(activation: nn.Module) -> None:
    assert len(layers_of(nn.Sequential(nn.Identity(), activation), torch.zeros(1, 4))) == 1


def test_no_activation_module_is_an_error_that_says_what_was_sought() -> None:
    with pytest.raises(ValueError, match=r"module or function of torch \(ReLU, LeakyReLU, .*\), but it called none$"):
        layers_of(nn.Linear(2, 2), torch.zeros(1, 2))


def test_hooks_are_removed_also_when_visit_raises() -> None:
    network = Reuser()

    def visit(site: Site, tensor: Tensor) -> None:
        raise KeyError(site.name)

    with pytest.raises(KeyError), observe(network, visit):
        network(torch.zeros(2, 3))
    assert all(not module._forward_pre_hooks and not module._forward_hooks for module in network.modules())
    assert all(not module._forward_pre_hooks_with_kwargs for module in network.modules())


class Stochastic(nn.Module):
    """Changes all that a forward pass can: running statistics, a buffer it replaces, the random state."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.dropout = nn.Dropout(0.5)
        self.register_buffer("calls", torch.zeros(()))
        self.fails = False

    def forward(self, x: Tensor) -> Tensor:
        self.calls = self.calls + 1
        x = self.dropout(self.norm(x)) + 0 * torch.rand(1)
        if self.fails:
            raise RuntimeError("failed on purpose")
        return x.relu()


@pytest.mark.parametrize("fails", [False, True])
def test_counting_mode_leaves_no_trace(fails: bool) -> None:
    network = Stochastic()
    network.train()
    network.dropout.eval()
    network.norm.weight.requires_grad_(False)
    network.norm.bias.grad = torch.ones(3)
    network.fails = fails
    calls, before = network.calls, copy.deepcopy(network.state_dict())
    torch.manual_seed(5)
    random_state = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="failed on purpose") if fails else nullcontext(), counting_mode(network):
        network(torch.randn(4, 3))
    assert network.calls is calls
    assert {name: tensor.numpy().tobytes() for name, tensor in network.state_dict().items()} == {
        name: tensor.numpy().tobytes() for name, tensor in before.items()
    }
    assert [module.training for module in network.modules()] == [True, True, False]
    assert [parameter.requires_grad for parameter in network.parameters()] == [False, True]
    assert torch.equal(network.norm.bias.grad, torch.ones(3))
    assert network.norm.weight.grad is None
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.is_grad_enabled()


def test_counting_mode_uses_batch_statistics_and_no_dropout() -> None:
    network = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5)).eval()
    batch = torch.randn(8, 3)
    with counting_mode(network):
        output = network(batch)
    assert not output.requires_grad
    expected = (batch - batch.mean(0)) / (batch.var(0, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(output, expected)


def test_device_of_a_network_without_tensors_is_the_cpu() -> None:
    assert device_of(nn.ReLU()) == torch.device("cpu")
    assert device_of(nn.Linear(1, 1, device="meta")) == torch.device("meta")
