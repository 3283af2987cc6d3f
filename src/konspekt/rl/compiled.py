"""Toy texts and classic control in one compiled kernel: what of gymnasium's goes there, and the `Environments` around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

from konspekt.core.errors import ConfigError, DataError
from konspekt.rl.compiled_columns import LATE, OVER, RETURN, REWARD
from konspekt.rl.episodes import Episode, Episodes
from konspekt.rl.spaces import arrays_of
from konspekt.rl.vector import Closing, Step

__all__ = ["Compiled", "Kernels", "kernels_for", "kernels_of"]

_HOME = "gymnasium.envs."
_LAYERS = ("TimeLimit", "OrderEnforcing", "PassiveEnvChecker")  # what gymnasium.make puts around an environment
_PASSING = {"isopen", "_is_vectorized"}  # attributes that are no rules


@dataclass(frozen=True)
class Kernels:
    """An environment of gymnasium's in compiled code."""

    step: Callable[..., None]
    rules: tuple[Any, ...]  # what the kernels read
    numbers: int  # of a state
    limit: int  # steps of an episode, 0 for any number
    observation_space: gymnasium.Space[Any]
    given_space: gymnasium.Space[Any]  # before observations became arrays
    action_space: gymnasium.Space[Any]
    beginnings: Callable[[Any, Any], None] | None = None  # what is done to first observations outside the kernel

    def same(self, other: Kernels | None) -> bool:
        """Whether both are one environment: its kernel, its limit and its tables."""
        if other is None or self.step is not other.step or self.limit != other.limit:
            return False
        return all(np.array_equal(mine, its) for mine, its in zip(self.rules, other.rules, strict=True))


def kernels_for(env: gymnasium.Env[Any, Any]) -> Kernels | None:
    """The kernels that do what `env` does, or None: it is another environment, has a wrapper of its own, or was altered."""
    limit, layer = 0, env
    while isinstance(layer, gymnasium.Wrapper):
        if type(layer).__name__ not in _LAYERS or not type(layer).__module__.startswith("gymnasium.wrappers."):
            return None
        if isinstance(layer, gymnasium.wrappers.TimeLimit):
            steps = min(int(layer._max_episode_steps), 2**62)  # the kernel counts in 64 bits
            limit = steps if limit == 0 else min(limit, steps)
        layer = layer.env
    if not type(layer).__module__.startswith(_HOME) or layer.render_mode == "human":
        return None
    found = _kernels(layer)
    if found is None:
        return None
    step, rules, numbers, beginnings = found
    given = layer.observation_space
    return Kernels(step, rules, numbers, limit, arrays_of(given), given, layer.action_space, beginnings)


def kernels_of(members: Sequence[gymnasium.Env[Any, Any]]) -> Kernels | None:
    """The kernels that do what each of `members` does, or None."""
    first = kernels_for(members[0])
    return first if first is not None and all(first.same(kernels_for(other)) for other in members[1:]) else None


def _kernels(env: Any) -> tuple[Any, tuple[Any, ...], int, Any] | None:
    name = type(env).__name__
    module = type(env).__module__.removeprefix(_HOME)
    if module.startswith("classic_control."):
        from konspekt.rl.compiled_classic import CLASSIC, acrobot_beginnings, classic_kernel

        if name not in CLASSIC or not _unaltered(env):
            return None
        return classic_kernel(name), (2.0,), CLASSIC[name][1], acrobot_beginnings if name == "AcrobotEnv" else None
    if module == "toy_text.blackjack":
        from konspekt.rl.compiled_toy_text import blackjack_kernel

        return blackjack_kernel(), (1 if env.sab else 2 if env.natural else 0,), 7, None
    if module.startswith("toy_text.") and hasattr(env, "P") and not getattr(env, "fickle_passenger", False):
        from konspekt.rl.compiled_toy_text import table_kernel, table_of

        return table_kernel(), table_of(env), 1, None
    return None


def _unaltered(env: Any) -> bool:
    """Whether numbers and flags of an environment are those of a new one, such as gravity; the class's own included."""
    fresh = type(env)()
    names = {*vars(fresh), *vars(env), *vars(type(env))} - _PASSING
    kinds = (int, float, str, list, np.ndarray)
    for name in names:
        usual, own = getattr(fresh, name, None), np.asarray(getattr(env, name, None))
        if name.startswith("_np_") or name in ("state", "render_mode", "last_u", "steps_beyond_terminated"):
            continue
        if isinstance(usual, kinds) and not np.array_equal(usual, own):
            return False
    return True


