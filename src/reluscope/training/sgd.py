"""Stochastic gradient descent with momentum, by torch's own function.

Not by its class `torch.optim.SGD`, which calls the same function, but imports torch's compiler for it, which takes
seconds of every training.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd

from reluscope.networks.fixup import scalar_parameters
from reluscope.training.methods import Method


class SGD:
    """The optimizer of a training, with weight decay on all parameters, and for FixUp's scalars a rate of their own.

    Args:
        network: what is trained.
        method: gives the weight decay, whether momentum is Nesterov's, and the scalars' share of the learning rate.
    """

    def __init__(self, network: nn.Module, method: Method) -> None:
        scalars = scalar_parameters(network)
        ours = {id(parameter) for parameter in scalars}
        others = [parameter for parameter in network.parameters() if id(parameter) not in ours]
        self._method, self._parameters = method, [*others, *scalars]
        numbers = range(len(self._parameters))
        self._groups = [(numbers[: len(others)], 1.0), (numbers[len(others) :], method.scalar_learning_rate_factor)]
        self._momenta: dict[int, Tensor] = {}  # by the number of the parameter, once it had a gradient

    @torch.no_grad()
    def step(self, learning_rate: float, momentum: float) -> None:
        """Update every parameter that has a gradient."""
        for numbers, factor in self._groups:
            gradients = {i: g for i in numbers if (g := self._parameters[i].grad) is not None}
            momenta = [self._momenta.get(i) for i in gradients] if momentum else []
            sgd(
                [self._parameters[i] for i in gradients],
                list(gradients.values()),
                momenta,
                fused=True,
                weight_decay=self._method.weight_decay,
                momentum=momentum,
                lr=learning_rate * factor,
                dampening=0.0,
                nesterov=self._method.nesterov,
                maximize=False,
            )
            if momentum:
                self._momenta.update((i, kept) for i, kept in zip(gradients, momenta, strict=True) if kept is not None)

    def state(self) -> dict[str, Tensor]:
        """All that a later step depends on: momenta by the number of their parameter."""
        return {str(number): momentum for number, momentum in self._momenta.items()}

    def load_state(self, state: Mapping[str, Tensor], device: torch.device) -> None:
        """Go on from what `state` gave."""
        # the saved tensors keep their strides, on which the order of the fused update's arithmetic may depend
        self._momenta = {int(number): momentum.to(device) for number, momentum in state.items()}
