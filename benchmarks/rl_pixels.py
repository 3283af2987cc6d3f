"""DQN on pictures: ours and Stable-Baselines3's, on a made game and on Atari's Pong where ale-py is installed. Part of `rl.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from engine import Line, say
from gymnasium import spaces
from numpy.typing import NDArray
from rl_own import own_dqn
from rl_peer import peer_dqn
from rl_speed import OURS, THEIRS, against_peer

from konspekt.rl.pixels import Pixels

__all__ = ["lines"]

SIDE = 84
SETTING: dict[str, Any] = {  # as the zoo has Atari games, but for the sizes that a short run can have
    "stack": 4, "hidden": (512,), "batch_size": 32, "lr": 1e-4, "buffer_size": 10_000, "start": 200, "train_every": 4, "updates": 1,
    "target_every": 1000, "explore": 0.1, "epsilon": 0.01,
}  # fmt: skip


class Falling(gymnasium.Env[NDArray[np.uint8], int]):
    """A block falls, a bar at the bottom is moved below it: frames of 84 x 84, an episode is one block."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(0, 255, (SIDE, SIDE), np.uint8)
        self.action_space = spaces.Discrete(3)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        super().reset(seed=seed)
        self.row, self.column, self.bar = 0, int(self.np_random.integers(SIDE - 8)), SIDE // 2
        return self.frame(), {}

    def step(self, action: int) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        self.bar = min(max(self.bar + 4 * (int(action) - 1), 0), SIDE - 12)
        self.row += 2
        over = self.row >= SIDE - 8
        reward = (1.0 if abs(self.bar + 6 - self.column - 4) < 10 else -1.0) if over else 0.0
        return self.frame(), reward, over, False, {}

    def frame(self) -> NDArray[np.uint8]:
        picture = np.zeros((SIDE, SIDE), np.uint8)
        picture[self.row : self.row + 8, self.column : self.column + 8] = 255
        picture[SIDE - 4 :, self.bar : self.bar + 12] = 160
        return picture


class Channel(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Frames with an axis for the colour, which the peer's stack of frames needs."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self.observation_space = spaces.Box(0, 255, (SIDE, SIDE, 1), np.uint8)

    def observation(self, observation: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return observation[:, :, None]


def pong() -> gymnasium.Env[Any, Any]:
    """Pong, grey, every fourth frame, the brighter of two: the same wrapper for both sides."""
    import ale_py

    gymnasium.register_envs(ale_py)
    game = gymnasium.make("ALE/Pong-v5", obs_type="grayscale", frameskip=1, disable_env_checker=True)
    return Pixels(game)


def lines(quick: bool) -> list[Line]:
    """Both sides on the same frames; no limit."""
    steps, repeat = (440, 2) if quick else (2_200, 3)
    games: dict[str, Callable[[], gymnasium.Env[Any, Any]]] = {"made frames": Falling}
    try:
        pong().close()
        games["ALE/Pong-v5"] = pong
    except (ImportError, gymnasium.error.Error, RuntimeError, OSError) as error:
        say(f"  ALE/Pong-v5 is left out: {type(error).__name__}: {str(error)[:160]}")
    found = []
    for name, make in games.items():

        def ours(make: Callable[[], Any] = make) -> float:
            return own_dqn(SETTING, steps, 0, make).each

        def theirs(make: Callable[[], Any] = make) -> float:
            return peer_dqn(SETTING, steps, 0, make=lambda: Channel(make())).each

        what = f"DQN, {name}, the Nature net, batch 32, an update every 4 steps"
        found += against_peer(what, {OURS: ours, THEIRS: theirs}, None, repeat)
    return found
