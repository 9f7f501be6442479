"""Every engine agrees with the oracle on the device; a captured training has the bits of an eager one."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gpu_parts import Answer, Settings
from reluscope import build_network, count_patterns, measures
from reluscope.checkpoints import writer as writer_module
from reluscope.counting.engines import ENGINES, counter_type
from reluscope.counting.sorted_counts import KeyBuffers
from reluscope.data import DataSpec
from reluscope.training import loop
from reluscope.training.gradients import eager_gradients
from reluscope.training.methods import method_from_config
from reluscope.training.spec import TrainingSpec

CHANNELS = (1, 2, 3, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 100, 128, 130)
SPECIAL = (0.0, -0.0, float("inf"), -float("inf"), 1e-40, -1e-40)
OTHER_DTYPES = (torch.bfloat16, torch.float16, torch.float64)


def run(settings: Settings, answer: Answer) -> None:
    if settings.device.type == "cuda":
        training(settings, answer)
    else:
        answer.say("- captured graphs: not on the CPU")
    groups(settings, answer)
    engines(settings, answer)


def cases(smallest: bool) -> Iterator[tuple[int, torch.dtype, str, str]]:
    """Channels, dtype, layout and kind of patterns."""
    channels = (1, 16, 70) if smallest else CHANNELS
    yield from itertools.product(channels, [torch.float32], ("contiguous", "channels_last"), ("hot", "distinct"))
    others = (33,) if smallest else (16, 33, 130)
    yield from itertools.product(others, OTHER_DTYPES, ("channels_last", "features"), ("hot",))


def batch(case: tuple[int, torch.dtype, str, str], size: int, seed: int) -> Tensor:
    """Pre-activations on the CPU; hot: half of the positions have one pattern, few are seldom."""
    num_channels, dtype, layout, kind = case
    generator = torch.Generator().manual_seed(seed)
    shape = (size,) if layout == "features" else (size, 9, 7)
    values = torch.randn(*shape, num_channels, generator=generator)
    if kind == "hot":
        patterns = torch.randn(40, num_channels, generator=torch.Generator().manual_seed(1))
        values = patterns[torch.randint(40, shape, generator=generator)]
        values[torch.rand(shape, generator=generator) < 0.5] = patterns[0]
    where = torch.rand(values.shape, generator=generator) < 0.01
    chosen = torch.tensor(SPECIAL)[torch.randint(len(SPECIAL), values.shape, generator=generator)]
    values = torch.where(where, chosen, values).to(dtype)
    if layout == "features":
        return values
    values = values.movedim(-1, 1)
    return values.contiguous(
        memory_format=torch.channels_last if layout == "channels_last" else torch.contiguous_format
    )


def counted(
    engine: str, device: torch.device, batches: list[Tensor], labels: list[np.ndarray] | None
) -> list[np.ndarray]:
    """Keys and counts; with labels the classes of each, and their counts too."""
    num_channels = batches[0].shape[1]
    buffers = KeyBuffers(len(batches), 1 << 16)  # small, so that runs are merged
    counter = counter_type(engine, device)(num_channels, device, buffers)
    for i, values in enumerate(batches):
        counter.add(values.to(device), labels[i] if labels else None)
        buffers.end_batch()
    if labels is None:
        return list(counter.result())
    keys, classes = counter.result_by_class(3)
    return [keys, classes.num_classes_of, classes.index, classes.counts]


def engines(settings: Settings, answer: Answer) -> None:
    """Each against the oracle, "numpy", in every case."""
    wrong: dict[str, list[str]] = {}
    num_cases, size = 0, 2 if settings.smallest else 300
    for case in cases(settings.smallest):
        batches = [batch(case, size, seed) for seed in range(2 if settings.smallest else 3)]
        for labels in (None, [np.arange(size)[None] % 3] * len(batches)):
            expected = counted("numpy", torch.device("cpu"), batches, labels)
            num_cases += 1
            for engine in sorted(set(ENGINES) - {"numpy"}):
                found = counted(engine, settings.device, batches, labels)
                if not all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True)):
                    wrong.setdefault(engine, []).append(f"{case}, {'labels' if labels else 'no labels'}")
        if settings.seconds_left < 5:
            answer.say(f"- engines: out of time after {num_cases} cases")
            break
    answer.numbers["engine cases"] = num_cases
    answer.numbers["engines wrong"] = wrong
    verdict = "; ".join(f"**{engine} wrong** in {len(some)}, as {some[0]}" for engine, some in wrong.items())
    answer.say(f"- engines, {num_cases} cases each: {verdict or 'all agree with the oracle'}")


def groups(settings: Settings, answer: Answer) -> None:
    """Several batches at once: all engines the same counts; and how close they are to those of one batch at once."""
    torch.manual_seed(0)
    network = build_network("resnet8").to(settings.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    n, side = (12, 8) if settings.smallest else (96, 16)
    images = torch.randn(n, 3, side, side, device=settings.device).contiguous(memory_format=torch.channels_last)
    some = {engine: count_patterns(network, images, n // 6, engine=engine, batches_at_once=4) for engine in ENGINES}
    one = count_patterns(network, images, n // 6)
    agree = all(
        np.array_equal(a.keys, b.keys) and np.array_equal(a.counts, b.counts)
        for counts in some.values()
        for a, b in zip(counts, some["numpy"], strict=True)
    )
    closeness = min(measures.weighted_jaccard(a, b) for a, b in zip(some["numpy"], one, strict=True))
    answer.numbers["groups agree"], answer.numbers["groups closeness"] = agree, closeness
    answer.say(
        f"- four batches at once: engines {'agree' if agree else '**differ**'}; against one at once, the least "
        f"weighted Jaccard similarity of a layer is {closeness:.5f}"
    )


def training(settings: Settings, answer: Answer) -> None:
    """A store by captured graph, one by eager launches, and one that was killed: the same bytes."""
    data = DataSpec.from_config({"name": "digits", "images": 400, "augmentation": {"crop_padding": 1}})
    for network in ("resnet20", "fixup_resnet20"):
        spec = TrainingSpec({"name": network}, data, method_from_config("cyclic", {"epochs": 8, "batch_size": 48}), 0)
        folders = {kind: settings.work / f"{network}-{kind}" for kind in ("captured", "eager", "killed")}
        train(spec, folders["captured"], settings.device)
        with replaced(loop, "_gradients", lambda spec, network, device: partial(eager_gradients, network)):
            train(spec, folders["eager"], settings.device)
        killed(spec, folders["killed"], settings.device)
        digests = {kind: digest(folder / "weights.zarr") for kind, folder in folders.items()}
        answer.numbers[f"{network} digests"] = digests
        for kind in ("eager", "killed"):
            same = digests[kind] == digests["captured"]
            answer.say(f"- {network}: captured and {kind} {'have the same bytes' if same else '**DIFFER**'}")


def train(spec: TrainingSpec, folder: Path, device: torch.device) -> None:
    loop.train(spec, folder / "partial", folder / "weights.zarr", device=device)


def killed(spec: TrainingSpec, folder: Path, device: torch.device) -> None:
    """Ends in the middle, saved at some step before, and goes on."""
    append = writer_module.WeightsWriter.append
    calls = 0

    def dying(self, *arguments) -> None:  # type: ignore[no-untyped-def]
        nonlocal calls
        calls += 1
        if calls == 40:
            raise KeyboardInterrupt
        append(self, *arguments)

    shutil.rmtree(folder, ignore_errors=True)
    with (
        replaced(writer_module, "SAVE_SECONDS", 0.05),
        replaced(writer_module.WeightsWriter, "append", dying),
        contextlib.suppress(KeyboardInterrupt),
    ):
        train(spec, folder, device)
    train(spec, folder, device)


class replaced:  # noqa: N801
    """Within it, an attribute is another one."""

    def __init__(self, home: object, name: str, value: object) -> None:
        self._home, self._name, self._value = home, name, value

    def __enter__(self) -> None:
        self._before = getattr(self._home, self._name)
        setattr(self._home, self._name, self._value)

    def __exit__(self, *_: object) -> None:
        setattr(self._home, self._name, self._before)


def digest(folder: Path) -> str:
    """Of all chunks below a folder."""
    found = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "zarr.json"):
        found.update(str(file.relative_to(folder)).encode() + file.read_bytes())
    return found.hexdigest()[:16]
