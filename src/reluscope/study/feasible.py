"""Whether runs can be trained, counted and drawn, as far as that can be told before.  Free of torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from reluscope.checkpoint_files import FilesSpec
from reluscope.data.spec import image_shape, num_train_images
from reluscope.data.usable import require_usable
from reluscope.figures.moments import require_moments
from reluscope.networks import facts
from reluscope.study.config import known
from reluscope.study.config_error import ConfigError
from reluscope.training.spec import TrainingSpec

if TYPE_CHECKING:
    from reluscope.study.model import Run

MOST_MEMORY = 1 << 40
"""Bytes that no run may take; machines have less."""

_NAMED = 20  # layers that a message names
_BYTES = 4  # of a float32
_CHANNEL_AXES = (1, -3)  # of [image, channel, row, column]


def require_feasible(specs: Mapping[str, Mapping[str, TrainingSpec | FilesSpec]], config: Mapping[str, Any]) -> None:
    """Refuse runs that cannot be trained, or counted, to the end.

    Args:
        specs: the runs of each entry of the config, which differ in nothing but the seed.

    Raises:
        ConfigError: one line that names the key: steps without end, test images or an augmentation that the data do not
            have, a batch that batch-norm cannot normalise, more memory than there is, or layers that the network lacks.
    """
    for name, runs in specs.items():
        try:
            counted = config.get("counting", {}).get("batch_size", 128)
            _require_feasible(next(iter(runs.values())), counted, layers_of(config["runs"][name], config))
        except (ValueError, OSError) as error:
            raise ConfigError(f"runs.{name}: {error}") from error


def layers_of(entry: Mapping[str, Any], config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The choice of layers of an entry of a config's runs."""
    return entry.get("layers", config.get("counting", {}).get("layers", {}))


def _require_feasible(spec: TrainingSpec | FilesSpec, counted: int, layers: Mapping[str, Any]) -> None:
    batches = {"counting.batch_size": counted}
    if isinstance(spec, TrainingSpec):
        spec.timeline().require_feasible(spec.dump_every)
        require_usable(spec.data)
        batches["batch_size"] = spec.method.batch_size
    if (built := facts.layers(spec.network)) is None:
        return
    _require_layers([layer.name for layer in built], layers)
    for key, batch_size in batches.items():
        _require_statistics(key, spec, batch_size)
    _require_memory(spec, counted, MOST_MEMORY)


def require_memory(runs: Iterable[Run], available: int) -> None:
    """Refuse runs that take more memory than the machine has on which they are to run.

    Args:
        available: bytes.

    Raises:
        ConfigError: one does; one line that names it.
    """
    for run in runs:
        try:
            _require_memory(run.spec, run.batch_size, available)
        except ValueError as error:
            raise ConfigError(f"runs.{run.name}: {error}") from error


def _require_memory(spec: TrainingSpec | FilesSpec, counted: int, most: int) -> None:
    if (needed := memory_of(spec, counted)) > most:
        raise ValueError(
            f"network: its weights and a batch take more than {needed / 1e9:,.0f} GB of memory, expected at most "
            f"{most / 1e9:,.0f}; lower widths, depth or batch_size"
        )


def memory_of(spec: TrainingSpec | FilesSpec, counted: int) -> int:
    """Bytes that a run takes at the least; 0 of an imported network, of which nothing is known.

    A training holds weights, gradients and momenta, and what each layer made of a batch; a count holds weights, and
    what its largest layer made of one.

    Args:
        counted: images a batch when counting.
    """
    if (built := facts.layers(spec.network)) is None:
        return 0
    channels, height, width = image_shape(spec.data)
    images, weights = num_train_images(spec.data), facts.num_weights(spec.network, channels)
    sizes = [layer.channels * _halved(height, layer.halvings) * _halved(width, layer.halvings) for layer in built]
    needed = weights + min(counted, images) * max(sizes)
    if isinstance(spec, TrainingSpec):
        needed = max(needed, 3 * weights + min(spec.method.batch_size, images) * sum(sizes))
    return _BYTES * needed


def require_drawable(
    kind: str,
    section: Mapping[str, Any],
    specs: Mapping[str, Mapping[str, TrainingSpec | FilesSpec]],
    config: Mapping[str, Any],
) -> None:
    """Refuse a figure whose keys do not go together, moments that are none, and two runs of one depth in a column of
    profiles, whose lines are told apart by it.

    How deep an imported network is shows when it is built; two of the same are refused.

    Raises:
        ValueError: one line that names the key.
    """
    if "moments" in section:
        if "steps" in section:
            raise ConfigError("steps do not go with moments, which name them")
        require_moments(kind, section["moments"])
    if "columns" in section and "runs" in section:
        raise ConfigError("runs: do not go with columns, which name them")
    for column, drawn in section.get("columns", {}).items():
        first: dict[str, str] = {}
        for run in drawn:
            spec = next(iter(specs[known(run, specs, "run")].values()))
            layers, built = layers_of(config["runs"][run], config), facts.layers(spec.network)
            depth = f"{len(_chosen([one.name for one in built], layers))} layers" if built else "the same network"
            if (other := first.setdefault(depth if built else str([spec.network, layers]), run)) != run:
                raise ConfigError(
                    f"columns: {column!r}: expected runs of different depths, but got {other!r} and {run!r}, both of "
                    f"{depth}"
                )


def _chosen(names: Sequence[str], layers: Mapping[str, Any]) -> list[str]:
    """The names that a choice takes, as `preactivations.LayerChoice` does."""
    include, exclude = layers.get("include", ["*"]), layers.get("exclude", [])
    return [name for name in names if _matches(name, include) and not _matches(name, exclude)]


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _require_layers(names: Sequence[str], layers: Mapping[str, Any]) -> None:
    there = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    axes = layers.get("channel_axis")
    patterns = {key: layers.get(key, []) for key in ("include", "exclude")}
    for key, given in {**patterns, "channel_axis": axes if isinstance(axes, Mapping) else []}.items():
        for pattern in given:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ValueError(f"layers.{key}: {pattern!r} matches no layer; there are {there}")
    given_axes = axes.values() if isinstance(axes, Mapping) else [axes]
    if odd := [axis for axis in given_axes if axis not in (*_CHANNEL_AXES, None)]:
        raise ValueError(f"layers.channel_axis: expected 1, which holds the channels in our networks, got {odd[0]}")
    if not _chosen(names, layers):
        raise ValueError(f"layers.include, exclude: they leave no layer; there are {there}")


def _require_statistics(key: str, spec: TrainingSpec | FilesSpec, batch_size: int) -> None:
    """Refuse a batch of which a channel has a single value, where batch-norm divides by a deviation of zero."""
    _, height, width = image_shape(spec.data)
    images = num_train_images(spec.data)
    fewest = images % batch_size or batch_size
    if min(fewest, images) == _halved(height, 2) * _halved(width, 2) == 1 and spec.network["name"] != "fixup_resnet":
        raise ValueError(
            f"{key}: {batch_size} leaves a batch of 1 of the {images:,} images, of which the last stage sees 1 x 1 "
            "positions, too few for batch-norm; choose another, or larger images"
        )


def _halved(side: int, times: int) -> int:
    for _ in range(times):
        side = -(-side // 2)
    return side
