"""konspekt's side, with the settings that the peer has. Part of `rl.py`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rl_peer import Trained

from konspekt.rl.a2c import A2C
from konspekt.rl.dqn import DQN

__all__ = ["own_a2c", "own_dqn"]


def trained(agent: Any, env: Any, steps: int) -> Trained:
    """After `fit`, from the call to its end."""
    start = time.perf_counter()
    agent.fit(env)
    spent = time.perf_counter() - start
    made = int(agent.history_[-1]["env_steps"])
    assert made <= steps, f"{made} steps were made instead of {steps}"
    recent = [episode.total for episode in agent.episodes_[-100:]]
    return Trained(spent, made, agent.predict, float(np.mean(recent)) if recent else float("nan"))


def own_a2c(setting: dict[str, Any], steps: int, seed: int) -> Trained:
    """A2C on CartPole: actor and critic of 64-64 tanh, RMSprop as the peer has it."""
    agent = A2C(
        steps=steps, n_envs=setting["n_envs"], n_steps=setting["n_steps"], gamma=0.99, gae_lambda=1.0, entropy=0.0,
        value_coefficient=0.5, shared=False, hidden=(64, 64), activation="tanh", optimizer="rmsprop(rho=0.99, eps=1e-5)",
        lr=setting["lr"], clip_norm=setting["clip"], random_state=seed, device="cpu",
    )  # fmt: skip
    return trained(agent, "CartPole-v1", steps)


def own_dqn(setting: dict[str, Any], steps: int, seed: int, env: str | Callable[[], Any] = "CartPole-v1") -> Trained:
    """DQN: on numbers with the hidden layers of `setting`, on pictures with the Nature net."""
    agent = DQN(
        steps=steps, hidden=setting["hidden"], batch_size=setting["batch_size"], lr=setting["lr"], gamma=0.99,
        buffer_size=setting["buffer_size"], learning_starts=setting["start"], train_every=setting["train_every"],
        gradient_steps=setting["updates"], target_every=setting["target_every"], exploration=setting["explore"],
        epsilon=setting["epsilon"], clip_norm=10.0, stack=setting.get("stack", 1), random_state=seed, device="cpu",
    )  # fmt: skip
    return trained(agent, env, steps)
