"""One environment while it is played: its episode, seed and step, with each rule checked, and a state to go on from."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from konspekt.core.errors import DataError
from konspekt.rl.action_forms import action_form
from konspekt.rl.checking import Place, check_env, check_observation, check_reset, check_step, raised
from konspekt.rl.episodes import Episode
from konspekt.rl.seeding import episode_seed
from konspekt.rl.spaces import arrays_of, to_array

__all__ = ["Played"]

_FULLY = 8  # steps of an environment at which its observations are looked for in their space


class Played:
    """One environment that is played, the `index`-th of a run with `seed`."""

    def __init__(self, env: gymnasium.Env[Any, Any], name: str, index: int, seed: int) -> None:
        check_env(env, name)
        self.env, self.name, self.index, self.seed = env, name, index, seed
        self.given_space = env.observation_space
        self.observation_space = arrays_of(self.given_space)
        self.action_space = env.action_space
        self._action = action_form(self.action_space, name)
        self.number, self.steps, self.total = -1, 0, 0.0
        self.episode_seed = 0  # what the current episode began with
        self.seen = 0  # resets and steps so far
        self.observation: NDArray[np.generic] = np.zeros(0)
        self._actions: list[Any] = []
        self._given: Any = None  # the last action, as the environment got it

    def __str__(self) -> str:
        """Where it is: for messages, which are seldom made."""
        step = self.steps or None
        return str(Place(self.name, self.index, self.number, self.episode_seed, step, self._given))

    def begin(self, number: int) -> NDArray[Any]:
        """Begin episode `number`: its first observation. Raises DataError."""
        self.number, self.steps, self.total, self._actions = number, 0, 0.0, []
        self.episode_seed = episode_seed(self.seed, self.index, number)
        try:
            result = self.env.reset(seed=self.episode_seed)
        except Exception as error:
            raise raised(error, self) from error
        return self._taken(check_reset(result, self))

    def step(self, action: Any) -> tuple[NDArray[Any], float, bool, bool]:
        """Observation, reward, terminated, truncated. Raises DataError."""
        self._given = given = self._action(action)
        self.steps += 1
        self._actions.append(action)
        try:
            result = self.env.step(given)
        except Exception as error:
            raise raised(error, self) from error
        observation, reward, terminated, truncated = check_step(result, self)
        self.total += reward
        return self._taken(observation), reward, terminated, truncated

    def episode(self, *, truncated: bool) -> Episode:
        """The current episode, as one that has ended."""
        return Episode(self.index, self.number, self.episode_seed, self.total, self.steps, truncated)

    def _taken(self, observation: Any) -> NDArray[Any]:
        check_observation(observation, self.given_space, self, fully=self.seen < _FULLY)
        self.seen += 1
        self.observation = array = to_array(self.given_space, observation).astype(
            self.observation_space.dtype, copy=False
        )
        return array

    def record(self) -> dict[str, Any]:
        """The seed and the actions since: enough to play the episode again. Numbers and arrays."""
        return {
            "number": self.number,
            "seed": self.episode_seed,
            "total": self.total,
            "actions": np.array(self._actions) if self._actions else np.zeros(0),
            "observation": np.array(self.observation),
        }

    def load_record(self, record: dict[str, Any]) -> str | None:
        """Play the episode again; a sentence where it does not come out alike, and then the next one is begun."""
        number, actions = int(record["number"]), record["actions"]
        try:
            self.begin(number)
            reason = self._replay(record)
        except DataError as error:
            reason = f"playing it again failed: {error}"
        if reason is None:
            return None
        self.begin(number + 1)
        return (
            f"environment {self.index} ({self.name}): episode {number}, at step {len(actions)}, could not be restored, "
            f"and episode {number + 1} begins: {reason}"
        )

    def _replay(self, record: dict[str, Any]) -> str | None:
        """Play a record's actions; why it came out otherwise, if it did. Raises DataError."""
        actions = record["actions"]
        if self.episode_seed != record["seed"]:
            return f"it began with seed {record['seed']}, and this run gives it {self.episode_seed}"
        for k, action in enumerate(actions, start=1):
            _, _, terminated, truncated = self.step(action)
            if terminated or truncated:
                return f"played again from its seed and actions, it ended at step {k} of {len(actions)}"
        same = self.observation.dtype == record["observation"].dtype and np.array_equal(
            self.observation, record["observation"]
        )
        if self.total != record["total"] or not same:
            return "played again from its seed and actions, it came out otherwise, so it draws from elsewhere than its seed"
        return None

    def close(self) -> None:
        """Close the environment."""
        self.env.close()
