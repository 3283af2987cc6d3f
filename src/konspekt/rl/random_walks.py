"""Random actions in an environment of numbered states: does it do what its table says, and what would be its table?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from konspekt.core.errors import DataError
from konspekt.core.seeds import mix
from konspekt.rl.checking import LONGEST
from konspekt.rl.grids import grid_of, name_actions
from konspekt.rl.making import single
from konspekt.rl.mdp import MDP
from konspekt.rl.vector import Environments

__all__ = ["sampled_mdp", "try_table"]

TRIED = 1000  # steps in which it is seen whether the environment does what its table says


def sampled_mdp(
    envs: Environments, env: Any, episodes: int, seed: int, unseen: Literal["refuse", "avoid", "stay"]
) -> MDP:
    """The table of the shares that were seen in whole episodes of random actions; they begin as the episodes did.

    envs: one environment, before its first reset. env: what it was made from, which may have a grid.
    """
    steps, starts = _sampled(envs, episodes, seed)
    n_states, n_actions = int(envs.observation_space.n), int(envs.action_space.n)  # type: ignore[attr-defined]
    made = single(env)
    shape, letters = grid_of(made)
    if made is not env:
        made.close()
    begun = np.bincount(starts, minlength=n_states) / len(starts)
    more: dict[str, Any] = {"start": begun, "shape": shape, "letters": letters}
    mdp = MDP.from_samples(*steps, n_states=n_states, n_actions=n_actions, unseen=unseen, **more)
    return mdp if shape is None else replace(mdp, actions=name_actions(mdp, shape))


def try_table(mdp: MDP, envs: Environments, seed: int) -> None:
    """Raise DataError where the environment does, in random steps, what its table calls impossible."""
    rng = np.random.default_rng(mix(seed, 6))
    states = _numbers(envs, envs.reset())
    for number in range(TRIED):
        actions = rng.integers(0, mdp.n_actions, envs.num)
        step = envs.step(actions)
        after = _numbers(envs, step.final)
        for s, a, r, to, done in zip(states, actions, step.reward, after, step.terminated, strict=True):
            row = int(s) * mdp.n_actions + int(a)
            part = slice(mdp.indptr[row], mdp.indptr[row + 1])
            like = (mdp.next_states[part] == to) & (mdp.terminated[part] == done)
            like &= np.isclose(mdp.rewards[part], r) & (mdp.probabilities[part] > 0)
            if not like.any():
                raise DataError(
                    f"{envs.name} does not do what its table P says: at random step {number} action {a} in state {s} led to state {to} "
                    f"with reward {r:g} and terminated={bool(done)}, which P[{s}][{a}] does not have. Estimate the table: episodes=1000"
                )
        states = _numbers(envs, step.observation)
    envs.take_finished()


def _sampled(envs: Environments, episodes: int, seed: int) -> tuple[tuple[NDArray[Any], ...], NDArray[np.int64]]:
    """Steps of whole episodes of random actions: states, actions, rewards, next states, terminated, each (N,); and first states."""
    rng = np.random.default_rng(mix(seed, 6))
    actions_n = int(envs.action_space.n)  # type: ignore[attr-defined]
    columns: tuple[list[Any], ...] = ([], [], [], [], [])
    states, length = _numbers(envs, envs.reset()), 0
    starts = [int(states[0])]
    while len(envs.finished) < episodes:
        actions = rng.integers(0, actions_n, 1)
        step = envs.step(actions)
        after = _numbers(envs, step.final)
        for column, part in zip(columns, (states, actions, step.reward, after, step.terminated), strict=True):
            column.append(part[0])
        states, length = _numbers(envs, step.observation), length + 1
        if step.terminated[0] or step.truncated[0]:
            starts.append(int(states[0]))
            length = 0
        if length > LONGEST:
            raise DataError(
                f"{envs.name}: an episode of random actions has not ended after {LONGEST:,} steps; give max_episode_steps"
            )
    return tuple(np.array(column) for column in columns), np.array(starts[:episodes])


def _numbers(envs: Environments, observations: NDArray[Any]) -> NDArray[np.int64]:
    """Observed states counted from 0."""
    start = int(envs.observation_space.start)  # type: ignore[attr-defined]
    numbers: NDArray[np.int64] = observations.astype(np.int64) - start
    return numbers
