"""Nets of agents: observations in, features or one number an action out.

A net takes observations as the environment gives them and does all scaling itself, so that a saved agent needs nothing else.
Course: row R4 (document M, 2.4).

Shape letters in this file: N observations, F features, C channels (stacked frames times colours), H, W sides of a picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import gymnasium
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from konspekt.core.errors import ConfigError
from konspekt.nn import activation as make_activation
from konspekt.rl.spaces import is_pixels, words

__all__ = ["NatureCNN", "Numbers", "OneHot", "Standardised", "body", "encoder", "mlp"]


class OneHot(nn.Module):
    """Discrete observations, (N,) or (N, K) int64, as indicators: (N, F) float32, F the sum of `sizes`."""

    def __init__(self, sizes: Sequence[int], starts: Sequence[int]) -> None:
        super().__init__()
        self.sizes, self.starts = tuple(sizes), tuple(starts)
        self.features = sum(self.sizes)

    def forward(self, x: Tensor) -> Tensor:
        columns = x.long().reshape(len(x), -1)
        parts = [
            F.one_hot(columns[:, k] - start, size)
            for k, (size, start) in enumerate(zip(self.sizes, self.starts, strict=True))
        ]
        return torch.cat(parts, dim=1).float()


class Numbers(nn.Module):
    """Boxes and binary observations, (N, ...), as float32 (N, F)."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.features = math.prod(shape)

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), -1).float()


class Standardised(nn.Module):
    """Features minus their running mean over their running deviation, cut at +-10; `count` 0: as they are.

    The stream that acts puts mean and variance in; they are buffers, so that they are saved with the net.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("variance", torch.ones(features))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return ((x - self.mean) * torch.rsqrt(self.variance + 1e-8)).clamp(-10, 10)


class NatureCNN(nn.Module):
    """The convolutional net of Mnih et al. 2015 (https://doi.org/10.1038/nature14236): pictures to 512 features.

    x (N, C, H, W) uint8 or float in [0, 255] -> (N, 512). 84 x 84 is the paper's size; the smallest is 36 x 36.
    """

    def __init__(self, channels: int, size: tuple[int, int], features: int = 512) -> None:
        super().__init__()
        if min(size) < 36:
            raise ConfigError(f"the net of the Nature paper takes pictures of at least 36 x 36 pixels, got {size}")
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, 32, 8, stride=4),
            nn.ReLU(),
            nn.Conv2d(32, 64, 4, stride=2),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, stride=1),
            nn.ReLU(),
            nn.Flatten(),
        )
        height, width = (((side - 8) // 4 + 1 - 4) // 2 + 1 - 2 for side in size)
        self.linear = nn.Linear(64 * height * width, features)
        self.features = features

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.linear(self.convolutions(x.float() / 255)))


def mlp(features: int, hidden: Sequence[int], activation: str) -> nn.Sequential:
    """Linear layers, each with its activation: (N, features) -> (N, hidden[-1])."""
    layers: list[nn.Module] = []
    for units in hidden:
        layers += [nn.Linear(features, units), make_activation(activation)]
        features = units
    return nn.Sequential(*layers)


def encoder(space: gymnasium.Space[Any], standardise: bool = False) -> tuple[nn.Module, int]:
    """A module from observations of `space` (no pixels) to (N, F) float32, and F.

    Raises ConfigError on a space that is none of Box, Discrete, MultiDiscrete, MultiBinary.
    """
    if isinstance(space, spaces.Discrete):
        return OneHot([int(space.n)], [int(space.start)]), int(space.n)
    if isinstance(space, spaces.MultiDiscrete):
        hot = OneHot(space.nvec.ravel().tolist(), space.start.ravel().tolist())
        return hot, hot.features
    if isinstance(space, (spaces.Box, spaces.MultiBinary)):
        flat = Numbers(space.shape or (1,))
        return (nn.Sequential(flat, Standardised(flat.features)) if standardise else flat), flat.features
    raise ConfigError(f"no net here takes observations of {words(space)}")


def body(
    space: gymnasium.Space[Any], hidden: Sequence[int], activation: str, *, stack: int = 1, standardise: bool = False
) -> tuple[nn.Module, int]:
    """A module from observations to features, and how many: perceptrons on numbers, the Nature net on pixels.

    stack: frames that are stacked: pictures come as (N, C * stack, H, W), numbers as (N, stack * F).
    """
    if is_pixels(space):
        height, width = (int(n) for n in space.shape[:2])  # type: ignore[index]
        channels = int(space.shape[2]) if len(space.shape) == 3 else 1  # type: ignore[index, arg-type, misc]
        net = NatureCNN(channels * stack, (height, width))
        return net, net.features
    first, features = encoder(space, standardise)
    if not hidden:
        return first, features
    return nn.Sequential(first, *mlp(features, hidden, activation)), hidden[-1]
