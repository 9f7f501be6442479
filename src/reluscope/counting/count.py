"""`count_patterns`: one pass over the images, one counter a layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from tqdm import tqdm

from reluscope.counting.batch_norm import batch_norm_in_groups
from reluscope.counting.engines import Counter, counter_type
from reluscope.counting.heap import freed_memory_kept
from reluscope.counting.sorted_counts import BUFFER_BYTES, KeyBuffers
from reluscope.patterns import MOST_CLASSES, PatternCounts, entropy_of
from reluscope.preactivations import counting_mode, device_of, observe

_SHUFFLE_SEED = 0x4C41424C  # any fixed number: labels are shuffled by it, once and for all


class Images(Protocol):
    """A float tensor [n, ...], or anything else whose slices are such tensors."""

    def __len__(self) -> int: ...

    def __getitem__(self, item: slice, /) -> Tensor: ...


def count_patterns(
    network: nn.Module,
    images: Images,
    batch_size: int = 128,
    *,
    engine: str = "auto",
    batches_at_once: int = 1,
    buffer_bytes: int = BUFFER_BYTES,
    labels: Tensor | ArrayLike | None = None,
    shuffled_labels: bool = False,
    progress: bool = False,
) -> list[PatternCounts]:
    """Counts the patterns that each layer of `network` shows over all images.

    The batches are images[0:batch_size] and so on in order, the last one as short as it comes. Batch-norm normalises
    each by its own statistics, so the batch partition is part of the result (Hartmann et al. 2021, section 3); the
    network is left exactly as found. Counts are exact; so are keys up to 64 channels (`reluscope.patterns`).

    Memory: what one forward pass takes, `buffer_bytes`, and up to about 40 bytes for each distinct pattern on the CPU
    (a key takes 2, 4 or 8, its count 4, and while two sorted runs are merged both and their union are there).

    Args:
        network: any module whose forward pass calls activation modules (`reluscope.preactivations.ACTIVATIONS`) on
            pre-activations [n, channels, height, width] or [n, features].
        images: float tensor [n, ...], or an object with len() whose slices are such tensors. Batches move to the
            network's device; dtype and memory format stay.
        batch_size: images in a batch.
        engine: "auto" (numba on the CPU, Triton on a GPU where it works, torch elsewhere), "numpy", "numba", "torch" or
            "triton". All give the same counts.
        batches_at_once: batches that pass through the network together, each still normalised by its own statistics;
            more keep a GPU busy. Only for networks whose images meet nowhere but in `functional.batch_norm`, which
            torch's modules call. Sums in another order may turn a bit whose pre-activation is 0 up to rounding.
        buffer_bytes: memory in which keys wait to be sorted, or as much as the distinct keys take where that is more;
            less is slower, because sorted runs are merged more often.
        labels: each image's class, whole numbers from 0; then each layer's counts have `classes`. Shape [n].
        shuffled_labels: also give the entropy of the patterns and labels that were shuffled over the images, the same
            way each time: what labels say that have nothing to do with the images.
        progress: show a bar over the batches, if standard error is a terminal.

    Returns:
        One PatternCounts a layer, in forward order.

    Raises:
        ValueError: no images, no activation, an unknown engine, a pre-activation of another shape, batches that
            reach different layers, or labels that are not one class an image.
        TypeError: a size or a label is not an integer, or a batch is not a float tensor.
    """
    _require_positive(batch_size=batch_size, batches_at_once=batches_at_once, buffer_bytes=buffer_bytes)
    if len(images) == 0:
        raise ValueError("images: expected at least one image, but got none")
    labelling = _labellings(labels, len(images), shuffled_labels)
    device = device_of(network)
    passes = forward_passes(len(images), batch_size, batches_at_once)
    counter = counter_type(engine, device)
    buffers = KeyBuffers(len(passes), buffer_bytes, torch.get_num_threads() if counter.settles_in_threads else 1)
    layers = _Layers(counter, buffers)
    bar = tqdm(total=len(images), desc="counting", unit="image", disable=None if progress else True)
    with counting_mode(network), freed_memory_kept(), bar:
        for start, stop, num_batches in passes:
            batch = _as_batch(images[start:stop]).to(device)
            layers.labels = None if labelling is None else labelling[:, start:stop]
            with observe(network, layers.visit), batch_norm_in_groups(num_batches):
                network(batch)
            layers.end_pass()
            bar.update(stop - start)
    return layers.result(labelling)


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
        raise TypeError(f"images: expected slices to be float tensors, but got {type(batch).__name__}")
    if not batch.is_floating_point():
        raise TypeError(f"images: expected slices to be float tensors, but got {batch.dtype}")
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


@dataclass(frozen=True)
class _Layer:
    name: str
    shape: tuple[int, ...]  # one image's pre-activation: (channels, height, width) or (features,)
    counter: Counter

    def result(self) -> PatternCounts:
        keys, counts = self.counter.result()
        return PatternCounts(self.name, keys, counts, *self.shape)

    def result_by_class(self, num_classes: int, *, shuffled: bool) -> PatternCounts:
        entropy = entropy_of(self.counter.pair_counts(1)) if shuffled else None
        keys, classes = self.counter.result_by_class(num_classes)
        return PatternCounts(
            self.name, keys, classes.totals, *self.shape, classes=classes, shuffled_joint_entropy=entropy
        )


class _Layers:
    """The layers in forward order: found by the first batch, and required to be the same in every later one."""

    def __init__(self, counter: type[Counter], buffers: KeyBuffers) -> None:
        self._counter = counter
        self._buffers = buffers
        self._layers: list[_Layer] = []
        self.labels: NDArray[np.int64] | None = None  # of the images of the pass, [labelling, n]
        self._is_first_batch = True
        self._num_visited = 0

    def visit(self, index: int, layer_name: str, preactivation: Tensor) -> None:
        shape = tuple(preactivation.shape[1:])
        if preactivation.ndim not in (2, 4):
            raise ValueError(
                f"Layer {layer_name!r}: expected a pre-activation of shape [images, channels, height, width] or "
                f"[images, features], but got {list(preactivation.shape)}"
            )
        if self._is_first_batch:
            counter = self._counter(shape[0], preactivation.device, self._buffers)
            self._layers.append(_Layer(layer_name, shape, counter))
        elif index >= len(self._layers):
            raise ValueError(
                f"Layer {layer_name!r}: expected the {len(self._layers)} layers of the first batch, "
                f"but a later batch reached one more"
            )
        elif (layer_name, shape) != (self._layers[index].name, self._layers[index].shape):
            first = self._layers[index]
            raise ValueError(
                f"Layer {first.name!r} (index {index}): expected shape {list(first.shape)} an image as in the first "
                f"batch, but a later batch reached {layer_name!r} with {list(shape)}"
            )
        if self.labels is not None and len(preactivation) != self.labels.shape[1]:
            raise ValueError(
                f"Layer {layer_name!r}: expected a pre-activation for each of {self.labels.shape[1]} images with "
                f"labels, but got {len(preactivation)}"
            )
        self._layers[index].counter.add(preactivation, self.labels)
        self._num_visited = index + 1

    def end_pass(self) -> None:
        if not self._layers:
            raise ValueError(
                "count_patterns: expected the forward pass to call an activation module, but none was called"
            )
        if self._num_visited < len(self._layers):
            raise ValueError(
                f"Layer {self._layers[self._num_visited].name!r}: expected in every batch as in the first, "
                f"but a later batch did not reach it"
            )
        self._is_first_batch = False
        self._num_visited = 0
        self._buffers.end_batch()

    def result(self, labels: NDArray[np.int64] | None) -> list[PatternCounts]:
        if labels is None:
            return [layer.result() for layer in self._layers]
        num_classes, shuffled = int(labels.max()) + 1, len(labels) > 1
        return [layer.result_by_class(num_classes, shuffled=shuffled) for layer in self._layers]
