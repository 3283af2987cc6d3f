"""What a policy is worth: its v and q, by a linear solve or by iteration. Course: row R1 (document M, section 2.3)."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from konspekt.core.errors import ConfigError, DataError, ResourceError
from konspekt.rl.endings import named
from konspekt.rl.mdp import MDP

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = ["PolicyValues", "chain_of", "policy_values"]

SOLVED = 5000  # states up to which "auto" solves: the factors of a sparse matrix may be dense


@dataclass(frozen=True, eq=False)
class PolicyValues:
    """v (S,) and q (S, A) of a policy. residual: the largest change of v by the last application of the policy's operator; sweeps:
    applications, 0 of a solve. bound: how far v may be from the true one, gamma / (1 - gamma) * residual; infinite where gamma is 1."""

    v: NDArray[np.float64]
    q: NDArray[np.float64]
    gamma: float
    residual: float
    sweeps: int

    @property
    def bound(self) -> float:
        """How far v may be from the policy's value, in any state."""
        return self.gamma / (1 - self.gamma) * self.residual if self.gamma < 1 else math.inf


def policy_values(
    mdp: MDP,
    policy: ArrayLike,
    gamma: float = 0.99,
    *,
    method: Literal["auto", "solve", "iterate"] = "auto",
    tolerance: float = 1e-8,
    max_sweeps: int = 1_000_000,
) -> PolicyValues:
    """The expected return from each state, and from each action first, where a policy is followed.

    policy: the action of each state, (S,) integers, or the probabilities of the actions, (S, A).
    method: "solve": the linear equations v = r + gamma P v, by a sparse factorisation; "iterate": v <- r + gamma P v from 0, until the bound
        is at most `tolerance` (with gamma=1, the change); "auto": solve up to 5,000 states.
    max_sweeps: of iterating, after which a ConvergenceWarning says how far it came.

    Raises DataError where it is no policy; ConfigError where gamma=1 and the policy goes on for ever with rewards.
    """
    if method not in ("auto", "solve", "iterate"):
        raise ConfigError(f"method must be 'auto', 'solve' or 'iterate', got {method!r}")
    if not 0 <= gamma <= 1:
        raise ConfigError(f"gamma must be from 0 to 1, got {gamma}")
    chain, gains = chain_of(mdp, policy)
    idle = _idle(mdp, chain, gains) if gamma == 1 else None
    if method == "solve" or (method == "auto" and mdp.n_states <= SOLVED):
        v, sweeps = _solved(chain, gains, gamma, idle), 0
    else:
        v, sweeps = _iterated(chain, gains, gamma, tolerance, max_sweeps)
    new = gains + gamma * (chain @ v)
    residual = float(np.abs(new - v).max())
    q = gamma * (mdp.continuing @ new).reshape(mdp.n_states, mdp.n_actions) + mdp.expected_rewards
    return PolicyValues(new, q, float(gamma), residual, sweeps)


def chain_of(mdp: MDP, policy: ArrayLike) -> tuple[csr_array, NDArray[np.float64]]:
    """The Markov chain of a policy: the probabilities of going on (S, S), and the expected reward of a step (S,).

    Raises DataError where `policy` is neither (S,) actions nor (S, A) probabilities.
    """
    from scipy.sparse import csr_array

    given = np.asarray(policy)
    states, actions = mdp.n_states, mdp.n_actions
    if given.shape == (states,) and given.dtype.kind in "iu":
        bad = np.flatnonzero((given < 0) | (given >= actions))
        if len(bad):
            raise DataError(f"the policy has action {given[bad[0]]} in state {bad[0]}, and there are {actions} actions")
        rows = np.arange(states) * actions + given
        return mdp.continuing[rows], mdp.expected_rewards.ravel()[rows]
    if given.shape != (states, actions):
        raise DataError(
            f"the policy has the shape {given.shape} and type {given.dtype}: give ({states},) whole numbers, an action for each "
            f"state, or ({states}, {actions}) probabilities"
        )
    shares = given.astype(np.float64)
    wrong = np.flatnonzero(~((shares >= 0).all(axis=1) & (np.abs(shares.sum(axis=1) - 1) <= 1e-6)))
    if len(wrong):
        raise DataError(
            f"the policy in state {wrong[0]} is {np.array2string(shares[wrong[0]], precision=4)}, and should be probabilities "
            "that sum to 1"
        )
    shares /= shares.sum(axis=1, keepdims=True)
    bounds = np.arange(0, states * actions + 1, actions)
    mix = csr_array((shares.ravel(), np.arange(states * actions), bounds), shape=(states, states * actions))
    return csr_array(mix @ mdp.continuing), (shares * mdp.expected_rewards).sum(axis=1)


