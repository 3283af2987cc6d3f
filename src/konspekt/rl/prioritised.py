"""Prioritised experience replay: what was foretold badly comes more often (Schaul et al. 2016, https://arxiv.org/abs/1511.05952).

A transition is drawn with probability P = p^alpha over the sum of all, its priority p the size of its last temporal difference (proportional
prioritisation). The importance-sampling weights (N P)^-beta, over the largest of the batch, take out of the update what this bends; N transitions
are in the replay. Sums are kept in a binary tree, so that a draw or a change costs log2 N.

Shape letters in this file: K transitions, L leaves of the tree.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from konspekt.rl.replay import Replay, Rows

__all__ = ["PrioritisedReplay", "SumTree"]

_LEAST = 1e-6  # so that nothing is never drawn


@njit(nogil=True)
def _put(tree, leaves, values):  # type: ignore[no-untyped-def]
    """Set leaves and the sums above them."""
    half = len(tree) // 2
    for k in range(len(leaves)):
        node = half + leaves[k]
        tree[node] = values[k]
        node //= 2
        while node:
            tree[node] = tree[2 * node] + tree[2 * node + 1]
            node //= 2


@njit(nogil=True)
def _find(tree, masses, found):  # type: ignore[no-untyped-def]
    """The leaves over which the masses lie; never an empty one, if there is any other."""
    half = len(tree) // 2
    for k in range(len(masses)):
        node, mass = 1, masses[k]
        while node < half:
            left = tree[2 * node]
            if (mass < left or tree[2 * node + 1] == 0) and left > 0:
                node = 2 * node
            else:
                mass -= left
                node = 2 * node + 1
        found[k] = node - half


class SumTree:
    """Weights of `size` things, their sum, and which thing lies at a place of the sum."""

    def __init__(self, size: int) -> None:
        self.tree = np.zeros(2 << max(0, size - 1).bit_length())

    @property
    def total(self) -> float:
        """The sum of the weights."""
        return float(self.tree[1])

    @property
    def leaves(self) -> NDArray[np.float64]:
        """(L,), the weights; beyond `size` 0."""
        return self.tree[len(self.tree) // 2 :]

    def put(self, places: Rows, weights: NDArray[np.float64]) -> None:
        """Set the weights of things, (K,)."""
        _put(self.tree, places, weights)

    def find(self, masses: NDArray[np.float64]) -> Rows:
        """Places in [0, total), (K,) -> the things there, (K,)."""
        found = np.empty(len(masses), np.int64)
        _find(self.tree, masses, found)
        return found


class PrioritisedReplay(Replay):
    """A replay that is drawn from by priorities. What is new has the greatest priority so far, so that it is likely to be seen soon.

    alpha: 0 draws each transition alike, 1 by its priority. The other arguments are those of `Replay`.
    """

    def __init__(self, *args: Any, alpha: float = 0.6, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.alpha = alpha
        self.greatest = 1.0  # priority so far, to the power of alpha
        self.tree = SumTree(len(self.kind))

    def changed(self, now: Any, gone: Any) -> None:
        """New rows get the greatest priority, rows that are no transitions any more none."""
        for rows, weight in ((now, self.greatest), (gone, 0.0)):
            if isinstance(rows, slice):
                rows = np.arange(rows.start, rows.stop)
            self.tree.put(rows, np.full(len(rows), weight))
        for row in self.newest if self.ended else ():
            self.tree.put(np.array([row]), np.zeros(1))

    def draw(self, rng: np.random.Generator, count: int) -> Rows:
        """Rows of `count` transitions, (K,), one of each of `count` equal parts of the sum of priorities."""
        return self.tree.find((np.arange(count) + rng.random(count)) * (self.tree.total / count))

    def weights(self, rows: Rows, beta: float) -> NDArray[np.float32]:
        """Importance-sampling weights of drawn transitions, (K,): the largest of them is 1. beta: 1 takes the bias out wholly, 0 not at all."""
        chances = self.tree.leaves[rows] / self.tree.total
        weights = (chances * len(self)) ** -beta
        return (weights / weights.max()).astype(np.float32)

    def update_priorities(self, rows: Rows, errors: NDArray[Any]) -> None:
        """Note the temporal differences of transitions, (K,)."""
        weights = (np.abs(errors.astype(np.float64)) + _LEAST) ** self.alpha
        self.greatest = max(self.greatest, float(weights.max()))
        self.tree.put(rows, weights)

    def state(self) -> dict[str, Any]:
        """The replay's, and the priorities."""
        import torch

        return super().state() | {"priorities": torch.from_numpy(self.tree.leaves.copy()), "greatest": self.greatest}

    def load_state(self, state: Any) -> None:
        """Take it back. Raises ValueError where it is none of this replay's."""
        super().load_state(state)
        weights = state["priorities"].numpy()
        none = np.ones(len(weights), bool)
        none[: len(self.kind)] = self.kind == 0
        if weights.shape != self.tree.leaves.shape or not (weights >= 0).all() or not np.isfinite(weights).all():
            raise ValueError("the priorities are none of this replay's")
        if (weights[none] != 0).any() or (weights[~none] == 0).any():
            raise ValueError("priorities and transitions are not of the same rows")
        if not 0 < float(state["greatest"]) < np.inf:
            raise ValueError("the greatest priority is no number above 0")
        self.greatest = float(state["greatest"])
        self.tree.put(np.arange(len(weights)), weights)
