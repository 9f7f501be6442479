"""The training loop: SGD over the images, every dumped step handed to the weights store.

Nothing random has a state that runs along: the initialisation is drawn from the seed alone, an epoch's order from seed
and epoch, a step's augmentation from seed and step. So a training can go on from any step with the same bits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from reluscope import stores
from reluscope.checkpoints import WeightsWriter, machine
from reluscope.data import Dataset, ImageSet, augment, load
from reluscope.data.digest import ATTRIBUTE as DATA_DIGEST
from reluscope.data.digest import digest_of
from reluscope.data.moving import moved, network_format
from reluscope.data.spec import require_labels
from reluscope.heap import freed_memory_kept
from reluscope.networks import network_of
from reluscope.networks.imported import require_logits
from reluscope.schedule import Timeline
from reluscope.training.gradients import CapturedGradients, eager_gradients
from reluscope.training.methods import Method
from reluscope.training.rates import rates
from reluscope.training.sgd import SGD
from reluscope.training.spec import TrainingSpec

_STREAMS = {"initialisation": 0, "order": 1, "augmentation": 2}


def train(
    spec: TrainingSpec,
    folder: Path,
    final: Path,
    *,
    device: torch.device | str = "cpu",
    study: str = "",
    resume_elsewhere: bool = False,
) -> None:
    """Train one run and dump its steps.

    Args:
        spec: what to train.
        folder: keeps the unfinished store; a training killed at any moment continues from there.
        final: name of the finished weights store.
        device: where the network and the images live.
        study: name of the study the run belongs to, kept in the store.
        resume_elsewhere: continue also on another device, number of threads, or with other versions, on which the bits
            depend; the store then says from which step on.

    Raises:
        StoreError: `folder` belongs to other settings or another machine, or another process is at work in it.
        FloatingPointError: the loss is no longer finite; told at once on the CPU, and on a GPU when the block of steps
            is saved, of which none from there on is kept.
        ValueError: the data have no labels, or cannot be used.
    """
    device = torch.device(device)
    timeline = spec.timeline()
    steps = spec.dumped_steps()
    require_labels(spec.data)
    dataset = load(spec.data)
    dataset.require_labels()
    network = initial_network(spec, dataset).to(device, memory_format=network_format(device))  # type: ignore[call-overload]
    _set_batch_norm_momentum(network, spec.method.batch_norm_momentum)
    optimizer = SGD(network, spec.method)

    attributes = {"study": study, **spec.to_dict(), DATA_DIGEST: digest_of(dataset.train), **machine(device)}
    attributes["versions"] = stores.versions()
    evaluated = timeline.epoch_ends if dataset.test else timeline.epoch_ends[:0]
    settings = (steps, timeline.epoch_of(steps), evaluated, attributes, partial(_require_finite, spec.method))
    writer = WeightsWriter(folder, final, network, *settings, resume_elsewhere=resume_elsewhere)
    try:
        if (done := writer.resume_step) is not None:
            optimizer.load_state(writer.restore(network), device)
            print(f"continues after step {done} of {timeline.num_steps}", flush=True)
        else:
            done = 0
            writer.append({}, {})
        with freed_memory_kept():
            _run(spec, timeline, dataset, network, optimizer, writer, done)
        writer.finish(optimizer.state())
    finally:
        writer.close()


def initial_network(spec: TrainingSpec, dataset: Dataset) -> nn.Module:
    """The run's network at step 0; leaves torch's global generator as it was.

    Raises:
        ValueError: an imported network that cannot be built, or trained on these images.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_seed(spec.seed, "initialisation"))
        network = network_of(spec.network, dataset.train.shape[0], dataset.num_classes)
    if "import" in spec.network:
        require_logits(spec.network["import"], network, dataset.train[:2], dataset.num_classes)
    return network


