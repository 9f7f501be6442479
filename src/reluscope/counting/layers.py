"""The layers of a network as its batches find them, and a counter for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reluscope.counting.engines import Counter
from reluscope.counting.layout import UNKNOWN, Layout, for_engine, image_by_image, layouts
from reluscope.counting.nan import count_nan
from reluscope.counting.sorted_counts import KeyBuffers
from reluscope.patterns import PatternCounts, entropy_of
from reluscope.preactivations import Site
from reluscope.preactivations.warned import listed, tell


@dataclass
class _Layer:
    """A layer that some batch found.

    Attributes:
        site: as it was found.
        channels: of the layer.
        layouts: by axes that may be that of the images, as far as all batches agree; empty where they do not.
        counter: of its patterns.
        varies: whether batches have other numbers of positions an image, or some do not reach it.
        positions_an_image: where there are labels; None before the first batch.
        num_nan: pre-activations that are NaN, beside those that the counter saw.
    """

    site: Site
    channels: int
    layouts: Mapping[int, Layout]
    counter: Counter
    varies: bool = False
    positions_an_image: int | None = None
    num_nan: Tensor | int = 0

    @property
    def is_plain(self) -> bool:
        """Whether each image has one row of its own, by the look of it: there is nothing to prove without labels."""
        return self.layout is not UNKNOWN and all(layout.rows == 1 for layout in self.layouts.values())

    @property
    def layout(self) -> Layout:
        found = {(each.height, each.width): each for each in self.layouts.values()}
        return next(iter(found.values())) if len(found) == 1 and not self.varies else UNKNOWN

    def agree(self, found: Mapping[int, Layout]) -> None:
        """Keep what a batch says too."""
        agreed = {axis: layout for axis, layout in found.items() if self.layouts.get(axis) == layout}
        if not agreed:
            self.varies = True
        self.layouts = agreed

    def result(self) -> PatternCounts:
        return self._counted(*self.counter.result())

    def result_by_class(self, num_classes: int, *, shuffled: bool) -> PatternCounts:
        entropy = entropy_of(self.counter.pair_counts(1)) if shuffled else None
        keys, classes = self.counter.result_by_class(num_classes)
        return self._counted(keys, classes.totals, classes=classes, shuffled_joint_entropy=entropy)

    def _counted(self, keys: Any, counts: Any, **of_classes: Any) -> PatternCounts:
        return PatternCounts(
            self.site.name,
            keys,
            counts,
            num_channels=self.channels,
            height=self.layout.height,
            width=self.layout.width,
            channel_axis=self.site.channel_axis,
            bit=self.site.bit,
            num_nan=self.counter.num_nan + int(self.num_nan),
            **of_classes,
        )


class Layers:
    """The layers in forward order, each found by the first batch that reaches it.

    Attributes:
        labels: of the images of the pass, [labelling, n]; None without.
        proven: by layer, the axes along which its rows lie image by image (`rows.image_axes`); None while it was not
            tried.
    """

    def __init__(self, counter: type[Counter], buffers: KeyBuffers) -> None:
        self._counter = counter
        self._buffers = buffers
        self._layers: list[_Layer] = []
        self._by_name: dict[str, _Layer] = {}
        self._reached: list[str] = []  # by this pass, in order
        self._is_first_pass = True
        self.labels: NDArray[np.int64] | None = None
        self.proven: Mapping[str, frozenset[int]] | None = None

    def visit(self, num_images: int, site: Site, preactivation: Tensor) -> None:
        """Count what one layer shows of one batch.

        Raises:
            ValueError: the layer has other channels than before; or there are labels, and it cannot be told which of
                its positions belong to which image.
        """
        shape = preactivation.shape
        found = self._proven(site.name, layouts(shape, site.channel_axis, num_images))
        layer = self._by_name.get(site.name)
        if layer is None:
            layer = self._add(site, shape[site.channel_axis], found, preactivation.device)
        elif _is_other(site, shape, layer):
            raise ValueError(
                f"Layer {site.name!r}: expected {layer.channels} channels on axis {layer.site.channel_axis} as in the "
                f"first batch, but a later batch has {shape[site.channel_axis]} on axis {site.channel_axis}; exclude "
                "what is not the same in every batch"
            )
        else:
            layer.agree(found)
        axis = next(iter(layer.layouts or found), 0)
        if self.labels is not None:
            self._require_images(layer, shape, num_images)
            preactivation = image_by_image(preactivation, axis, num_images)
        if site.threshold != 0:  # the counter is given the comparison, which no NaN shows in
            layer.num_nan = layer.num_nan + count_nan(preactivation)
        layer.counter.add(for_engine(site, preactivation, axis), self.labels)
        self._reached.append(site.name)

    def _proven(self, name: str, found: Mapping[int, Layout]) -> Mapping[int, Layout]:
        if self.proven is None or (self.labels is None and name not in self.proven):
            return found
        return {axis: layout for axis, layout in found.items() if axis in self.proven.get(name, ())}

    def _add(self, site: Site, channels: int, found: Mapping[int, Layout], device: torch.device) -> _Layer:
        """In forward order: behind the layer before it in this pass."""
        layer = _Layer(site, channels, found, self._counter(channels, device, self._buffers))
        layer.varies = not found or not self._is_first_pass
        before = self._by_name[self._reached[-1]] if self._reached else None
        self._layers.insert(0 if before is None else self._layers.index(before) + 1, layer)
        self._by_name[site.name] = layer
        return layer

    def _require_images(self, layer: _Layer, shape: torch.Size, num_images: int) -> None:
        """Of a single image all positions are its own, as long as each image has as many."""
        positions = shape.numel() // layer.channels // num_images
        layer.positions_an_image = positions if layer.positions_an_image is None else layer.positions_an_image
        is_folded = self.proven is None and any(layout.rows > 1 for layout in layer.layouts.values())
        if positions != layer.positions_an_image or (num_images > 1 and (is_folded or not layer.layouts)):
            raise ValueError(
                f"Layer {layer.site.name!r}: its positions do not lie image by image, or not alike in every batch, so "
                "that patterns cannot be counted per class; exclude the layer, or count without labels"
            )
        if num_images > 1 and len(layer.layouts) > 1:
            raise ValueError(
                f"Layer {layer.site.name!r}: it cannot be told which of the axes 0 and 1 of shape {list(shape)} holds "
                "the batch's images; take another batch_size, or exclude the layer"
            )

    @property
    def number(self) -> int:
        """How many there are so far."""
        return len(self._layers)

    @property
    def are_plain(self) -> bool:
        """Whether positions belong to images as they seem to: nothing needs to be proven."""
        return all(layer.is_plain for layer in self._layers)

    def prove(self, proven: Mapping[str, frozenset[int]]) -> None:
        """Take only what is proven of what batches seemed to say, where that is in doubt."""
        doubtful = [layer for layer in self._layers if not layer.is_plain]
        self.proven = {layer.site.name: proven.get(layer.site.name, frozenset()) for layer in doubtful}
        for layer in doubtful:
            layer.layouts = self._proven(layer.site.name, layer.layouts)
            layer.varies |= not layer.layouts

    def end_pass(self) -> None:
        """To be called after each batch."""
        reached = set(self._reached)
        for layer in self._layers:
            layer.varies |= layer.site.name not in reached
        self._is_first_pass = False
        self._reached = []
        self._buffers.end_batch()

    def result(self, labels: NDArray[np.int64] | None) -> list[PatternCounts]:
        """One a layer, in forward order; says of which layers height and width are not known."""
        if labels is None:
            counts = [layer.result() for layer in self._layers]
        else:
            num_classes, shuffled = int(labels.max()) + 1, len(labels) > 1
            counts = [layer.result_by_class(num_classes, shuffled=shuffled) for layer in self._layers]
        if unknown := [each for each in counts if each.height == 0]:
            told = [f"{each.layer_name} ({each.num_positions:,})" for each in unknown]
            tell(
                "positions do not lie image by image, or not as many for each, so that height and width are given as "
                f"0; layers and positions in all: {listed(told)}"
            )
        return counts


def _is_other(site: Site, shape: torch.Size, first: _Layer) -> bool:
    return (site.channel_axis, shape[site.channel_axis]) != (first.site.channel_axis, first.channels)
