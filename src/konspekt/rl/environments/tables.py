"""What the environments share that carry their whole table: steps drawn from it, and the optimum computed from it."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from konspekt.rl.mdp import MDP
from konspekt.rl.planning import HorizonPlan, finite_horizon

__all__ = ["Table", "TableEnvironment"]

Table = dict[int, dict[int, list[tuple[float, int, float, bool]]]]
Pixels = NDArray[np.uint8]


class TableEnvironment(gymnasium.Env[Any, Any]):
    """A gymnasium environment that draws from its table, so what the table says is what happens.

    A subclass sets `P` (states counted from 0), `initial_state_distrib` (states,), `horizon` (steps after which an
    episode is truncated) and the spaces, and writes `features` and `draw`. The names `P` and
    `initial_state_distrib` are those of gymnasium's toy-text environments, so that a planner reads both alike.
    Tables are shared by environments that are made alike, so nothing is written into them.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012  gymnasium's own way
    P: Table
    initial_state_distrib: NDArray[np.float64]
    horizon: int
    boxed: bool = False

    def begin(self, observations: str, size: int, horizon: int, render_mode: str | None) -> None:
        """Set the observation space: `size` numbers of -1 to 1, or the number of the state; and what all have."""
        self.boxed = observations == "box"
        self.observation_space = spaces.Box(-1, 1, (size,), np.float32) if self.boxed else spaces.Discrete(len(self.P))
        self.horizon = horizon
        self.render_mode = render_mode
        self.state = int(self.initial_state_distrib.argmax())
        self.steps = 0

    def features(self, state: int) -> NDArray[np.float32]:
        """A state as numbers of -1 to 1, for what cannot learn each state by itself."""
        raise NotImplementedError

    def draw(self) -> Pixels:
        """The picture of where the episode stands, (height, width, 3)."""
        raise NotImplementedError

    def notes(self) -> dict[str, Any]:
        """What `info` says beside the observation."""
        return {}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode in a state drawn from `initial_state_distrib`."""
        super().reset(seed=seed)
        self.state = int(self._pick(self.initial_state_distrib))
        self.steps = 0
        return self._observe(), self.notes()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Draw what follows the action from the table."""
        outcomes = self.P[self.state][int(action)]
        chosen = 0 if len(outcomes) == 1 else int(self._pick(np.array([outcome[0] for outcome in outcomes])))
        _, self.state, reward, terminated = outcomes[chosen]
        self.steps += 1
        return self._observe(), float(reward), terminated, self.steps >= self.horizon and not terminated, self.notes()

    def render(self) -> Pixels | None:
        """The picture, if render_mode is "rgb_array"."""
        return self.draw() if self.render_mode == "rgb_array" else None

    def optimum(self) -> float:
        """The best expected return of an episode, undiscounted and within its horizon, planned from the table.

        It is the most that any policy gets, also one that counts the steps.
        """
        return float(self.initial_state_distrib @ self.plan.v[0])

    @functools.cached_property
    def plan(self) -> HorizonPlan:
        """The best actions of every step of the horizon, computed when they are first asked for."""
        return finite_horizon(self.mdp, self.horizon)

    @functools.cached_property
    def mdp(self) -> MDP:
        """The table as the planner has it, whatever the observations are."""
        pairs = [outcomes for _, choices in sorted(self.P.items()) for _, outcomes in sorted(choices.items())]
        probabilities, followers, rewards, ends = zip(*itertools.chain.from_iterable(pairs), strict=True)
        return MDP(
            n_states=len(self.P),
            n_actions=len(self.P[0]),
            indptr=np.cumsum([0, *(len(outcomes) for outcomes in pairs)]),
            probabilities=np.array(probabilities),
            next_states=np.array(followers, np.int32),
            rewards=np.array(rewards),
            terminated=np.array(ends),
            start=self.initial_state_distrib,
        )

    def _pick(self, shares: NDArray[np.float64]) -> int:
        """A number drawn by these shares, which may sum to a hair less than 1."""
        sums = shares.cumsum()
        return min(int(np.searchsorted(sums, self.np_random.random() * sums[-1], side="right")), len(sums) - 1)

    def _observe(self) -> Any:
        return self.features(self.state) if self.boxed else self.state
