"""`reluscope info`: what stores hold."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HELP = "say what stores hold"

DESCRIPTION = """Say in a few lines what the stores at or below each PATH hold: kind, settings, steps, layers, versions.

Unfinished stores are named too, with how far they are."""

_LARGE = 1 << 24  # elements: weights are not read to be described

EXAMPLES = """examples:
  reluscope info counts.zarr
  reluscope info results/runs/resnet20-seed0
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments."""
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a store, or a folder with stores below it")


def run(options: argparse.Namespace) -> int:
    """Describes the stores; the exit status."""
    from reluscope import stores

    for path in options.paths:
        found = _stores_at(path)
        if not found:
            raise stores.StoreError(f"{path}: expected a store or a folder with stores, but there is none")
        for store in found:
            print("\n".join(_described(store)))
    return 0


def _stores_at(path: Path) -> list[Path]:
    """Stores of this project, finished or not, by name."""
    candidates = [path, *sorted(p.parent for p in path.rglob("zarr.json"))]
    return [store for store in dict.fromkeys(candidates) if _attributes(store).get("kind")]


def _attributes(store: Path) -> dict[str, Any]:
    try:
        attributes = json.loads((store / "zarr.json").read_text())["attributes"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    ours = isinstance(attributes, dict) and attributes.get("kind") in ("weights", "counts", "measure")
    return attributes if ours else {}


def _described(store: Path) -> Iterator[str]:
    attributes = _attributes(store)
    kind = attributes["kind"] if attributes["kind"] != "measure" else f"measure {attributes['measure']}"
    finished = attributes.get("complete") is True
    size = sum(file.stat().st_size for file in store.rglob("*") if file.is_file())
    in_words = f"{size / 1e6:,.1f} MB" if size >= 1e6 else f"{size / 1e3:,.0f} kB"
    yield f"{store}: {kind}, {'finished' if finished else 'UNFINISHED'}, {in_words}"
    shown = ("run", "study", "network", "num_images", "batch_size", "sample", "options", "device")
    if said := [f"{name} {_short(attributes[name])}" for name in shown if attributes.get(name)]:
        yield f"  {', '.join(said)}"
    for change in attributes.get("resumed", []):
        yield f"  after step {change['step']:,} on {change['device']}, threads {change['threads']}"
    if finished:
        yield from _contents(store, attributes["kind"])
    elif attributes["kind"] in _SO_FAR:
        yield f"  so far {_so_far(store, attributes)}"
    if versions := attributes.get("versions"):
        yield f"  {', '.join(f'{name} {version}' for name, version in versions.items())}"


def _so_far(store: Path, attributes: dict[str, Any]) -> str:
    """What of an unfinished store is saved, in words."""
    name, read = _SO_FAR[attributes["kind"]]
    state = store.parent / name
    if not state.is_file():
        return "nothing saved"
    try:
        steps, planned = read(store, state, attributes)
    except Exception as error:  # whatever a damaged file makes its reader raise
        return f"unknown: {state} cannot be read ({type(error).__name__}: {' '.join(str(error).split())})"
    return _steps(steps) + (f", of {planned:,}" if planned is not None else "")


def _counted_so_far(store: Path, state: Path, attributes: dict[str, Any]) -> tuple[list[int], int | None]:
    """The steps that are saved, and how many there will be, where that is known."""
    planned = attributes.get("steps")
    return json.loads(state.read_text())["steps"], None if planned is None else len(planned)


def _trained_so_far(store: Path, state: Path, attributes: dict[str, Any]) -> tuple[list[int], int | None]:
    import torch
    import zarr

    from reluscope import stores

    steps = stores.read(
        stores.array_of(zarr.open_group(store, mode="r"), "step")
    ).tolist()  # its training may be at work
    num_dumped = torch.load(state, weights_only=True, map_location="cpu", mmap=True)["num_dumped"]
    return steps[:num_dumped], len(steps)


_SO_FAR = {"counts": ("state.json", _counted_so_far), "weights": ("state.pt", _trained_so_far)}
"""The file that says what of an unfinished store is saved, and what reads it."""


def _short(value: Any) -> str:
    return " ".join(f"{name}={one}" for name, one in value.items()) if isinstance(value, dict) else str(value)


def _contents(store: Path, kind: str) -> Iterator[str]:
    from reluscope import stores

    group = stores.open_store(store, kind)
    values = {name: stores.read(array) for name, array in group.arrays() if array.size < _LARGE}
    yield f"  {_steps(values['step'].tolist())}"
    if kind == "weights":
        for name in ("parameters", "buffers", "integer_buffers"):
            array = stores.array_of(group, name)
            yield f"  {name}: {array.shape[0]:,} a step, {array.dtype}"
        return
    names = values["layer_name"].tolist()
    if kind == "measure":
        yield f"  {len(names)} layers, {names[0]} to {names[-1]}" if len(names) > 1 else f"  1 layer, {names[0]}"
        return
    for layer, name in enumerate(names):
        distinct = values["distinct_patterns"][:, layer]
        height, width, positions = (values[name][layer] for name in ("height", "width", "num_positions"))
        where = f"{height} x {width}" if height else "not image by image"
        number = f"{positions:,} positions" if positions else "positions of another number at each step"
        yield (
            f"  layer {layer:>3} {name}, stage {values['stage'][layer] + 1}: {values['num_channels'][layer]} channels, "
            f"{where}, {number}, "
            f"{distinct[0]:,} to {distinct[-1]:,} distinct patterns{_nan_at(values, layer)}"
        )
    for one in _attributes(store).get("not_counted", []):
        yield f"  not counted: {one['name']} ({one['operation']}): {one['reason']}"


def _nan_at(values: dict[str, Any], layer: int) -> str:
    """Where pre-activations of a layer were NaN, in words; nothing where none were, or none were counted."""
    if "num_nan" not in values or not (found := values["num_nan"][:, layer] > 0).any():
        return ""
    return f", NaN at {_steps(values['step'][found].tolist())}"


def _steps(steps: list[int]) -> str:
    if len(steps) < 2:
        return f"1 step, {steps[0]:,}" if steps else "no step"
    return f"{len(steps):,} steps, {steps[0]:,} to {steps[-1]:,}"
