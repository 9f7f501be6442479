"""Stage three, first half, in a workflow: the measures of a run share a pass over its counts, though each has its job.

The jobs of a run take layers from one heap, at one time or in turn. Who takes a layer reads its counts once, and
computes all measures of it that this run of the workflow is to make; what it found lies in a folder beside the
measures. A job ends when its own measure is there at every layer. So a job that begins late finds its measure computed,
two that run at one time do half of the layers each, and one that was killed loses a layer.

No job needs another: what is found is known by a digest of all that determines it, a layer that another job gave up is
computed anew, one that another job is at for long is computed beside it, and a measure that fails, fails in its job.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reluscope import paths, stores
from reluscope.counts import CountsStore, open_counts
from reluscope.files import write_file
from reluscope.stages.measuring import Computation, compute_layer, measure_run, tell_nan, write
from reluscope.study import MeasureSpec, measuring_settings

_ANNOUNCED, _FOUND, _BEGUN = "measures.json", "found.npz", "begun"

WAIT_SECONDS = 60.0
"""For another job that is at a layer; then a job computes its own measure of it, rather than stand idle."""

_Found = dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
"""Of one layer, by a measure's digest: values, shape [step] or [step, class], and standard errors, shape [step]."""


def announce(measures: Iterable[str], folder: Path) -> None:
    """Say which measures of a run this run of the workflow is to make, before their jobs begin.

    Args:
        folder: what the run's measures share; what is left there after the last job is not needed.

    Raises:
        WriteError: it cannot be written.
    """
    for mark in folder.glob(f"*/{_BEGUN}"):
        mark.unlink()
    write_file(folder / _ANNOUNCED, json.dumps(sorted(measures)).encode())


def measure_together(
    run: str, own: str, measures: Mapping[str, MeasureSpec], shards: Sequence[str], output: str
) -> None:
    """Make one measure of a run, and compute those that were announced with it at the layers that this job takes.

    A measure that was not announced is made alone.

    Args:
        run: name of the run.
        own: name of the measure to make.
        measures: all measures of the run, by their names.
        shards: all counts stores of the run.
        output: the measure's store.

    Raises:
        ValueError: the measure needs what was not counted.
        StoreError: a counts store is missing, damaged, or of another run.
    """
    folder = Path(paths.folder(output, paths.measure(run, own)), paths.shared_pass(run))
    for shard in shards:
        stores.require_owner(shard, stores.attributes_of(shard, "counts"), run=run)
    announced = _announced(folder)
    if own not in announced:
        measure_run({output: measures[own]}, shards)
        return
    counts = open_counts(*shards)
    tell_nan(counts, [measures[own]])
    inputs = {
        "counts": [(Path(shard) / "zarr.json").stat().st_mtime_ns for shard in shards],
        "versions": stores.versions(),
    }
    shared = _Pass(folder, counts, _digest(measures[own], inputs), Computation(measures[own], counts))
    for name in sorted(announced & measures.keys() - {own}):
        try:
            shared.others[_digest(measures[name], inputs)] = Computation(measures[name], counts)
        except ValueError:
            continue  # its own job says why
    write(shared.run().series(), output, measures[own], counts)


