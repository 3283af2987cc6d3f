"""What an environment is given of an agent's action."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from konspekt.core.errors import DataError
from konspekt.rl.spaces import words

__all__ = ["action_form"]

Act = Callable[[Any], Any]


def action_form(space: gymnasium.Space[Any], name: str) -> Act:
    """What makes an action of this space from an array's row: numbers counted from 0, and Box values flat, within any bounds.

    Raises DataError for a space that is not Discrete, MultiDiscrete, MultiBinary or Box.
    """
    if isinstance(space, spaces.Discrete):
        first, kind = int(space.start), np.dtype(space.dtype).type
        return lambda action: kind(int(action) + first)
    if isinstance(space, spaces.MultiDiscrete):
        start, shape, dtype = space.start.ravel(), space.shape, space.dtype
        return lambda action: (np.asarray(action, dtype=np.int64).ravel() + start).reshape(shape).astype(dtype)
    if isinstance(space, spaces.MultiBinary):
        shape = space.shape
        return lambda action: np.asarray(action, dtype=np.int8).reshape(shape)
    if isinstance(space, spaces.Box):
        low, high, shape, dtype = space.low, space.high, space.shape, space.dtype
        if np.issubdtype(dtype, np.integer):
            return lambda action: np.asarray(np.clip(np.rint(np.asarray(action).reshape(shape)), low, high), dtype)
        return lambda action: np.asarray(np.clip(np.asarray(action, dtype=dtype).reshape(shape), low, high))
    raise DataError(
        f"{name}: no agent takes actions of {words(space)}; taken are {_takers()}. gymnasium.wrappers.TransformAction makes one of "
        "these of another"
    )


def _takers() -> str:
    """Kinds of actions, and the agents that take each."""
    from konspekt.core import registry

    agents = [(entry.name, entry.load()) for entry in registry.entries() if entry.kind == "agent"]
    kinds = (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary, spaces.Box)
    able = {kind.__name__: [name for name, agent in agents if issubclass(kind, agent.actions)] for kind in kinds}
    return "; ".join(f"{kind} ({', '.join(names)})" for kind, names in able.items() if names)
