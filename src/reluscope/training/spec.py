"""What one training is: network, data, method, seed, and which steps are dumped.  Free of torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reluscope import schedule
from reluscope.data.spec import DataSpec, fingerprint, num_train_images
from reluscope.schedule import Steps, Timeline
from reluscope.training.methods import Method


@dataclass(frozen=True)
class TrainingSpec:
    """All that determines the bits of a training on one machine.

    Attributes:
        network: as `network_from_config` returns it: one of ours, or an imported one.
        data: which images, and how they are augmented.
        method: schedule and all its numbers.
        seed: initialisation, order and augmentation are drawn from streams of their own that start from it.
        dump_every: every so-many-th step is dumped; the first and the last always.
    """

    network: Mapping[str, Any]
    data: DataSpec
    method: Method
    seed: int
    dump_every: int = 1

    def timeline(self) -> Timeline:
        return Timeline(num_train_images(self.data), self.method.batch_size, self.method.epochs)

    def dumped_steps(self) -> Steps:
        return self.timeline().dumped(self.dump_every)

    def select_steps(self, selections: Mapping[str, object] | Sequence[Mapping[str, object]]) -> Steps:
        """The steps that selections name among those that are dumped."""
        return schedule.select_steps(selections, self.timeline(), self.dump_every)

    def to_dict(self) -> dict[str, Any]:
        """The spec as JSON types: what the weights store keeps, and what a rerun is decided by."""
        sections = {
            "network": dict(self.network),
            "data": {**self.data.to_dict(), "fingerprint": fingerprint(self.data)},
            "method": self.method.to_dict(),
            "seed": self.seed,
            "dump_every": self.dump_every,
        }
        return json.loads(json.dumps(sections))
