"""Search spaces: numbers, integers, categories, and trees of them. Course: row C1.

    Space({"lr": Real(1e-4, 1e-1, log=True), "depth": Integer(1, 8),
           "kernel": Category({"linear": Space({}), "rbf": Space({"gamma": Real(1e-3, 1e1, log=True)})})})

A category whose choices carry spaces of their own makes the space a tree: the parameters of a branch are there only
when that branch is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from konspekt.core.errors import ConfigError, nearest

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Category", "Dimension", "Integer", "Real", "Space"]


@dataclass(frozen=True)
class Real:
    """A real number from `low` to `high`; with `log`, uniform in its logarithm."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        _check_range(self)

    def draw(self, rng: np.random.Generator) -> float:
        """One value."""
        if self.log:
            value = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        else:
            value = float(rng.uniform(self.low, self.high))
        return min(max(value, self.low), self.high)

    def holds(self, value: Any) -> bool:
        """Whether the value is one of this dimension."""
        return isinstance(value, (int, float)) and not isinstance(value, bool) and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"real {self.low:g} to {self.high:g}{', log' if self.log else ''}"


@dataclass(frozen=True)
class Integer:
    """An integer from `low` to `high`, both included; with `log`, small values are drawn more often."""

    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        _check_range(self)
        if self.low != int(self.low) or self.high != int(self.high):
            raise ConfigError(f"Integer: low and high must be integers, got {self.low} and {self.high}")

    def draw(self, rng: np.random.Generator) -> int:
        """One value."""
        if not self.log:
            return int(rng.integers(int(self.low), int(self.high) + 1))
        value = math.exp(rng.uniform(math.log(self.low), math.log(self.high + 1)))
        return min(max(int(value), int(self.low)), int(self.high))

    def holds(self, value: Any) -> bool:
        """Whether the value is one of this dimension."""
        return isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"integer {self.low:g} to {self.high:g}{', log' if self.log else ''}"


@dataclass(frozen=True)
class Category:
    """One of `choices`. A mapping from choice to `Space` makes a branch of each."""

    choices: tuple[Any, ...] | Mapping[Any, Space]

    def __post_init__(self) -> None:
        if not self.choices:
            raise ConfigError("a Category needs at least one choice")

    def draw(self, rng: np.random.Generator) -> Any:
        """One of the choices, each as likely."""
        return tuple(self.choices)[int(rng.integers(len(self.choices)))]

    def holds(self, value: Any) -> bool:
        """Whether the value is one of the choices."""
        return any(type(value) is type(c) and value == c for c in self.choices)

    def branch(self, value: Any) -> Space:
        """What else is to be drawn when `value` is."""
        return self.choices[value] if isinstance(self.choices, Mapping) else Space({})

    def __str__(self) -> str:
        return "one of " + ", ".join(str(c) for c in self.choices)


Dimension = Real | Integer | Category


def _check_range(d: Real | Integer) -> None:
    if not (math.isfinite(d.low) and math.isfinite(d.high) and d.low <= d.high):
        raise ConfigError(f"{type(d).__name__}: low must not be above high, got {d.low} and {d.high}")
    if d.log and d.low <= 0:
        raise ConfigError(f"{type(d).__name__}: a logarithmic range must start above 0, got {d.low}")


def _under(name: str, dimension: Dimension) -> Dimension:
    """The dimension as part of the space `name`: what its branches hold is called "name.inner" too."""
    if isinstance(dimension, Category) and isinstance(dimension.choices, Mapping):
        return Category({choice: Space({name: branch}) for choice, branch in dimension.choices.items()})
    return dimension


def _branch_names(dimension: Dimension) -> set[str]:
    """The names in any of the branches; two branches may share one, as only one of them is drawn."""
    if not isinstance(dimension, Category) or not isinstance(dimension.choices, Mapping):
        return set()
    names: set[str] = set()
    for branch in dimension.choices.values():
        names |= set(branch.dimensions).union(*map(_branch_names, branch.dimensions.values()))
    return names


class Space:
    """Named dimensions.

    dimensions: mapping from name to Real, Integer, Category, or to a Space, whose names then read "outer.inner".
    """

    def __init__(self, dimensions: Mapping[str, Dimension | Space]) -> None:
        self.dimensions: dict[str, Dimension] = {}
        for name, dimension in dimensions.items():
            if isinstance(dimension, Space):
                self.dimensions |= {f"{name}.{inner}": _under(name, d) for inner, d in dimension.dimensions.items()}
            else:
                self.dimensions[name] = dimension
        names = list(self.dimensions)
        for dimension in self.dimensions.values():
            names += _branch_names(dimension)
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ConfigError(f"a Space names {', '.join(twice)} twice; a branch needs names of its own")

    def draw(self, rng: np.random.Generator) -> dict[str, Any]:
        """One point: every dimension, and those of the branches that were drawn."""
        point: dict[str, Any] = {}
        for name, dimension in self.dimensions.items():
            point[name] = dimension.draw(rng)
            if isinstance(dimension, Category):
                point |= dimension.branch(point[name]).draw(rng)
        return point

    def check(self, point: Mapping[str, Any]) -> None:
        """Raise ConfigError unless `point` has just the active names, each with a value of its dimension."""
        active = self._active(point)
        for name, dimension in active.items():
            if name not in point:
                raise ConfigError(f"the point lacks {name!r} ({dimension})")
            if not dimension.holds(point[name]):
                raise ConfigError(f"{name} must be {dimension}, got {point[name]!r}")
        for name in point:
            if name not in active:
                raise ConfigError(f"{name!r} is not active in this point; {nearest(name, active)}")

    def _active(self, point: Mapping[str, Any]) -> dict[str, Dimension]:
        active = dict(self.dimensions)
        for name, dimension in self.dimensions.items():
            if isinstance(dimension, Category) and name in point and dimension.holds(point[name]):
                active |= dimension.branch(point[name])._active(point)
        return active

    def __len__(self) -> int:
        return len(self.dimensions)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and self.dimensions == other.dimensions

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return "\n".join(self._lines()) or "(nothing to search)"

    __repr__ = __str__

    def _lines(self, indent: str = "") -> list[str]:
        lines = []
        for name, dimension in self.dimensions.items():
            lines.append(f"{indent}{name}: {dimension}")
            if isinstance(dimension, Category) and isinstance(dimension.choices, Mapping):
                for choice, branch in dimension.choices.items():
                    if len(branch):
                        lines += [f"{indent}  if {choice}:", *branch._lines(indent + "    ")]
        return lines
