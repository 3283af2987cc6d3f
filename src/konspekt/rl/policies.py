"""Distributions over actions, as policies that learn by gradient have them: log-probability, entropy, draws.

A distribution holds no parameters: a net gives `units` numbers an observation, and the distribution says what they mean. Draws
are made of noise that is drawn apart, so that a whole round's is drawn in one call; the same formula serves NumPy and torch.
Course: row R5 (document M, 2.5).

Shape letters in this file: N observations, U `units`, K components of an action.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from konspekt.core.errors import ConfigError
from konspekt.rl.spaces import words

__all__ = ["Categorical", "Distribution", "Gaussian", "MultiCategorical", "distribution_of"]


class Distribution(Protocol):
    """What a policy's numbers (N, U) say about actions."""

    units: int

    def terms(self, outputs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """The log-probability of the actions, (N,), and the entropy, (N,)."""

    def mode(self, outputs: Tensor) -> Tensor:
        """The most probable actions."""

    def sample(self, outputs: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Actions drawn by torch's generator."""

    def noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """What `draw` needs for so many draws: (*shape, ...)."""

    def draw(self, outputs: NDArray[np.float32], noise: NDArray[np.float32]) -> NDArray[Any]:
        """Actions made of the noise, as `Environments.step` takes them."""


class Categorical:
    """One of `n` actions; the numbers are logits. Actions are (N,) int64.

    A draw is the largest of logit plus Gumbel noise, which has the softmax's probabilities exactly (Gumbel 1954).
    """

    def __init__(self, n: int) -> None:
        self.units = n

    def terms(self, outputs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """(N, U), (N,) -> (N,), (N,)."""
        logs = F.log_softmax(outputs, dim=1)
        return logs.gather(1, actions[:, None]).squeeze(1), -(logs.exp() * logs).sum(1)

    def mode(self, outputs: Tensor) -> Tensor:
        """(N, U) -> (N,)."""
        return outputs.argmax(1)

    def sample(self, outputs: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(N, U) -> (N,)."""
        return (outputs - torch.empty_like(outputs).exponential_(generator=generator).log()).argmax(1)

    def noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """(*shape, U): the negative logarithm of an exponential is Gumbel's."""
        drawn = rng.standard_exponential((*shape, self.units), dtype=np.float32)
        noise: NDArray[np.float32] = -np.log(np.maximum(drawn, np.finfo(np.float32).tiny))
        return noise

    def draw(self, outputs: NDArray[np.float32], noise: NDArray[np.float32]) -> NDArray[np.int64]:
        """(N, U), (N, U) -> (N,)."""
        chosen: NDArray[np.int64] = (outputs + noise).argmax(1)
        return chosen


class MultiCategorical:
    """Several choices at once, independent given the observation. Actions are (N, K) int64, counted from 0.

    sizes (K,): how many there are to choose from; the numbers are the logits of each choice, one choice after another.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = tuple(int(size) for size in sizes)
        self.units = sum(self.sizes)
        ends = np.cumsum(self.sizes).tolist()
        self._parts = [slice(end - size, end) for end, size in zip(ends, self.sizes, strict=True)]
        self._one = Categorical(self.units)

    def terms(self, outputs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """(N, U), (N, K) -> (N,), (N,): sums over the choices."""
        each = [Categorical.terms(self._one, outputs[:, part], actions[:, k]) for k, part in enumerate(self._parts)]
        return torch.stack([log for log, _ in each]).sum(0), torch.stack([entropy for _, entropy in each]).sum(0)

    def mode(self, outputs: Tensor) -> Tensor:
        """(N, U) -> (N, K)."""
        return torch.stack([outputs[:, part].argmax(1) for part in self._parts], dim=1)

    def sample(self, outputs: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(N, U) -> (N, K)."""
        return self.mode(outputs - torch.empty_like(outputs).exponential_(generator=generator).log())

    def noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """(*shape, U)."""
        return self._one.noise(rng, shape)

    def draw(self, outputs: NDArray[np.float32], noise: NDArray[np.float32]) -> NDArray[np.int64]:
        """(N, U), (N, U) -> (N, K)."""
        moved = outputs + noise
        return np.stack([moved[:, part].argmax(1) for part in self._parts], axis=1)


class Gaussian:
    """`size` real numbers, independent given the observation: the first half of the numbers are means, the second
    logarithms of standard deviations. Actions are (N, K) float32.

    An environment cuts an action to its bounds; the probability is that of what was drawn, before the cut.
    """

    def __init__(self, size: int) -> None:
        self.size, self.units = size, 2 * size

    def terms(self, outputs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """(N, U), (N, K) -> (N,), (N,)."""
        mean, log_std = outputs.chunk(2, dim=1)
        spread = log_std.sum(1)
        square = ((actions - mean) * torch.exp(-log_std)).square().sum(1)
        constant = 0.5 * self.size * math.log(2 * math.pi)
        return -0.5 * square - spread - constant, spread + constant + 0.5 * self.size

    def mode(self, outputs: Tensor) -> Tensor:
        """(N, U) -> (N, K)."""
        return outputs[:, : self.size]

    def sample(self, outputs: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(N, U) -> (N, K)."""
        mean, log_std = outputs.chunk(2, dim=1)
        return mean + log_std.exp() * torch.empty_like(mean).normal_(generator=generator)

    def noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """(*shape, K)."""
        return rng.standard_normal((*shape, self.size), dtype=np.float32)

    def draw(self, outputs: NDArray[np.float32], noise: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, U), (N, K) -> (N, K)."""
        return np.asarray(outputs[:, : self.size] + np.exp(outputs[:, self.size :]) * noise, np.float32)


def distribution_of(space: gymnasium.Space[Any]) -> Distribution:
    """The distribution over the actions of a space: Discrete, MultiDiscrete, MultiBinary or Box.

    Raises ConfigError on any other.
    """
    if isinstance(space, spaces.Discrete):
        return Categorical(int(space.n))
    if isinstance(space, spaces.MultiDiscrete):
        return MultiCategorical(space.nvec.ravel().tolist())
    if isinstance(space, spaces.MultiBinary):
        return MultiCategorical([2] * math.prod(space.shape))
    if isinstance(space, spaces.Box):
        return Gaussian(math.prod(space.shape))
    raise ConfigError(f"no distribution here is over actions of {words(space)}")
