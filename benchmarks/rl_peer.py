"""Stable-Baselines3's side: A2C and DQN, in the fastest form that was found. Part of `rl.py`.

It gets a vector of environments without its Monitor and without gymnasium's checker, and logs nothing. Timed is `learn` only, not the making of
nets and buffers. Where the returns are compared it gets its Monitor, which tells the returns of the training.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

__all__ = ["Trained", "missing", "peer_a2c", "peer_dqn", "version_line"]

QUIET = 10**9  # iterations or episodes between two lines of its log


@dataclass
class Trained:
    """What a training gave. act: observations (N, ...) -> greedy actions (N,); recent: mean return of its last 100 episodes."""

    seconds: float
    steps: int
    act: Callable[[NDArray[Any]], NDArray[Any]]
    recent: float = float("nan")

    @property
    def each(self) -> float:
        """Seconds of an environment step."""
        return self.seconds / self.steps


def missing() -> str | None:
    """Why Stable-Baselines3 is not here, if it is not."""
    try:
        import stable_baselines3  # noqa: F401
    except (ImportError, RuntimeError, OSError) as error:
        return f"Stable-Baselines3 does not import here: {type(error).__name__}: {str(error)[:160]}"
    return None


def version_line() -> str:
    """The versions of both sides' ground, as an item of a list."""
    from importlib.metadata import PackageNotFoundError, version

    found = []
    for name in ("stable_baselines3", "gymnasium", "numba", "ale-py"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} not installed")
    return f"- {', '.join(found)}"


def vector(make: Callable[[], Any], num: int, *, monitored: bool = False, stack: int = 1) -> Any:
    """Its environments: `num` in this process, and frames stacked where they are pictures."""
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack

    envs = DummyVecEnv([(lambda: Monitor(make())) if monitored else make] * num)
    return VecFrameStack(envs, stack) if stack > 1 else envs


def cartpole() -> Any:
    return gymnasium.make("CartPole-v1", disable_env_checker=True)


def trained(model: Any, steps: int) -> Trained:
    """After `learn` of so many steps."""
    start = time.perf_counter()
    model.learn(steps, log_interval=QUIET)
    spent = time.perf_counter() - start
    told = [episode["r"] for episode in model.ep_info_buffer or ()]
    recent = float(np.mean(told)) if told else float("nan")
    return Trained(spent, model.num_timesteps, lambda x: model.predict(x, deterministic=True)[0], recent)


def peer_a2c(setting: dict[str, Any], steps: int, seed: int, *, monitored: bool = False) -> Trained:
    """A2C on CartPole. The net is its own default: a separate actor and critic of 64-64 tanh."""
    from stable_baselines3 import A2C

    envs = vector(cartpole, setting["n_envs"], monitored=monitored)
    model = A2C(
        "MlpPolicy", envs, learning_rate=setting["lr"], n_steps=setting["n_steps"], gamma=0.99, gae_lambda=1.0, ent_coef=0.0,
        vf_coef=0.5, max_grad_norm=setting["clip"], seed=seed, device="cpu",
    )  # fmt: skip
    return trained(model, steps)


def peer_dqn(
    setting: dict[str, Any], steps: int, seed: int, *, make: Callable[[], Any] = cartpole, monitored: bool = False
) -> Trained:
    """DQN: on numbers with the hidden layers of `setting`, on pictures ("stack") with the Nature net."""
    from stable_baselines3 import DQN

    pictures = "stack" in setting
    envs = vector(make, 1, monitored=monitored, stack=setting.get("stack", 1))
    model = DQN(
        "CnnPolicy" if pictures else "MlpPolicy", envs, learning_rate=setting["lr"], buffer_size=setting["buffer_size"],
        learning_starts=setting["start"], batch_size=setting["batch_size"], gamma=0.99, train_freq=setting["train_every"],
        gradient_steps=setting["updates"], target_update_interval=setting["target_every"],
        exploration_fraction=setting["explore"], exploration_final_eps=setting["epsilon"], max_grad_norm=10,
        policy_kwargs=None if pictures else {"net_arch": list(setting["hidden"])}, seed=seed, device="cpu",
    )  # fmt: skip
    return trained(model, steps)
