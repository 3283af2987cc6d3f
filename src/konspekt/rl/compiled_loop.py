"""The kernel around an environment's rules: n steps, time limits, records of episodes and new beginnings in one call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from konspekt.rl.compiled_columns import LATE, OVER, RETURN, REWARD
from konspekt.rl.compiled_draws import ENTRY, compiled_episode_seed, seed_draws

__all__ = ["looped_kernel"]


def looped_kernel(begin: Any, advance: Any, observe: Any) -> Callable[..., None]:
    """The kernel of an environment whose rules are compiled functions.

    begin(state, rng, rules), advance(action, state, rng, rules) -> (reward, terminated), observe(state, observation), each of one
    environment. What the kernel works on, by rows of environments: `actions` (n, 1); `state` float64; `lives` int64 (n, 6): episode, its
    seed, its length, then those of the one that ended in the step; `totals` float64 (n, 5) (`compiled_columns`); `rng` uint64 (n, WORDS). Few arrays, as each costs compilation.

    An environment whose episode is -1 begins episode 0 and makes no step, so that a reset needs no kernel of its own.
    """

    @njit(**ENTRY)
    def step(
        actions: Any,
        limit: Any,
        seed: Any,
        state: Any,
        lives: Any,
        totals: Any,
        rng: Any,
        rules: Any,
        observation: Any,
        final: Any,
    ) -> None:
        for i in range(len(lives)):
            ended = lives[i, 0] < 0
            if not ended:
                reward, over = advance(actions[i], state[i], rng[i], rules)
                lives[i, 2] += 1
                totals[i, 0] += reward
                late = limit > 0 and lives[i, 2] >= limit
                totals[i, REWARD], totals[i, OVER], totals[i, LATE] = reward, over, late
                observe(state[i], final[i])
                ended = over or late
                if ended:
                    for k in range(3):  # assigning a slice takes a second to compile
                        lives[i, k + 3] = lives[i, k]
                    totals[i, RETURN] = totals[i, 0]
            if ended:
                lives[i, 0] += 1
                drawn = compiled_episode_seed(seed, np.uint64(i), np.uint64(lives[i, 0]))
                lives[i, 1], lives[i, 2], totals[i, 0] = np.int64(drawn), 0, 0.0
                seed_draws(rng[i], drawn)
                begin(state[i], rng[i], rules)
                observe(state[i], observation[i])
            else:
                for k in range(final.shape[1]):
                    observation[i, k] = final[i, k]

    return step  # type: ignore[no-any-return]
