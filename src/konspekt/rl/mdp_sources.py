"""Tables of decision processes from environments that carry them, and from whole arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from konspekt.core.errors import DataError
from konspekt.core.memory import check_room
from konspekt.rl.grids import grid_of, name_actions
from konspekt.rl.making import name_of, single
from konspekt.rl.mdp import BYTES, MDP, PAIR
from konspekt.rl.spaces import words

__all__ = ["absorb", "from_dense", "merged", "read_table"]

CHANGES = (gymnasium.ObservationWrapper, gymnasium.RewardWrapper, gymnasium.ActionWrapper)


def read_table(env: Any, *, merge: bool = True) -> MDP:
    """The table of an environment that carries one: FrozenLake, Taxi, CliffWalking and all that have `P[state][action]`.

    `env.unwrapped.P` gives, for each state and action, a list of (probability, next state, reward, terminated). Where an episode
    begins (`initial_state_distrib`) and the grid are read too, if they are there. The state in which an episode has ended absorbs,
    whatever the table goes on to say of it (CliffWalking's goal): one that is entered from others only by terminated successors.
    A time limit is not in the table, so a plan knows nothing of it; `planning.finite_horizon` does.

    env: an id, an environment, or a function that makes one. merge: add up successors of a pair that are alike in next state,
    reward and terminated, as FrozenLake has at its walls.

    Raises DataError where there is no such table, where a wrapper changes what it says, or where its numbers cannot be.
    """
    made, name = single(env), name_of(env)
    try:
        return _read(made, name, merge)
    finally:
        if made is not env:
            made.close()


def _read(made: gymnasium.Env[Any, Any], name: str, merge: bool) -> MDP:
    """The table of an environment, which is not stepped."""
    table = getattr(made.unwrapped, "P", None)
    state_space, action_space = made.unwrapped.observation_space, made.unwrapped.action_space
    if not isinstance(table, (Mapping, Sequence)) or not len(table):
        raise DataError(
            f"{name} carries no table P[state][action] of its transitions: estimate one from episodes (MDP.from_samples; the planner "
            "does with episodes=1000), or learn by acting, with q-learning"
        )
    if not isinstance(state_space, spaces.Discrete) or not isinstance(action_space, spaces.Discrete):
        raise DataError(
            f"{name}: a table needs numbered states and actions (Discrete), here are {words(state_space)} and {words(action_space)}"
        )
    _check_honest(made, name)
    n_states, n_actions = int(state_space.n), int(action_space.n)
    first, least = int(state_space.start), int(action_space.start)
    successors = [
        _successors(_entry(_entry(table, s, f"state {s}", name), a, f"state {s}, action {a}", name), s, a, name)
        for s in range(first, first + n_states)
        for a in range(least, least + n_actions)
    ]
    sizes = np.array([len(pair) for pair in successors])
    flat = [one for pair in successors for one in pair]
    arrays = [np.array([one[k] for one in flat]) for k in range(4)]
    start = getattr(made.unwrapped, "initial_state_distrib", None)
    shape, letters = grid_of(made)
    mdp = MDP(
        n_states=n_states,
        n_actions=n_actions,
        indptr=np.concatenate([[0], np.cumsum(sizes)]),
        probabilities=arrays[0].astype(np.float64),
        next_states=_whole(arrays[1], name) - first,
        rewards=arrays[2].astype(np.float64),
        terminated=arrays[3].astype(bool),
        start=None if start is None else np.asarray(start, dtype=np.float64),
        shape=shape,
        letters=letters,
    )
    ends = _entered_last(mdp)
    if mdp.start is not None:
        ends &= mdp.start == 0  # where an episode begins, it goes on, also if another one has just ended there
    ended = absorb(mdp, ends)
    if shape is not None:
        ended = replace(ended, actions=name_actions(ended, shape), letters=_with_ends(ended))
    return merged(ended) if merge else ended


def _with_ends(mdp: MDP) -> str | None:
    """The letters of the grid with a G for each terminal state that has none: those that the environment marks stay."""
    if mdp.letters is None:
        return None
    pairs = zip(mdp.letters, mdp.terminal, strict=True)
    return "".join("G" if end and letter not in "GHC" else letter for letter, end in pairs)


def _entry(part: Any, key: int, what: str, name: str) -> Any:
    try:
        return part[key]
    except (LookupError, TypeError):
        raise DataError(f"{name}: its table P has nothing for {what}") from None


def _successors(listed: Any, state: int, action: int, name: str) -> list[tuple[float, int, float, bool]]:
    if not isinstance(listed, Sequence) or not all(isinstance(one, Sequence) and len(one) == 4 for one in listed):
        raise DataError(
            f"{name}: P[{state}][{action}] must be a list of (probability, next state, reward, terminated), got "
            f"{str(listed)[:80]}"
        )
    return [(one[0], one[1], one[2], one[3]) for one in listed]


def _whole(numbers: NDArray[Any], name: str) -> NDArray[np.int64]:
    if numbers.dtype.kind not in "iu":
        raise DataError(f"{name}: the next states in its table P are no whole numbers")
    return numbers.astype(np.int64)


def _check_honest(env: gymnasium.Env[Any, Any], name: str) -> None:
    """Raise DataError where the environment does something else than its table says."""
    layer: Any = env
    while isinstance(layer, gymnasium.Wrapper):
        if isinstance(layer, CHANGES):
            raise DataError(
                f"{name}: the wrapper {type(layer).__name__} changes what the table of the environment says: take it off, or "
                "estimate the table from episodes (MDP.from_samples; the planner does with episodes=1000)"
            )
        layer = layer.env
    if getattr(env.unwrapped, "fickle_passenger", False):
        raise DataError(
            f"{name}: with fickle_passenger=True the destination changes in a way that its table P does not tell: leave it out, or "
            "learn by acting, with q-learning"
        )


def _owners(mdp: MDP) -> NDArray[np.int64]:
    """The state that each successor belongs to, (N,)."""
    return np.repeat(np.arange(mdp.n_states), mdp.n_actions).repeat(np.diff(mdp.indptr))


def _entered_last(mdp: MDP) -> NDArray[np.bool_]:
    """The states that are entered from others by terminated successors and by no other ones, (S,)."""
    counts = (mdp.probabilities > 0) & (_owners(mdp) != mdp.next_states)
    last, other = (np.zeros(mdp.n_states, dtype=bool) for _ in range(2))
    last[mdp.next_states[counts & mdp.terminated]] = True
    other[mdp.next_states[counts & ~mdp.terminated]] = True
    return last & ~other


def absorb(mdp: MDP, ends: NDArray[np.bool_]) -> MDP:
    """The same table, in which the given states (S,) lead to themselves for nothing, and entering them ends the episode."""
    if not ends.any():
        return mdp
    own = _owners(mdp)
    inside = ends[own]
    return replace(
        mdp,
        next_states=np.where(inside, own, mdp.next_states),
        rewards=np.where(inside, 0.0, mdp.rewards),
        terminated=mdp.terminated | inside | ends[mdp.next_states],
    )


def merged(mdp: MDP) -> MDP:
    """The same table, with the probabilities of successors added up that a pair has twice."""
    rows = np.repeat(np.arange(mdp.n_states * mdp.n_actions), np.diff(mdp.indptr))
    order = np.lexsort((mdp.rewards, mdp.terminated, mdp.next_states, rows))
    keys = [array[order] for array in (rows, mdp.next_states, mdp.terminated, mdp.rewards)]
    fresh = np.concatenate([[True], np.logical_or.reduce([key[1:] != key[:-1] for key in keys])])
    first = np.flatnonzero(fresh)
    counts = np.bincount(keys[0][first], minlength=mdp.n_states * mdp.n_actions)
    return replace(
        mdp,
        indptr=np.concatenate([[0], np.cumsum(counts)]),
        probabilities=np.add.reduceat(mdp.probabilities[order], first),
        next_states=keys[1][first],
        terminated=keys[2][first],
        rewards=keys[3][first],
    )


def from_dense(P: ArrayLike, R: ArrayLike, *, terminal: ArrayLike | None = None, **more: Any) -> MDP:
    """A table from whole arrays.

    P: (S, A, S), the probability of each next state. R: the reward, (S, A), or (S, A, S) where it depends on the next state.
    terminal: (S,), which states end the episode when they are entered; they then absorb, whatever P says of them. A state that
    P and R make absorb for nothing is an end without it. more: the other fields of `MDP`.

    Raises DataError where the shapes do not fit, or numbers cannot be.
    """
    chances, rewards = np.asarray(P, dtype=np.float64), np.asarray(R, dtype=np.float64)
    if chances.ndim != 3 or chances.shape[0] != chances.shape[2] or 0 in chances.shape:
        raise DataError(f"MDP: P must be an array (S, A, S), not of shape {chances.shape}")
    states, actions, _ = chances.shape
    if rewards.shape not in ((states, actions), chances.shape):
        raise DataError(
            f"MDP: R has the shape {rewards.shape}; with P of {chances.shape} it must be {(states, actions)} or {chances.shape}"
        )
    sums = chances.sum(axis=2)
    s, a, after = np.nonzero(chances)  # NaN and negative numbers are not 0, so they are found below
    counts = np.bincount(s * actions + a, minlength=states * actions)
    if not counts.all():
        row = int(np.flatnonzero(counts == 0)[0])
        raise DataError(
            f"MDP: state {row // actions}, action {row % actions}: the probabilities sum to {sums.flat[row]:g}, not to 1"
        )
    check_room(BYTES * len(s) + PAIR * states * actions, f"a table of {len(s):,} successors")
    mdp = MDP(
        n_states=states,
        n_actions=actions,
        indptr=np.concatenate([[0], np.cumsum(counts)]),
        probabilities=chances[s, a, after],
        next_states=after,
        rewards=rewards[s, a] if rewards.ndim == 2 else rewards[s, a, after],
        terminated=np.zeros(len(s), dtype=bool),
        **more,
    )
    if terminal is None:
        return mdp
    ends = np.asarray(terminal)
    if ends.shape != (states,) or ends.dtype != np.bool_:
        raise DataError(f"MDP: terminal must be {states} booleans, got {ends.dtype} of shape {ends.shape}")
    return absorb(mdp, ends)
