"""The forward passes of a count: each of the network as it was found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from reluscope.counting.layers import Layers
from reluscope.counting.randomness import RandomStates, modules_that_draw
from reluscope.counting.rows import FEW, image_axes
from reluscope.preactivations import Found, Visit, Watcher
from reluscope.preactivations.not_counted import in_one_line
from reluscope.preactivations.warned import listed, tell

_KEPT = 32  # images of the first batch, as they were given

_ONE_VALUE = "Expected more than 1 value per channel"  # how torch's batch-norm refuses it


class Passes:
    """Makes forward passes, and a few that are not counted where something must be found out.

    Args:
        network: in counting mode.
        watcher: of the network.
        found: the network as it was found.
        device: of the network.
    """

    def __init__(self, network: nn.Module, watcher: Watcher, found: Found, device: torch.device) -> None:
        self._network, self._watcher, self._found, self._device = network, watcher, found, device
        self._is_first = True
        self._shape: torch.Size | None = None  # of the first batch
        self._num_calls: Mapping[str, int] = {}  # of each activation by one module, in the last pass
        self._numbers: dict[str, set[int]] = {}  # the same, of all passes that called it

    def run(self, batch: Tensor, visit: Visit) -> None:
        """One pass over a batch, which the network may write to."""
        self._found.put_back()
        if not self._is_first:
            with self._watcher.forward_pass(visit, probes=batch.shape != self._shape):
                self._network(batch)
            self._compare_calls()
            return
        self._is_first = False
        self._some, self._shape = batch[:_KEPT].clone(), batch.shape
        before = RandomStates(self._device)
        with self._found.first_pass(), self._watcher.forward_pass(visit, learns=True), self._told_dtype(batch):
            self._network(batch)
        self._compare_calls()
        self._draws = RandomStates(self._device) != before or bool(self._found.drawing)

    def before_first(
        self, batch: Tensor, passes: Sequence[tuple[int, int, int]], batch_size: int, labelled: Layers | None
    ) -> None:
        """Refuse what a later batch would stop at, and find out where images lie if labels need to know.

        Raises:
            ValueError: one batch is a single image, of which a batch-norm has no statistics.
        """
        start, stop, num_batches = passes[-1]
        if batch_size == 1 or stop - start == num_batches:
            self._require_statistics(batch, stop, batch_size)
        if labelled is not None and len(batch) > 1:
            labelled.proven = image_axes(self._apart, batch)
            if labelled.proven is None:
                tell(
                    f"the network takes no batch of {FEW} images, so that it cannot be shown that positions lie image "
                    "by image: they are counted per class as if they did"
                )

    def after_first(self, layers: Layers) -> None:
        """Say what the first batch showed: activations that are not counted, random numbers, and layers whose positions
        may not lie image by image.
        """
        if self._watcher.not_counted:
            tell(in_one_line(self._watcher.not_counted, layers.number))
        if self._draws:
            names = modules_that_draw(self._network, self._device, partial(self._apart, self._some[:FEW]))
            names += [name for name in self._found.drawing if name not in names]
            tell(
                f"the forward pass draws random numbers, in {listed(names or [type(self._network).__name__])}: the "
                "counts are those of one draw, and others of another"
            )
        self._prove(layers)

    def after_last(self, layers: Layers) -> None:
        """Find out which positions lie image by image, and say which calls cannot be told apart.

        Raises:
            ValueError: a layer's input does not depend on the images.
        """
        self._prove(layers)
        if varying := {name: sorted(numbers) for name, numbers in self._numbers.items() if len(numbers) > 1}:
            names = [f"{name} ({' or '.join(map(str, numbers))})" for name, numbers in varying.items()]
            tell(
                f"batches call an activation of one name in other numbers: {listed(names)} times; such calls are told "
                "apart by their order alone, so that a layer may hold those of several places"
            )

    def _compare_calls(self) -> None:
        if self._watcher.num_calls != self._num_calls:
            self._num_calls = self._watcher.num_calls
            for name, number in self._num_calls.items():
                self._numbers.setdefault(name, set()).add(number)

    @contextmanager
    def _told_dtype(self, batch: Tensor) -> Iterator[None]:
        """A network that stops at images of another dtype than its parameters."""
        try:
            yield
        except (RuntimeError, NotImplementedError) as error:
            dtypes = {parameter.dtype for parameter in self._network.parameters()}
            if "type" not in str(error) or batch.dtype in dtypes or len(dtypes) != 1:
                raise
            own, given = (str(dtype).removeprefix("torch.") for dtype in (*dtypes, batch.dtype))
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"images: the network, whose parameters are {own}, stops at images that are {given} ({reason}); give "
                f"images.to(torch.{own}), or a network that takes them as they are"
            ) from error

    def _prove(self, layers: Layers) -> None:
        """Find out which positions lie image by image, where that is in doubt, and was not known before.

        Raises:
            ValueError: a layer's input does not depend on the images.
        """
        if layers.proven is None and not layers.are_plain:
            axes = image_axes(self._apart, self._some)
            if axes is not None:
                layers.prove(axes)

    def _apart(self, batch: Tensor, visit: Visit = lambda site, preactivation: None) -> None:
        """A pass that is not counted and leaves no trace."""
        states = RandomStates(self._device)
        self._found.put_back()
        try:
            with self._watcher.forward_pass(visit):
                self._network(batch.clone())
        finally:
            states.put_back()

    def _require_statistics(self, batch: Tensor, num_images: int, batch_size: int) -> None:
        try:
            self._apart(batch[:1])
        except ValueError as error:
            if _ONE_VALUE not in str(error):
                raise
            others = [size for size in range(2, min(batch_size, num_images) + 1) if num_images % size != 1]
            instead = f"a batch_size such as {others[-1]}" if others else "a larger batch_size, and at least two images"
            raise ValueError(
                f"batch_size: of {num_images} images in batches of {batch_size} one batch is a single image, and a "
                f"batch-norm has one value per channel in it, which has no statistics ({error}); give {instead}"
            ) from error
        except Exception:  # the counted pass says what is wrong
            return
