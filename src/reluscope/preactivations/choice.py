"""A choice among the layers of a network, by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from reluscope.preactivations.activations import ACTIVATIONS, Activation
from reluscope.preactivations.not_counted import BY_SIGN, NotCounted

_LONGEST = 20  # names that a message lists


@dataclass(frozen=True)
class LayerChoice:
    """Which layers are counted, and what is said about them. Patterns are those of the shell: `*`, `?`, `[ab]`.

    Attributes:
        include: patterns of names; a layer must match one of them.
        exclude: patterns of names; a layer must match none of them.
        channel_axis: the axis of the pre-activation that holds the channels, for all layers, or by pattern of names
            (the first that matches); found where it is not given.
        signs: also take the activations that are not piecewise linear, by the sign of their input.
    """

    include: str | Sequence[str] = "*"
    exclude: str | Sequence[str] = ()
    channel_axis: int | Mapping[str, int] | None = None
    signs: bool = False

    def takes(self, name: str, activation: Activation) -> bool:
        return self._may_take(activation) and self.mentions(name)

    def leaves_to_signs(self, name: str, activation: Activation) -> bool:
        """Whether a layer is not taken for want of `signs` alone."""
        return not self._may_take(activation) and self.mentions(name)

    def mentions(self, name: str) -> bool:
        """Whether what bears the name is of interest, whatever it is."""
        return any(fnmatchcase(name, pattern) for pattern in _as_list(self.include)) and not any(
            fnmatchcase(name, pattern) for pattern in _as_list(self.exclude)
        )

    def axis_of(self, name: str) -> int | None:
        """The channel axis that was given for a layer."""
        if self.channel_axis is None or isinstance(self.channel_axis, int):
            return self.channel_axis
        return next((axis for pattern, axis in self.channel_axis.items() if fnmatchcase(name, pattern)), None)

    def require_layers(self, found: Mapping[str, Activation], not_counted: Sequence[NotCounted] = ()) -> None:
        """Refuse a choice that takes no layer of a forward pass, or includes names that it has not.

        Args:
            found: the kind of activation of every layer that was called, taken or not, by its name.
            not_counted: what is none, and why.

        Raises:
            ValueError: one line that lists what there is.
        """
        there, others = self._countable(found), [one for one in not_counted if one.reason != BY_SIGN]
        if not there:
            kinds = ", ".join(activation.name for activation in ACTIVATIONS if self._may_take(activation))
            told = f"; not counted: {_shortened([str(one) for one in others])}" if others else ""
            raise ValueError(
                f"expected the forward pass to call an activation, as a module or function of torch ({kinds}), but it "
                f"called none{self._on_request(found)}{told}"
            )
        for pattern in _as_list(self.include):
            if not _matches(pattern, there) and (of_it := [one for one in others if fnmatchcase(one.name, pattern)]):
                raise ValueError(f"include: {pattern!r} matches no layer; not counted is {of_it[0]}")
        self._require_matches("include", self.include, found)
        if not any(self.takes(name, found[name]) for name in there):
            raise ValueError(f"include, exclude: they leave no layer; there are {self._listing(found)}")

    def require_use(self, found: Mapping[str, Activation], others: Iterable[str] = ()) -> None:
        """Refuse other patterns that match no layer of all forward passes.

        Args:
            found: as for `require_layers`.
            others: names of what is no layer, which may be excluded too.
        """
        self._require_matches("exclude", self.exclude, found, others)
        if isinstance(self.channel_axis, Mapping):
            self._require_matches("channel_axis", self.channel_axis, found)

    def _require_matches(
        self, key: str, patterns: str | Iterable[str], found: Mapping[str, Activation], others: Iterable[str] = ()
    ) -> None:
        names = [*self._countable(found), *others]
        for pattern in _as_list(patterns):
            if not _matches(pattern, names):
                raise ValueError(f"{key}: {pattern!r} matches no layer; there are {self._listing(found)}")

    def _countable(self, found: Mapping[str, Activation]) -> list[str]:
        return [name for name, activation in found.items() if self._may_take(activation)]

    def _listing(self, found: Mapping[str, Activation]) -> str:
        return _shortened(self._countable(found)) + self._on_request(found)

    def _on_request(self, found: Mapping[str, Activation]) -> str:
        names = [f"{name} ({kind.name})" for name, kind in found.items() if not self._may_take(kind)]
        return f"; with signs=True also {_shortened(names)}" if names else ""

    def _may_take(self, activation: Activation) -> bool:
        return self.signs or activation.is_piecewise_linear


def _matches(pattern: str, names: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for name in names)


def _as_list(patterns: str | Iterable[str]) -> list[str]:
    return [patterns] if isinstance(patterns, str) else list(patterns)


def _shortened(names: Sequence[str]) -> str:
    more = len(names) - _LONGEST
    return ", ".join(names[:_LONGEST]) + (f" and {more} more" if more > 0 else "")
