"""Learning-rate schedules: the factor on `lr` at each step. Course: row A11 ("decaying step").

A schedule is built from the number of steps in all and in an epoch; `factor(step)` is asked before each step, counted
from 0, and `observe(value)` is told the monitored validation measure after each epoch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated

from konspekt.core.params import AtLeast, MoreThan, Within
from konspekt.core.registry import system

__all__ = [
    "Schedule",
    "constant",
    "cosine",
    "exponential",
    "inverse",
    "linear",
    "one_cycle",
    "plateau",
    "step",
    "with_warmup",
]


class Schedule:
    """A factor that depends on the step only.

    fixed: whether it is always 1, so that the loop need not ask.
    """

    fixed = False

    def __init__(self, factor: Callable[[int], float]) -> None:
        self.factor = factor

    def observe(self, value: float, better: bool) -> None:
        """Hear the monitored measure after an epoch, and whether it is the best so far."""

    def state(self) -> dict[str, float]:
        """What has to be known to go on."""
        return {}

    def load_state(self, state: dict[str, float]) -> None:
        """Take back what `state` gave."""


class _Plateau(Schedule):
    def __init__(self, patience: int, drop: float, floor: float) -> None:
        super().__init__(lambda step: self.current)
        self.patience, self.drop, self.floor = patience, drop, floor
        self.current, self.waited = 1.0, 0.0

    def observe(self, value: float, better: bool) -> None:
        self.waited = 0 if better else self.waited + 1
        if self.waited > self.patience:
            self.current, self.waited = max(self.current * self.drop, self.floor), 0

    def state(self) -> dict[str, float]:
        return {"current": self.current, "waited": self.waited}

    def load_state(self, state: dict[str, float]) -> None:
        self.current, self.waited = float(state["current"]), float(state["waited"])


@system(name="constant", kind="schedule", rows=("A11",))
def constant(total: int, per_epoch: int) -> Schedule:
    """Always 1."""
    schedule = Schedule(lambda step: 1.0)
    schedule.fixed = True
    return schedule


@system(name="step", kind="schedule", rows=("A11",))
def step(
    total: int, per_epoch: int, *, every: Annotated[int, AtLeast(1)] = 10, factor: Annotated[float, MoreThan(0)] = 0.1
) -> Schedule:
    """Multiply by `factor` every so many epochs: factor^floor(epoch / every)."""
    return Schedule(lambda step: factor ** (step // per_epoch // every))


@system(name="exponential", kind="schedule", rows=("A11",))
def exponential(total: int, per_epoch: int, *, factor: Annotated[float, MoreThan(0)] = 0.95) -> Schedule:
    """Multiply by `factor` each epoch, smoothly: factor^(step / steps an epoch)."""
    return Schedule(lambda step: math.pow(factor, step / per_epoch))


@system(name="inverse", kind="schedule", rows=("A11",))
def inverse(total: int, per_epoch: int, *, rate: Annotated[float, MoreThan(0)] = 1.0) -> Schedule:
    """1 / (1 + rate * epoch), the "1/t" of stochastic approximation: the steps' sum diverges, their squares' does not.

    Robbins and Monro 1951; course: document L, 3.3.
    """
    return Schedule(lambda step: 1.0 / (1.0 + rate * step / per_epoch))


@system(name="linear", kind="schedule", rows=("A11",))
def linear(total: int, per_epoch: int, *, floor: Annotated[float, Within(0, 1)] = 0.0) -> Schedule:
    """Straight from 1 at the first step to `floor` at the end, as policy gradients are often given it."""
    return Schedule(lambda step: floor + (1 - floor) * (1 - min(step / total, 1.0)))


@system(name="cosine", kind="schedule", rows=("A11",), paper="Loshchilov and Hutter 2017")
def cosine(total: int, per_epoch: int, *, floor: Annotated[float, Within(0, 1)] = 0.0) -> Schedule:
    """Half a cosine from 1 at the first step to `floor` at the end: floor + (1 - floor) (1 + cos(pi t / T)) / 2."""
    return Schedule(lambda step: floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(step / total, 1.0))))


@system(name="one-cycle", kind="schedule", rows=("A11",), paper="Smith and Topin 2018")
def one_cycle(
    total: int,
    per_epoch: int,
    *,
    rise: Annotated[float, Within(0, 1)] = 0.3,
    start: Annotated[float, MoreThan(0)] = 0.04,
    end: Annotated[float, MoreThan(0)] = 4e-6,
) -> Schedule:
    """Up from `start` to 1 over the first `rise` of all steps, then down to `end`, along half cosines."""
    peak = rise * total - 1
    last = max(total - 1, 1)

    def factor(step: int) -> float:
        if step <= peak and peak > 0:
            low, high, share = start, 1.0, step / peak
        else:
            low, high, share = 1.0, end, min((step - peak) / max(last - peak, 1e-9), 1.0)
        return high + (low - high) * 0.5 * (1 + math.cos(math.pi * share))

    return Schedule(factor)


@system(name="plateau", kind="schedule", rows=("A11",))
def plateau(
    total: int,
    per_epoch: int,
    *,
    patience: Annotated[int, AtLeast(0)] = 5,
    factor: Annotated[float, MoreThan(0)] = 0.1,
    floor: Annotated[float, Within(0, 1)] = 1e-4,
) -> Schedule:
    """Multiply by `factor` when the monitored measure has not improved for more than `patience` epochs."""
    return _Plateau(patience, factor, floor)


def with_warmup(schedule: Schedule, warmup: int) -> Callable[[int], float]:
    """The schedule's factor, times a linear rise over the first `warmup` steps: (step + 1) / warmup.

    Goyal et al. 2017.
    """
    if warmup == 0:
        return schedule.factor
    return lambda step: schedule.factor(step) * min((step + 1) / warmup, 1.0)
