"""What a table agent has while it learns: the table, the generator, what is kept for replay, and the two ways to make steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from konspekt.core.errors import DataError
from konspekt.core.memory import check_room
from konspekt.rl.compiled import Compiled
from konspekt.rl.compiled_columns import LATE, OVER, REWARD
from konspekt.rl.discretise import Discretiser
from konspekt.rl.episodes import Episodes
from konspekt.rl.spaces import words
from konspekt.rl.tabular_kernels import EPSILON, ERRORS, FILLED, MANY, PLACE, TEMPERATURE, running, turning
from konspekt.rl.vector import Environments

__all__ = ["Learner"]

FIRSTS = 1_000  # episodes of which it is kept what their first action promised and what they gave
_BYTES = 16  # of an entry of one table: q and its visits


class Learner:
    """A table that learns in `envs`, whose observations `cells` finds in it.

    kind, softmax: of `tabular_kernels.turning`. numbers: gamma, lr, exponent (0: the rate is lr), and transitions to replay at each step.
    tables: 1, or 2 for double Q. initial: q of everything. buffer: transitions kept for replay. seed: below 2**64.

    Raises ResourceError where there is no room for the table.
    """

    def __init__(
        self,
        envs: Environments,
        cells: Discretiser,
        *,
        kind: int,
        softmax: bool,
        numbers: tuple[float, float, float, int],
        tables: int,
        initial: float,
        buffer: int,
        seed: int,
    ) -> None:
        n, width, self.cells = envs.num, cells.tilings, cells
        actions = int(envs.action_space.n)  # type: ignore[attr-defined]
        check_room(
            cells.size * actions * (_BYTES + 8 * (tables - 1)),
            f"a table of {cells.size:,} states and {actions} actions",
        )
        gamma, lr, exponent, replays = numbers
        self.past = self.rewards = None
        if replays:
            check_room(buffer * (16 * width + 24), f"a replay of {buffer:,} transitions")
            self.past, self.rewards = np.zeros((buffer, 2 * width + 2), np.int64), np.zeros(buffer)
        self.q = np.full((tables, cells.size, actions), initial, np.float64)
        self.visits = np.zeros((tables, cells.size, actions), np.int64)
        self.rng = np.array([seed], np.uint64)
        self.now = np.zeros((n, 3 * width + 1), np.int64)
        self.now[:, -1] = -1
        self.tallies = np.zeros((n, 3))
        self.taken = np.zeros(actions, np.int64)
        self.firsts = np.zeros((0, 2))  # (E, 2) q of the first action and the discounted return of the last episodes
        self._values, self._places = np.zeros(actions), np.zeros(3, np.int64)
        self._numbers = np.array([gamma, lr, exponent, 0.0, 0.0, replays, 0.0])
        self._softmax, self._turn = softmax, turning(kind, softmax)
        self._actions = np.zeros((n, 1), np.int64)
        self.observation: NDArray[Any] | None = None  # (n, D) to be acted on
        self._known: NDArray[np.int64] | None = None  # rows that a checkpoint's observations had

    def make(self, envs: Environments, steps: int, rate: float) -> dict[str, float]:
        """Make `steps` steps of all environments. rate: epsilon, or the temperature. Gives the mean error of the updates."""
        self._numbers[TEMPERATURE if self._softmax else EPSILON] = rate
        self._numbers[ERRORS] = self._places[MANY] = 0
        if self.observation is None:
            self.observation = np.array(_flat(envs.reset()))
            self._reconcile(self.observation)
        self._next()[...] = self.cells.rows(self.observation)
        ends = np.empty((steps * envs.num, 2))
        (self._compiled if _whole(envs) else self._stepped)(envs, steps, ends)
        many = int(self._places[MANY])
        self.firsts = np.concatenate([self.firsts, ends[max(0, many - FIRSTS) : many]])[-FIRSTS:]
        return {
            "td_error": float(self._numbers[ERRORS]) / (steps * envs.num),
            "temperature" if self._softmax else "epsilon": rate,
        }

    def _table(self, ends: NDArray[np.float64]) -> tuple[Any, ...]:
        """What a turn takes from q on."""
        scratch = self.now, self._values, self._numbers, self.tallies, self.taken, self._places
        return self.q, self.visits, self.rng, *scratch, self.past, self.rewards, ends

    def _stepped(self, envs: Environments, steps: int, ends: NDArray[np.float64]) -> None:
        """Steps of any environments, each a call."""
        check = _checked(envs.observation_space)
        width, now, turn, rows = self.cells.tilings, self.now, self._turn, self.cells.rows
        outcome, actions, table = np.zeros((envs.num, LATE + 1)), self._actions, self._table(ends)
        turn(False, True, outcome, actions, *table)
        for t in range(1, steps + 1):
            step = envs.step(actions[:, 0].copy())
            if check is not None:
                check(step.final, envs.observation_space)
            outcome[:, REWARD], outcome[:, OVER], outcome[:, LATE] = step.reward, step.terminated, step.truncated
            now[:, width : 2 * width] = now[:, 2 * width : 3 * width] = rows(step.final)
            if step.observation is not step.final:
                now[:, 2 * width : 3 * width] = rows(step.observation)
            turn(True, t < steps, outcome, actions, *table)
        self.observation = _flat(step.observation)

    def _compiled(self, envs: Any, steps: int, ends: NDArray[np.float64]) -> None:
        """Steps of compiled environments, all in one call."""
        cells, observation = self.cells, np.array(self.observation)
        run = running(self._turn, envs._kernels.step, cells.edges.shape[2] == 0)
        ended = np.empty((len(ends), 6))
        world = envs.world(self._actions, observation, np.empty_like(observation))
        run(steps, world, (cells.start, cells.strides, cells.edges, cells.tiling), self._table(ends), ended)
        envs._restored, self.observation = False, observation
        envs._observation = observation.reshape(envs._observation.shape)
        envs.finished += Episodes(ended[: self._places[MANY]])

    def _next(self) -> NDArray[np.int64]:
        """Where the rows of what is to be acted on stand."""
        return self.now[:, 2 * self.cells.tilings : -1]

    def _reconcile(self, observation: NDArray[Any]) -> None:
        """Forget the running episode of an environment that did not come back where a checkpoint had left it."""
        if self._known is not None:
            other = (self.cells.rows(observation) != self._known).any(axis=1)
            self.now[other, -1] = -1
            self.tallies[other] = 0.0
            self._known = None

    # -- state ------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """All that lives from round to round."""
        observation = self.observation
        tensors: dict[str, Any] = {name: torch.from_numpy(array.copy()) for name, array in self._kept().items()}
        tensors["firsts"] = torch.from_numpy(self.firsts.copy())
        rows = np.zeros((0, 1), np.int64) if observation is None else self.cells.rows(observation)
        return {"tensors": tensors, "known": torch.from_numpy(rows)}

    def _kept(self) -> dict[str, NDArray[Any]]:
        kept = {
            "q": self.q,
            "visits": self.visits,
            "rng": self.rng.view(np.int64),
            "now": self.now,
            "tallies": self.tallies,
            "taken": self.taken,
            "places": self._places,
        }
        return (
            kept if self.past is None or self.rewards is None else kept | {"past": self.past, "rewards": self.rewards}
        )

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave.

        Raises ValueError where arrays have other shapes than here, or numbers are out of bounds.
        """
        tensors = state["tensors"]
        for name, array in self._kept().items():
            given: Tensor = tensors[name]
            if tuple(given.shape) != array.shape or given.numpy().dtype != array.dtype:
                raise ValueError(f"{name} is {given.dtype} of shape {tuple(given.shape)}, not of {array.shape}")
            array[...] = given.numpy()
        size, actions, width = self.cells.size, len(self.taken), self.cells.tilings
        if self.now[:, -1].min() < -1 or self.now[:, -1].max() >= actions:
            raise ValueError("an action is none of the table")
        if self.past is not None:
            rows, taken = self.past[:, : 2 * width], self.past[:, 2 * width]
            if rows.min() < 0 or rows.max() >= size or taken.min() < 0 or taken.max() >= actions:
                raise ValueError("a replayed transition is none of the table")
            if not (0 <= self._places[PLACE] < len(self.past) and 0 <= self._places[FILLED] <= len(self.past)):
                raise ValueError("the place in the replay is none")
        firsts = tensors["firsts"].numpy()
        if firsts.ndim != 2 or firsts.shape[1] != 2:
            raise ValueError("firsts")
        self.firsts = firsts.astype(np.float64)
        known = state["known"].numpy()
        self._known = known if len(known) else None
        self.observation = None


def _whole(envs: Environments) -> bool:
    """Whether environments and updates go into one call."""
    return isinstance(envs, Compiled) and envs._kernels.beginnings is None


def _flat(observations: NDArray[Any]) -> NDArray[Any]:
    return observations.reshape(len(observations), -1)


def _checked(space: gymnasium.Space[Any]) -> Any:
    """What checks observations before they become rows, where the environments do not look at each."""
    if isinstance(space, spaces.MultiDiscrete):
        return _check_many
    return _check_binary if isinstance(space, spaces.MultiBinary) else None


def _check_many(observations: NDArray[Any], space: Any) -> None:
    if ((observations < space.start) | (observations >= space.start + space.nvec)).any():
        raise DataError(
            f"an observation of {words(space)} is {observations.tolist()}, which lies outside; mend the environment"
        )


def _check_binary(observations: NDArray[Any], space: Any) -> None:
    if (observations > 1).any() or (observations < 0).any():
        raise DataError(
            f"an observation of {words(space)} is {observations.tolist()}, which is not 0 and 1; mend the environment"
        )
