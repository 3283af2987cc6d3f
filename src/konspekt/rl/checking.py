"""Rules that an environment has to keep, and what is said where it breaks one.

gymnasium's own checker warns, asserts, and looks at the first step only. Here each rule is checked at every step, as cheaply as it
can be; whether an observation lies within the bounds of its space is asked at an environment's first steps.
"""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from konspekt.core.errors import DataError

__all__ = [
    "LONGEST",
    "Place",
    "check_env",
    "check_finite",
    "check_observation",
    "check_reset",
    "check_step",
    "raised",
    "refuse_endless",
]

LONGEST = 1_000_000  # steps of one episode, where whole episodes are needed
_SHOWN = 80  # characters of a value in a message
_MOST = float(np.finfo(np.float32).max)  # nets compute in 32 bits


class Place(NamedTuple):
    """Where in an environment's life something happened: the end of each message. Checks take it, or what prints alike."""

    name: str
    env: int = 0
    episode: int = 0
    seed: int | None = None
    step: int | None = None
    action: Any = None

    def __str__(self) -> str:
        parts = [self.name, f"environment {self.env}", f"episode {self.episode}"]
        if self.seed is not None:
            parts.append(f"seed {self.seed}")
        if self.step is None:
            parts.append("in reset")
        else:
            parts += [f"step {self.step}", f"action {_short(self.action)}"]
        return ", ".join(parts)


def check_env(env: Any, name: str) -> None:
    """That it is an environment of gymnasium's, with spaces. Raises DataError."""
    if not isinstance(env, gymnasium.Env):
        old = (
            " It is one of the old package gym: wrap it by `shimmy`'s GymV21CompatibilityV0 or V26."
            if _is_gym(env)
            else ""
        )
        raise DataError(f"{name} gave {_what(env)}, which is no gymnasium.Env.{old}")
    for which in ("observation_space", "action_space"):
        space = getattr(env, which, None)
        if not isinstance(space, spaces.Space):
            raise DataError(f"{name}: {which} is {_what(space)}, where a space of gymnasium.spaces is needed")


def check_reset(result: Any, where: object) -> Any:
    """The observation of what `reset` returned, which has to be (observation, info). Raises DataError."""
    if not (isinstance(result, tuple) and len(result) == 2):
        _broken("reset must return (observation, info)", f"it returned {_what(result)}", where)
    if not isinstance(result[1], dict):
        _broken("reset must return (observation, info), info a dict", f"info is {_what(result[1])}", where)
    return result[0]


def check_step(result: Any, where: object) -> tuple[Any, float, bool, bool]:
    """Observation, reward, terminated and truncated of what `step` returned. Raises DataError."""
    if not (isinstance(result, tuple) and len(result) == 5):
        hint = "; four are the old API of gym, where done was one flag" if _length(result) == 4 else ""
        _broken(
            "step must return (observation, reward, terminated, truncated, info)",
            f"it returned {_what(result)}{hint}",
            where,
        )
    observation, reward, terminated, truncated, info = result
    number = type(reward) is float or _is_number(reward)
    if not number or not -_MOST <= reward <= _MOST:  # a comparison takes whole numbers that no float holds
        _refuse_reward(reward, number, where)
    for which, flag in (("terminated", terminated), ("truncated", truncated)):
        if type(flag) is not bool and not isinstance(flag, np.bool_):
            _broken(f"{which} must be a bool", f"it is {_what(flag)}", where)
    if not isinstance(info, dict):
        _broken("info must be a dict", f"it is {_what(info)}", where)
    return observation, float(reward), bool(terminated), bool(truncated)


def _refuse_reward(reward: Any, number: bool, where: object) -> NoReturn:
    if not number:
        _broken("reward must be a finite number", f"it is {_what(reward)}", where)
    try:
        value = float(reward)
    except OverflowError:
        _broken("reward must be a finite number", "it is a number that no float holds", where)
    if np.isfinite(value):
        _broken("reward must fit into 32 bits", f"it is {value}: scale the rewards", where)
    _broken("reward must be a finite number", f"it is {value}", where)


