"""The learning-rate range test: `lr="find"`.

Smith 2017, https://arxiv.org/abs/1506.01186: train a little while the rate grows exponentially, and look at the loss. The rate
is taken where the smoothed loss falls fastest against the logarithm of the rate, as fastai does, within two powers of ten
before its least: further down, what falls falls by chance. It is well below the rate at which training diverges.
Course: rows A11 and RULES on the choice of the step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

__all__ = ["FIRST_LR", "RangeTest", "range_test", "rates"]

FIRST_LR = 1e-3  # of an optimiser that is made before its rate is found
LOW, HIGH, STEPS = 1e-7, 10.0, 100
_SMOOTH = 0.9  # of the running mean of the loss
_WORSE = 4.0  # times the least loss: here the test ends
_ROUNDING = 1e-6  # a loss that falls by less, relatively, does not fall
_WIDTH = 6  # points on either side between which the slope is taken: batches differ, and so do losses without a fall
_BEFORE = 100.0  # the rate that is taken is at most so many times below that of the least loss
_MARGIN = 10  # the first points, where the mean has not settled


@dataclass
class RangeTest:
    """What a range test saw: rates, losses (smoothed), and the rate to train with."""

    rates: list[float]
    losses: list[float]
    lr: float


def rates(low: float = LOW, high: float = HIGH, steps: int = STEPS) -> list[float]:
    """From `low` to `high`, each the same factor above the one before."""
    return [low * (high / low) ** (i / (steps - 1)) for i in range(steps)]


def range_test(step: Callable[[float], float], tried: Iterable[float]) -> RangeTest | None:
    """Take steps of growing rate until the loss is far above its least, or not finite.

    step: takes one step with a rate and returns the loss before it.

    None where the loss never fell, so that no rate can be recommended.
    """
    seen: list[float] = []
    losses: list[float] = []
    mean = 0.0
    for count, rate in enumerate(tried, 1):
        loss = step(rate)
        if not math.isfinite(loss):
            break
        mean = _SMOOTH * mean + (1 - _SMOOTH) * loss
        smoothed = mean / (1 - _SMOOTH**count)
        seen.append(rate)
        losses.append(smoothed)
        if count > _MARGIN and smoothed > _WORSE * min(losses[_MARGIN:]):
            break
    start = min(_MARGIN, len(losses) // 2)
    least = min(range(start, len(losses)), key=losses.__getitem__, default=0)
    slopes = []
    for i in range(max(start, 1), least + 1):
        left, right = max(i - _WIDTH, start), min(i + _WIDTH, len(losses) - 1)
        if left < right and seen[i] * _BEFORE >= seen[least]:
            slopes.append(((losses[right] - losses[left]) / math.log(seen[right] / seen[left]), i))
    fall = max(losses[start:least], default=-math.inf) - losses[least] if losses else 0.0
    if not slopes or min(slopes)[0] >= 0 or fall < _ROUNDING * abs(losses[least]):
        return None
    return RangeTest(seen, losses, seen[min(slopes)[1]])
