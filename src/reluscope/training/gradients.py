"""The gradients of one batch; on an NVIDIA GPU all launches of a full batch as one, a captured CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

_WARM_UPS = 3
"""Passes before a capture, in which libraries choose and allocate what they may not while it lasts."""

_T = TypeVar("_T")


def eager_gradients(network: nn.Module, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Put the gradients of the mean cross-entropy into the parameters; returns the loss, and logits [batch, class]."""
    network.zero_grad()
    logits = network(inputs)
    loss = functional.cross_entropy(logits, labels)
    loss.backward()
    return loss.detach(), logits.detach()


class CapturedGradients:
    """`eager_gradients` with the same bits, where those of full batches are captured once and then replayed.

    A batch of 128 small images leaves a GPU waiting for its next launch most of the time. The update is left out: its
    momentum may be another one at each step, which a graph would keep as it was, and it is a few launches.

    Args:
        network: whose passes do the same at every step, and never wait for the device: a graph repeats what was
            launched, not the Python that chose it. Its parameters and buffers may change, but not be replaced.
        batch_size: images of a full batch; others, as an epoch's last, are not captured.
    """

    def __init__(self, network: nn.Module, batch_size: int) -> None:
        self._network, self._batch_size = network, batch_size
        self._replay: Callable[[], None] | None = None
        self._has_failed = False

    def __call__(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """As `eager_gradients`; the loss and logits of a full batch hold until the next one."""
        if self._replay is None and len(inputs) == self._batch_size and not self._has_failed:
            self._try_to_capture(inputs, labels)
        if self._replay is None or len(inputs) != self._batch_size:
            return eager_gradients(self._network, inputs, labels)
        self._inputs.copy_(inputs)
        self._labels.copy_(labels)
        self._replay()
        for parameter, gradient in zip(self._network.parameters(), self._gradients, strict=True):
            parameter.grad = gradient  # a batch that was not captured brought its own
        return self._loss, self._logits

    def _try_to_capture(self, inputs: Tensor, labels: Tensor) -> None:
        self._inputs, self._labels = inputs.clone(), labels.clone()
        before = [buffer.clone() for buffer in self._network.buffers()]
        try:
            (self._loss, self._logits, self._gradients), self._replay = _captured(self._static_gradients, inputs.device)
        except RuntimeError as error:  # as where there is no memory for it
            self._has_failed = True
            print(f"steps are launched one operation at a time, they cannot be captured: {error}", flush=True)
        for buffer, value in zip(self._network.buffers(), before, strict=True):
            buffer.copy_(value)  # running statistics must not know of the warm-ups

    def _static_gradients(self) -> tuple[Tensor, Tensor, list[Tensor | None]]:
        loss, logits = eager_gradients(self._network, self._inputs, self._labels)
        return loss, logits, [parameter.grad for parameter in self._network.parameters()]


def _captured(function: Callable[[], _T], device: torch.device) -> tuple[_T, Callable[[], None]]:
    """What `function` returns, and what writes it anew in the same tensors: its launches as one CUDA graph.

    See "Whole-network capture" in torch's notes on CUDA semantics.
    """
    with torch.cuda.device(device):
        current, stream, graph = torch.cuda.current_stream(), torch.cuda.Stream(), torch.cuda.CUDAGraph()
        stream.wait_stream(current)
        try:
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UPS):
                    function()
            current.wait_stream(stream)
            # thread_local: the threads that write blocks may copy from the device meanwhile
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                result = function()
        finally:
            torch.cuda.set_stream(current)  # a capture that fails leaves its own behind (torch 2.13)
            torch.cuda.synchronize()  # and a warm-up that fails, launches
    return result, graph.replay