class _Pass:
    """One job's part in the pass over a run's counts.

    Attributes:
        others: computations of other jobs' measures by their digests, which this job does by the way.
    """

    def __init__(self, folder: Path, counts: CountsStore, own: str, computation: Computation) -> None:
        self._folder, self._counts, self._own, self._computation = folder, counts, own, computation
        self.others: dict[str, Computation] = {}
        self._computed: set[int] = set()

    def run(self) -> Computation:
        """The job's own measure, computed at every layer."""
        num_layers = len(self._counts.layer_names)
        if any(self._was_killed_at(layer) for layer in range(num_layers)):
            self.others = {}  # one of them may be what took all memory
        missing = [layer for layer in range(num_layers) if not self._is_there(layer)]
        for layer in missing:  # which other jobs were at
            if not self._is_there(layer, wait=WAIT_SECONDS):
                self._compute(layer, {self._own: self._computation})
        found = num_layers - len(self._computed)
        print(f"{found} of {num_layers} layers were measured before, or by other jobs", flush=True)
        return self._computation

    def _is_there(self, layer: int, *, wait: float = 0.0) -> bool:
        """Find the job's own measure of a layer, or compute it; unless another job is at the layer."""
        if self._take_over(self._found(layer), layer):
            return True
        with self._taken(layer, wait=wait) as taken:
            if taken and not self._take_over(found := self._found(layer), layer):
                self._write(layer, {**found, **self._compute_with_others(layer, found)})
        return taken

    def _take_over(self, found: _Found, layer: int) -> bool:
        if self._own not in found:
            return False
        self._computation.values[:, layer], self._computation.errors[:, layer] = found[self._own]
        return True

    def _compute_with_others(self, layer: int, found: _Found) -> _Found:
        own = {self._own: self._computation}
        others = {digest: one for digest, one in self.others.items() if digest not in found}
        if others:
            begun = self._layer_folder(layer) / _BEGUN
            begun.touch()
            try:
                return self._compute(layer, {**others, **own})
            except Exception as error:
                print(f"one of them fails ({type(error).__name__}: {error}); goes on alone", flush=True)
                self.others = {}
            finally:
                begun.unlink(missing_ok=True)
        return self._compute(layer, own)

    def _compute(self, layer: int, computations: Mapping[str, Computation]) -> _Found:
        names = ", ".join(sorted(one.name for one in computations.values()))
        print(f"layer {layer + 1} of {len(self._counts.layer_names)}: {names}", flush=True)
        self._computed.add(layer)
        compute_layer(list(computations.values()), self._counts, layer)
        return {digest: (one.values[:, layer], one.errors[:, layer]) for digest, one in computations.items()}

    def _was_killed_at(self, layer: int) -> bool:
        """Whether a job began to compute several measures of a layer, and neither ended nor is at it."""
        if not (self._layer_folder(layer) / _BEGUN).exists():
            return False
        with self._taken(layer) as taken:
            return taken and (self._layer_folder(layer) / _BEGUN).exists()

    @contextmanager
    def _taken(self, layer: int, *, wait: float = 0.0) -> Iterator[bool]:
        """Keep a layer to this job; whether that is so, or another one has it."""
        try:
            lock = stores.lock(self._layer_folder(layer), "measuring this layer", wait=wait)
        except stores.StoreError:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def _layer_folder(self, layer: int) -> Path:
        return self._folder / str(layer)

    def _write(self, layer: int, found: _Found) -> None:
        values = {f"values {digest}": values for digest, (values, _) in found.items()}
        errors = {f"errors {digest}": errors for digest, (_, errors) in found.items()}
        file = io.BytesIO()
        np.savez(file, **values, **errors)  # type: ignore[arg-type]  # its own keyword is a bool
        write_file(self._layer_folder(layer) / _FOUND, file.getbuffer())

    def _found(self, layer: int) -> _Found:
        """What any job computed of the layer; nothing where its file is damaged, whatever NumPy then raises."""
        try:
            with (self._layer_folder(layer) / _FOUND).open("rb") as file:
                arrays = np.load(file, allow_pickle=False)
                digests = {name.split()[1] for name in arrays}
                return {digest: (arrays[f"values {digest}"], arrays[f"errors {digest}"]) for digest in digests}
        except Exception:
            return {}


def _announced(folder: Path) -> set[str]:
    try:
        return set(json.loads((folder / _ANNOUNCED).read_bytes()))
    except (OSError, ValueError):
        return set()


def _digest(spec: MeasureSpec, inputs: Mapping[str, Any]) -> str:
    """Of all that determines a measure's values."""
    settings = {"function": spec.function, **measuring_settings(spec), **inputs}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
