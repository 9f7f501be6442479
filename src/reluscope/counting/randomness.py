"""Random numbers that a forward pass draws: found by the states of the generators."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

import numpy as np
import torch
from torch import nn


class RandomStates:
    """The states of torch's, NumPy's and Python's generators, as they are now."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._torch = torch.get_rng_state()
        self._gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.empty(0)
        self._numpy, self._python = np.random.get_state(), random.getstate()  # noqa: NPY002 - whoever draws from it

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, RandomStates)
            and torch.equal(self._torch, other._torch)
            and torch.equal(self._gpu, other._gpu)
            and _same(self._numpy, other._numpy)
            and self._python == other._python
        )

    __hash__ = None  # type: ignore[assignment]

    def put_back(self) -> None:
        torch.set_rng_state(self._torch)
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(self._gpu, self._device)
        np.random.set_state(self._numpy)  # noqa: NPY002
        random.setstate(self._python)


def modules_that_draw(network: nn.Module, device: torch.device, run: Callable[[], None]) -> list[str]:
    """Names of the innermost modules in which a forward pass draws random numbers.

    Args:
        run: makes the forward pass.
    """
    found: dict[str, None] = {}
    callers: list[str] = [type(network).__name__]
    states = [RandomStates(device)]

    def look() -> None:
        if (now := RandomStates(device)) != states[-1]:
            found[callers[-1]] = None
            states[-1] = now

    def before(name: str) -> Callable[..., None]:
        def enter(*_: Any) -> None:
            look()
            callers.append(name)

        return enter

    def after(*_: Any) -> None:
        look()
        callers.pop()

    with ExitStack() as hooks:
        for name, module in network.named_modules():
            hooks.callback(module.register_forward_pre_hook(before(name or type(network).__name__)).remove)
            hooks.callback(module.register_forward_hook(after).remove)
        with suppress(Exception):  # of few images, which may be too few
            run()
    return list(found)


def _same(one: Any, other: Any) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
