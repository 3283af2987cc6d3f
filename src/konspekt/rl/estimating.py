"""The table of a decision process, estimated from steps that were seen. Course: row R1 (document M, section 2.4)."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from konspekt.core.errors import ConfigError, DataError
from konspekt.rl.mdp import MDP
from konspekt.rl.mdp_sources import merged

__all__ = ["estimate"]

NAMED = 5  # pairs that a message names


def estimate(
    states: ArrayLike,
    actions: ArrayLike,
    rewards: ArrayLike,
    next_states: ArrayLike,
    terminated: ArrayLike,
    *,
    n_states: int,
    n_actions: int,
    unseen: Literal["refuse", "avoid", "stay"] = "refuse",
    **more: Any,
) -> MDP:
    """A table of the shares in which each (s, a) led to each (r, s') in N steps that were seen; `counts` says how often each was.

    states, actions, rewards, next_states, terminated: (N,). unseen: what a pair does that was never tried in a state that was
    acted in, or came to without an end. "refuse": that is an error, which names them; "avoid": it stays where it is for the smallest
    reward that was seen, so that a plan takes it only where nothing else is known; "stay": it stays where it is for nothing, which is
    hopeful where rewards are negative. States that were never met, and those in which episodes ended, absorb for nothing. more: the other
    fields of `MDP`.

    Raises DataError on the steps, and on unseen pairs where they are refused.
    """
    steps = [np.asarray(x) for x in (states, actions, rewards, next_states, terminated)]
    _check_steps(steps, n_states, n_actions)
    if unseen not in ("refuse", "avoid", "stay"):
        raise ConfigError(f"MDP: unseen must be 'refuse', 'avoid' or 'stay', got {unseen!r}")
    rows = steps[0].astype(np.int64) * n_actions + steps[1].astype(np.int64)
    counts = np.bincount(rows, minlength=n_states * n_actions)
    met = np.zeros(n_states, dtype=bool)
    met[steps[0]] = True
    met[steps[3][~steps[4]]] = True
    never = counts.reshape(n_states, n_actions) == 0
    missing = np.flatnonzero(never & met[:, None])
    if len(missing) and unseen == "refuse":
        some = ", ".join(f"({row // n_actions}, {row % n_actions})" for row in missing[:NAMED])
        raise DataError(
            f"MDP: {len(missing):,} pairs of a state that was met and an action were never seen: {some}"
            f"{', ...' if len(missing) > NAMED else ''}; give more episodes, or unseen='avoid' or 'stay'"
        )
    absent = np.flatnonzero(never)
    own = absent // n_actions
    held = met[own]
    filler = float(steps[2].min()) if unseen == "avoid" else 0.0
    columns = [
        np.concatenate([rows, absent]),
        np.concatenate([steps[3].astype(np.int64), own]),
        np.concatenate([steps[4].astype(bool), ~held]),
        np.concatenate([steps[2].astype(np.float64), np.where(held, filler, 0.0)]),
    ]
    order = np.lexsort(tuple(columns[::-1]))
    rows, after, last, gains = (column[order] for column in columns)
    begins = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n_states * n_actions))])
    share = 1.0 / np.diff(begins).repeat(np.diff(begins))
    table = MDP(
        n_states=n_states,
        n_actions=n_actions,
        indptr=begins,
        probabilities=share,
        next_states=after,
        rewards=gains,
        terminated=last,
        counts=counts.reshape(n_states, n_actions),
        **more,
    )
    return merged(table)


def _check_steps(steps: list[NDArray[Any]], n_states: int, n_actions: int) -> None:
    """Raise DataError at the first step that cannot be."""
    names = ("states", "actions", "rewards", "next_states", "terminated")
    size = len(steps[0]) if steps[0].ndim else 0
    for name, array in zip(names, steps, strict=True):
        if array.shape != (size,) or not size:
            raise DataError(f"MDP: {name} has the shape {array.shape}; give (N,) numbers of N steps, at least one")
    for name, array, most in (
        ("states", steps[0], n_states),
        ("actions", steps[1], n_actions),
        ("next_states", steps[3], n_states),
    ):
        bad = np.flatnonzero((array < 0) | (array >= most) | (array.dtype.kind not in "iu"))
        if len(bad):
            raise DataError(f"MDP: step {bad[0]}: {array[bad[0]]} in {name} is none of 0 to {most - 1}")
    bad = np.flatnonzero(~np.isfinite(steps[2]))
    if len(bad):
        raise DataError(f"MDP: step {bad[0]}: the reward {steps[2][bad[0]]} is not a finite number")
    if steps[4].dtype != np.bool_:
        raise DataError(f"MDP: terminated must be booleans, got {steps[4].dtype}")
