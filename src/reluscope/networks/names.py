"""Network names and options: what may be asked for, checked without torch.

A name is a family and, optionally, a depth: ``"resnet20"``, ``"fixup_resnet32"``, ``"toynet"``; or the import path of a
function that returns a network: ``"torchvision.models:resnet18"``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reluscope.hints import did_you_mean, require_known
from reluscope.imports import check_path

DEFAULT_DEPTH = 20
MOST_DEPTH = 2_000
MOST_CHANNELS = 65_536

_LONGEST = 60  # characters of a value that a message repeats
DEFAULT_CHANNELS = 3
DEFAULT_CLASSES = 10

NEGATIVE_SLOPES = {"relu": 0.0, "prelu": 0.25, "leaky_relu": 0.01}
"""The activations, and what they multiply negative values by; for PReLU before training, which learns it."""


@dataclass(frozen=True)
class Family:
    """What distinguishes the options of one network family.

    Attributes:
        default_widths: channels of the three stages; empty where the family grows its own and takes none.
        pads_channels: whether its shortcuts pad with zero channels, so that no stage may be narrower than the last.
    """

    default_widths: tuple[int, ...]
    pads_channels: bool


FAMILIES = {
    "convnet": Family(default_widths=(16, 32, 64), pads_channels=False),
    "fixup_resnet": Family(default_widths=(16, 32, 64), pads_channels=True),
    "pyramidnet": Family(default_widths=(), pads_channels=True),
    "resnet": Family(default_widths=(16, 32, 64), pads_channels=True),
    "toynet": Family(default_widths=(32, 32, 32), pads_channels=False),
}


@dataclass(frozen=True)
class NetworkSpec:
    """A network that can be built: every option resolved.

    Attributes:
        family: a key of `FAMILIES`.
        depth: 6n + 2 weight layers: the first convolution, n blocks of two in each of three stages, the classifier.
        activation: a key of `NEGATIVE_SLOPES`.
        widths: channels of the three stages; empty where the family grows its own.
    """

    family: str
    depth: int
    activation: str
    widths: tuple[int, ...]

    @property
    def blocks_per_stage(self) -> int:
        """n in depth = 6n + 2."""
        return (self.depth - 2) // 6


def network_families() -> list[str]:
    """The names of the network families, sorted."""
    return sorted(FAMILIES)


def check_network(
    name: str, depth: int | None = None, activation: str = "relu", widths: Sequence[int] | None = None
) -> None:
    """Raise ValueError, in one line, unless `build_network` would accept these options.  Never imports torch."""
    resolve_network(name, depth, activation, widths)


def is_import_path(name: object) -> bool:
    """Whether a network's name is where to import it from."""
    return isinstance(name, str) and ":" in name


def network_from_config(network: str | Mapping[str, Any]) -> dict[str, Any]:
    """The `network` of a config with every option resolved, JSON types.  Never imports torch, or the network.

    Two ways to name one network give the same: ``{name, depth, activation, widths}``, or ``{import, arguments}``.

    Raises:
        ValueError: one line that says what was given and what is allowed; of an import, that the path does not read as
            one or its package is not there. The rest of an import shows when the network is built.
    """
    if isinstance(network, str):
        network = {"import" if is_import_path(network) else "name": network}
    if "import" in network:
        check_path(network["import"])
        if others := [key for key in network if key not in ("import", "arguments")]:
            raise ValueError(
                f"network: {others[0]} does not go with import; give the function what it takes as arguments"
            )
        return {"import": network["import"], "arguments": dict(network.get("arguments") or {})}
    if "name" not in network:
        raise ValueError("network: missing key 'name' (one of ours) or 'import' (package.module:function)")
    if "arguments" in network:
        raise ValueError("network: arguments go with import only")
    for key in network:
        require_known("a key of network", key, ("name", "depth", "activation", "widths"))
    resolved = resolve_network(**network)
    spec: dict[str, Any] = {"name": resolved.family, "depth": resolved.depth, "activation": resolved.activation}
    return spec | ({"widths": list(resolved.widths)} if resolved.widths else {})


def resolve_network(
    name: str, depth: int | None = None, activation: str = "relu", widths: Sequence[int] | None = None
) -> NetworkSpec:
    """The network that a name and options stand for.

    Args:
        name: family, with or without a depth: ``"resnet20"`` or ``"resnet"``.
        depth: 6n + 2, n >= 1; 20 where neither this nor the name says.
        activation: ``"relu"``, ``"prelu"`` or ``"leaky_relu"``.
        widths: channels of the three stages, instead of the family's own.

    Raises:
        ValueError: one line that says what was given and what is allowed.
    """
    family, named_depth = _split_name(name)
    if None not in (depth, named_depth) and depth != named_depth:
        raise ValueError(f"depth: expected {named_depth}, as in network {name!r}, but got {depth!r}")
    if named_depth is None:
        named_depth = DEFAULT_DEPTH if depth is None else depth
    _check_depth(named_depth)
    require_known("activation", activation, NEGATIVE_SLOPES)
    return NetworkSpec(family, named_depth, activation, _resolve_widths(family, widths))


def _split_name(name: str) -> tuple[str, int | None]:
    """``"resnet20"`` -> (``"resnet"``, 20); the depth is None where the name has none."""
    match = re.fullmatch(r"(.*?)([0-9]*)", name) if isinstance(name, str) else None
    family, digits = match.groups() if match else (name, "")
    if family not in FAMILIES:
        place = f" in {_brief(name)}" if digits else ""
        raise ValueError(f"network: unknown family {_brief(family)}{place}{did_you_mean(family, network_families())}")
    if len(digits) > len(str(MOST_DEPTH)):
        raise ValueError(f"depth: expected at most {MOST_DEPTH}, but got {_brief(digits)}")
    return family, int(digits) if digits else None


def _brief(value: object) -> str:
    """As Python writes it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _is_positive_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _check_depth(depth: int) -> None:
    if not _is_positive_integer(depth):
        raise ValueError(f"depth: expected an integer 6n + 2 (8, 14, 20, ...), but got {depth!r}")
    if depth > MOST_DEPTH:
        raise ValueError(f"depth: expected at most {MOST_DEPTH}, but got {_brief(depth)}")
    if depth < 8 or depth % 6 != 2:
        below = (depth - 2) // 6 * 6 + 2
        nearest = "8" if depth < 8 else f"{below} and {below + 6}"
        raise ValueError(f"depth: expected 6n + 2 (8, 14, 20, ...; nearest: {nearest}), but got {depth}")


def _resolve_widths(family: str, widths: Sequence[int] | None) -> tuple[int, ...]:
    if widths is None:
        return FAMILIES[family].default_widths
    if not FAMILIES[family].default_widths:
        raise ValueError(f"widths: expected none, as {family} grows its own block by block, but got {widths!r}")
    if not isinstance(widths, list | tuple) or len(widths) != 3 or not all(map(_is_positive_integer, widths)):
        raise ValueError(f"widths: expected three positive integers, one a stage, but got {widths!r}")
    if max(widths) > MOST_CHANNELS:
        raise ValueError(f"widths: expected at most {MOST_CHANNELS} channels, but got {_brief(max(widths))}")
    if FAMILIES[family].pads_channels and list(widths) != sorted(widths):
        raise ValueError(f"widths: expected none below the one before, as {family} pads shortcuts, but got {widths!r}")
    return tuple(widths)
