"""A2C and DQN on CartPole: environment steps a second, and returns at equal steps. Part of `rl.py`."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from engine import Line, against, say, steady
from rl_floors import a2c_floors, dqn_floors
from rl_own import own_a2c, own_dqn
from rl_peer import Trained, peer_a2c, peer_dqn
from scipy import stats

__all__ = ["a2c_lines", "against_peer", "dqn_lines", "return_lines"]

OURS, THEIRS = "konspekt", "Stable-Baselines3"
A2C: dict[str, Any] = {"n_envs": 8, "n_steps": 5, "lr": 7e-4, "clip": 0.5}
EVERY_STEP: dict[str, Any] = {  # an update after each step, as DQN is used where steps are dear
    "hidden": (64, 64), "batch_size": 32, "lr": 1e-3, "buffer_size": 100_000, "start": 1000, "train_every": 1, "updates": 1,
    "target_every": 500, "explore": 0.16, "epsilon": 0.04,
}  # fmt: skip
ZOO: dict[str, Any] = {  # rl-baselines3-zoo's for CartPole-v1
    "hidden": (256, 256), "batch_size": 64, "lr": 2.3e-3, "buffer_size": 100_000, "start": 1000, "train_every": 256, "updates": 128,
    "target_every": 10, "explore": 0.16, "epsilon": 0.04,
}  # fmt: skip
SEEDS, EPISODES = 5, 100
NEAR = 0.01  # of the peer's return: less is no difference


def against_peer(what: str, sides: dict[str, Callable[[], float]], least: float | None, repeat: int) -> list[Line]:
    """How many times as fast ours is, and steps a second of all sides, each of which gives seconds of an environment step."""
    limit = f"{least:g} times" if least is not None else ""
    bound = None if least is None else -least
    seconds = steady(sides, THEIRS, repeat, what)
    if seconds is None:
        return [Line(what, "none: the machine was too unsteady", limit, None, bound)]
    times, low, high = against(seconds[THEIRS], seconds[OURS])
    middle = {name: statistics.median(spent) for name, spent in seconds.items()}
    lines = [Line(what, f"{times:.2f} times as fast ({low:.2f} to {high:.2f})", limit, -times, bound)]
    for name, spent in seconds.items():
        rates = [1 / one for one in spent]
        text = f"{1 / middle[name]:,.0f} steps/s ({min(rates):,.0f} to {max(rates):,.0f})"
        lines.append(Line(f"{what}: {name}", text, ""))
    parts = [name for name in ("bare update", "bare acting", "bare environment, compiled") if name in middle]
    if parts:
        floor = sum(middle[name] for name in parts)
        lines[0].notes.append(
            f"the floor, {', '.join(parts)} together, makes {1 / floor:,.0f} steps/s; ours takes {middle[OURS] / floor:.2f} times "
            f"as long, theirs {middle[THEIRS] / floor:.2f} times"
        )
    return lines


def a2c_lines(quick: bool) -> list[Line]:
    """A2C with 8 environments and 5 steps."""
    steps, count, repeat = (4_000, 200, 3) if quick else (40_000, 2_000, 9)
    sides: dict[str, Callable[[], float]] = {
        OURS: lambda: own_a2c(A2C, steps, 0).each,
        THEIRS: lambda: peer_a2c(A2C, steps, 0).each,
        **a2c_floors(A2C["n_envs"], A2C["n_steps"], A2C["clip"], count),
    }
    what = "A2C, 8 environments, 5 steps, actor and critic of 64-64 tanh, RMSprop"
    return against_peer(what, sides, 3.0, repeat)


def dqn_lines(quick: bool) -> list[Line]:
    """DQN with an update after each step, and in the zoo's way."""
    lines = []
    for setting, what in ((EVERY_STEP, "train_freq 1, gradient_steps 1"), (ZOO, "train_freq 256, gradient_steps 128")):
        steps, count, repeat = (2_280, 200, 3) if quick else (11_240, 2_000, 9)  # whole rounds of 256 after the start
        own: dict[str, Any] = setting
        updates = own["updates"] / own["train_every"]
        share = 1 - own["start"] / steps  # of the steps: the first ones go without updates

        def ours(setting: dict[str, Any] = own, steps: int = steps) -> float:
            return own_dqn(setting, steps, 0).each

        def theirs(setting: dict[str, Any] = own, steps: int = steps) -> float:
            return peer_dqn(setting, steps, 0).each

        floors = dqn_floors(own["hidden"], own["batch_size"], own["updates"], updates * share, 10.0, count)
        text = f"DQN, {what}, net {'-'.join(map(str, own['hidden']))}, batch {own['batch_size']}"
        lines += against_peer(text, {OURS: ours, THEIRS: theirs, **floors}, 1.5, repeat)
    return lines


