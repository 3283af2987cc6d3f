"""Whether a replay and a net fit in memory, asked and said before it is taken."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium import spaces

from konspekt.core.errors import ResourceError
from konspekt.core.memory import available_memory
from konspekt.rl.replay import ENTRY_BYTES
from konspekt.rl.spaces import is_pixels, words

if TYPE_CHECKING:
    from konspekt.rl.neural_agent import NeuralAgent

__all__ = ["check_net", "check_replay", "free_memory"]

_GROUP = Path("/sys/fs/cgroup")


def free_memory(group: Path = _GROUP) -> int | None:
    """Bytes that this process may still take: what is free, or less where its control group is limited; None: nobody says."""
    free, left = available_memory(), _left(group)
    return min((x for x in (free, left) if x is not None), default=None)


def _left(group: Path) -> int | None:
    """What the limit of a control group leaves, as Linux says in version 2 or 1 of them."""
    for limit, used, cache in (
        ("memory.max", "memory.current", "inactive_file "),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file "),
    ):
        try:
            most = (group / limit).read_text(encoding="ascii").strip()
            taken = int((group / used).read_text(encoding="ascii"))
            lines = ((group / limit).parent / "memory.stat").read_text(encoding="ascii").splitlines()
        except (OSError, ValueError):
            continue
        if most == "max":
            return None
        held = sum(int(line.split()[1]) for line in lines if line.startswith(cache))  # files that can be read again
        return max(0, int(most) - taken + held)
    return None


def check_replay(shape: tuple[int, ...], dtype: Any, capacity: int, *, more: int = 0, owner: str = "DQN") -> str:
    """A sentence that says how much memory a replay takes when it is full. more: bytes of an entry besides.

    Raises ResourceError where so much is not free, with the `buffer_size` that would fit.
    """
    each = math.prod(shape) * np.dtype(dtype).itemsize + ENTRY_BYTES + more
    need, free = each * capacity, free_memory()
    said = f"the replay of {capacity:,} observations takes {need:,} bytes ({need / 1e9:.2f} GB) when it is full"
    if free is not None and need > free:
        fits = free * 9 // 10 // each  # the rest has to live too
        raise ResourceError(
            f"{owner}: {said}, and {free:,} bytes ({free / 1e9:.2f} GB) are free: give buffer_size={fits} or less, or free memory"
        )
    return said


def check_net(agent: NeuralAgent, observations: gymnasium.Space[Any], actions: gymnasium.Space[Any]) -> None:
    """Raise ResourceError where weights and gradients of the layers alone take more memory than is free."""
    if agent.model is not None:
        return
    widths = [0 if is_pixels(observations) else _numbers(observations), *agent.hidden, _numbers(actions)]
    weights = sum(a * b for a, b in itertools.pairwise(widths))
    need, free = 8 * weights, free_memory()
    if free is not None and need > free:
        raise ResourceError(
            f"{type(agent).__name__}: a net of {weights:,} weights, for observations of {words(observations)} with "
            f"hidden={agent.hidden!r} and actions of {words(actions)}, takes {need:,} bytes with its gradients, and {free:,} bytes "
            f"({free / 1e9:.2f} GB) are free: give fewer units, or wrap the environment so that there are fewer numbers"
        )


def _numbers(space: gymnasium.Space[Any]) -> int:
    """How many numbers a net takes or gives for a space."""
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if isinstance(space, spaces.MultiDiscrete):
        return sum(int(n) for n in space.nvec.ravel())
    return math.prod(space.shape or ())
