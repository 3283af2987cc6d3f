"""CartPole-v1, whose best return is 500: every agent that can take it.

The public values are those of rl-baselines3-zoo's table (https://github.com/DLR-RM/rl-baselines3-zoo/blob/master/benchmark.md), one
run each: DQN 500 at 50,000 steps, A2C 500 at 500,000. Settings of DQN and A2C are the zoo's. The cross-entropy method (Rubinstein
1999; de Boer et al. 2005) and REINFORCE (Williams 1992) have no public value there; 500 is the most that can be had. Each agent's greedy
policy of the last step is played in 100 episodes; nothing is chosen by evaluation, so a policy that has just got worse counts as it is.
With double DQN that happens: the zoo's learning rate is for the plain target, which stands still while a round of 128 batches is
learned, and the double one moves with the net that chooses. The line "lr to 0" has the same rate fall to 0 over the training.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from common import Study

from konspekt.rl import A2C, DQN, CrossEntropyMethod, CrossEntropyNet, CrossEntropySearch, Reinforce

SETTINGS = {"short": "steps as printed, 100 greedy episodes", "full": "the same"}
ZOO_DQN: dict[str, Any] = {
    "lr": 2.3e-3,
    "batch_size": 64,
    "buffer_size": 100_000,
    "learning_starts": 1_000,
    "train_every": 256,
    "gradient_steps": 128,
    "target_every": 10,
    "exploration": 0.16,
    "epsilon": 0.04,
    "hidden": (256, 256),
}


def agents() -> dict[str, tuple[Any, str]]:
    """Each agent, and what is known of it."""
    none = "500 is the most"
    elites: dict[str, Any] = {"sessions": 50, "n_envs": 50, "elite": 0.1}
    return {
        "cross-entropy, table": (
            CrossEntropyMethod(steps=3_000_000, sessions=200, n_envs=50, bins=(4, 4, 10, 8)),
            none,
        ),
        "cross-entropy, forest": (CrossEntropyMethod(model="forest", steps=200_000, **elites), none),
        "cross-entropy, logistic": (CrossEntropyMethod(model="logistic-regression", steps=300_000, **elites), none),
        "cross-entropy, net": (CrossEntropyNet(steps=200_000), none),
        "cross-entropy, weights": (CrossEntropySearch(steps=200_000), none),
        "DQN": (DQN(steps=50_000, **ZOO_DQN), "500.0 at 50 k"),
        "double DQN": (DQN(steps=50_000, double=True, **ZOO_DQN), none),
        "double DQN, lr to 0": (DQN(steps=50_000, double=True, schedule="linear", **ZOO_DQN), none),
        "DQN, two nets": (DQN(steps=50_000, double="random", **ZOO_DQN), none),
        "REINFORCE": (Reinforce(steps=500_000), none),
        "A2C": (A2C(steps=500_000), "500.0 at 500 k"),
    }


if __name__ == "__main__":
    study = Study(__file__, __doc__ or "", SETTINGS, seeds=5, parts=list(agents()))
    for label, (agent, known) in agents().items():
        if not study.wants(label):
            continue
        values, seconds = [], []
        for seed in study.range:
            if study.setting == "tiny":
                agent.set_params(steps=max(2_000, agent.steps // 100))
            began = time.perf_counter()
            agent.set_params(random_state=seed).fit("CartPole-v1")
            seconds.append(time.perf_counter() - began)
            values.append(agent.evaluate("CartPole-v1", episodes=100, random_state=seed)["return"])
        mean, spread = np.mean(values), np.std(values, ddof=1) if len(values) > 1 else 0.0
        each = " ".join(f"{v:.0f}" for v in values)
        study.say(f"{label:24} {mean:6.1f} +- {spread:5.1f}  ({each})  {agent.steps:,} steps, {np.mean(seconds):.0f} s")
        study.found(label, f"CartPole-v1, {agent.steps:,} steps", known, f"{mean:.1f} ± {spread:.1f} ({each})")
    study.finish()
