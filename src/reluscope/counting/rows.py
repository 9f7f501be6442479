"""Whether the rows of a pre-activation lie image by image: shown by passes over images in another order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

import torch
from torch import Tensor

from reluscope.counting.layout import image_by_image, layouts
from reluscope.preactivations import Site, Visit
from reluscope.preactivations.warned import listed

FEW = 4
"""Images that such a pass takes; of fewer than three an order tells too little."""

_ORDERS = ([1, 2, 3, 0], [1, 0, 2, 3])
"""What commutes with both, commutes with all orders of four images: only the order itself does."""

_NOISE = 0.05  # of the images' standard deviation, so that no parts of images are equal

_Seen = dict[str, tuple[Site, Tensor]]
_Run = Callable[[Tensor, Visit], None]


def image_axes(run: _Run, batch: Tensor) -> Mapping[str, frozenset[int]] | None:
    """By layer, the axes along which images lie in their order, each with as many rows as another.

    Four images pass through the network in three orders, all of them together: what normalises over the batch sees the
    same images each time. Along the images' axis the rows of an image must be where it is in the order, and be the same
    up to rounding; that is, nearer to its own rows than to another image's.

    Args:
        run: makes one forward pass that leaves no trace.
        batch: of the images that are counted. Shape [n, ...].

    Returns:
        None where the network could not be run on four images.

    Raises:
        ValueError: a layer's input does not depend on the images.
    """
    for images in (_told_apart(batch), _some(batch)):
        with suppress(Exception):  # whatever a network makes of images that are not as many, or not quite as they were
            first, *others = [_seen(run, images[order]) for order in (list(range(FEW)), *_ORDERS)]
            break
    else:
        return None
    same = [name for name in first if all(_is_same(name, first, other) for other in others)]
    same = [name for name in same if not _are_alike(*first[name])]
    if same:
        _require_dependence(run, images, first, same)
    return {name: _axes(*of_layer, [other.get(name) for other in others]) for name, of_layer in first.items()}


def _seen(run: _Run, images: Tensor) -> _Seen:
    seen: _Seen = {}

    def visit(site: Site, preactivation: Tensor) -> None:
        seen[site.name] = site, preactivation.detach().clone()

    run(images, visit)
    return seen


def _some(batch: Tensor) -> Tensor:
    """Four of the images, different ones if there are such; again from the first where there are fewer."""
    distinct: list[Tensor] = []
    for image in batch:
        if len(distinct) < FEW and not any(torch.equal(image, other) for other in distinct):
            distinct.append(image)
    turned = [distinct[0].roll(i, -1) if distinct[0].ndim else distinct[0] for i in range(1, FEW)]
    return torch.stack([*distinct, *turned][:FEW])


def _told_apart(batch: Tensor) -> Tensor:
    """The same with a little noise in them, so that no part of one is as in another: frames are often black."""
    images = _some(batch)
    if not images.is_floating_point():
        return images
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0)).to(images)
    spread = images.float().std()
    return images + _NOISE * (spread if spread > 0 else torch.ones_like(spread)).to(images) * noise


def _axes(site: Site, values: Tensor, others: list[tuple[Site, Tensor] | None]) -> frozenset[int]:
    found = layouts(values.shape, site.channel_axis, FEW)
    shown = {axis for axis in found if all(map(partial(_follows, values, axis), others, _ORDERS))}
    return frozenset(axis for axis in shown if ~axis not in shown or axis >= 0)  # both where all rows are the same


def _follows(values: Tensor, axis: int, other: tuple[Site, Tensor] | None, order: list[int]) -> bool:
    """Whether the rows of `other` are those of `values` with the images in another order."""
    if other is None or other[1].shape != values.shape:
        return False
    before, after = (_rows(each, axis) for each in (values, other[1]))
    distances = torch.stack([(after - before[[i] * FEW]).norm(dim=-1) for i in range(FEW)])  # [before, after, row]
    own = distances[order, range(FEW)]
    mask = torch.ones(FEW, FEW, dtype=torch.bool, device=values.device)
    mask[order, range(FEW)] = False
    nearest = torch.where(mask[..., None], distances, torch.inf).amin(dim=0)
    half = values.dtype in (torch.float16, torch.bfloat16)
    rounding = (3e-2 if half else 1e-4) * before.norm(dim=-1).amax()
    return bool(((own <= nearest / 2) | (own <= rounding)).all())


def _are_alike(site: Site, values: Tensor) -> bool:
    """Whether all images have the same rows, as where weights begin at 0: then it does not matter whose are whose."""
    of_axes = (_rows(values, axis) for axis in layouts(values.shape, site.channel_axis, FEW))
    return any(torch.equal(rows, rows[:1].expand_as(rows)) for rows in of_axes)


def _rows(values: Tensor, axis: int) -> Tensor:
    """[images, rows of an image, all that a row holds], float32."""
    rows = image_by_image(values, axis, FEW).movedim(axis if axis >= 0 else ~axis, 0)
    return rows.reshape(FEW, len(rows) // FEW, -1).float().nan_to_num()


def _is_same(name: str, one: _Seen, other: _Seen) -> bool:
    return name in other and torch.equal(one[name][1], other[name][1])


def _require_dependence(run: _Run, images: Tensor, seen: _Seen, names: list[str]) -> None:
    """Refuse layers that are the same in any order of the images, if they are so for other images too."""
    others = images.flip(0).roll(1, -1) if images.ndim > 1 else images.flip(0)
    if images.is_floating_point():
        others = others * 0.5 + 0.25
    try:
        again = _seen(run, others)
    except Exception:
        return
    if same := [name for name in names if _is_same(name, seen, again)]:
        shape = list(seen[same[0]][1].shape)
        more = f"; so are those of {listed(same[1:])}" if same[1:] else ""
        raise ValueError(
            f"Layer {same[0]!r}: its input, of shape {shape}, is the same whatever the images are{more}; exclude "
            f"{'them' if more else 'it'}"
        )
