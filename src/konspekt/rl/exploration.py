"""How an agent with q-values tries what it does not take for best: epsilon-greedy and softmax policies, and their schedules.

Course: row R3 (document M, 2.3). Of equal values the first counts as the greatest.

Shape letters in this file: n observations, A actions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from konspekt.core.errors import ConfigError
from konspekt.core.params import MoreThan, Within

__all__ = ["Exploring", "draw", "epsilon_greedy", "probabilities", "softmax"]

Policy = Literal["epsilon-greedy", "softmax"]


def epsilon_greedy(q: NDArray[Any], epsilon: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """q (n, A) -> actions (n,): any of the A with probability epsilon, else the greatest.

    One number is drawn for each observation, whatever comes of it.
    """
    chance = rng.random(len(q))
    actions = q.argmax(1)
    if chance.min() < epsilon:
        tried = chance < epsilon  # then chance / epsilon is even in [0, 1)
        actions[tried] = np.minimum(chance[tried] / epsilon * q.shape[1], q.shape[1] - 1).astype(np.int64)
    return actions


def softmax(q: NDArray[Any], temperature: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """q (n, A) -> actions (n,), with probabilities exp(q / temperature) over their sum."""
    heights = np.cumsum(probabilities(q, "softmax", temperature), axis=1)
    below = heights[:, :-1] <= rng.random(len(q))[:, None] * heights[:, -1:]
    return below.sum(1)


def probabilities(q: NDArray[Any], policy: Policy, rate: float) -> NDArray[np.float64]:
    """q (n, A) -> the probability of each action, (n, A). rate: epsilon, or the temperature."""
    n, actions = q.shape
    if policy == "softmax":
        weights = np.exp((q - q.max(1, keepdims=True)).astype(np.float64) / rate)
        return weights / weights.sum(1, keepdims=True)
    chances = np.full((n, actions), rate / actions)
    chances[np.arange(n), q.argmax(1)] += 1 - rate
    return chances


def draw(q: NDArray[Any], policy: Policy, rate: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """q (n, A) -> actions (n,) by a policy. rate: epsilon, or the temperature."""
    return (softmax if policy == "softmax" else epsilon_greedy)(q, rate, rng)


@dataclass(kw_only=True, eq=False, repr=False)
class Exploring:
    """The parameters of a policy that explores.

    policy: epsilon-greedy (any action with probability epsilon, else the one with the greatest q), or softmax (an action with
        probability proportional to exp(q / temperature)).
    epsilon: its last value. epsilon_start: its first.
    temperature: its last value, in units of the return. temperature_start: its first.
    exploration: the share of `steps` over which epsilon or the temperature goes from the first value to the last.
    decay: how: linear, exponential (the same factor each step), or constant (the last value from the beginning).
    """

    policy: Literal["epsilon-greedy", "softmax"] = "epsilon-greedy"
    epsilon: Annotated[float, Within(0, 1)] = 0.05
    epsilon_start: Annotated[float, Within(0, 1)] = 1.0
    temperature: Annotated[float, MoreThan(0)] = 0.1
    temperature_start: Annotated[float, MoreThan(0)] = 1.0
    exploration: Annotated[float, MoreThan(0), Within(0, 1)] = 0.1
    decay: Literal["linear", "exponential", "constant"] = "linear"

    def check_exploration(self) -> None:
        """Raise ConfigError where epsilon is to fall to 0, or from 0, by a factor."""
        if (
            self.decay == "exponential"
            and self.policy == "epsilon-greedy"
            and not (self.epsilon and self.epsilon_start)
        ):
            raise ConfigError(
                f"{type(self).__name__}: decay='exponential' never reaches 0: give epsilon and epsilon_start above 0, got "
                f"{self.epsilon!r} and {self.epsilon_start!r}, or decay='linear'"
            )

    def rate(self, progress: float) -> float:
        """Epsilon, or the temperature, when so much of the training is over. progress: from 0 to 1."""
        if self.policy == "softmax":
            first, last = self.temperature_start, self.temperature
        else:
            first, last = self.epsilon_start, self.epsilon
        share = min(progress / self.exploration, 1.0)
        if self.decay == "constant" or share == 1.0:
            return last
        if self.decay == "exponential":
            return first * (last / first) ** share
        return first + (last - first) * share
