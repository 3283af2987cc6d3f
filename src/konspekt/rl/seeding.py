"""The seed that an episode begins with."""

from __future__ import annotations

from konspekt.core.seeds import mix

__all__ = ["episode_seed"]


def episode_seed(seed: int, env: int, number: int) -> int:
    """The seed of episode `number` of environment `env` in a run with `seed`; below 2**31, as some environments want it.

    An episode depends on nothing else, so it can be repeated from this seed and its actions.
    """
    return mix(seed, env, number) % 2**31