def check_observation(observation: Any, space: gymnasium.Space[Any], where: object, *, fully: bool) -> None:
    """Shape and type of an observation; fully: that it lies in its space as well. Raises DataError.

    Whether it is finite is asked by `check_finite`.
    """
    if isinstance(space, spaces.Box):
        if not isinstance(observation, np.ndarray) and not (space.shape == () and isinstance(observation, np.generic)):
            _broken("an observation of a Box must be an array", f"it is {_what(observation)}", where)
        if observation.shape != space.shape:
            _broken(
                f"the observation must have the shape {space.shape} of its space", f"it has {observation.shape}", where
            )
        if observation.dtype != space.dtype and not np.can_cast(observation.dtype, space.dtype):
            advice = (
                f"; return observation.astype(np.{space.dtype})"
                if observation.dtype.kind in "biuf"
                else "; return numbers"
            )
            _broken(
                f"the observation must have the type {space.dtype} of its space",
                f"it has {observation.dtype}{advice}",
                where,
            )
    elif isinstance(space, spaces.Discrete):
        whole = isinstance(observation, (int, np.integer)) or (
            isinstance(observation, np.ndarray) and observation.shape == () and observation.dtype.kind in "iu"
        )
        if not whole or isinstance(observation, bool):
            _broken("an observation of a Discrete space must be an integer", f"it is {_what(observation)}", where)
        # A table is indexed by it, so it is asked at every step.
        if not space.start <= int(observation) < space.start + space.n:
            _broken(f"the observation must lie in {space}", f"it is {_short(observation)}", where)
    elif isinstance(space, (spaces.MultiDiscrete, spaces.MultiBinary)):
        shape = getattr(observation, "shape", None)
        if shape != space.shape:
            _broken(
                f"the observation must have the shape {space.shape} of its space", f"it is {_what(observation)}", where
            )
        fully = True  # a table or an indicator is indexed by it
    else:
        fully = True  # it is flattened, and the library's own messages there tell nothing
    if fully and not space.contains(np.asarray(observation) if isinstance(observation, np.generic) else observation):
        _broken(
            f"the observation must lie in its space, {_short(space, 200)}",
            f"it is {_outside(observation, space)}",
            where,
        )


def check_finite(observations: NDArray[Any], played: Sequence[object]) -> None:
    """That the observations (n, ...) of n environments are finite, also in 32 bits. Raises DataError with the place of one."""
    # Bytes are looked through in half the time of `all`, whose Python is most of it: this is asked at every step.
    if observations.dtype.kind == "f" and b"\0" in _fit(observations).tobytes():
        for observation, where in zip(observations, played, strict=True):
            values = observation.ravel()
            off = np.flatnonzero(~_fit(values))
            if len(off):
                value = values[off[0]]
                finite = bool(np.isfinite(value))
                rule = "the observation must fit into 32 bits" if finite else "the observation must be finite"
                advice = "; scale the observations" if finite else ""
                _broken(rule, f"number {off[0]} of {values.size} is {value}{advice}", where)


def _fit(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Which numbers are finite, and stay so as float32."""
    return np.isfinite(values) if values.dtype.itemsize <= 4 else np.abs(values) <= _MOST  # type: ignore[no-any-return]


def raised(error: Exception, where: object) -> DataError:
    """What is said of an environment that raised."""
    if isinstance(error, DataError):  # a wrapper of this package's
        return DataError(f"{error} ({where})")
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return DataError(f"the environment raised {_short(text, 400)} ({where})")


def refuse_endless(where: Place) -> NoReturn:
    """For an episode that goes on for LONGEST steps where a whole one is needed."""
    raise DataError(
        f"the episode goes on after {where.step:,} steps, where whole episodes are needed; give max_episode_steps ({where})"
    )


def _broken(rule: str, value: str, where: object) -> NoReturn:
    raise DataError(f"{rule}; {value} ({where})")


def _outside(observation: Any, space: gymnasium.Space[Any]) -> str:
    """Where an observation leaves its space: of an array the first place, otherwise all of it."""
    if isinstance(space, spaces.Box) and isinstance(observation, np.ndarray) and observation.shape == space.shape:
        outside = np.argwhere(~((observation >= space.low) & (observation <= space.high)))
        if len(outside):
            at = tuple(int(k) for k in outside[0])
            place = "" if at == () else f" at {list(at) if len(at) > 1 else at[0]}"
            return f"{observation[at]}{place}, where the space has {space.low[at]} to {space.high[at]}"
    if isinstance(space, (spaces.MultiDiscrete, spaces.MultiBinary)) and isinstance(observation, np.ndarray):
        return f"{_short(observation)} of {observation.dtype}"
    return _short(observation)


def _is_number(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.shape == () and value.dtype.kind in "iuf"
    return isinstance(value, (numbers.Real, np.floating, np.integer)) and not isinstance(value, (bool, np.bool_))


def _is_gym(env: Any) -> bool:
    return any(base.__module__.split(".")[0] == "gym" for base in type(env).__mro__)


def _length(value: Any) -> int:
    return len(value) if isinstance(value, (tuple, list)) else -1


def _what(value: Any) -> str:
    """A value and its type, short."""
    if value is None:
        return "None"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and type {value.dtype}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"{_short(value)} ({type(value).__name__})"


def _short(value: Any, most: int = _SHOWN) -> str:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    text = " ".join(str(value).split())
    return text if len(text) <= most else text[: most - 1] + "…"
