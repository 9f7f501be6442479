"""A run whose checkpoints are files that another training left.  Free of torch where names say the step."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from reluscope import schedule
from reluscope.checkpoint_files.finding import find_files
from reluscope.checkpoint_files.manifest import BY_NAME, Entry, describe, read_manifest
from reluscope.data.spec import DataSpec, fingerprint
from reluscope.schedule import SavedSteps, Steps


@dataclass(frozen=True)
class FilesSpec:
    """What is counted of a run of files.

    Attributes:
        network: as `network_from_config` returns it.
        data: the images that the patterns are counted over.
        files: the checkpoints, by step; at least one.
        steps_per_epoch: None where it is not known.
    """

    network: Mapping[str, Any]
    data: DataSpec
    files: tuple[Entry, ...]
    steps_per_epoch: int | None = None

    @classmethod
    def from_config(cls, network: Mapping[str, Any], data: DataSpec, section: Mapping[str, Any], manifest: str) -> Self:
        """Find the files that a run's section `checkpoints` names, and read what `manifest` does not know of them.

        Raises:
            ValueError: as `find_files`.
        """
        step = section.get("step")
        step_from = f"field {step['field']}" if isinstance(step, Mapping) else step or BY_NAME
        known = read_manifest(manifest)

        def field(file: str, key: str) -> int:
            if file in known and known[file].step_from == step_from and known[file].is_unchanged():
                return known[file].step
            from reluscope.checkpoint_files.loading import step_field

            return step_field(file, key)

        files = describe(find_files(section["files"], step, field), step_from, known)
        return cls(network, data, tuple(files), section.get("steps_per_epoch"))

    @classmethod
    def from_manifest(
        cls, network: Mapping[str, Any], data: DataSpec, section: Mapping[str, Any], manifest: str
    ) -> Self:
        """The files as `manifest` lists them, whatever lies beside them now.

        Raises:
            ValueError: there is no manifest.
        """
        if not (files := read_manifest(manifest)):
            raise ValueError(
                f"{manifest}: expected the manifest of the run's files, which starting the workflow writes"
            )
        return cls(network, data, tuple(files.values()), section.get("steps_per_epoch"))

    def timeline(self) -> SavedSteps:
        return SavedSteps(tuple(file.step for file in self.files), self.steps_per_epoch)

    def select_steps(self, selections: Mapping[str, object] | Sequence[Mapping[str, object]]) -> Steps:
        """The steps that selections name among those that there are."""
        return schedule.select_steps(selections, self.timeline())

    def files_at(self, steps: Sequence[int]) -> list[Entry]:
        """The files of these steps, ascending."""
        return [self._by_step[step] for step in sorted(set(steps)) if step in self._by_step]

    @cached_property
    def _by_step(self) -> dict[int, Entry]:
        return {file.step: file for file in self.files}

    def to_dict(self) -> dict[str, Any]:
        """All that determines the counts of a file beside its bytes; JSON types."""
        return json.loads(self._json)

    @cached_property
    def _json(self) -> str:
        sections = {
            "network": dict(self.network),
            "data": {**self.data.to_dict(), "fingerprint": fingerprint(self.data)},
        }
        return json.dumps(sections)
