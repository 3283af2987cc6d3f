"""Environments stepped together: in this process, in processes of their own, or in one compiled kernel, behind one interface.

A step takes an action for each of n environments. Where an episode ends, the next one begins in the same step: `observation` is
then its first one, and `final` is the last of the episode that ended. A step that is terminated leads nowhere; one that is
truncated (a time limit) would have gone on, so its value is that of `final`. gymnasium may set both flags, where an episode ends
by itself in the step of its time limit; both are handed on, and terminated is what counts.

Episode k of environment i begins with `reset(seed=episode_seed(seed, i, k))` whatever the form, so all three forms give the same
episodes for the same actions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

from konspekt.core.errors import ConfigError, DataError
from konspekt.rl.checking import check_finite
from konspekt.rl.episodes import Episode
from konspekt.rl.making import function_name, maker, name_of, single
from konspekt.rl.pixels import preprocessed
from konspekt.rl.played import Played

__all__ = ["Environments", "Episode", "Looped", "Step", "environments"]


Spaces = tuple[gymnasium.Space[Any], gymnasium.Space[Any]]  # of observations, of actions


@dataclass(slots=True)
class Step:
    """A step of n environments."""

    observation: NDArray[Any]  # (n, ...) what to act on next: that of a new episode where one ended
    reward: NDArray[np.float64]  # (n,)
    terminated: NDArray[np.bool_]  # (n,)
    truncated: NDArray[np.bool_]  # (n,)
    # (n, ...) what the action led to, before any reset; the same array as `observation` if none ended
    final: NDArray[Any]


class Environments(Protocol):
    """n environments. Arrays that are returned are never written again."""

    num: int
    name: str
    observation_space: gymnasium.Space[Any]  # of one, as arrays: Box, Discrete, MultiDiscrete or MultiBinary
    action_space: gymnasium.Space[Any]  # of one
    given_space: gymnasium.Space[Any]  # of one's observations before they became arrays
    finished: list[Episode]  # since they were last taken

    def reset(self) -> NDArray[Any]:
        """Begin episode 0 everywhere -> (n, ...). Right after `load_state` nothing begins: the observations it restored."""

    def step(self, actions: NDArray[Any]) -> Step:
        """One step of each.

        actions: Discrete (n,) integers counted from 0; MultiDiscrete (n, k), counted from 0; MultiBinary (n, k); Box (n, d)
        float32, flat, clipped to the bounds here. Raises DataError where an environment breaks a rule.
        """

    def take_finished(self) -> list[Episode]:
        """The episodes that ended since the last call, in the order of steps and environments."""

    def state(self) -> dict[str, Any]:
        """Enough to go on from: JSON and tensors."""

    def load_state(self, state: dict[str, Any]) -> list[str]:
        """Go on from a state; a sentence for each episode that could not be restored, where the next one has begun."""

    def close(self) -> None:
        """Close the environments, end the processes."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...


class Closing:
    """What the three forms share."""

    finished: list[Episode]

    def take_finished(self) -> list[Episode]:
        """The episodes that ended since the last call, in the order of steps and environments."""
        taken, self.finished = self.finished, []
        return taken

    def close(self) -> None:
        """Nothing to close."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class Looped(Closing):
    """Environments in this process, one after the other.

    first: the number of the first among all of a run. own: they were made here, and are closed here.
    """

    def __init__(
        self, members: Sequence[gymnasium.Env[Any, Any]], name: str, seed: int, *, first: int = 0, own: bool = True
    ) -> None:
        self.num, self.name, self._own = len(members), name, own
        if len({id(env) for env in members}) < len(members):
            raise DataError(
                f"{function_name(name)} gives the same environment each time; it has to make a new one at each call"
            )
        self._played = [Played(env, name, first + i, seed) for i, env in enumerate(members)]
        self.observation_space = self._played[0].observation_space
        self.action_space = self._played[0].action_space
        self.given_space = self._played[0].given_space
        for one in self._played[1:]:
            check_alike(
                (self.observation_space, self.action_space),
                (one.observation_space, one.action_space),
                f"{name}, environment {one.index}",
            )
        self.finished: list[Episode] = []
        self._restored = False

    def reset(self) -> NDArray[Any]:
        """Begin episode 0 everywhere, unless a state has just been loaded."""
        if not self._restored:
            for one in self._played:
                one.begin(0)
        self._restored = False
        observation = np.stack([one.observation for one in self._played])
        check_finite(observation, self._played)
        return observation

    def step(self, actions: NDArray[Any]) -> Step:
        """One step of each."""
        self._restored = False
        if len(actions) != self.num:
            raise DataError(f"{self.name}: there are {len(actions)} actions, where {self.num} are needed")
        results = [one.step(action) for one, action in zip(self._played, actions, strict=True)]
        finals, rewards, ends, stops = zip(*results, strict=True)
        final = np.array(finals)
        check_finite(final, self._played)
        reward, terminated, truncated = np.array(rewards), np.array(ends, np.bool_), np.array(stops, np.bool_)
        if not (any(ends) or any(stops)):
            return Step(final, reward, terminated, truncated, final)
        observation = final.copy()
        for i in np.flatnonzero(terminated | truncated):
            one = self._played[i]
            self.finished.append(one.episode(truncated=not terminated[i]))
            observation[i] = one.begin(one.number + 1)
        check_finite(observation, self._played)
        return Step(observation, reward, terminated, truncated, final)

    def places(self) -> list[tuple[int, int]]:
        """The episode of each and its step."""
        return [(one.number, one.steps) for one in self._played]

    def records(self) -> list[dict[str, Any]]:
        """The seed of each episode and the actions since, in arrays."""
        return [one.record() for one in self._played]

    def load_records(self, records: Sequence[dict[str, Any]]) -> list[str]:
        """Play each episode again up to where it was."""
        said = [one.load_record(record) for one, record in zip(self._played, records, strict=True)]
        self._restored = True
        return [sentence for sentence in said if sentence is not None]

    def state(self) -> dict[str, Any]:
        """The seed of each episode and the actions since."""
        return replay_state(self.records(), self.finished)

    def load_state(self, state: dict[str, Any]) -> list[str]:
        """Play each episode again up to where it was."""
        records, self.finished = from_replay_state(state, self.num, self.name)
        return self.load_records(records)

    def close(self) -> None:
        """Close the environments, unless it is the user's own."""
        if self._own:
            for one in self._played:
                one.close()


