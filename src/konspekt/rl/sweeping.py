"""A sweep of value iteration, compiled when it is first used."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["sweep"]


@numba.njit(nogil=True)
def sweep(
    indptr: NDArray[np.int32],
    after: NDArray[np.int32],
    weights: NDArray[np.float64],
    rewards: NDArray[np.float64],
    gamma: float,
    v: NDArray[np.float64],
    new: NDArray[np.float64],
    backward: bool,
) -> tuple[float, float]:
    """new(s) = max over a of r(s, a) + gamma * sum over s' of p(s'|s, a) v(s'), for all states; gives the smallest and
    the largest of new(s) - v(s).

    indptr (S * A + 1,), after (N,), weights (N,): the probabilities of going on, as a CSR matrix. rewards: (S, A). Where `new` is
    `v` itself, the sweep is Gauss-Seidel's: a state sees the new values of those before it. backward: from the last state on.
    """
    states, actions = rewards.shape
    low, high = np.inf, -np.inf
    for i in range(states):
        s = states - 1 - i if backward else i
        best = -np.inf
        for a in range(actions):
            row = s * actions + a
            total = 0.0
            for k in range(indptr[row], indptr[row + 1]):
                total += weights[k] * v[after[k]]
            value = rewards[s, a] + gamma * total
            if value > best:
                best = value
        change = best - v[s]
        low = min(low, change)
        high = max(high, change)
        new[s] = best
    return low, high
