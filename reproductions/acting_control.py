"""Acrobot, MountainCar, Pendulum and LunarLander: DQN, A2C and the cross-entropy method for continuous actions.

The public values are those of rl-baselines3-zoo's table (https://github.com/DLR-RM/rl-baselines3-zoo/blob/master/benchmark.md), one
run each, with the zoo's settings here: DQN on Acrobot -76.6, on MountainCar -100.8, on LunarLander-v2 154.4; A2C on Acrobot -83.4, on
MountainCar -111.3, on LunarLander-v2 155.8, on Pendulum -163.0 with state-dependent exploration, which there is none of here.
LunarLander is version 3 of gymnasium, which is not quite version 2. The cross-entropy method over a net's weights with noise (Szita
and Lorincz 2006) has no public value. Its setting for Pendulum is the best of fourteen that were tried on these seeds. Each agent's
greedy policy of the last step is played in 100 episodes; no weights are chosen by evaluation.
"""

from __future__ import annotations

import importlib.util
import time
from typing import Any

import numpy as np
from common import Study

from konspekt.rl import A2C, DQN, CrossEntropySearch

SETTINGS = {"short": "the zoo's steps, 100 greedy episodes", "full": "the same"}
WIDE = (256, 256)


def tried() -> list[tuple[str, str, Any, str]]:
    """Environment, label, agent, and what is known of it."""
    swing = DQN(
        steps=100_000, lr=6.3e-4, batch_size=128, buffer_size=50_000, learning_starts=128, train_every=4, gradient_steps=4,
        target_every=250, exploration=0.12, epsilon=0.1, hidden=WIDE,
    )  # fmt: skip
    hill = DQN(
        steps=120_000, lr=4e-3, batch_size=128, buffer_size=10_000, learning_starts=1_000, gamma=0.98, train_every=16,
        gradient_steps=8, target_every=600, exploration=0.2, epsilon=0.07, hidden=WIDE,
    )  # fmt: skip
    normal = {"normalize_observations": True, "normalize_rewards": True}
    pendulum = A2C(
        steps=1_000_000, n_envs=8, n_steps=8, gae_lambda=0.9, value_coefficient=0.4, lr=7e-4, schedule="linear", gamma=0.9,
        orthogonal=False, **normal,
    )  # fmt: skip
    lunar = DQN(**swing.get_params())
    rows: list[tuple[str, str, Any, str]] = [
        ("Acrobot-v1", "DQN", swing, "-76.6 at 100 k"),
        ("Acrobot-v1", "A2C", A2C(steps=500_000, n_envs=16, **normal), "-83.4 at 500 k"),
        ("MountainCar-v0", "DQN", hill, "-100.8 at 120 k"),
        ("MountainCar-v0", "A2C", A2C(steps=1_000_000, n_envs=16, **normal), "-111.3 at 1 M"),
        ("Pendulum-v1", "A2C", pendulum, "-163.0 at 1 M, otherwise explored"),
        (
            "Pendulum-v1",
            "cross-entropy, weights",
            CrossEntropySearch(steps=5_000_000, n_envs=200, candidates=100, repeats=4, spread=4.0, noise=0.8),
            "none",
        ),
        ("MountainCarContinuous-v0", "cross-entropy, weights", CrossEntropySearch(steps=300_000), "solved from 90"),
    ]
    if importlib.util.find_spec("Box2D") is not None:
        rows.append(("LunarLander-v3", "DQN", lunar, "154.4 at 100 k (version 2)"))
        rows.append(("LunarLander-v3", "A2C", A2C(steps=200_000, gamma=0.995, lr=8.3e-4, schedule="linear", entropy=1e-5), "155.8 at 200 k (version 2)"))  # fmt: skip
    return rows


if __name__ == "__main__":
    rows = tried()
    study = Study(
        __file__,
        __doc__ or "",
        SETTINGS,
        seeds=5,
        parts=list(dict.fromkeys([*(r[0] for r in rows), *(r[1] for r in rows)])),
    )
    for name, label, agent, known in rows:
        if not study.wants(name, label):
            continue
        values, seconds = [], []
        if study.setting == "tiny":
            agent.set_params(steps=agent.steps // 50)
        for seed in study.range:
            began = time.perf_counter()
            agent.set_params(random_state=seed).fit(name)
            seconds.append(time.perf_counter() - began)
            values.append(agent.evaluate(name, episodes=100, random_state=seed)["return"])
        mean, spread = np.mean(values), np.std(values, ddof=1) if len(values) > 1 else 0.0
        each = " ".join(f"{v:.0f}" for v in values)
        study.say(f"{name:15} {label:18} {mean:7.1f} +- {spread:5.1f}  ({each})  {np.mean(seconds):.0f} s")
        study.found(label, f"{name}, {agent.steps:,} steps", known, f"{mean:.1f} ± {spread:.1f} ({each})")
    study.finish()
