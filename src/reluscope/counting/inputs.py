"""What `count_patterns` is given: sizes, images, labels; refused in one line before anything is counted."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reluscope.patterns import MOST_CLASSES

_SHUFFLE_SEED = 0x4C41424C  # any fixed number: labels are shuffled by it, once and for all

_EXPECTED = "images: expected a tensor [n, ...], or an object with len() whose slices are tensors"


class Images(Protocol):
    """A tensor [n, ...], or anything else whose slices are such tensors."""

    def __len__(self) -> int: ...

    def __getitem__(self, item: slice, /) -> Tensor: ...


def require_network(network: object) -> None:
    """Refuse what is no network, and a call from inside a transform of torch.func.

    Raises:
        TypeError: it is no module.
        ValueError: it is called from inside vmap, grad or the like.
    """
    if not isinstance(network, nn.Module):
        raise TypeError(f"network: expected a torch.nn.Module, but got {type(network).__name__}")
    if torch._C._functorch.peek_interpreter_stack() is not None:
        raise ValueError("network: expected to be counted outside of torch.func's transforms (vmap, grad, ...)")


def require_images(images: Any) -> None:
    """Refuse what has no length or no slices.

    Raises:
        TypeError: such a thing; the line says what to give instead.
        ValueError: there is no image.
    """
    kind = type(images).__name__
    if isinstance(images, torch.utils.data.DataLoader):
        instead = "what it loads as one tensor, such as torch.cat([batch for batch, label in loader])"
    elif isinstance(images, dict) or hasattr(images, "keys"):
        instead = "one tensor, and a module around the network that makes the rest of it"
    elif not hasattr(images, "__len__") or not hasattr(images, "__getitem__"):
        instead = "such a tensor"
    else:
        if len(images) == 0:
            raise ValueError("images: expected at least one image, but got none")
        return
    raise TypeError(f"{_EXPECTED}, but got {kind}; give {instead}")


def own_batch(images: Images, start: int, stop: int, device: torch.device) -> Tensor:
    """Some of the images on a device, in memory of their own: a network may write to what it is given.

    Raises:
        TypeError: they are no tensor.
        ValueError: there are fewer than were asked for.
    """
    try:
        batch = images[start:stop]
    except (TypeError, KeyError) as error:  # a data set that takes one index at a time
        raise TypeError(
            f"{_EXPECTED}, but {type(images).__name__}[{start}:{stop}] raised {error!r}; give such a tensor"
        ) from error
    if not isinstance(batch, Tensor):
        instead = {
            np.ndarray: "; give torch.from_numpy(images)",
            list: "; give torch.stack(images)",
            tuple: "; give the images alone, without what belongs to them",
        }.get(type(batch), "")
        raise TypeError(f"images: expected slices to be tensors, but got {type(batch).__name__}{instead}")
    if batch.ndim == 0 or len(batch) != stop - start:
        raise ValueError(
            f"images: expected images[{start}:{stop}] to be {stop - start} of them, but got shape {list(batch.shape)}"
        )
    batch = batch.detach()
    return batch.clone() if batch.device == device else batch.to(device)


def require_positive(**sizes: int) -> None:
    """Refuse sizes that are no integers from 1."""
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


def labellings(labels: Any, num_images: int, shuffled: bool) -> NDArray[np.int64] | None:
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