def check_alike(one: Spaces, other: Spaces, name: str) -> None:
    """That two environments have the same spaces, of observations and of actions. Raises DataError."""
    for which, first, second in zip(("observation_space", "action_space"), one, other, strict=True):
        if first != second:
            raise DataError(
                f"{name}: its {which} is {second}, and that of environment 0 is {first}; they have to be alike"
            )


def replay_state(records: list[dict[str, Any]], finished: list[Episode]) -> dict[str, Any]:
    """A state of environments that are restored by playing them again."""
    tensors = [
        {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in record.items()} for record in records
    ]
    return {"environments": tensors, "finished": [list(one) for one in finished]}


def from_replay_state(state: dict[str, Any], num: int, name: str) -> tuple[list[dict[str, Any]], list[Episode]]:
    """The inverse of `replay_state`. Raises ConfigError if the state is one of another form or number."""
    if "environments" not in state:
        raise ConfigError(f"the state is one of {name} in compiled code: go on with compiled='auto', as it began")
    if len(state["environments"]) != num:
        raise ConfigError(f"the state is one of {len(state['environments'])} environments, and there are {num}")
    records = [
        {k: v.numpy() if isinstance(v, torch.Tensor) else v for k, v in record.items()}
        for record in state["environments"]
    ]
    return records, [Episode(*one) for one in state["finished"]]


def environments(
    env: Any,
    num: int = 1,
    *,
    seed: int,
    processes: int = 0,
    compiled: bool | str = "auto",
    max_episode_steps: int | None = None,
    preprocess: str | None = None,
    render: bool = False,
) -> Environments:
    """`num` environments of a kind, stepped together.

    env: an id, an instance, or a function that makes one. seed: of the run. processes: how many to spread them over, 0 for this one.
    compiled: "auto" takes the compiled kernel where there is one, True insists on it, False steps gymnasium's own. max_episode_steps:
    a time limit in the place of the environment's own, in its own steps. preprocess: see `konspekt.rl.pixels`. render: the
    observation is what the environment draws.
    Raises ConfigError for what cannot be made, DataError for what breaks the rules of an environment.
    """
    for which, value, least in (
        ("num", num, 1),
        ("processes", processes, 0),
        ("max_episode_steps", max_episode_steps, 1),
    ):
        if value is not None and value < least:
            raise ConfigError(f"{which} must be at least {least}, not {value}")
    if compiled not in (True, False, "auto"):
        raise ConfigError(f"compiled must be 'auto', True or False, not {compiled!r}")
    name, plain = name_of(env), preprocess is None and not render
    if compiled is True and (processes or not plain):
        raise ConfigError(
            "compiled=True goes with processes=0, preprocess=None and render=False: the kernel needs none of them"
        )
    if processes:
        from konspekt.rl.sub_processes import SubProcesses

        make = maker(env, again=f"processes={processes}", max_episode_steps=max_episode_steps, render=render)
        return SubProcesses(Wrapped(make, preprocess, render), num, name, seed, processes)
    first = single(env, max_episode_steps=max_episode_steps, render=render)
    own = first.unwrapped is not getattr(env, "unwrapped", None)
    again = isinstance(env, gymnasium.Env)
    members = [first]
    if not isinstance(env, (str, gymnasium.Env)):  # what a function makes may differ from call to call
        members += [single(env, max_episode_steps=max_episode_steps, render=render) for _ in range(1, num)]
    if plain and compiled is not False:
        from konspekt.rl.compiled import Compiled, kernels_of

        kernels = kernels_of(members)
        if kernels is not None:
            return Compiled(kernels, num, name, seed)
        if compiled is True:
            raise ConfigError(f"there is no compiled kernel for {name}; compiled='auto' steps the environment itself")
    if len(members) < num:
        make = maker(env, again=f"n_envs={num}" if again else "", max_episode_steps=max_episode_steps, render=render)
        members = [*([] if again else members), *(make() for _ in range(num if again else num - 1))]
        own = True
    return Looped([preprocessed(member, preprocess, render=render) for member in members], name, seed, own=own)


@dataclass(frozen=True)
class Wrapped:
    """Makes an environment with what `preprocess` and `render` put around it. It can be sent to another process."""

    make: Callable[[], gymnasium.Env[Any, Any]]
    preprocess: str | None = None
    render: bool = False

    def __call__(self) -> gymnasium.Env[Any, Any]:
        """A new environment."""
        return preprocessed(self.make(), self.preprocess, render=self.render)
