"""`count_patterns`: one pass over the images, one counter a layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from tqdm import tqdm

from reluscope.counting.batch_norm import batch_norm_in_groups
from reluscope.counting.engines import counter_type
from reluscope.counting.inputs import (
    Images,
    forward_passes,
    labellings,
    own_batch,
    require_images,
    require_network,
    require_positive,
)
from reluscope.counting.layer_list import LayerCounts
from reluscope.counting.layers import Layers
from reluscope.counting.passes import Passes
from reluscope.counting.sorted_counts import BUFFER_BYTES, KeyBuffers
from reluscope.heap import freed_memory_kept
from reluscope.patterns import nan_told
from reluscope.preactivations import LayerChoice, counting_mode, device_of, watched
from reluscope.preactivations.warned import tell


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
) -> LayerCounts:
    """Counts the patterns that each layer of `network` shows over all images.

    The batches are images[0:batch_size] and so on in order, the last one as short as it comes. Batch-norm normalises
    each by its own statistics, so the batch partition is part of the result (Hartmann et al. 2021, section 3). Counts
    are exact; so are keys up to 64 channels (`reluscope.patterns`).

    Each batch meets the network as it was found, and so is the network left: what a forward pass changes of parameters,
    buffers and whatever its modules' attributes hold is put back before the next. Images are copied batch by batch.

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
            `include` and none of `exclude`.
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
        One PatternCounts a layer, in forward order, and `not_counted`: what has the shape of an activation and is in no
        layer, with the reasons. A layer is counted at the positions that it has, also where these do not lie image by
        image or batches have other numbers of them, as of experts: then its height and width are 0.

    Warns:
        CountingWarning: one line each. Activations are not counted; the forward pass draws random numbers, or changes
            what cannot be put back; or heights and widths are not known.

    Raises:
        ValueError: no images, no activation, an unknown engine, a pattern that matches no layer, a pre-activation whose
            axes cannot be told or that does not depend on the images, a layer that has other channels in another batch,
            a network without content, a single image in a batch-norm; or labels that are not one class an image, or
            where it cannot be shown which positions are whose.
        TypeError: the network is no module, a size or a label is not an integer, or a batch is not a tensor.
    """
    require_positive(batch_size=batch_size, batches_at_once=batches_at_once, buffer_bytes=buffer_bytes)
    require_network(network)
    require_images(images)
    choice = LayerChoice(include, exclude, channel_axis, signs)
    labelling = labellings(labels, len(images), shuffled_labels)
    device = device_of(network)
    passes = forward_passes(len(images), batch_size, batches_at_once)
    counter = counter_type(engine, device)
    buffers = KeyBuffers(len(passes), buffer_bytes, torch.get_num_threads() if counter.settles_in_threads else 1)
    layers = Layers(counter, buffers)
    bar = tqdm(total=len(images), desc="counting", unit="image", disable=None if progress else True)
    with watched(network, choice) as watcher, counting_mode(network) as found, freed_memory_kept(), bar:
        made = Passes(network, watcher, found, device)
        for start, stop, num_batches in passes:
            batch = own_batch(images, start, stop, device)
            if start == 0:
                made.before_first(batch, passes, batch_size, layers if labelling is not None else None)
            layers.labels = None if labelling is None else labelling[:, start:stop]
            with batch_norm_in_groups(num_batches):
                made.run(batch, partial(layers.visit, stop - start))
            if start == 0:
                made.after_first(layers)
            layers.end_pass()
            bar.update(stop - start)
        made.after_last(layers)
    counted = layers.result(labelling)
    if told := nan_told(counted):
        tell(told if step is None else f"step {step:,}: {told}")
    return LayerCounts(counted, watcher.not_counted)
