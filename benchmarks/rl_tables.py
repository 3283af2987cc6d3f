"""Tabular Q-learning on Taxi, and value iteration on a large table. Part of `rl.py`."""

from __future__ import annotations

import statistics
import time
from typing import Any

import gymnasium
import numpy as np
from engine import Line, steady
from large import child

from konspekt.rl.q_learning import QLearning

__all__ = ["lines"]

TAXI = next(name for name in ("Taxi-v3", "Taxi-v4") if name in gymnasium.registry)  # gymnasium 1.4 has the latter only
SECONDS, PLANNING = 5.0, 30.0
GAMMA, BOUND = 0.95, 1e-3
ENOUGH = 7.0  # the mean return of Taxi's best policy is 7.93

VALUES = """
import json, sys, time
import numpy as np
import torch
from konspekt.engine.forecast import Level
from konspekt.rl.mdp import MDP
from konspekt.rl.planning import value_iteration
states, gamma, bound = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
def table(states):
    rng = np.random.default_rng(0)
    p = rng.random((states, 4, 3))
    p /= p.sum(axis=2, keepdims=True)
    return p, rng.integers(states, size=p.shape, dtype=np.int32), rng.random(p.shape)
start = time.perf_counter()
value_iteration(MDP.from_successors(*table(100)), gamma, tolerance=bound)
first = time.perf_counter() - start
p, following, rewards = table(states)
level, start = Level(torch.device("cpu")), time.perf_counter()
mdp = MDP.from_successors(p, following, rewards)
built, start = time.perf_counter() - start, time.perf_counter()
plan = value_iteration(mdp, gamma, tolerance=bound)
solved, more = time.perf_counter() - start, level.peak()
q = np.zeros((states, 4))
for k in range(3):  # the residual again, from the arrays themselves
    q += p[:, :, k] * (rewards[:, :, k] + gamma * plan.v[following[:, :, k]])
print(json.dumps({
    "first": first, "built": built, "solved": solved, "sweeps": plan.sweeps, "said": plan.bound, "more": more,
    "given": p.nbytes + following.nbytes + rewards.nbytes, "residual": float(np.abs(q.max(axis=1) - plan.v).max()),
}))
"""


def plain(steps: int) -> float:
    """Q-learning on gymnasium's Taxi as it is written in a text book: seconds of a step."""
    env: Any = gymnasium.make(TAXI, disable_env_checker=True)
    q, rng = np.zeros((env.observation_space.n, env.action_space.n)), np.random.default_rng(0)
    start = time.perf_counter()
    state, _ = env.reset(seed=0)
    for _ in range(steps):
        action = int(rng.integers(q.shape[1])) if rng.random() < 0.1 else int(q[state].argmax())
        following, reward, terminated, truncated, _ = env.step(action)
        target = reward if terminated else reward + 0.99 * q[following].max()
        q[state, action] += 0.1 * (target - q[state, action])
        state = env.reset()[0] if terminated or truncated else following
    return (time.perf_counter() - start) / steps


def learning(quick: bool) -> list[Line]:
    """10 M steps of Q-learning."""
    steps = 200_000 if quick else 10_000_000
    start = time.perf_counter()
    QLearning(steps=2000).fit(TAXI)
    first = time.perf_counter() - start
    agents = []

    def ours() -> float:
        agent = QLearning(steps=steps, lr=0.1, epsilon=0.1, random_state=len(agents))
        start = time.perf_counter()
        agent.fit(TAXI)
        spent = time.perf_counter() - start
        assert int(agent.visits_.sum()) == steps, f"{agent.visits_.sum()} updates instead of {steps}"
        agents.append(agent)
        return spent

    what = f"Q-learning on {TAXI}, {steps:,} steps"
    limit = None if quick else SECONDS
    text = "" if quick else f"{SECONDS:g} s"
    seconds = steady(
        {"ours": ours, "plain": lambda: plain(5_000 if quick else 50_000)}, "plain", 2 if quick else 5, what
    )
    if seconds is None:
        return [Line(what, "none: the machine was too unsteady", text, None, limit)]
    middle, each = statistics.median(seconds["ours"]), statistics.median(seconds["plain"])
    score = agents[-1].evaluate(episodes=1000)["return"]
    assert quick or score > ENOUGH, f"{what}: it learned nothing: {score:.2f}"
    line = Line(what, f"{middle:.2f} s ({min(seconds['ours']):.2f} to {max(seconds['ours']):.2f})", text, middle, limit)
    line.notes = [
        f"{steps / middle / 1e6:.2f} M steps/s; the same in Python, on gymnasium's environment, makes {1 / each:,.0f} steps/s",
        f"the first fit of a process, of 2,000 steps, takes {first:.1f} s, nearly all of it for compiling, which is not in the figure",
        f"greedy return of 1,000 episodes {score:.2f}",
    ]
    return [line]


def planning(quick: bool) -> list[Line]:
    """Value iteration, in a process of its own."""
    states = 20_000 if quick else 1_000_000
    what = f"value iteration, {states:,} states x 4 actions x 3 successors, discount {GAMMA}, bound {BOUND:g}"
    told = [child(VALUES, states, GAMMA, BOUND) for _ in range(1 if quick else 3)]
    solved, built = ([one[name] for one in told] for name in ("solved", "built"))
    for one in told:
        truth = GAMMA / (1 - GAMMA) * one["residual"]
        assert truth <= BOUND + 1e-9, f"{what}: the bound is {truth:.3g}, and {one['said']:.3g} was said"
    middle = statistics.median(solved)
    limit = None if quick else PLANNING
    line = Line(
        what,
        f"{middle:.2f} s ({min(solved):.2f} to {max(solved):.2f})",
        "" if quick else f"{PLANNING:g} s",
        middle,
        limit,
    )
    most = max(one["more"] for one in told)
    line.notes = [
        f"{told[0]['sweeps']:.0f} sweeps; {statistics.median(built):.2f} s before that for checking and making the table",
        f"the arrays given are {told[0]['given'] / 1e6:,.0f} MB; at most {most / 1e6:,.0f} MB more were taken for table, values and plan",
        f"compiling, with a table of 100 states, takes {told[0]['first']:.1f} s a process and is not in the figure",
    ]
    return [line]


def lines(quick: bool) -> list[Line]:
    """Both."""
    return [*learning(quick), *planning(quick)]
