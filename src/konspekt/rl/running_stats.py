"""Running means and variances: of observations, and of the returns by which rewards are scaled.

Batches are merged by Chan, Golub and LeVeque 1983, "Algorithms for computing the sample variance",
https://doi.org/10.1080/00031305.1983.10483115, of which Welford's rule of 1962 is the case of one value at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from konspekt.core.errors import DataError

__all__ = ["RewardScale", "RunningStats"]


class RunningStats:
    """Mean and variance of all values so far, each place of `shape` by itself. The variance is of the values (by n)."""

    def __init__(self, shape: tuple[int, ...] = ()) -> None:
        self.count = 0
        self.mean = np.zeros(shape)
        self._squares = np.zeros(shape)  # the sum of squared distances from the mean

    @property
    def variance(self) -> NDArray[np.float64]:
        """1 before the first value."""
        return self._squares / self.count if self.count else np.ones_like(self._squares)

    def update(self, batch: Any) -> None:
        """Take in values (n, *shape), n of 0 included."""
        values = np.asarray(batch, dtype=np.float64).reshape(-1, *self.mean.shape)
        new = len(values)
        if new == 0:
            return
        mean = values.mean(0)
        squares = np.square(values - mean).sum(0)
        total = self.count + new
        apart = mean - self.mean
        self.mean = self.mean + apart * (new / total)
        self._squares = self._squares + squares + np.square(apart) * (self.count * new / total)
        self.count = total

    def merge(self, other: RunningStats) -> None:
        """Take in what another has seen."""
        total = self.count + other.count
        if total == 0:
            return
        apart = other.mean - self.mean
        self.mean = self.mean + apart * (other.count / total)
        self._squares = self._squares + other._squares + np.square(apart) * (self.count * other.count / total)
        self.count = total

    def normalise(self, values: Any, *, clip: float | None = 10.0, epsilon: float = 1e-8) -> NDArray[np.float32]:
        """(values - mean) / sqrt(variance + epsilon), within -clip and clip, of 32 bits."""
        scaled = (np.asarray(values, dtype=np.float64) - self.mean) / np.sqrt(self.variance + epsilon)
        clipped: NDArray[np.float64] = scaled if clip is None else np.clip(scaled, -clip, clip)
        return clipped.astype(np.float32)

    def state(self) -> dict[str, Any]:
        """Count, mean and sum of squares, exactly: a number and two tensors of 64 bits."""
        return {
            "count": self.count,
            "mean": torch.from_numpy(np.array(self.mean)),
            "squares": torch.from_numpy(np.array(self._squares)),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a state. Raises DataError if it is one of another shape."""
        mean, squares = (_array(state[name]) for name in ("mean", "squares"))
        if mean.shape != self.mean.shape or squares.shape != self.mean.shape:
            raise DataError(f"the running statistics have the shape {mean.shape}, where {self.mean.shape} is needed")
        self.count, self.mean, self._squares = int(state["count"]), mean, squares


class RewardScale:
    """Rewards divided by the running standard deviation of the discounted return, each environment's summed up as it goes.

    Engstrom et al. 2020, "Implementation matters in deep policy gradients", https://arxiv.org/abs/2005.12729: the mean is not taken
    away, as that would change what is wanted. num: how many environments.
    """

    def __init__(self, num: int, gamma: float) -> None:
        self.gamma, self.stats = gamma, RunningStats()
        self._returns = np.zeros(num)

    def __call__(
        self, reward: Any, ended: Any, *, clip: float | None = 10.0, epsilon: float = 1e-8
    ) -> NDArray[np.float32]:
        """The scaled rewards of a step.

        reward (n,); ended (n,): where the episode ended in this step, so that the next return begins with 0.
        """
        reward = np.asarray(reward, dtype=np.float64)
        self._returns = self._returns * self.gamma + reward
        self.stats.update(self._returns)
        self._returns = np.where(ended, 0.0, self._returns)
        scaled = reward / np.sqrt(self.stats.variance + epsilon)
        clipped: NDArray[np.float64] = scaled if clip is None else np.clip(scaled, -clip, clip)
        return clipped.astype(np.float32)

    def state(self) -> dict[str, Any]:
        """Enough to go on from, exactly."""
        return {"returns": torch.from_numpy(self._returns.copy()), "stats": self.stats.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a state. Raises DataError if it is one of another number of environments."""
        returns = _array(state["returns"])
        if returns.shape != self._returns.shape:
            raise DataError(
                f"the returns are those of {len(returns)} environments, where there are {len(self._returns)}"
            )
        self._returns = returns
        self.stats.load_state(state["stats"])


def _array(tensor: Any) -> NDArray[np.float64]:
    return torch.as_tensor(tensor, dtype=torch.float64).numpy().copy()
