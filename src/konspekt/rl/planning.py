"""Planning in a known Markov decision process: values of a policy, the best policy. Course: row R1 (document M, section 2.3).

The optimal value is the fixed point v*(s) = max over a of sum over s', r of p(s', r|s, a) (r + gamma v*(s')). The best action is
chosen; what it leads to stays random, so the maximum is over actions, and no next state is reached for sure (the notes say otherwise:
ERRATA M:345). A policy is at least as good as another where v >= v' in all states, not where v > v' (M:337).

The Bellman operator T brings any two values nearer by the factor gamma in the largest difference. So with v = T u and the residual
||T u - u||, ||v - v*|| <= gamma / (1 - gamma) * residual, and the policy that is greedy on u loses at most twice that in any state (Puterman 1994,
sections 6.2-6.3; Williams and Baird 1993). Every method here ends with one whole application of T, and this is the bound it gives;
rounding, about 1e-16 of the largest value for each step of the effective horizon 1 / (1 - gamma), comes to it. Without discount there is no such bound, and it is infinite.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from konspekt.core.errors import ConfigError
from konspekt.core.memory import check_room
from konspekt.rl.endings import check_discount, towards_the_end
from konspekt.rl.evaluating import PolicyValues, chain_of, policy_values
from konspekt.rl.mdp import MDP

__all__ = [
    "HorizonPlan",
    "Plan",
    "PolicyValues",
    "finite_horizon",
    "modified_policy_iteration",
    "policy_iteration",
    "policy_values",
    "value_iteration",
]

ROUNDING = 1e-12  # of the largest value
TIE = 1e-9  # of the largest value: actions that are taken for equally good where gamma is 1


@dataclass(frozen=True, eq=False)
class Plan:
    """What a method found.

    v: (S,), within `bound` of the optimal value in every state. q: (S, A), of which v is the maximum. policy: (S,), an action that
    is greedy on q; it gets at most `loss` less than the best one, from any state.
    residual: the largest change by the last application of the Bellman operator. sweeps: passes over all states, of policy iteration
    policies; history: the residual of each, of modified policy iteration of each greedy step. converged: whether the tolerance was reached.
    """

    v: NDArray[np.float64]
    q: NDArray[np.float64]
    policy: NDArray[np.int64]
    gamma: float
    residual: float
    sweeps: int
    history: list[float] = field(repr=False)
    converged: bool = True

    @property
    def bound(self) -> float:
        """How far v may be from the optimal value, in any state; infinite where gamma is 1."""
        return error_bound(self.residual, self.gamma)

    @property
    def loss(self) -> float:
        """How much less than the best the policy may get, from any state; infinite where gamma is 1."""
        return 2 * self.bound


@dataclass(frozen=True, eq=False)
class HorizonPlan:
    """The best policy of a fixed number of steps H. v: (H + 1, S), with t steps done; v[H] is 0. policy: (H, S). q: (S, A) of step 0."""

    v: NDArray[np.float64]
    policy: NDArray[np.int64]
    q: NDArray[np.float64]
    gamma: float


def error_bound(residual: float, gamma: float) -> float:
    """gamma / (1 - gamma) * residual."""
    return gamma / (1 - gamma) * residual if gamma < 1 else math.inf


def value_iteration(
    mdp: MDP,
    gamma: float = 0.99,
    *,
    tolerance: float = 1e-6,
    max_sweeps: int = 100_000,
    sweeps_by: Literal["auto", "gauss-seidel", "jacobi"] = "auto",
) -> Plan:
    """Apply v(s) <- max over a of q(s, a) to all states, again and again, from v = 0 (Bellman 1957).

    tolerance: sweeps end where the bound on the distance of v to the optimal value is no more; with gamma=1, where the largest
        change of a value is.
    max_sweeps: after so many it ends too, with a ConvergenceWarning; the plan's bound still holds.
    sweeps_by: "gauss-seidel": each state sees the new values of those before it, in turns from the first state and from the last;
        "jacobi": all see the old ones. Where no episode ends, Jacobi's sweeps are followed by a shift of all values by what the smallest and
        the largest change say they miss (MacQueen 1966), which mostly saves nine sweeps in ten; so "auto" takes them there, and
        Gauss-Seidel's elsewhere.

    Raises ConfigError on an argument, and where gamma=1 and some state has no way to the end.
    """
    _check(mdp, gamma, tolerance, max_sweeps)
    if sweeps_by not in ("auto", "gauss-seidel", "jacobi"):
        raise ConfigError(f"sweeps_by must be 'auto', 'gauss-seidel' or 'jacobi', got {sweeps_by!r}")
    from konspekt.rl.sweeping import sweep

    table, rewards = mdp.continuing, mdp.expected_rewards
    parts = (table.indptr, table.indices, table.data, rewards, float(gamma))
    shifted = gamma < 1 and _goes_on(mdp)
    in_place = sweeps_by == "gauss-seidel" or (sweeps_by == "auto" and not shifted)
    v = np.zeros(mdp.n_states)
    new = v if in_place else np.empty_like(v)
    history: list[float] = []
    while not (history and _near(history[-1], gamma, tolerance)) and len(history) < max_sweeps:
        low, high = sweep(*parts, v, new, in_place and len(history) % 2 == 1)
        v, new = new, v
        history.append(max(-low, high))
        if shifted and not in_place:
            v += gamma * (low + high) / 2 / (1 - gamma)
            history[-1] = gamma * (high - low) / 2  # the residual of the shifted v is no more
    return _finished(mdp, gamma, v, history, tolerance)


def policy_iteration(
    mdp: MDP,
    gamma: float = 0.99,
    *,
    tolerance: float = 1e-6,
    max_sweeps: int = 1000,
    evaluation: Literal["auto", "solve", "iterate"] = "auto",
) -> Plan:
    """Evaluate a policy and take the better actions, until there are none (Howard 1960).

    It begins with the policy that is greedy on rewards; with gamma=1 with one that ends, and so it seeks among those that end.
    tolerance: of the values of each policy. max_sweeps: policies at most. evaluation: as in `policy_values`.

    Raises ConfigError on an argument, and where gamma=1 and some state has no way to the end, or a policy gains without end.
    """
    _check(mdp, gamma, tolerance, max_sweeps)
    policy = _begin(mdp, gamma)
    states = np.arange(mdp.n_states)
    history: list[float] = []
    exact = tolerance / 4 * (1 - gamma if gamma < 1 else 1)  # so that what is no better within it is within `tolerance`
    while True:
        values = policy_values(mdp, policy, gamma, method=evaluation, tolerance=exact)
        best = values.q.max(axis=1)
        history.append(float(np.abs(best - values.v).max()))
        most = max(1.0, float(np.abs(values.v).max()))
        slack = max(TIE * most, 2 * exact) if gamma == 1 else max(ROUNDING * most, 2 * values.bound)
        better = best > values.q[states, policy] + slack  # rounding must not make it swing between equals
        if not better.any() or len(history) >= max_sweeps:
            break
        policy = np.where(better, values.q.argmax(axis=1), policy)
    return _finished(mdp, gamma, values.v, history, tolerance, policy, slack)


def modified_policy_iteration(
    mdp: MDP, gamma: float = 0.99, *, sweeps: int = 20, tolerance: float = 1e-6, max_sweeps: int = 100_000
) -> Plan:
    """Between greedy steps, `sweeps` of the cheaper operator of the current policy (Puterman and Shin 1978).

    sweeps: 0 is value iteration, many are policy iteration. tolerance, max_sweeps: as in `value_iteration`; counted are greedy
    steps and sweeps.

    Raises ConfigError on an argument, and where gamma=1 and some state has no way to the end.
    """
    _check(mdp, gamma, tolerance, max_sweeps)
    if sweeps < 0:
        raise ConfigError(f"sweeps must be at least 0, got {sweeps}")
    v = np.zeros(mdp.n_states)
    if gamma == 1:  # from below, where the operator raises every value: so it cannot swing
        v = policy_values(mdp, _begin(mdp, gamma), gamma, tolerance=tolerance / 4).v
    history: list[float] = []
    done = 0
    while True:
        q = backup(mdp, gamma, v)
        best = q.max(axis=1)
        history.append(float(np.abs(best - v).max()))
        done += 1
        if _near(history[-1], gamma, tolerance) or done >= max_sweeps:
            break
        chain, gains = chain_of(mdp, q.argmax(axis=1))
        v = best
        for _ in range(sweeps):
            v = gains + gamma * (chain @ v)
        done += sweeps
    return _finished(mdp, gamma, v, history, tolerance, sweeps=done)


def finite_horizon(mdp: MDP, horizon: int, gamma: float = 1.0) -> HorizonPlan:
    """The best actions where `horizon` steps are made and no more, from the last step backwards. gamma may be 1.

    Raises ConfigError on an argument, ResourceError where (horizon + 1) * S values and actions do not fit into the memory.
    """
    if horizon < 1:
        raise ConfigError(f"horizon must be at least 1, got {horizon}")
    if not 0 <= gamma <= 1:
        raise ConfigError(f"gamma must be from 0 to 1, got {gamma}")
    check_room(16 * (horizon + 1) * mdp.n_states, f"a plan of {horizon:,} steps for {mdp.n_states:,} states")
    v = np.zeros((horizon + 1, mdp.n_states))
    policy = np.zeros((horizon, mdp.n_states), dtype=np.int64)
    q = np.zeros((mdp.n_states, mdp.n_actions))
    for t in range(horizon - 1, -1, -1):
        q = backup(mdp, gamma, v[t + 1])
        policy[t] = q.argmax(axis=1)
        v[t] = q.max(axis=1)
    return HorizonPlan(v, policy, q, gamma)


def backup(mdp: MDP, gamma: float, v: NDArray[np.float64]) -> NDArray[np.float64]:
    """q(s, a) = r(s, a) + gamma * sum over s' of p(s'|s, a) v(s'), (S, A)."""
    q: NDArray[np.float64] = (mdp.continuing @ v).reshape(mdp.n_states, mdp.n_actions)
    q *= gamma
    q += mdp.expected_rewards
    return q


def _check(mdp: MDP, gamma: float, tolerance: float, max_sweeps: int) -> None:
    if not tolerance > 0:
        raise ConfigError(f"tolerance must be more than 0, got {tolerance}")
    if max_sweeps < 1:
        raise ConfigError(f"max_sweeps must be at least 1, got {max_sweeps}")
    check_discount(mdp, gamma)


def _near(residual: float, gamma: float, tolerance: float) -> bool:
    return (error_bound(residual, gamma) if gamma < 1 else residual) <= tolerance


def _goes_on(mdp: MDP) -> bool:
    """Whether no episode ends, so that values shifted by c have the backup shifted by gamma * c."""
    return not (mdp.terminated & (mdp.probabilities > 0)).any()


def _begin(mdp: MDP, gamma: float) -> NDArray[np.int64]:
    """The policy to begin with: greedy on rewards, or one that ends."""
    if gamma < 1:
        return np.argmax(mdp.expected_rewards, axis=1)
    return towards_the_end(mdp).clip(min=0)


def _finished(
    mdp: MDP,
    gamma: float,
    v: NDArray[np.float64],
    history: list[float],
    tolerance: float,
    policy: NDArray[np.int64] | None = None,
    slack: float = 0.0,
    sweeps: int | None = None,
) -> Plan:
    """The plan of values v after one more application of the operator. policy: to be kept where it is greedy within rounding."""
    q = backup(mdp, gamma, v)
    best = q.max(axis=1)
    residual = float(np.abs(best - v).max())
    greedy = q.argmax(axis=1)
    if gamma == 1:
        greedy = _ending_greedy(mdp, q, best, max(2 * residual, TIE * max(1.0, float(np.abs(best).max()))), greedy)
    if policy is not None:
        kept = q[np.arange(len(v)), policy] >= best - (slack if gamma == 1 else 0.0)
        greedy = np.where(kept, policy, greedy)
    converged = _near(residual, gamma, tolerance)
    count = len(history) if sweeps is None else sweeps
    if not converged:
        from sklearn.exceptions import ConvergenceWarning

        warnings.warn(
            f"planning ended after {count:,} sweeps with a residual of {residual:.3g}, which "
            + (
                f"bounds the error by {error_bound(residual, gamma):.3g}"
                if gamma < 1
                else "with gamma=1 bounds nothing"
            )
            + f", and the tolerance is {tolerance:g}: give more max_sweeps, a larger tolerance"
            + (" or a smaller gamma" if gamma < 1 else ", gamma below 1 or a horizon"),
            ConvergenceWarning,
            stacklevel=3,
        )
    return Plan(best, q, greedy, float(gamma), residual, count, history, converged)


def _ending_greedy(
    mdp: MDP, q: NDArray[np.float64], best: NDArray[np.float64], slack: float, greedy: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Of equally good actions one that brings the end nearer: without a discount, putting it off for ever looks as good."""
    towards = towards_the_end(mdp, q >= best[:, None] - slack)
    return np.where(towards >= 0, towards, greedy)
