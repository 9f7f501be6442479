"""Stage two: count the patterns of one shard of a run."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import torch

from reluscope import paths, stores
from reluscope.checkpoints import open_weights
from reluscope.counting import count_patterns
from reluscope.counts import CountsWriter
from reluscope.data import load
from reluscope.networks import build_network
from reluscope.schedule import Steps
from reluscope.stages.devices import best_device, use_threads
from reluscope.study import ConfigError, Run, changed_setting


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
    use_threads(threads)
    store = open_weights(weights)
    if different := changed_setting(store.attributes, run.spec):
        raise ConfigError(f"{weights} was trained with {different}; restore it, or delete that folder to train anew")
    steps: Steps = np.array(run.shards[shard], np.int64)
    described = {"run": run.name, "training": run.spec.to_dict(), "batch_size": run.batch_size}
    attributes = json.loads(json.dumps({**described, "versions": stores.versions()}))
    epochs = run.spec.timeline().epoch_of(steps)
    writer = CountsWriter(Path(paths.partial(output)), Path(output), steps, epochs, attributes)

    device = best_device()
    dataset = load(run.spec.data)
    images = dataset.train.to(device)
    network = build_network(in_channels=images.shape[0], num_classes=dataset.num_classes, **run.spec.network)
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    started, first = time.monotonic(), writer.position
    for step in steps[first:].tolist():
        store.load_into(network, step)
        writer.append(count_patterns(network, images, batch_size=run.batch_size))
        done = writer.position - first
        left = (time.monotonic() - started) / done * (len(steps) - writer.position)
        print(f"step {step:,}: {writer.position} of {len(steps)} checkpoints, {left:.0f} s left", flush=True)
    writer.finish()
