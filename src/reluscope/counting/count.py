"""`count_patterns`: one pass over the images, one counter a layer."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from tqdm import tqdm

from reluscope.counting.batch_norm import batch_norm_in_groups
from reluscope.counting.engines import Counter, counter_type
from reluscope.counting.layout import Layout, for_engine, image_axes, layout_of
from reluscope.counting.nan import count_nan
from reluscope.counting.sorted_counts import BUFFER_BYTES, KeyBuffers
from reluscope.heap import freed_memory_kept
from reluscope.patterns import MOST_CLASSES, PatternCounts, entropy_of, nan_told
from reluscope.preactivations import LayerChoice, Site, counting_mode, device_of, watched

_SHUFFLE_SEED = 0x4C41424C  # any fixed number: labels are shuffled by it, once and for all


class Images(Protocol):
    """A tensor [n, ...], or anything else whose slices are such tensors."""

    def __len__(self) -> int: ...

    def __getitem__(self, item: slice, /) -> Tensor: ...


def count_patterns(
    network: nn.Module,
    images: Images,
    batch_size: int = 128,
    *,
    include: str | Sequence[str] = "*",
    exclude: str | Sequence[str] = (),
    channel_axis: int | Mapping[str, int] | None = None,
    signs: bool = False,
    engine: str = "auto",
    batches_at_once: int = 1,
    buffer_bytes: int = BUFFER_BYTES,
    labels: Tensor | ArrayLike | None = None,
    shuffled_labels: bool = False,
    step: int | None = None,
    progress: bool = False,
) -> list[PatternCounts]:
    """Counts the patterns that each layer of `network` shows over all images.

    The batches are images[0:batch_size] and so on in order, the last one as short as it comes. Batch-norm normalises
    each by its own statistics, so the batch partition is part of the result (Hartmann et al. 2021, section 3); the
    network is left exactly as found. Counts are exact; so are keys up to 64 channels (`reluscope.patterns`).

    The bit of a pre-activation that is NaN is 0, which says nothing of the network: such values are counted too
    (`PatternCounts.num_nan`), and a warning names their layers.

    Memory: what one forward pass takes, `buffer_bytes`, and up to about 40 bytes for each distinct pattern on the CPU
    (a key takes 2, 4 or 8, its count 4, and while two sorted runs are merged both and their union are there).

    Args:
        network: any module whose forward pass calls activations, as modules or functions of torch
            (`reluscope.preactivations.observe` says which, and how layers are named), on pre-activations of any shape.
        images: tensor [n, ...], or an object with len() whose slices are such tensors; also integers, such as tokens.
            Batches move to the network's device; dtype and memory format stay.
        batch_size: images in a batch.
        include, exclude: names of layers, or patterns of names (`*`, `?`, `[ab]`): those are counted that match one of
            `include` and none of `exclude`. A layer left out may change from batch to batch.
        channel_axis: the axis of a pre-activation that holds its channels, for all layers or by pattern of names. Where
            it is not given it is found: axis 1 after convolutions and of images, the last after linear layers and of
            sequences [n, tokens, features].
        signs: also count the activations that are not piecewise linear (GELU, SiLU, ...): the signs of their inputs.
        engine: "auto" (numba on the CPU, Triton on a GPU where it works, torch elsewhere), "numpy", "numba", "torch",
            "triton", or "hash" (a hash table on a GPU, as the paper has it, but exact). All give the same counts.
        batches_at_once: batches that pass through the network together, each still normalised by its own statistics;
            more keep a GPU busy. Only for networks whose images meet nowhere but in `functional.batch_norm`, which
            torch's modules call. Sums in another order may turn a bit whose pre-activation is 0 up to rounding.
        buffer_bytes: memory in which keys wait to be sorted, or as much as the distinct keys take where that is more;
            less is slower, because sorted runs are merged more often.
        labels: each image's class, whole numbers from 0; then each layer's counts have `classes`. Shape [n].
        shuffled_labels: also give the entropy of the patterns and labels that were shuffled over the images, the same
            way each time: what labels say that have nothing to do with the images.
        step: of the training, for the words of warnings only.
        progress: show a bar over the batches, if standard error is a terminal.

    Returns:
        One PatternCounts a layer, in forward order.

    Raises:
        ValueError: no images, no activation, an unknown engine, a pattern that matches no layer, a pre-activation whose
            axes cannot be told, batches that reach different layers, or labels that are not one class an image.
        TypeError: a size or a label is not an integer, or a batch is not a tensor.
    """
    _require_positive(batch_size=batch_size, batches_at_once=batches_at_once, buffer_bytes=buffer_bytes)
    if len(images) == 0:
        raise ValueError("images: expected at least one image, but got none")
    choice = LayerChoice(include, exclude, channel_axis, signs)
    labelling = _labellings(labels, len(images), shuffled_labels)
    device = device_of(network)
    passes = forward_passes(len(images), batch_size, batches_at_once)
    counter = counter_type(engine, device)
    buffers = KeyBuffers(len(passes), buffer_bytes, torch.get_num_threads() if counter.settles_in_threads else 1)
    layers = _Layers(counter, buffers)
    bar = tqdm(total=len(images), desc="counting", unit="image", disable=None if progress else True)
    with watched(network, choice) as watcher, counting_mode(network), freed_memory_kept(), bar:
        for start, stop, num_batches in passes:
            batch = _as_batch(images[start:stop]).to(device)
            visit = partial(layers.visit, stop - start)
            layers.labels = None if labelling is None else labelling[:, start:stop]
            with batch_norm_in_groups(num_batches), watcher.forward_pass(visit):
                network(batch)
                layers.require_all_visited()
            layers.end_pass()
            bar.update(stop - start)
    counted = layers.result(labelling)
    if told := nan_told(counted):
        warnings.warn(told if step is None else f"step {step:,}: {told}", stacklevel=2)
    return counted


def _require_positive(**sizes: int) -> None:
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int):
            raise TypeError(f"{name}: expected an integer, but got {size!r}")
        if size < 1:
            raise ValueError(f"{name}: expected at least 1, but got {size}")


def forward_passes(num_images: int, batch_size: int, batches_at_once: int) -> list[tuple[int, int, int]]:
    """First image, end and number of batches of each forward pass; a last batch that is shorter passes alone."""
    num_full = num_images // batch_size
    passes = []
    for first in range(0, num_full, batches_at_once):
        last = min(first + batches_at_once, num_full)
        passes.append((first * batch_size, last * batch_size, last - first))
    if num_images % batch_size:
        passes.append((num_full * batch_size, num_images, 1))
    return passes


def _as_batch(batch: Any) -> Tensor:
    if not isinstance(batch, Tensor):
        raise TypeError(f"images: expected slices to be tensors, but got {type(batch).__name__}")
    return batch


def _labellings(labels: Any, num_images: int, shuffled: bool) -> NDArray[np.int64] | None:
    """The labels and, if asked for, the same ones shuffled; [labelling, n], or None without labels."""
    if labels is None:
        if shuffled:
            raise ValueError("shuffled_labels: expected labels, but got none")
        return None
    given = labels.cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if given.dtype.kind not in "iu":
        raise TypeError(f"labels: expected whole numbers, but got {given.dtype}")
    if given.shape != (num_images,):
        raise ValueError(f"labels: expected one for each of {num_images} images, but got shape {list(given.shape)}")
    if given.min() < 0 or given.max() >= MOST_CLASSES:
        raise ValueError(
            f"labels: expected classes from 0 to {MOST_CLASSES - 1}, but got {given.min()} to {given.max()}"
        )
    given = given.astype(np.int64)
    # positions of an image keep one label, as they share one image
    order = np.random.PCG64(_SHUFFLE_SEED).random_raw(num_images).argsort(kind="stable")
    return np.stack([given, given[order]]) if shuffled else given[None]


@dataclass
class _Layer:
    """A layer that the first batch found.

    Attributes:
        image_axis: of its pre-activations; None while the sizes of no batch have told.
        num_nan: pre-activations that are NaN, beside those that the counter saw.
    """

    site: Site
    layout: Layout
    counter: Counter
    image_axis: int | None
    num_nan: Tensor | int = 0

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
            num_channels=self.layout.channels,
            height=self.layout.height,
            width=self.layout.width,
            channel_axis=self.site.channel_axis,
            bit=self.site.bit,
            num_nan=self.counter.num_nan + int(self.num_nan),
            **of_classes,
        )


class _Layers:
    """The layers in forward order: found by the first batch, and required to be the same in every later one."""

    def __init__(self, counter: type[Counter], buffers: KeyBuffers) -> None:
        self._counter = counter
        self._buffers = buffers
        self._layers: list[_Layer] = []
        self.labels: NDArray[np.int64] | None = None  # of the images of the pass, [labelling, n]
        self._is_first_pass = True
        self._num_visited = 0

    def visit(self, num_images: int, site: Site, preactivation: Tensor) -> None:
        try:
            axes, layout = self._axes_and_layout(num_images, site, preactivation.shape)
        except ValueError as error:
            raise ValueError(f"Layer {site.name!r}: {error}") from error
        if self._is_first_pass:
            counter = self._counter(layout.channels, preactivation.device, self._buffers)
            self._layers.append(_Layer(site, layout, counter, None))
        elif site.index >= len(self._layers):
            raise ValueError(
                f"Layer {site.name!r}: expected the {len(self._layers)} layers of the first batch, "
                f"but a later batch reached one more; exclude what is not called in every batch"
            )
        first = self._layers[site.index]
        if _is_other(site, layout, first):
            raise ValueError(
                f"Layer {first.site.name!r} (index {site.index}): expected {first.layout} as in the first batch, but a "
                f"later batch reached {site.name!r} with {layout}; exclude what is not the same in every batch"
            )
        if len(axes) == 1:
            first.image_axis = axes[0]
        if site.threshold != 0:  # the counter is given the comparison, which no NaN shows in
            first.num_nan = first.num_nan + count_nan(preactivation)
        first.counter.add(for_engine(site, preactivation, axes[0]), self.labels)
        self._num_visited = site.index + 1

    def _axes_and_layout(self, num_images: int, site: Site, shape: torch.Size) -> tuple[list[int], Layout]:
        """The axes that may be that of the images, and the layout, which is the same for each of them."""
        axes = image_axes(shape, site.channel_axis, num_images)
        layouts = {axis: layout_of(shape, site.channel_axis, num_images, axis) for axis in axes}
        if site.index < len(self._layers):  # what earlier batches told
            first = self._layers[site.index]
            axes = [axis for axis in axes if axis == first.image_axis] or axes
            axes = [axis for axis in axes if layouts[axis] == first.layout] or axes
        is_told = len(axes) == 1 or (layouts[0] == layouts[1] and (self.labels is None or num_images == 1))
        if not is_told:
            raise ValueError(
                f"it cannot be told which of the axes 0 and 1 of shape {list(shape)} holds the batch's {num_images} "
                "images; take another batch_size, or exclude the layer"
            )
        return axes, layouts[axes[0]]

    def require_all_visited(self) -> None:
        if self._num_visited < len(self._layers):
            raise ValueError(
                f"Layer {self._layers[self._num_visited].site.name!r}: expected in every batch as in the first, "
                f"but a later batch did not reach it; exclude what is not called in every batch"
            )

    def end_pass(self) -> None:
        self._is_first_pass = False
        self._num_visited = 0
        self._buffers.end_batch()

    def result(self, labels: NDArray[np.int64] | None) -> list[PatternCounts]:
        if labels is None:
            return [layer.result() for layer in self._layers]
        num_classes, shuffled = int(labels.max()) + 1, len(labels) > 1
        return [layer.result_by_class(num_classes, shuffled=shuffled) for layer in self._layers]


def _is_other(site: Site, layout: Layout, first: _Layer) -> bool:
    return (site.name, site.channel_axis, layout) != (first.site.name, first.site.channel_axis, first.layout)