def _idle(mdp: MDP, chain: csr_array, gains: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The states from which the chain never ends, (S,); they are worth 0, as nothing is rewarded there.

    Raises ConfigError where something is.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import breadth_first_order

    size = mdp.n_states
    flat = chain.tocoo()
    used = (flat.data > 0) & ~mdp.terminal[flat.row]
    leaves = np.flatnonzero((chain.sum(axis=1) < 1 - 1e-9) | mdp.terminal)  # a row that sums to less may end
    tail = np.concatenate([flat.col[used], np.full(len(leaves), size)])
    head = np.concatenate([flat.row[used], leaves])
    back = coo_array((np.ones(len(tail), dtype=np.int8), (tail, head)), shape=(size + 1, size + 1)).tocsr()
    idle = np.ones(size + 1, dtype=bool)
    idle[breadth_first_order(back, size, return_predecessors=False)] = False
    idle = idle[:size]
    paid = np.flatnonzero(idle & (np.abs(gains) > 1e-12))
    if len(paid):
        raise ConfigError(
            f"with gamma=1 this policy has no finite value: from state {named(paid)} it never ends, and is rewarded {gains[paid[0]]:g} a "
            "step there. Give gamma below 1, or a policy that ends"
        )
    return idle | mdp.terminal


def _solved(
    chain: csr_array, gains: NDArray[np.float64], gamma: float, idle: NDArray[np.bool_] | None
) -> NDArray[np.float64]:
    from scipy.sparse import csc_array, identity
    from scipy.sparse.linalg import splu

    v = np.zeros(len(gains))
    part = np.arange(len(gains)) if idle is None else np.flatnonzero(~idle)
    if not len(part):
        return v
    inner = chain if idle is None else chain[part][:, part]
    matrix = csc_array(identity(len(part), format="csc") - gamma * inner)
    try:
        v[part] = splu(matrix).solve(gains[part])
    except MemoryError:
        raise ResourceError(
            f"the linear equations of {len(part):,} states do not fit into the memory; use method='iterate'"
        ) from None
    return v


def _iterated(
    chain: csr_array, gains: NDArray[np.float64], gamma: float, tolerance: float, max_sweeps: int
) -> tuple[NDArray[np.float64], int]:
    if not tolerance > 0:
        raise ConfigError(f"tolerance must be more than 0, got {tolerance}")
    v = np.zeros(len(gains))
    limit = tolerance * (1 - gamma) / gamma if 0 < gamma < 1 else tolerance if gamma == 1 else math.inf
    change = math.inf
    for sweep in range(1, max_sweeps + 1):
        new = gains + gamma * (chain @ v)
        change = float(np.abs(new - v).max())
        v = new
        if change <= limit:
            return v, sweep
    from sklearn.exceptions import ConvergenceWarning

    warnings.warn(
        f"the values of a policy still change by {change:.3g} after {max_sweeps:,} sweeps: give more max_sweeps, a larger tolerance, or "
        "method='solve'",
        ConvergenceWarning,
        stacklevel=3,
    )
    return v, max_sweeps
