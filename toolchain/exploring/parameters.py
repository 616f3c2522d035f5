"""What a search varies: choices, or a range, of machine values, schedules, steps and models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.runtime.errors import InputError, UsageError
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.settings import parameter_key, parse_value
from edgefusion.runtime.validation import Strict, Whole, validated

Value = int | float | str
MODEL, SCHEDULE, STEPS = "model", "schedule", "steps"
OTHERS = (MODEL, SCHEDULE, STEPS)
"""Parameters that are no values of the machine."""
_MOST_VALUES = 10_000


class Suggests(Protocol):
    """The part of ``optuna.trial.Trial`` that is asked here."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...
    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None, log: bool
    ) -> float: ...
    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int: ...


@dataclass(frozen=True, slots=True)
class Range(Strict):
    """As a suite gives it: ends as numbers or texts with a unit, then ``step``, or ``log`` for even
    ratios; both: even ratios, rounded to steps. A grid needs ``step`` or a ``count`` of values."""

    first: int | float | str
    last: int | float | str
    step: int | float | str | None = None
    log: bool = False
    count: Whole | None = None


@dataclass(frozen=True, slots=True)
class Choices:
    """A parameter of some values."""

    name: str
    values: tuple[Value, ...]

    def grid(self) -> tuple[Value, ...]:
        """All values."""
        return self.values

    def suggest(self, trial: Suggests) -> Value:
        """One of them, as a sampler wants."""
        chosen: Value = trial.suggest_categorical(self.name, self.values)
        return chosen


@dataclass(frozen=True, slots=True)
class Span:
    """A parameter of all values between two, both included; ``whole``: integers alone."""

    name: str
    low: int | float
    high: int | float
    step: int | float | None
    log: bool
    whole: bool
    count: int | None

    def grid(self) -> tuple[Value, ...]:
        """``count`` values, or those at its steps. Raises InputError for neither."""
        if self.count is not None:
            space = np.geomspace if self.log else np.linspace
            values = [float(each) for each in space(self.low, self.high, self.count)]
        elif self.step is not None and not self.log:
            count = math.floor((self.high - self.low) / self.step + 1e-9) + 1
            values = [self.low + number * self.step for number in range(count)]
        else:
            raise InputError(
                f"parameter {self.name}: a grid needs a step, or a count of values; other samplers "
                "take any range."
            )
        return tuple(dict.fromkeys(self._rounded(value) for value in values))

    def suggest(self, trial: Suggests) -> Value:
        """One of its values, as a sampler wants."""
        if self.log:
            drawn: float = trial.suggest_float(self.name, self.low, self.high, step=None, log=True)
            return self._rounded(drawn)
        if self.whole:
            step = int(self.step or 1)
            return trial.suggest_int(self.name, int(self.low), int(self.high), step=step, log=False)
        return trial.suggest_float(self.name, self.low, self.high, step=self.step, log=False)

    def _rounded(self, value: float) -> int | float:
        """To its steps where it has any, and to an integer where it has to be one."""
        if self.step is not None:
            value = self.low + round((value - self.low) / self.step) * self.step
        return round(value) if self.whole else value


Parameter = Choices | Span


def parameter_of(name: str, given: Any, machine: Machine) -> Parameter:
    """A parameter as a suite gives it, a list of values or the table of a ``Range``; units and
    multiples are those of ``machine``.

    Raises InputError for what is no parameter, and for values that it cannot have.
    """
    if not isinstance(given, list | dict):
        raise InputError(
            f"parameter {name}: expected a list of values, or {{ first = ..., last = ... }}, "
            f"found {given!r}."
        )
    ranged = validated(Range, given, f"parameter {name}") if isinstance(given, dict) else given
    try:
        return _parameter(name, ranged, machine)
    except UsageError as error:
        reason = str(error).removeprefix("--set ")
        raise InputError(f"parameter {name}: {reason}") from None


def _parameter(name: str, given: Sequence[Any] | Range, machine: Machine) -> Parameter:
    known = machine.flat_parameters()
    key = name if name in OTHERS else parameter_key(name, known)
    current: Any = known.get(key, 1)
    if not isinstance(given, Range):
        if not given:
            raise InputError(f"parameter {name}: expected one value or more.")
        values = tuple(dict.fromkeys(_value(key, each, machine) for each in given))
        return Choices(key, values)
    if key in (MODEL, SCHEDULE):
        raise InputError(f"parameter {name}: expected a list of names, not a range.")
    low, high = (_number(key, end, machine) for end in (given.first, given.last))
    step = None if given.step is None else _number(key, given.step, machine)
    if low >= high or (step is not None and step <= 0) or (given.log and low <= 0):
        raise InputError(
            f"parameter {name}: no range leads from {given.first} to {given.last}"
            f"{'' if step is None else f' in steps of {given.step}'}"
            f"{' in even ratios' if given.log else ''}."
        )
    if given.count is not None and not 2 <= given.count <= _MOST_VALUES:
        raise InputError(f"parameter {name}: expected a count of 2 to {_MOST_VALUES} values.")
    if step is not None:
        high = low + math.floor((high - low) / step + 1e-9) * step
    for value in (low, high):
        _check(key, value, machine)
    return Span(key, low, high, step, given.log, isinstance(current, int), given.count)


def _value(key: str, given: Any, machine: Machine) -> Value:
    if key in (MODEL, SCHEDULE):
        if not isinstance(given, str):
            raise InputError(f"parameter {key}: expected names, found {given!r}.")
        return schedule_named(given).name if key == SCHEDULE else given
    value = _number(key, given, machine)
    _check(key, value, machine)
    return value


def _number(key: str, given: Any, machine: Machine) -> int | float:
    if isinstance(given, bool) or not isinstance(given, int | float | str):
        raise InputError(f"parameter {key}: expected a number, found {given!r}.")
    if key != STEPS:
        return parse_value(key, str(given), machine)
    if not isinstance(given, int) or given < 1:
        raise InputError(f"parameter {key}: expected whole numbers from 1, found {given!r}.")
    return given


def _check(key: str, value: int | float, machine: Machine) -> None:
    """Raises UsageError for a value that no machine can have."""
    if key != STEPS:
        machine.with_values(**{key: value})
