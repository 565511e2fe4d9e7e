"""What a search may choose from, as the table `[tune]` of a preset and `--search KEY=VALUES` state it.

A list is of the values to choose from; `{from = 0.1, to = 10.0, log = true}` is a range, of whole numbers if both ends
are, and in which with `log` equal ratios count alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

from training.errors import ConfigError

Value = bool | int | float | str


class Suggests(Protocol):
    """The part of `optuna.Trial` that is used here."""

    def suggest_categorical(self, name: str, choices: Any) -> Any: ...

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = ...) -> int: ...

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = ...) -> float: ...


@dataclass(frozen=True, slots=True)
class Choices:
    """Some values of a setting."""

    values: tuple[Value, ...]

    def suggest(self, name: str, trial: Suggests) -> Any:
        return trial.suggest_categorical(name, self.values)

    def including(self, value: Any) -> Self:
        return self if value in self.values else replace(self, values=(value, *self.values))

    def ends(self) -> tuple[Value, ...]:
        """The values that must be valid for all to be."""
        return self.values

    def content(self) -> Any:
        """As a preset states it."""
        return list(self.values)


@dataclass(frozen=True, slots=True)
class Range:
    """All values of a setting between two numbers, both included."""

    low: float
    high: float
    log: bool = False

    def suggest(self, name: str, trial: Suggests) -> Any:
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(name, self.low, self.high, log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def including(self, value: Any) -> Self:
        number = float(value) if isinstance(self.low, float) else value
        return replace(self, low=min(self.low, number), high=max(self.high, number))

    def ends(self) -> tuple[Value, ...]:
        return self.low, self.high

    def content(self) -> Any:
        return {"from": self.low, "to": self.high} | ({"log": True} if self.log else {})


Space = Mapping[str, Choices | Range]


def parse_space(table: Any, owner: str) -> Space:
    """The space that a table states. Raises ConfigError, naming the `owner`, for values that say nothing."""
    if not isinstance(table, Mapping):
        raise ConfigError(f"{owner}: not a table of settings")
    return {key: _parse(key, values, owner) for key, values in table.items()}


def _parse(key: str, values: Any, owner: str) -> Choices | Range:
    if isinstance(values, list) and values and all(isinstance(value, Value) for value in values):
        return Choices(tuple(values))
    if isinstance(values, dict) and {"from", "to"} <= values.keys() <= {"from", "to", "log"}:
        low, high, log = values["from"], values["to"], values.get("log", False)
        numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in (low, high))
        if numbers and low < high and isinstance(log, bool) and not (log and low <= 0):
            whole = isinstance(low, int) and isinstance(high, int)
            return Range(low, high, log) if whole else Range(float(low), float(high), log)
    raise ConfigError(
        f"{owner}: {key} must be a list of values, as in [1, 2], or {{from = 0.1, to = 10.0, log = true}} with from "
        "below to, and above 0 if log is true"
    )
