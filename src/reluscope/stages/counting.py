"""Stage two: count the patterns of one shard of a run."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch

from reluscope import paths, stores
from reluscope.checkpoints import machine, open_weights
from reluscope.counting import count_patterns
from reluscope.counts import CountsWriter
from reluscope.data import load
from reluscope.networks import build_network
from reluscope.schedule import Steps
from reluscope.stages.devices import prepare
from reluscope.study import ConfigError, Run, counting_settings

BATCHES_AT_ONCE = {"cpu": 1, "cuda": 16}
"""By device: a GPU is not kept busy by one batch of small images. The networks that can be named meet only in
batch-norm, which keeps each batch's own statistics."""


def count_shard(run: Run, shard: str, weights: str, output: str, *, threads: int) -> None:
    """Count every pattern of every layer at the steps of `shard`, over all training images in their fixed order.

    A job killed before continues after the last step it saved.

    Args:
        weights: the run's weights store.
        output: name of the shard's counts store.
        threads: processor threads.

    Raises:
        ConfigError: the weights were trained with other settings than the run's.
    """
    device = prepare(threads)
    store = open_weights(weights)
    settings = counting_settings(run, shard)
    if different := stores.difference(store.attributes, settings["training"]):
        raise ConfigError(f"{weights} was made with {different}; restore that, or delete the store to make it again")
    steps: Steps = np.array(run.shards[shard], np.int64)
    at_once = BATCHES_AT_ONCE[device.type]
    attributes = {
        "run": run.name,
        **settings,
        **machine(device),
        "batches_at_once": at_once,
        "versions": stores.versions(),
    }
    dataset = load(run.spec.data)
    if run.labels:
        if dataset.train.labels is None:
            raise ConfigError(f"counting.labels: the images of {run.name} have none; take labels away, or give classes")
        attributes["class_names"] = list(dataset.class_names)
    epochs = run.spec.timeline().epoch_of(steps)
    writer = CountsWriter(Path(paths.partial(output)), Path(output), steps, epochs, attributes, source=Path(weights))

    try:
        images = dataset.train.to(device)
        network = build_network(in_channels=images.shape[0], num_classes=dataset.num_classes, **run.spec.network)
        network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        started, first = time.monotonic(), writer.num_counted
        for step in steps[first:].tolist():
            store.load_into(network, step)
            counts = count_patterns(
                network,
                images,
                run.batch_size,
                batches_at_once=at_once,
                buffer_bytes=run.buffer_mb << 20,
                labels=images.labels if run.labels else None,
                shuffled_labels=run.labels == "shuffled",
            )
            writer.append(counts if run.one_in == 1 else [layer.sampled(run.one_in) for layer in counts])
            done = writer.num_counted - first
            left = (time.monotonic() - started) / done * (len(steps) - writer.num_counted)
            print(f"step {step:,}: {writer.num_counted} of {len(steps)} checkpoints, {left:.0f} s left", flush=True)
        writer.finish()
    finally:
        writer.close()
