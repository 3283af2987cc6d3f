"""An environment of two states for the contract of the agents: small enough to be known completely."""

from __future__ import annotations

from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

__all__ = ["TwoStates"]


class TwoStates(gymnasium.Env[Any, Any]):
    """States 0 and 1; action 0 stays, action 1 goes to the other. Staying in 1 pays 1, everything else 0.

    The state to begin in is drawn evenly; the rest is certain, so an episode follows from its seed and its actions.
    None ends by itself: each is truncated after `length` steps. Who does best goes to 1, which pays nothing yet, and
    stays; so an agent that sees only the next reward finds it in 1 and not in 0.

    actions: "discrete" (0 or 1), or "box" (one number of -1 to 1, of which what is above 0 is action 1).
    observations: "discrete" (the state), or "box" (two numbers, 1 in the place of the state and 0 in the other).
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012  gymnasium's own way

    def __init__(
        self,
        *,
        actions: Literal["discrete", "box"] = "discrete",
        observations: Literal["discrete", "box"] = "discrete",
        length: int = 8,
        render_mode: str | None = None,
    ) -> None:
        self.length = length
        self.render_mode = render_mode
        self.boxed = observations == "box"
        self.observation_space = spaces.Box(0, 1, (2,), np.float32) if self.boxed else spaces.Discrete(2)
        self.action_space = spaces.Box(-1, 1, (1,), np.float32) if actions == "box" else spaces.Discrete(2)
        self.initial_state_distrib = np.array([0.5, 0.5])
        self.P = {
            state: {
                0: [(1.0, state, float(state), False)],
                1: [(1.0, 1 - state, 0.0, False)],
            }
            for state in (0, 1)
        }
        self.state = self.steps = 0

    def optimum(self, state: int | None = None) -> float:
        """The best return of an episode: length from state 1, length - 1 from state 0, and on average between them."""
        return self.length - 0.5 if state is None else self.length - 1.0 + state

    def chance(self) -> float:
        """The mean return of actions drawn evenly: half of the time in state 1, from which half of the actions stay."""
        return self.length / 4

    def _observe(self) -> Any:
        return np.eye(2, dtype=np.float32)[self.state] if self.boxed else self.state

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        self.state = int(self.np_random.integers(2))
        self.steps = 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Stay or move."""
        moves = int(action) if isinstance(self.action_space, spaces.Discrete) else int(np.ravel(action)[0] > 0)
        _, self.state, reward, _ = self.P[self.state][moves][0]
        self.steps += 1
        return self._observe(), reward, False, self.steps >= self.length, {}

    def render(self) -> NDArray[np.uint8] | None:
        """Two squares of 32 pixels, the state's one light."""
        if self.render_mode != "rgb_array":
            return None
        frame = np.full((32, 64, 3), 40, np.uint8)
        frame[:, 32 * self.state : 32 * self.state + 32] = 220
        return frame