# --- returns ----------------------------------------------------------------------------------------------------------


def greedy_return(trained: Trained, episodes: int) -> float:
    """The mean return of greedy episodes of gymnasium's CartPole, which both sides play from the same seeds."""
    envs = [gymnasium.make("CartPole-v1", disable_env_checker=True) for _ in range(episodes)]
    seen = np.stack([env.reset(seed=10_000 + i)[0] for i, env in enumerate(envs)])
    totals, alive = np.zeros(episodes), np.arange(episodes)
    while len(alive):
        actions = trained.act(seen[alive])
        going_on = []
        for i, action in zip(alive.tolist(), np.asarray(actions).tolist(), strict=True):
            seen[i], reward, terminated, truncated, _ = envs[i].step(action)
            totals[i] += float(reward)
            if not (terminated or truncated):
                going_on.append(i)
        alive = np.array(going_on, dtype=np.int64)
    return float(totals.mean())


def middle_mean(values: list[float]) -> float:
    """The interquartile mean: of five values that of the middle three."""
    return float(stats.trim_mean(values, 0.25))


def return_lines(quick: bool) -> list[Line]:
    """Both sides from the same seeds, after equal steps."""
    lines = []
    jobs: list[tuple[str, int, Callable[[int, int], Trained], Callable[[int, int], Trained]]] = [
        (
            "A2C", 2_000 if quick else 100_000,
            lambda n, seed: own_a2c(A2C, n, seed), lambda n, seed: peer_a2c(A2C, n, seed, monitored=True),
        ),
        (
            "DQN in the zoo's way", 2_280 if quick else 50_152,  # whole rounds of 256 after the start
            lambda n, seed: own_dqn(ZOO, n, seed), lambda n, seed: peer_dqn(ZOO, n, seed, monitored=True),
        ),
    ]  # fmt: skip
    for name, steps, ours, theirs in jobs:
        got: dict[str, list[float]] = {OURS: [], THEIRS: []}
        late: dict[str, list[float]] = {OURS: [], THEIRS: []}
        for seed in range(2 if quick else SEEDS):
            for side, train in ((OURS, ours), (THEIRS, theirs)):
                made = train(steps, seed)
                got[side].append(greedy_return(made, 10 if quick else EPISODES))
                late[side].append(made.recent)
                say(
                    f"  {name}, seed {seed}, {side}: {got[side][-1]:.1f} after {made.steps:,} steps in {made.seconds:.0f} s"
                )
        what = f"{name}, {steps:,} steps, return over {len(got[OURS])} seeds"
        own, peer = middle_mean(got[OURS]), middle_mean(got[THEIRS])
        line = Line(
            what, f"{own:.1f}, theirs {peer:.1f} (interquartile means)", f"equal or better, within {NEAR:.0%}",
            None if math.isnan(own) else peer - own, NEAR * peer,
        )  # fmt: skip
        for side in (OURS, THEIRS):
            values, last = got[side], late[side]
            line.notes.append(
                f"{side}: mean {statistics.mean(values):.1f}, standard deviation {statistics.stdev(values):.1f}, each "
                f"{', '.join(f'{v:.1f}' for v in values)}; mean of the training's last 100 episodes {statistics.mean(last):.1f}"
            )
        lines.append(line)
    return lines