def _run(
    spec: TrainingSpec,
    timeline: Timeline,
    dataset: Dataset,
    network: nn.Module,
    optimizer: SGD,
    writer: WeightsWriter,
    done: int,
) -> None:
    device = next(network.parameters()).device
    images, test = dataset.train.to(device), dataset.test.to(device) if dataset.test else None
    assert dataset.train.labels is not None
    # streamed images are read by the CPU, which must not ask a GPU for their indices
    place = device if isinstance(images.images, torch.Tensor) else torch.device("cpu")
    image_labels = dataset.train.labels.to(place)
    table = rates(spec.method, timeline.num_steps)
    dumped = set(spec.dumped_steps().tolist())
    gradients = _gradients(spec, network, device)
    started = time.monotonic()
    network.train()
    for step, index in _batches(spec, timeline, done, place):
        row = step - 1
        inputs = _augmented(images, index, spec, step)
        labels = moved(image_labels[index], device)
        loss, logits = gradients(inputs, labels)
        optimizer.step(table.learning_rate[row], table.momentum[row])
        if step % timeline.steps_per_epoch == 0:
            tested = ""
            if test:
                score = accuracy(network, test)
                writer.append_accuracy(score)
                tested = f", test accuracy {score:.1%}"
            left = (time.monotonic() - started) / (step - done) * (timeline.num_steps - step)
            epoch = step // timeline.steps_per_epoch
            print(
                f"epoch {epoch:,} of {timeline.epochs:,} (step {step:,} of {timeline.num_steps:,}): "
                f"loss {loss.item():.3f}{tested}, {left:.0f} s left",
                flush=True,
            )
        if step in dumped:
            right = (logits.argmax(1) == labels).float().mean()
            rate = float(table.learning_rate[row])
            writer.append({"learning_rate": rate, "train_loss": loss, "train_accuracy": right}, optimizer.state())


def _gradients(
    spec: TrainingSpec, network: nn.Module, device: torch.device
) -> Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """What puts a batch's gradients into the parameters, and returns its loss and logits."""
    # an imported network may choose anew at each step what it does
    if device.type == "cuda" and torch.version.hip is None and "import" not in spec.network:
        return CapturedGradients(network, spec.method.batch_size)
    return partial(eager_gradients, network)


def _require_finite(method: Method, step: int, loss: float) -> None:
    if step and not np.isfinite(loss):  # step 0 has none
        rate = method.learning_rate
        raise FloatingPointError(f"step {step}: the loss is {loss}; lower methods.*.learning_rate (now {rate})")


def _batches(
    spec: TrainingSpec, timeline: Timeline, done: int, device: torch.device
) -> Iterator[tuple[int, torch.Tensor]]:
    """(step it makes, indices of its images) of every update after `done`."""
    for epoch in range(done // timeline.steps_per_epoch, timeline.epochs):
        generator = torch.Generator().manual_seed(_seed(spec.seed, "order", epoch))
        order = moved(torch.randperm(timeline.num_images, generator=generator), device)
        for i, index in enumerate(order.split(timeline.batch_size)):
            step = epoch * timeline.steps_per_epoch + i + 1
            if step > done:
                yield step, index


def _augmented(images: ImageSet, index: torch.Tensor, spec: TrainingSpec, step: int) -> torch.Tensor:
    if not (spec.data.flip or spec.data.crop_padding):
        return images[index]  # whatever their shape
    generator = torch.Generator().manual_seed(_seed(spec.seed, "augmentation", step))
    batch = augment(images.take(index), flip=spec.data.flip, crop_padding=spec.data.crop_padding, generator=generator)
    return images.normalise(batch)


@torch.no_grad()
def accuracy(network: nn.Module, images: ImageSet, batch_size: int = 500) -> float:
    """Share of images classified rightly, with the running statistics; the network's mode is put back."""
    training, labels = network.training, images.labels
    assert labels is not None
    network.eval()
    right = sum(
        int((network(images[i : i + batch_size]).argmax(1) == labels[i : i + batch_size]).sum())
        for i in range(0, len(images), batch_size)
    )
    network.train(training)
    return right / len(images)


def _seed(seed: int, stream: str, counter: int = 0) -> int:
    return int(np.random.SeedSequence((seed, _STREAMS[stream], counter)).generate_state(1, np.uint64)[0] >> 1)


def _set_batch_norm_momentum(network: nn.Module, momentum: float) -> None:
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = momentum
