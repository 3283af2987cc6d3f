"""Whether episodes end: where no discount makes a sum of rewards finite, the end has to. Course: row R1; advice 133."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from konspekt.core.errors import ConfigError
from konspekt.rl.mdp import MDP

__all__ = ["can_end", "check_discount", "towards_the_end"]

NAMED = 5


def towards_the_end(mdp: MDP, allowed: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """For each state an action that may bring the end nearer, (S,): -1 in terminal states and where none can.

    A policy of such actions ends with probability 1 from every state that cannot come to one of -1 which is not terminal: each
    step has a chance to be one of the shortest way. allowed: (S, A), the actions that may be chosen; None: all.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import breadth_first_order

    states, actions = mdp.n_states, mdp.n_actions
    graph = mdp.continuing
    rows = np.repeat(np.arange(states * actions), np.diff(graph.indptr))
    fine = ~mdp.terminal[rows // actions]
    if allowed is not None:
        fine &= allowed.ravel()[rows]
    rows, after = rows[fine], graph.indices[fine]
    ends = mdp.ending & ~mdp.terminal[:, None] & (True if allowed is None else allowed)
    last = np.flatnonzero(ends.ravel())
    # backwards: from the end, node S, to the states from which it is reached
    tail = np.concatenate([after, np.full(len(last), states)])
    head = np.concatenate([rows, last]) // actions
    back = csr_array((np.ones(len(tail), dtype=np.int8), (tail, head)), shape=(states + 1, states + 1))
    _, nearer = breadth_first_order(back, states, return_predecessors=True)
    chosen = np.full(states, -1, dtype=np.int64)
    wanted = nearer[:states]
    good = wanted[rows // actions] == after
    chosen[rows[good] // actions] = rows[good] % actions
    direct = last[wanted[last // actions] == states]
    chosen[direct // actions] = direct % actions
    return chosen


def can_end(mdp: MDP, allowed: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    """From which states the end can be reached by allowed actions, (S,); terminal ones are there."""
    return (towards_the_end(mdp, allowed) >= 0) | mdp.terminal


def check_discount(mdp: MDP, gamma: float) -> None:
    """Raise ConfigError where gamma is no discount, or is 1 and some state has no way to the end."""
    if not 0 <= gamma <= 1:
        raise ConfigError(f"gamma must be from 0 to 1, got {gamma}")
    if gamma < 1:
        return
    lost = np.flatnonzero(~can_end(mdp))
    if len(lost):
        raise ConfigError(
            f"gamma=1 needs episodes that end, and from {len(lost):,} of {mdp.n_states:,} states ({named(lost)}) no terminal state can be "
            "reached: the sum of rewards may be infinite. Give gamma below 1, or a horizon"
        )


def named(states: NDArray[np.int64]) -> str:
    """The first few numbers of states, for a message."""
    return ", ".join(map(str, states[:NAMED])) + (", ..." if len(states) > NAMED else "")
