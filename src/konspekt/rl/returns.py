"""Returns and advantages out of rewards, ends of episodes and values.

What was terminated is worth nothing more; what was truncated would have gone on, and is worth the value of where it came to
(`Step.final`). Course: row R5 (document M, 2.5): A(s, a) = r + gamma V(s') - V(s), and its mixtures over several steps.

Shape letters in this file: T steps, N environments.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["discounted", "gae"]

Array = NDArray[np.floating[Any]]


def discounted(rewards: Array, gamma: float, last: float = 0.0) -> NDArray[np.float64]:
    """G_t = r_t + gamma r_(t+1) + gamma^2 r_(t+2) + ... of one whole episode, (T,) -> (T,).

    last: what comes after the last step is worth: 0 where the episode was terminated, a value where it was truncated.
    """
    from scipy.signal import lfilter

    given = np.array(rewards, np.float64)
    if not len(given):
        return given
    given[-1] += gamma * last
    return np.ascontiguousarray(lfilter([1.0], [1.0, -gamma], given[::-1])[::-1])


def gae(
    reward: Array,
    value: Array,
    next_value: Array,
    terminated: NDArray[np.bool_],
    ended: NDArray[np.bool_],
    gamma: float,
    lam: float,
) -> NDArray[np.float64]:
    """Generalised advantages (Schulman et al. 2016, https://arxiv.org/abs/1506.02438): (T, N), all arguments (T, N).

    delta_t = r_t + gamma V(s_(t+1)) - V(s_t), and A_t = delta_t + gamma lam A_(t+1) within an episode. lam 0 is the one-step
    advantage, lam 1 the return up to the last step, continued by a value, minus V(s_t).

    value: V(s_t). next_value: V of what step t led to, before any reset; where `terminated` it does not count.
    ended: terminated or truncated: no sum goes over the end of an episode.
    """
    delta = np.where(terminated, 0.0, next_value) * gamma + reward - value
    decay = np.where(ended, 0.0, gamma * lam)
    advantage = delta.astype(np.float64, copy=False)
    for t in range(len(advantage) - 2, -1, -1):
        advantage[t] += decay[t] * advantage[t + 1]
    return advantage
