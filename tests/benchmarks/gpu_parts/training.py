"""Milliseconds per step: with and without graph, every step dumped and only the ends."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from functools import partial

import torch
from reporting import spread

from gpu_parts import Answer, Settings
from gpu_parts.right import replaced
from reluscope.data import Dataset
from reluscope.training import loop
from reluscope.training.gradients import eager_gradients
from reluscope.training.methods import method_from_config
from reluscope.training.spec import TrainingSpec

NEVER = 1 << 30


def run(settings: Settings, answer: Answer) -> None:
    """The same training in turn; its data are read once, before."""
    began = time.monotonic()
    data = settings.data()
    read = loop.load(data)
    dataset = Dataset(read.train, None, read.num_classes, read.class_names)  # no accuracy is taken
    epochs = 1 if settings.smallest else 2
    method = method_from_config("stepwise", {"epochs": epochs, "milestones": []})
    answer.say(
        f"{len(dataset.train):,} images, batches of 128, {epochs} epochs, median (least to largest) ms per step\n"
    )
    answer.say("| network | launched one by one | by graph | every step dumped | dumped / not |")
    answer.say("|---|---|---|---|---|")
    with replaced(loop, "load", lambda spec: dataset):
        for name in ("resnet20",) if settings.smallest else ("resnet20", "toynet20"):
            times: dict[str, list[float]] = {"eager": [], "graph": [], "dumped": []}
            for repetition in range(2 if settings.smallest else 4):
                for kind, seconds in times.items():
                    every = 1 if kind == "dumped" else NEVER
                    spec = TrainingSpec({"name": name}, data, method, 0, every)
                    taken = train(spec, settings, eager=kind == "eager")
                    if repetition:
                        seconds.append(taken * 1e3)
                    print(
                        f"{name}, {kind}: {taken * 1e3:.2f} ms per step, {time.monotonic() - began:.0f} s", flush=True
                    )
                answer.numbers[name] = times
                answer.save()
            ratios = [dumped / graph for dumped, graph in zip(times["dumped"], times["graph"], strict=True)]
            cells = [spread(seconds) for seconds in times.values()] + [spread(ratios)]
            answer.say(f"| {name} | {' | '.join(cells)} |")
            if settings.seconds_left < 20:
                return answer.say("\nout of time")
    return None


def train(spec: TrainingSpec, settings: Settings, *, eager: bool) -> float:
    """Seconds per step, of the loop alone and the end of the writing."""
    folder = settings.work / "training"
    shutil.rmtree(folder, ignore_errors=True)
    taken: list[float] = []
    loop_run = loop._run

    def timed(*arguments: object) -> None:
        synchronize(settings.device)
        start = time.perf_counter()
        loop_run(*arguments)  # type: ignore[arg-type]
        synchronize(settings.device)
        taken.append(time.perf_counter() - start)

    gradients: Callable[..., object] = (
        (lambda spec, network, device: partial(eager_gradients, network)) if eager else loop._gradients
    )
    with replaced(loop, "_run", timed), replaced(loop, "_gradients", gradients):
        loop.train(spec, folder / "partial", folder / "weights.zarr", device=settings.device)
    return taken[0] / spec.timeline().num_steps


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
