"""Stage two: count the patterns of one shard of a run."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from torch import nn

from reluscope import paths, stores
from reluscope.checkpoint_files import FilesSpec
from reluscope.checkpoint_files.classes import num_classes
from reluscope.checkpoint_files.loading import CheckpointFiles
from reluscope.checkpoints import WeightsStore, machine, open_weights
from reluscope.counting import count_patterns
from reluscope.counting.layer_list import LayerCounts
from reluscope.counts import CountsWriter
from reluscope.data import Dataset, ImageSet, load
from reluscope.data.digest import ATTRIBUTE as DATA_DIGEST
from reluscope.data.digest import digest_of, require_same_data
from reluscope.data.moving import network_format
from reluscope.imports import in_one_line
from reluscope.networks import network_of
from reluscope.networks.imported import require_forward
from reluscope.stages.devices import prepare
from reluscope.study import ConfigError, Run, counting_settings

BATCHES_AT_ONCE = {"cpu": 1, "cuda": 64}
"""By device: a GPU is not kept busy by one batch of small images. On an H100, 50,000 of them took 0.38 s through
ResNet-20 at 64 batches at once, and 0.59 s at 16. In our networks images meet only in batch-norm, which keeps each
batch's own statistics; in imported ones they may meet elsewhere, and each batch passes alone."""


def count_shard(run: Run, shard: str, source: str, output: str, *, threads: int) -> None:
    """Count every pattern of every layer at the steps of `shard`, over all training images in their fixed order.

    A job killed before continues after the last step it saved.

    Args:
        source: the run's weights store, or the manifest of its files.
        output: name of the shard's counts store.
        threads: processor threads.

    Raises:
        ConfigError: the weights were trained with other settings than the run's.
        StoreError: they were trained on other images than the data hold now.
        ValueError: a file is not what the manifest says, or of another network; or an imported network fails.
    """
    device = prepare(threads)
    store = _checkpoints(run, shard, source)
    settings = counting_settings(run, shard)
    steps = run.shards[shard]
    at_once = 1 if "import" in run.spec.network else BATCHES_AT_ONCE[device.type]
    attributes = {
        "run": run.name,
        **settings,
        **machine(device),
        "batches_at_once": at_once,
        "versions": stores.versions(),
    }
    if isinstance(run.spec, FilesSpec):
        attributes["files"] = [entry.file for entry in run.spec.files_at(steps)]
    dataset = load(run.spec.data)
    attributes[DATA_DIGEST] = digest_of(dataset.train)
    if isinstance(store, WeightsStore):
        require_same_data({source: store.attributes, output: attributes})
    if run.labels:
        dataset.require_labels()
        attributes["class_names"] = list(dataset.class_names)
    epochs = run.spec.timeline().epoch_of(np.array(steps)).tolist()
    writer = CountsWriter(Path(paths.partial(output)), Path(output), attributes, source=Path(source))

    try:
        images = dataset.train.to(device)
        network = network_of(run.spec.network, images.shape[0], _num_classes(run, dataset, steps[0]))
        network = network.to(device, memory_format=network_format(device))  # type: ignore[call-overload]
        if "import" in run.spec.network:
            require_forward(run.spec.network["import"], network, images[:2])
        started, first = time.monotonic(), len(writer.steps)
        for done, (step, epoch) in enumerate(zip(steps[first:], epochs[first:], strict=True), start=1):
            store.load_into(network, step)
            counts = _counted(run, network, images, at_once, step)
            writer.note_not_counted([one.to_dict() for one in counts.not_counted])
            kept = counts if run.one_in == 1 else [layer.sampled(run.one_in) for layer in counts]
            writer.append(step, epoch, kept)
            left = (time.monotonic() - started) / done * (len(steps) - first - done)
            print(f"step {step:,}: {first + done} of {len(steps)} checkpoints, {left:.0f} s left", flush=True)
        writer.finish()
    finally:
        writer.close()


def _counted(run: Run, network: nn.Module, images: ImageSet, at_once: int, step: int) -> LayerCounts:
    """The network's counts as it is; whatever a stranger's network raises is a ValueError of one line."""
    try:
        return count_patterns(
            network,
            images,
            run.batch_size,
            batches_at_once=at_once,
            buffer_bytes=run.buffer_mb << 20,
            labels=images.labels if run.labels else None,
            shuffled_labels=run.labels == "shuffled",
            step=step,
            **run.layers,
        )
    except ValueError:
        raise
    except Exception as error:
        if "import" not in run.spec.network:
            raise
        path = run.spec.network["import"]
        raise ValueError(f"network {path}: a forward pass raised {in_one_line(error)}") from error


def _num_classes(run: Run, dataset: Dataset, step: int) -> int:
    """Those that the checkpoint tells apart: the data may have no labels, or other ones."""
    if isinstance(run.spec, FilesSpec) and "import" not in run.spec.network:
        return num_classes(run.spec.files_at([step])[0].file) or dataset.num_classes or 1
    return dataset.num_classes


def _checkpoints(run: Run, shard: str, source: str) -> WeightsStore | CheckpointFiles:
    """What loads the shard's steps."""
    if isinstance(run.spec, FilesSpec):
        return CheckpointFiles(run.spec.files_at(run.shards[shard]))
    store = open_weights(source)
    if different := stores.difference(store.attributes, run.spec.to_dict()):
        raise ConfigError(f"{source} was made with {different}; restore that, or delete the store to make it again")
    return store
