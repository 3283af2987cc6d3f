"""Nets from observations to one number an action, and a short way through the small ones.

Course: row R4 (document M, 2.4). Shape letters in this file: N observations, S stacked frames, F features, A actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from torch import Tensor, nn

from konspekt.core.errors import ConfigError
from konspekt.nn import activation as make_activation
from konspekt.rl.nets import body
from konspekt.rl.spaces import is_pixels, words
from konspekt.rl.thin import Chain

__all__ = ["Duelling", "QNet", "Twins", "short_way"]


class Duelling(nn.Module):
    """The head of Wang et al. 2016 (https://arxiv.org/abs/1511.06581): (N, F) -> (N, A), the value of the state plus what an
    action is better than their mean; each from a hidden layer of its own, of F units.
    """

    def __init__(self, features: int, actions: int, activation: str) -> None:
        super().__init__()
        self.value, self.advantage = (
            nn.Sequential(nn.Linear(features, features), make_activation(activation), nn.Linear(features, out))
            for out in (1, actions)
        )

    def forward(self, x: Tensor) -> Tensor:
        advantage = self.advantage(x)
        return self.value(x) + advantage - advantage.mean(1, keepdim=True)


class QNet(nn.Module):
    """Observations (N, ...), or with `stack` > 1 stacks (N, S, ...), the newest frame last, to q (N, A).

    Without hidden layers q is linear in the observation, in an indicator of a discrete one: approximate Q-learning as the
    notes have it. Pictures are (H, W) or (H, W, C), as the environment gives them.

    Raises ConfigError where frames of such a space cannot be stacked.
    """

    def __init__(
        self,
        observations: gymnasium.Space[Any],
        actions: int,
        hidden: Sequence[int],
        activation: str,
        *,
        stack: int = 1,
        duelling: bool = False,
    ) -> None:
        super().__init__()
        self.pixels, self.stacks = is_pixels(observations), stack > 1
        self.coloured = len(observations.shape or ()) == 3
        if stack > 1 and not self.pixels:
            if not isinstance(observations, (spaces.Box, spaces.MultiBinary)):
                raise ConfigError(
                    f"stack={stack} is for pictures and boxes; these observations are {words(observations)}"
                )
            observations = spaces.Box(-np.inf, np.inf, (stack, *observations.shape), np.float32)
        self.body, features = body(observations, hidden, activation, stack=stack)
        self.head = Duelling(features, actions, activation) if duelling else nn.Linear(features, actions)

    def forward(self, x: Tensor) -> Tensor:
        if self.pixels:  # to (N, C, H, W): channels are frames, and within a frame colours
            x = x if self.stacks else x[:, None]
            x = x.permute(0, 1, 4, 2, 3).flatten(1, 2) if self.coloured else x
        return self.head(self.body(x))


class Twins(nn.Module):
    """Two nets of one kind, whose mean is what an agent acts by (van Hasselt 2010)."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Tensor) -> Tensor:
        return (self.first(x) + self.second(x)) / 2


def short_way(net: nn.Module) -> Chain | None:
    """What computes q (n, A) from observations (n, ...) without the cost of torch's calls; None where there is no such way."""
    if not isinstance(net, QNet) or net.pixels:
        return None
    chain = Chain(net.body, net.head)
    return chain if chain.known else None
