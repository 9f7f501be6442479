"""What a network's layers are, and what else it calls: listed, and kept with its counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from reluscope.counting.inputs import Images, own_batch, require_images, require_network, require_positive
from reluscope.counting.layout import layouts
from reluscope.patterns import PatternCounts
from reluscope.preactivations import LayerChoice, NotCounted, Site, counting_mode, device_of, watched


class LayerCounts(list[PatternCounts]):
    """One PatternCounts a layer, in forward order.

    Attributes:
        not_counted: what has the shape of an activation and is no layer, with the reasons.
    """

    def __init__(self, counts: Iterable[PatternCounts], not_counted: Iterable[NotCounted]) -> None:
        super().__init__(counts)
        self.not_counted = list(not_counted)


@dataclass(frozen=True)
class Layer:
    """A layer that `count_patterns` counts.

    Attributes:
        name: of the layer.
        bit: what a bit of its patterns means.
        num_channels: bits of a pattern.
        height, width: positions in an image; 0 where they do not lie image by image.
        channel_axis: of its pre-activations, from 0.
    """

    name: str
    bit: str
    num_channels: int
    height: int
    width: int
    channel_axis: int

    def __str__(self) -> str:
        return f"{self.name}: {self.bit}, {self.num_channels} channels, {self.height} x {self.width} positions"


@dataclass(frozen=True)
class LayerList:
    """What `layers` finds.

    Attributes:
        counted: the layers, in forward order.
        not_counted: what else has the shape of an activation, with the reasons.
    """

    counted: list[Layer]
    not_counted: list[NotCounted]

    def __str__(self) -> str:
        parts = (
            (f"counted: {len(self.counted)}", self.counted),
            (f"not counted: {len(self.not_counted)}", self.not_counted),
        )
        return "\n".join(line for title, rows in parts for line in (title, *(f"  {row}" for row in rows)))


def layers(
    network: nn.Module,
    images: Images,
    batch_size: int = 128,
    *,
    include: str | Sequence[str] = "*",
    exclude: str | Sequence[str] = (),
    channel_axis: int | Mapping[str, int] | None = None,
    signs: bool = False,
) -> LayerList:
    """Lists which layers `count_patterns` would count, and what else it would not, and why; by one forward pass.

    The network is left as it was found.

    Args:
        network, images, batch_size, include, exclude, channel_axis, signs: as for `count_patterns`; of the images the
            first batch is used.

    Returns:
        Both lists; printed, a line each. What a count would stop at stands among what is not counted.

    Raises:
        ValueError: no images, or a pattern that matches no layer.
        TypeError: the network is none, a size is not an integer, or a batch is not a tensor.
    """
    require_positive(batch_size=batch_size)
    require_network(network)
    require_images(images)
    found: list[Layer] = []
    choice = LayerChoice(include, exclude, channel_axis, signs)
    batch = own_batch(images, 0, min(batch_size, len(images)), device_of(network))
    visit = partial(_add, found, len(batch))
    with watched(network, choice, lists=True) as watcher, counting_mode(network), watcher.forward_pass(visit):
        network(batch)
    return LayerList(found, watcher.not_counted)


def _add(found: list[Layer], num_images: int, site: Site, preactivation: Tensor) -> None:
    shape = preactivation.shape
    sizes = {(layout.height, layout.width) for layout in layouts(shape, site.channel_axis, num_images).values()}
    height, width = sizes.pop() if len(sizes) == 1 else (0, 0)
    found.append(Layer(site.name, site.bit, shape[site.channel_axis], height, width, site.channel_axis))
