"""The exact policy gradient of a small problem, and what a baseline does to it.

A baseline b(s) never biases the gradient. Whether it lowers its variance is another question: document M, 2.5, says always, as
Var[b(s)] = 0. With the score z = grad log pi(a given s), the variance of z (Q - b) is E[|z|^2 (Q - b)^2] - |grad J|^2, so a baseline
lowers it if and only if E[|z|^2 (b^2 - 2 Q b)] < 0, and the best constant is E[|z|^2 Q] / E[|z|^2], which is not the mean of Q.
Course: row R5; the numerical gradient is that of the notes.

Shape letters in this file: S states, A actions, P = S * A parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from konspekt.core.errors import ConfigError

__all__ = ["GradientMoments", "SoftmaxProblem", "numerical_gradient"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class GradientMoments:
    """Of one sample z (Q - b) of the gradient. mean (P,); variance: the sum over the parameters of their variances."""

    mean: Array
    variance: float


class SoftmaxProblem:
    """States and actions known completely, and the policy softmax(theta[s]), theta (S, A).

    rewards (S, A): the mean reward. start (S,): how an episode begins. transitions (S, A, S): probabilities of the next
    state; what is missing from 1 ends the episode; None: every step does (the notes' one-step model). gamma: the discount.

    Raises ConfigError where these are no such problem.
    """

    def __init__(self, rewards: Any, start: Any, transitions: Any = None, gamma: float = 1.0) -> None:
        self.rewards, self.start = np.array(rewards, np.float64), np.array(start, np.float64)
        if self.rewards.ndim != 2 or self.start.shape != self.rewards.shape[:1]:
            raise ConfigError(f"rewards must be (S, A) and start (S,), got {self.rewards.shape} and {self.start.shape}")
        states, actions = self.rewards.shape
        self.transitions = (
            np.zeros((states, actions, states)) if transitions is None else np.array(transitions, np.float64)
        )
        if self.transitions.shape != (states, actions, states):
            raise ConfigError(
                f"transitions must be (S, A, S) = {(states, actions, states)}, got {self.transitions.shape}"
            )
        if (self.transitions < 0).any() or (self.transitions.sum(2) > 1 + 1e-9).any():
            raise ConfigError("transitions[s, a] must be probabilities with a sum of at most 1")
        if (self.start < 0).any() or abs(self.start.sum() - 1) > 1e-9:
            raise ConfigError(f"start must be probabilities with the sum 1, got the sum {self.start.sum():g}")
        self.gamma = gamma

    def policy(self, theta: Array) -> Array:
        """pi(a given s), (S, A)."""
        shifted = np.exp(theta - theta.max(1, keepdims=True))
        chances: Array = shifted / shifted.sum(1, keepdims=True)
        return chances

    def v(self, theta: Array) -> Array:
        """The value of each state, (S,): v = r + gamma P v, solved."""
        pi = self.policy(theta)
        moves = np.einsum("sa,sat->st", pi, self.transitions)
        solved: Array = np.linalg.solve(np.eye(len(self.start)) - self.gamma * moves, (pi * self.rewards).sum(1))
        return solved

    def q(self, theta: Array) -> Array:
        """The value of each action, (S, A)."""
        return self.rewards + self.gamma * self.transitions @ self.v(theta)

    def objective(self, theta: Array) -> float:
        """J: the mean discounted return of an episode."""
        return float(self.start @ self.v(theta))

    def visits(self, theta: Array) -> Array:
        """The discounted number of visits of each state in an episode, (S,)."""
        moves = np.einsum("sa,sat->st", self.policy(theta), self.transitions)
        solved: Array = np.linalg.solve(np.eye(len(self.start)) - self.gamma * moves.T, self.start)
        return solved

    def scores(self, theta: Array) -> Array:
        """z = grad log pi(a given s) for each state and action, (S, A, P)."""
        states, actions = theta.shape
        pi = self.policy(theta)
        z = np.zeros((states, actions, states, actions))
        for s in range(states):
            z[s, :, s, :] = np.eye(actions) - pi[s]
        return z.reshape(states, actions, states * actions)

    def gradient(self, theta: Array) -> Array:
        """grad J by the policy gradient theorem, (P,): the sum of visits(s) pi(a given s) z Q(s, a)."""
        chance = self.visits(theta)[:, None] * self.policy(theta)
        slope: Array = np.einsum("sa,sap->p", chance * self.q(theta), self.scores(theta))
        return slope

    def moments(self, theta: Array, baseline: Any = 0.0) -> GradientMoments:
        """Mean and variance of one sample z (Q(s, a) - b(s)), s drawn by visits, a by the policy.

        baseline: a number, or one a state, (S,). The mean is grad J over the sum of the visits, whatever the baseline.
        """
        chance, z, squares = self._sampled(theta)
        gap = self.q(theta) - np.broadcast_to(np.asarray(baseline, np.float64), self.start.shape)[:, None]
        mean = np.einsum("sa,sap->p", chance * gap, z)
        return GradientMoments(mean, float((chance * squares * gap**2).sum() - mean @ mean))

    def effect(self, theta: Array, baseline: Any) -> float:
        """E[|z|^2 (b^2 - 2 Q b)]: by how much the baseline changes the variance; below 0 it lowers it."""
        chance, _, squares = self._sampled(theta)
        b = np.broadcast_to(np.asarray(baseline, np.float64), self.start.shape)[:, None]
        return float((chance * squares * (b**2 - 2 * self.q(theta) * b)).sum())

    def best_constant(self, theta: Array) -> float:
        """E[|z|^2 Q] / E[|z|^2]: the constant baseline with the lowest variance."""
        chance, _, squares = self._sampled(theta)
        weights = chance * squares
        return float((weights * self.q(theta)).sum() / weights.sum())

    def best_by_state(self, theta: Array) -> Array:
        """E[|z|^2 Q given s] / E[|z|^2 given s], (S,): the baseline b(s) with the lowest variance."""
        weights = self.policy(theta) * self._sampled(theta)[2]
        best: Array = (weights * self.q(theta)).sum(1) / weights.sum(1)
        return best

    def _sampled(self, theta: Array) -> tuple[Array, Array, Array]:
        """Chances of states and actions (S, A), scores (S, A, P), their squared lengths (S, A)."""
        visits = self.visits(theta)
        z = self.scores(theta)
        return (visits / visits.sum())[:, None] * self.policy(theta), z, (z**2).sum(2)


def numerical_gradient(objective: Callable[[Array], float], theta: Array, epsilon: float = 1e-6) -> Array:
    """(J(theta + epsilon) - J(theta)) / epsilon for each parameter, (P,): the notes' costly way, here the reference."""
    at, slope = objective(theta), np.zeros(theta.size)
    for p in range(theta.size):
        moved = theta.copy()
        moved.flat[p] += epsilon
        slope[p] = (objective(moved) - at) / epsilon
    return slope