class Compiled(Closing):
    """Environments of one of gymnasium's kinds that is compiled. Each step of all of them is one call."""

    def __init__(self, kernels: Kernels, num: int, name: str, seed: int) -> None:
        self.num, self.name, self._kernels = num, name, kernels
        self.observation_space, self.given_space = kernels.observation_space, kernels.given_space
        self.action_space = kernels.action_space
        self.finished = Episodes()
        shape = self.observation_space.shape or ()
        self._shape, self._flat = (num, *shape), (num, int(np.prod(shape)))
        self._dtype = self.observation_space.dtype
        self._seed, self._restored = np.uint64(seed % 2**64), False
        self._state = np.zeros((num, kernels.numbers))
        self._lives, self._totals = np.zeros((num, 6), np.int64), np.zeros((num, 5))
        self._rng = np.zeros((num, 6), np.uint64)
        self._observation = np.zeros(self._shape, self._dtype)
        self._actions = (
            self._take_numbers if isinstance(self.action_space, gymnasium.spaces.Discrete) else self._take_box
        )
        self._actions_type = np.int64 if isinstance(self.action_space, gymnasium.spaces.Discrete) else np.float32
        self._most = int(getattr(self.action_space, "n", 0))

    def reset(self) -> NDArray[Any]:
        """Begin episode 0 everywhere, unless a state has just been loaded."""
        if not self._restored:
            observation = np.empty(self._flat, self._dtype)
            self._lives[:, 0] = -1
            self._call(np.zeros((self.num, 1), self._actions_type), observation, observation)
            if self._kernels.beginnings is not None:
                self._kernels.beginnings(self._state, observation)
            self._observation = observation.reshape(self._shape)
        self._restored = False
        return self._observation

    def step(self, actions: NDArray[Any]) -> Step:
        """One step of each."""
        self._restored = False
        observation, final = np.empty(self._flat, self._dtype), np.empty(self._flat, self._dtype)
        self._call(self._actions(actions), observation, final)
        reward, flags = self._totals[:, REWARD].copy(), self._totals[:, OVER : LATE + 1].T != 0
        if len(self._shape) == 1:
            observation, final = observation.reshape(self._shape), final.reshape(self._shape)
        self._observation = observation
        if flags.any():
            self._record(observation, flags)
        else:
            final = observation
        return Step(observation, reward, flags[0], flags[1], final)

    def world(self, actions: NDArray[Any], observation: NDArray[Any], final: NDArray[Any]) -> tuple[Any, ...]:
        """What the kernel works on. observation, final: (n, D), where it writes."""
        kernels, draws = self._kernels, self._rng
        mine = self._seed, self._state, self._lives, self._totals, draws, kernels.rules
        return actions, kernels.limit, *mine, observation, final

    def _call(self, actions: NDArray[Any], observation: NDArray[Any], final: NDArray[Any]) -> None:
        self._kernels.step(*self.world(actions, observation, final))

    def _record(self, observation: NDArray[Any], flags: NDArray[np.bool_]) -> None:
        begun = np.flatnonzero(flags.any(axis=0))
        for i in begun.tolist():
            number, seed, length = self._lives[i, 3:].tolist()
            self.finished.append(Episode(i, number, seed, float(self._totals[i, RETURN]), length, not flags[0, i]))
        if self._kernels.beginnings is not None:
            first = observation[begun]
            self._kernels.beginnings(self._state[begun], first)
            observation[begun] = first

    def take_finished(self) -> Episodes:  # type: ignore[override]
        """The episodes that ended since the last call, in the order of steps and environments."""
        taken, self.finished = self.finished, Episodes()
        return taken

    def _take_numbers(self, actions: NDArray[Any]) -> NDArray[np.int64]:
        taken = np.asarray(actions, dtype=np.int64)
        if taken.shape != (self.num,):
            raise DataError(f"{self.name}: actions have the shape {taken.shape}, where {(self.num,)} is needed")
        if taken.min() < 0 or taken.max() >= self._most:
            i = int(np.flatnonzero((taken < 0) | (taken >= self._most))[0])
            raise DataError(
                f"{self.name}: action {taken[i]} of environment {i} is not one of {self._most}, counted from 0"
            )
        return taken.reshape(self.num, 1)

    def _take_box(self, actions: NDArray[Any]) -> NDArray[np.float32]:
        space: Any = self.action_space
        taken = np.asarray(actions, dtype=np.float32)
        if taken.size != self.num:
            raise DataError(f"{self.name}: actions have the shape {taken.shape}, where {(self.num, 1)} is needed")
        if not np.isfinite(taken).all():
            raise DataError(
                f"{self.name}: the action of environment {int(np.flatnonzero(~np.isfinite(taken))[0])} is not finite"
            )
        return np.clip(taken.reshape(self.num, 1), space.low, space.high)

    def state(self) -> dict[str, Any]:
        """The arrays of the kernel, exactly."""
        return {
            "state": torch.from_numpy(self._state.copy()),
            "lives": torch.from_numpy(self._lives.copy()),
            "totals": torch.from_numpy(self._totals.copy()),
            "generators": [[int(word) for word in row] for row in self._rng],
            "observation": torch.from_numpy(np.array(self._observation)),
            "finished": [list(one) for one in self.finished],
        }

    def load_state(self, state: dict[str, Any]) -> list[str]:
        """Go on exactly where it was."""
        if "generators" not in state:
            raise ConfigError(
                f"the state is not one of {self.name} in compiled code: go on with compiled=False, as it began"
            )
        if len(state["generators"]) != self.num:
            raise ConfigError(f"the state is one of {len(state['generators'])} environments, and there are {self.num}")
        self._state = state["state"].numpy().copy()
        self._lives, self._totals = state["lives"].numpy().copy(), state["totals"].numpy().copy()
        self._rng = np.array(state["generators"], dtype=np.uint64)
        self._observation = state["observation"].numpy().copy()
        self.finished = Episodes()
        self.finished += [Episode(*one) for one in state["finished"]]
        self._restored = True
        return []
