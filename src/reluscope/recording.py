"""Counting in a training loop of one's own: the same counts and the same store, and the training never notices."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from reluscope import paths, stores
from reluscope.checkpoint_files.steps import MOST_STEPS
from reluscope.checkpoints import machine
from reluscope.counting import count_patterns
from reluscope.counting.count import Images
from reluscope.counting.inputs import labellings
from reluscope.counts import CountsWriter
from reluscope.data.digest import ATTRIBUTE as DATA_DIGEST
from reluscope.data.digest import digest_of
from reluscope.patterns import parse_sample
from reluscope.preactivations import counting_mode, device_of


class PatternRecorder:
    """Counts a network's patterns at steps of a training, into a counts store.

        with PatternRecorder(network, images, "counts.zarr") as recorder:
            recorder.record(0)
            for step, batch in enumerate(batches, start=1):
                ...  # update the network
                recorder.record(step)

    The store bears its name only when the recording is closed. Until then it lies in ``counts.partial``, is saved every
    minute, and goes on when a recorder is made for the same path; so it does where an exception left the context.

    Recording changes nothing of the training: no parameter, gradient, buffer, mode or hook, nothing that modules hold
    in attributes, and none of the random states of torch, NumPy and Python. Autocast is off while it counts.

    Args:
        network: any module that `count_patterns` takes; where it is wrapped (DistributedDataParallel), what is inside.
        images: what is counted at each step, float tensor [n, ...], or an object with len() whose slices are such
            tensors, always the same: the training images without augmentation, in one fixed order.
        path: the store, ending in .zarr.
        batch_size: images in a batch; batch-norm normalises each by its own statistics.
        batches_at_once: batches that pass through the network together; more keep a GPU busy.
        include, exclude, channel_axis, signs: which layers, and how, as for `count_patterns`.
        labels: each image's class, whole numbers from 0; then patterns are counted per class. Shape [n].
        shuffled_labels: also count with the labels shuffled over the images.
        class_names: of the classes; their numbers without it.
        sample: "1/16" keeps that share of the patterns in the store; all without it.

    Raises:
        ValueError: the path does not end in .zarr, `sample` is no share or goes with labels, or there are fewer class
            names than classes.
        StoreError: the store is finished already, another process records into it, or it was begun with other settings
            or images.
    """

    def __init__(
        self,
        network: nn.Module,
        images: Images,
        path: str | os.PathLike[str],
        *,
        batch_size: int = 128,
        batches_at_once: int = 1,
        include: str | Sequence[str] = "*",
        exclude: str | Sequence[str] = (),
        channel_axis: int | Mapping[str, int] | None = None,
        signs: bool = False,
        labels: Tensor | ArrayLike | None = None,
        shuffled_labels: bool = False,
        class_names: Sequence[str] | None = None,
        sample: str | None = None,
    ) -> None:
        final = Path(path)
        if final.suffix != ".zarr":
            raise ValueError(f"path: expected a name that ends in .zarr, but got {path}")
        if final.exists():
            raise stores.StoreError(
                f"{final}: is finished already; record into another store, which open_counts takes together with this "
                "one, or delete it"
            )
        if sample is not None and labels is not None:
            raise ValueError("sample: does not go with labels; take one of them away")
        batch_size, batches_at_once = (
            _whole(batch_size, "batch_size", 1),
            _whole(batches_at_once, "batches_at_once", 1),
        )
        labellings(labels, len(images), shuffled_labels)
        layers = {"include": include, "exclude": exclude, "channel_axis": channel_axis, "signs": signs}
        self._network, self._images = network, images
        self._how: dict[str, Any] = {
            **layers,
            "batch_size": batch_size,
            "batches_at_once": batches_at_once,
            "labels": labels,
            "shuffled_labels": shuffled_labels,
        }
        with counting_mode(network):  # images may draw from the training's random states
            digest = digest_of(images)
        self._one_in = 1 if sample is None else parse_sample(sample)
        attributes: dict[str, Any] = {
            "network": {"class": f"{type(network).__module__}.{type(network).__qualname__}"},
            "num_images": len(images),
            DATA_DIGEST: digest,
            "batch_size": batch_size,
            "layers": layers,
            **({} if sample is None else {"sample": sample}),
            **({} if labels is None else _described(labels, shuffled_labels, class_names)),
            **machine(device_of(network)),
            "batches_at_once": batches_at_once,
            "versions": stores.versions(),
        }
        attributes = json.loads(json.dumps(attributes))  # as a recording that goes on finds them
        self._is_closed, self._final = False, final
        self._writer = CountsWriter(Path(paths.partial(str(final))), final, attributes)

    @property
    def last_step(self) -> int | None:
        """The last recorded step, also of a recording that goes on; None where there is none yet."""
        return self._writer.steps[-1] if self._writer.steps else None

    def record(self, step: int, epoch: float | None = None) -> None:
        """Counts the patterns of the network as it is now.

        Args:
            step: optimizer updates done; more than at the last record.
            epoch: the same in epochs, if it is known; figures can then be drawn over epochs.

        Raises:
            ValueError: the step is no whole number or not after `last_step`, or has other layers; or as
                `count_patterns`.
            RuntimeError: the recording was closed.
            WriteError: it could not be saved.
        """
        step = _whole(step, "step", 0)
        self._require_open(f"step {step:,}")
        if self.last_step is not None and step <= self.last_step:
            raise ValueError(
                f"step {step:,}: expected one after step {self.last_step:,}, the last that was recorded; a training "
                "that begins at an earlier one calls rewind first"
            )
        with torch.autocast(device_of(self._network).type, enabled=False):
            counts = count_patterns(self._network, self._images, **self._how, step=step)
        self._writer.note_not_counted([one.to_dict() for one in counts.not_counted])
        kept = counts if self._one_in == 1 else [layer.sampled(self._one_in) for layer in counts]
        self._writer.append(step, float("nan") if epoch is None else float(epoch), kept)

    def rewind(self, step: int) -> None:
        """Forgets what was recorded from `step` on: for a training that begins there, anew or from a checkpoint.

        Raises:
            ValueError: the step is no whole number.
            RuntimeError: the recording was closed.
            WriteError: it could not be saved.
        """
        step = _whole(step, "step", 0)
        self._require_open("rewind")
        self._writer.rewind(step)

    def save(self) -> None:
        """Puts all that was recorded on the disk now; best called where the training saves its own checkpoint.

        Raises:
            RuntimeError: the recording was closed.
            WriteError: it cannot be written.
        """
        self._require_open("save")
        self._writer.save()

    def close(self, *, finish: bool = True) -> None:
        """Ends the recording, and gives the store its name; does nothing where it was closed before.

        Args:
            finish: False leaves it unfinished, to go on later.

        Raises:
            RuntimeError: no step was recorded.
            WriteError: it cannot be written.
        """
        if self._is_closed:
            return
        self._is_closed = True
        try:
            if finish:
                self._writer.finish()
            else:
                self._writer.save()
        finally:
            self._writer.close()

    def _require_open(self, what: str) -> None:
        """Once closed, another process may go on with what is unfinished, and nothing is written any more."""
        if not self._is_closed:
            return
        advice = "go on with a new recorder for the same path"
        if self._final.exists():
            advice = "make a recorder for another store"
        raise RuntimeError(f"{what}: the recording was closed; {advice}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(finish=kind is None)


def _whole(value: Any, name: str, least: int) -> int:
    """A whole number that a store can hold.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name}: expected a whole number from {least}, but got {value!r}")
    if value >= MOST_STEPS:
        raise ValueError(f"{name}: expected less than {MOST_STEPS}, but got {value}")
    return int(value)


def _described(labels: Tensor | ArrayLike, shuffled: bool, class_names: Sequence[str] | None) -> dict[str, Any]:
    """What a store says of the labels; a recording does not go on with others."""
    given = labels.cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    num_classes = int(given.max(initial=-1)) + 1
    names = [str(label) for label in range(num_classes)] if class_names is None else list(class_names)
    if len(names) < num_classes:
        raise ValueError(f"class_names: expected {num_classes}, one for each class of the labels, but got {len(names)}")
    digest = hashlib.sha256(given.astype(np.int64).tobytes()).hexdigest()[:16]
    return {"labels": "shuffled" if shuffled else True, "class_names": names, "labels_digest": digest}
