"""Whole episodes played by a policy, and what they came to."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from konspekt.core.errors import DataError
from konspekt.core.seeds import mix
from konspekt.rl.checking import LONGEST
from konspekt.rl.making import single
from konspekt.rl.seeding import episode_seed
from konspekt.rl.vector import Environments

if TYPE_CHECKING:
    from konspekt.rl.agent import Agent

__all__ = ["Played", "has_time_limit", "play_episodes", "scores_of"]

TOGETHER = 16  # environments at most that are stepped together
PATIENCE = 100_000  # steps of an episode where there is no time limit


@dataclass
class Played:
    """One episode. It can be repeated from its seed and actions.

    total: the sum of its rewards. rewards: each. actions: what `Environments.step` was given for this environment.
    frames: pictures (H, W, 3), the first one of the state it began in; empty where none were asked for.
    cut: it was left after `most` steps and would have gone on.
    """

    seed: int
    total: float
    length: int
    truncated: bool
    rewards: NDArray[np.float64]
    actions: list[Any]
    frames: list[NDArray[np.uint8]] = field(default_factory=list)
    cut: bool = False


def play_episodes(
    agent: Agent, env: Any, episodes: int, random_state: int, *, frames: int = 0, most: int | None = None
) -> list[Played]:
    """`episodes` greedy episodes, each begun with a seed of its own; several environments are stepped together.

    Episode k is the (k // n)-th of environment k % n, so that long and short ones count alike.
    frames: keep at most so many pictures of the first episodes. They are repeated for it, in an environment that draws.
    most: of a single episode: leave it after so many steps, and note that as `cut`. None: it has to end, within 100,000 steps where
    there is no time limit.

    Raises DataError where an environment has other spaces than the agent, or an episode does not end.
    """
    num = 1 if isinstance(env, gymnasium.Env) else min(episodes, TOGETHER)
    seed = mix(random_state, 5) % 2**31
    envs = agent.make_environments(env, num, seed)
    try:
        agent.check_same_spaces(envs)
        played = _play(agent, envs, env, episodes, seed, most if episodes == 1 else None)
    finally:
        if not isinstance(env, gymnasium.Env):  # an instance is the user's
            envs.close()
    if frames > 0:
        from konspekt.rl.frames import drawn

        left = frames
        for episode in played:
            if left <= 0:
                break
            episode.frames = list(itertools.islice(drawn(agent, env, episode), left))
            left -= len(episode.frames)
    return played


def _play(agent: Agent, envs: Environments, env: Any, episodes: int, seed: int, most: int | None) -> list[Played]:
    num = envs.num
    wanted = [len(range(i, episodes, num)) for i in range(num)]
    done: list[list[Played]] = [[] for _ in range(num)]
    rewards: list[NDArray[np.float64]] = []  # of each step, of all environments
    actions: list[NDArray[Any]] = []
    lengths = np.zeros(num, np.int64)  # of the episodes that are being played
    player = agent.player(num)
    observation, fresh = envs.reset(), np.ones(num, bool)
    missing, longest_yet = sum(wanted), min(PATIENCE, LONGEST)
    while missing:
        action = player(observation, fresh)
        step = envs.step(action)
        rewards.append(step.reward)
        actions.append(action)
        lengths += 1
        for episode in envs.take_finished():
            i, length = episode.env, episode.length
            lengths[i] = 0
            if len(done[i]) < wanted[i]:
                got = np.array([reward[i] for reward in rewards[-length:]])
                did = [action[i] for action in actions[-length:]]
                done[i].append(Played(episode.seed, episode.total, length, episode.truncated, got, did))
                missing -= 1
        longest = int(lengths.max())
        if most is not None and longest >= most:
            got, did = np.array([reward[0] for reward in rewards]), [action[0] for action in actions]
            done[0].append(Played(episode_seed(seed, 0, 0), float(got.sum()), longest, False, got, did, cut=True))
            break
        if longest >= longest_yet and longest_yet < LONGEST and has_time_limit(agent, env, envs):
            longest_yet = LONGEST
        if longest >= longest_yet:
            raise DataError(
                f"{type(agent).__name__}: episode {len(done[int(lengths.argmax())])} of environment {lengths.argmax()} "
                f"({envs.name}) has not ended after {longest_yet:,} steps, and only whole episodes have a return; give "
                "max_episode_steps=1000, say"
            )
        if len(rewards) > 2 * longest + 10_000:  # what no episode needs any more
            del rewards[: len(rewards) - longest], actions[: len(actions) - longest]
        observation, fresh = step.observation, step.terminated | step.truncated
    return [done[k % num][k // num] for k in range(episodes)]


def has_time_limit(agent: Agent, env: Any, envs: Environments | None = None) -> bool:
    """Whether an episode is cut short after some number of steps. env: as in `fit`. envs: what was made of it."""
    if agent.max_episode_steps is not None:
        return True
    # What a function made may be the same each time, and so must not be closed.
    played = getattr(envs, "_played", None)
    layer: Any = played[0].env if played else single(env)
    made, limit = layer, False
    while isinstance(layer, gymnasium.Wrapper) and not limit:
        limit, layer = isinstance(layer, gymnasium.wrappers.TimeLimit), layer.env
    if not played and not isinstance(env, gymnasium.Env):
        made.close()
    return limit


def scores_of(played: Sequence[Played], gamma: float) -> dict[str, float]:
    """The mean return, its spread over the episodes (standard deviation) and range, the discounted mean, the mean length."""
    totals = np.array([p.total for p in played])
    discounted = [float(p.rewards @ gamma ** np.arange(len(p.rewards))) for p in played]
    return {
        "return": float(totals.mean()),
        "return_std": float(totals.std(ddof=1)) if len(totals) > 1 else 0.0,
        "return_min": float(totals.min()),
        "return_max": float(totals.max()),
        "discounted_return": float(np.mean(discounted)),
        "length": float(np.mean([p.length for p in played])),
        "episodes": float(len(played)),
    }
