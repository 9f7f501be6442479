"""Training methods: the paper's numbers as defaults, every one of them open to the config.  Free of torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from reluscope.hints import did_you_mean, require_known

_UNIT_INTERVAL = {"momentum", "min_momentum", "warmup", "decay", "batch_norm_momentum"}


def _checked(field: dataclasses.Field[Any], value: Any) -> Any:
    """`value` as the field's type; refuses what no training can use."""
    if field.name == "milestones":
        try:
            value = tuple(float(v) for v in value)
        except (TypeError, ValueError):
            raise ValueError(f"milestones: expected a list of fractions of the training, got {value!r}") from None
        if not all(0 < v < 1 for v in value) or list(value) != sorted(value):
            raise ValueError(
                f"milestones: expected ascending fractions of the training, 0.5 for half, got {list(value)}"
            )
        return value
    if isinstance(field.default, bool):
        if not isinstance(value, bool):
            raise ValueError(f"{field.name}: expected true or false, got {value!r}")
        return value
    kind = int if isinstance(field.default, int) else float
    if isinstance(value, bool) or not isinstance(value, int | float) or kind(value) != value:
        raise ValueError(f"{field.name}: expected a {'whole ' if kind is int else ''}number, got {value!r}")
    least, most = (1 if kind is int else 0.0), (1.0 if field.name in _UNIT_INTERVAL else float("inf"))
    if not least <= value <= most:
        limit = f"between {least} and {most}" if most == 1.0 else f"of at least {least}"
        raise ValueError(f"{field.name}: expected a number {limit}, got {value!r}")
    return kind(value)


@dataclass(frozen=True, kw_only=True)
class Method:
    """What all methods share: SGD on the cross-entropy, in batches.

    Attributes:
        epochs: passes over the training images.
        batch_size: images a step.
        learning_rate: the largest learning rate: the initial one (stepwise), the peak (cyclic, one-cycle).
        momentum: SGD's momentum; the larger of the two where it is cycled.
        nesterov: Nesterov's form of the momentum.
        weight_decay: L2 penalty on all parameters.
        batch_norm_momentum: weight of the new batch in the running statistics.
        scalar_learning_rate_factor: learning rate of FixUp's scalar biases and multipliers, relative to the others'.
    """

    schedule: ClassVar[str]
    epochs: int = 200
    batch_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    batch_norm_momentum: float = 0.1
    scalar_learning_rate_factor: float = 1.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _checked(field, getattr(self, field.name)))
        if self.nesterov and self.momentum == 0:
            raise ValueError(f"nesterov: true needs a momentum above 0, got momentum: {self.momentum}")
        for lower, upper in (("min_learning_rate", "learning_rate"), ("min_momentum", "momentum")):
            least, most = getattr(self, lower, 0.0), getattr(self, upper)
            if least > most:
                raise ValueError(f"{lower}: expected at most {upper} ({most}), got {least}")

    def to_dict(self) -> dict[str, Any]:
        """Every number, with the schedule's name; JSON-able."""
        return {"schedule": self.schedule, **dataclasses.asdict(self)}


@dataclass(frozen=True, kw_only=True)
class Stepwise(Method):
    """The learning rate drops by `decay` at each of `milestones`, given as fractions of the training."""

    schedule: ClassVar[str] = "stepwise"
    milestones: tuple[float, ...] = (0.5, 0.75)
    decay: float = 0.1


@dataclass(frozen=True, kw_only=True)
class Cyclic(Method):
    """CyclicLR, triangular2: `cycles` times up and down over the training, the amplitude halved each time."""

    schedule: ClassVar[str] = "cyclic"
    epochs: int = 100
    learning_rate: float = 0.2
    weight_decay: float = 5e-4
    min_learning_rate: float = 0.002
    min_momentum: float = 0.85 * 0.9
    cycles: int = 5


@dataclass(frozen=True, kw_only=True)
class OneCycle(Method):
    """OneCycleLR, cosine: from learning_rate / div_factor up within `warmup` of the training, then down to
    learning_rate / div_factor / final_div_factor."""

    schedule: ClassVar[str] = "one_cycle"
    epochs: int = 50
    batch_size: int = 256
    learning_rate: float = 0.8
    nesterov: bool = True
    weight_decay: float = 2e-4
    batch_norm_momentum: float = 0.05
    min_momentum: float = 0.85 * 0.9
    warmup: float = 0.1
    div_factor: float = 10.0
    final_div_factor: float = 1e3


SCHEDULES: dict[str, type[Method]] = {m.schedule: m for m in (Stepwise, Cyclic, OneCycle)}

METHODS: dict[str, Method] = {
    "stepwise": Stepwise(),
    "cyclic": Cyclic(),
    "one_cycle": OneCycle(),
    "fixup": Stepwise(weight_decay=5e-4, scalar_learning_rate_factor=0.1),
    "pyramidnet": Stepwise(epochs=300, nesterov=True),
}
"""The paper's methods (FixUp and PyramidNet are trained stepwise, with numbers of their own)."""


def method_from_config(name: str, section: Mapping[str, Any]) -> Method:
    """The method `name` of a config: the paper's of that name, or a `schedule`'s defaults, with `section` on top.

    Raises:
        ValueError: an unknown key, schedule or value; the message names the config key and what is allowed.
    """
    section = dict(section)
    schedule = section.pop("schedule", METHODS[name].schedule if name in METHODS else None)
    if schedule is None:
        *most, last = SCHEDULES
        raise ValueError(f"methods.{name}: a method under a new name needs schedule: {', '.join(most)} or {last}")
    require_known(f"methods.{name}.schedule", schedule, SCHEDULES)
    base = METHODS.get(name, SCHEDULES[schedule]())
    if base.schedule != schedule:
        raise ValueError(
            f"methods.{name}.schedule: {name} is the paper's {base.schedule} method, got {schedule!r}; rename it"
        )
    allowed = [f.name for f in dataclasses.fields(base)]
    for key in section:
        if key not in allowed:
            hint = did_you_mean(key, allowed)
            raise ValueError(f"methods.{name}.{key}: not a setting of the {schedule} schedule{hint}")
    try:
        return dataclasses.replace(base, **section)
    except ValueError as error:
        raise ValueError(f"methods.{name}.{error}") from None
