"""A Markov decision process as a table: what each action in each state leads to. Course: row R1 (document M, section 2.3).

Each pair (state, action) has successors: a probability, a next state, a reward, and whether the episode ends there. They stand
one after the other in flat arrays, the pairs in order, row = state * A + action, so that pairs may have different numbers of
successors and a million states fit into memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from konspekt.core.errors import DataError
from konspekt.core.memory import check_room

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = ["MDP"]

NEAR_ONE = 1e-6  # by which probabilities may miss 1; they are divided by their sum
BYTES = 8 + 4 + 8 + 1 + 12  # of a successor: probability, next state, reward, terminated; and once more in `continuing`
PAIR = 8 + 8 + 4  # bytes of a pair: where its successors begin, its expected reward, its row in `continuing`


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class MDP:
    """The table of a Markov decision process with S states and A actions, both counted from 0.

    Make one by `from_env`, `from_arrays`, `from_successors` or `from_samples`.

    n_states, n_actions: S and A.
    indptr: (S * A + 1,), where the successors of each pair begin; there is at least one for each.
    probabilities, next_states, rewards, terminated: (N,), of each successor. A terminated one is followed by nothing, whatever its
        state is worth.
    start: (S,), probabilities of the first state, or None.
    shape: (rows, columns) of the grid that the states lie on in reading order, or None.
    actions: names of the actions, or None; "left", "down", "right" and "up" are drawn as arrows.
    letters: a letter for each state of the grid: S start, G goal, H hole, C cliff, others nothing; or None.
    counts: (S, A), how often each pair was seen, where the table was estimated; else None.

    Raises DataError that names the state and the action of the first number that cannot be; ResourceError where there is no room.
    """

    n_states: int
    n_actions: int
    indptr: NDArray[Any]  # becomes int64
    probabilities: NDArray[np.float64]
    next_states: NDArray[Any]  # becomes int32
    rewards: NDArray[Any]  # becomes float64
    terminated: NDArray[Any]  # becomes bool
    start: NDArray[np.float64] | None = None
    shape: tuple[int, int] | None = None
    actions: tuple[str, ...] | None = None
    letters: str | None = None
    counts: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        for name in ("n_states", "n_actions"):
            if getattr(self, name) < 1:
                raise DataError(f"MDP: {name} must be at least 1, got {getattr(self, name)}")
        _check_lengths(self)
        _check_numbers(self)
        types = {"indptr": np.int64, "next_states": np.int32, "rewards": np.float64, "terminated": np.bool_}
        for name, kind in types.items():
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), dtype=kind))
        object.__setattr__(self, "probabilities", _normed(self))

    def __repr__(self) -> str:
        more = [f"{f.name}={getattr(self, f.name)}" for f in fields(self) if f.name in ("shape", "actions")]
        return (
            f"MDP({self.n_states} states, {self.n_actions} actions, {len(self.rewards)} successors, {', '.join(more)})"
        )

    # -- ways to make one -------------------------------------------------------------------------------------------

    @classmethod
    def from_env(cls, env: Any, *, merge: bool = True) -> MDP:
        """The table of a gymnasium environment that carries one, `env.unwrapped.P[state][action]`: `mdp_sources.read_table`."""
        from konspekt.rl.mdp_sources import read_table

        return read_table(env, merge=merge)

    @classmethod
    def from_arrays(cls, P: ArrayLike, R: ArrayLike, *, terminal: ArrayLike | None = None, **more: Any) -> MDP:
        """A table from whole arrays. P: (S, A, S) probabilities; R: rewards (S, A) or (S, A, S): `mdp_sources.from_dense`."""
        from konspekt.rl.mdp_sources import from_dense

        return from_dense(P, R, terminal=terminal, **more)

    @classmethod
    def from_samples(
        cls,
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
        """A table of the shares in which each (s, a) led to each (r, s') in N steps that were seen: `estimating.estimate`."""
        from konspekt.rl.estimating import estimate

        steps = (states, actions, rewards, next_states, terminated)
        return estimate(*steps, n_states=n_states, n_actions=n_actions, unseen=unseen, **more)

    @classmethod
    def from_successors(
        cls,
        probabilities: NDArray[Any],
        next_states: NDArray[Any],
        rewards: NDArray[Any],
        terminated: NDArray[Any] | None = None,
        **more: Any,
    ) -> MDP:
        """A table in which each pair has K successors: arrays (S, A, K), which are not copied where their types fit.

        more: the other fields of the class.
        """
        first = np.asarray(probabilities)
        if first.ndim != 3 or 0 in first.shape:
            raise DataError(f"MDP: probabilities must be an array (S, A, K), not of shape {first.shape}")
        states, actions, k = first.shape
        ended = np.zeros(first.shape, dtype=bool) if terminated is None else terminated
        flat = {"probabilities": first, "next_states": next_states, "rewards": rewards, "terminated": ended}
        for name, array in flat.items():
            if np.shape(array) != first.shape:
                raise DataError(f"MDP: {name} has the shape {np.shape(array)}, and probabilities {first.shape}")
        arrays: dict[str, Any] = {name: np.asarray(array).reshape(-1) for name, array in flat.items()}
        bounds = np.arange(0, first.size + 1, k, dtype=np.int64)
        return cls(n_states=states, n_actions=actions, indptr=bounds, **arrays, **more)

    # -- what follows from the table --------------------------------------------------------------------------------

    @cached_property
    def expected_rewards(self) -> NDArray[np.float64]:
        """The mean reward of each action in each state, (S, A)."""
        sums = np.add.reduceat(self.probabilities * self.rewards, self.indptr[:-1])
        return sums.reshape(self.n_states, self.n_actions)

    @cached_property
    def continuing(self) -> csr_array:
        """The probabilities of going on in each state, (S * A, S): what ends the episode is left out, and rows may sum to less."""
        from scipy.sparse import csr_array

        weights = np.where(self.terminated, 0.0, self.probabilities)
        small = np.int32 if len(weights) < 2**31 else np.int64
        parts = (weights, self.next_states.astype(small), self.indptr.astype(small))
        matrix = csr_array(parts, shape=(self.n_states * self.n_actions, self.n_states))
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
        return matrix

    @cached_property
    def terminal(self) -> NDArray[np.bool_]:
        """Which states are the end: whatever is done, it stays there and nothing is rewarded, (S,)."""
        own = np.repeat(np.arange(self.n_states), self.n_actions).repeat(np.diff(self.indptr))
        still = ((self.next_states == own) & (self.rewards == 0)) | (self.probabilities == 0)
        all_of: NDArray[np.bool_] = np.logical_and.reduceat(still, self.indptr[:: self.n_actions][:-1])
        return all_of

    @cached_property
    def ending(self) -> NDArray[np.bool_]:
        """Which pairs may end the episode at once, (S, A): by a terminated successor, or one into a terminal state."""
        ends = (self.terminated | self.terminal[self.next_states]) & (self.probabilities > 0)
        return np.logical_or.reduceat(ends, self.indptr[:-1]).reshape(self.n_states, self.n_actions)

    @property
    def unseen(self) -> NDArray[np.bool_]:
        """Which pairs an estimated table never saw, (S, A); of another table none."""
        if self.counts is None:
            return np.zeros((self.n_states, self.n_actions), dtype=bool)
        return np.equal(self.counts, 0)

    def reachable(self) -> NDArray[np.bool_]:
        """Which states an episode can come to, (S,); all where it is not known where episodes begin."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import breadth_first_order

        if self.start is None:
            return np.ones(self.n_states, dtype=bool)
        some = self.probabilities > 0
        own = np.repeat(np.arange(self.n_states), self.n_actions).repeat(np.diff(self.indptr))
        go = some & ~self.terminal[own]
        first = np.flatnonzero(self.start > 0)
        tail = np.concatenate([own[go], np.full(len(first), self.n_states)])
        head = np.concatenate([self.next_states[go], first])
        # a terminated successor is seen and not acted in: it leads to a copy of the state that leads nowhere
        last = np.concatenate([self.terminated[go], np.zeros(len(first), dtype=bool)])
        size = 2 * self.n_states + 1
        head = np.where(last, head + self.n_states + 1, head)
        graph = coo_array((np.ones(len(tail), dtype=np.int8), (tail, head)), shape=(size, size)).tocsr()
        order = breadth_first_order(graph, self.n_states, return_predecessors=False)
        seen = np.zeros(size, dtype=bool)
        seen[order] = True
        return seen[: self.n_states] | seen[self.n_states + 1 :]


def _check_lengths(mdp: MDP) -> None:
    """Raise DataError where the arrays' lengths do not fit together."""
    pairs, bounds = mdp.n_states * mdp.n_actions, np.asarray(mdp.indptr)
    if bounds.shape != (pairs + 1,) or bounds[0] != 0 or bounds[-1] != len(mdp.probabilities):
        raise DataError(
            f"MDP: indptr must go from 0 to the {len(mdp.probabilities):,} successors in {pairs + 1:,} numbers, one more than "
            "there are pairs of a state and an action"
        )
    empty = np.flatnonzero(np.diff(bounds) < 1)
    if len(empty):
        raise DataError(
            f"MDP: {_pair(mdp, empty[0])} has no successor; give each pair one, with probabilities that sum to 1"
        )
    for name in ("next_states", "rewards", "terminated"):
        if np.shape(getattr(mdp, name)) != np.shape(mdp.probabilities):
            raise DataError(
                f"MDP: {name} has the shape {np.shape(getattr(mdp, name))}, and probabilities {np.shape(mdp.probabilities)}"
            )
    words: Sequence[tuple[str, Any, int]] = (
        ("start", mdp.start, mdp.n_states),
        ("actions", mdp.actions, mdp.n_actions),
        ("letters", mdp.letters, mdp.n_states),
    )
    for name, value, size in words:
        if value is not None and len(value) != size:
            raise DataError(f"MDP: {name} has {len(value)} items instead of {size}")
    if mdp.shape is not None and int(np.prod(mdp.shape)) != mdp.n_states:
        raise DataError(f"MDP: a grid of {mdp.shape[0]} x {mdp.shape[1]} does not hold {mdp.n_states} states")
    check_room(12 * len(mdp.probabilities) + PAIR * pairs, f"planning with {mdp.n_states:,} states")


def _check_numbers(mdp: MDP) -> None:
    """Raise DataError at the first successor that cannot be."""
    faults = (
        ("the probability", mdp.probabilities, np.isfinite, "not a finite number"),
        ("the probability", mdp.probabilities, lambda p: p >= 0, "below 0"),
        ("the reward", mdp.rewards, np.isfinite, "not a finite number"),
        (
            "the next state",
            mdp.next_states,
            lambda s: (s >= 0) & (s < mdp.n_states),
            f"none of 0 to {mdp.n_states - 1}",
        ),
    )
    for what, values, fine, wrong in faults:
        bad = np.flatnonzero(~fine(np.asarray(values)))
        if len(bad):
            row = int(np.searchsorted(mdp.indptr, bad[0], side="right")) - 1
            raise DataError(
                f"MDP: {_pair(mdp, row)}: {what} {values[bad[0]]} of successor {bad[0] - mdp.indptr[row]} is {wrong}"
                + (f"; {len(bad):,} such in all" if len(bad) > 1 else "")
            )
    if mdp.start is not None and not (np.min(mdp.start) >= 0 and abs(np.sum(mdp.start) - 1) <= NEAR_ONE):
        raise DataError(f"MDP: start must be probabilities that sum to 1, not to {np.sum(mdp.start):g}")


def _normed(mdp: MDP) -> NDArray[np.float64]:
    """The probabilities, each pair's divided by their sum, which is checked; the array itself where all sums are 1."""
    given = np.ascontiguousarray(mdp.probabilities, dtype=np.float64)
    sums = np.add.reduceat(given, mdp.indptr[:-1])
    bad = np.flatnonzero(np.abs(sums - 1) > NEAR_ONE)
    if len(bad):
        raise DataError(
            f"MDP: {_pair(mdp, bad[0])}: the probabilities sum to {sums[bad[0]]:.6g}, not to 1"
            + (f"; so do those of {len(bad) - 1:,} more pairs" if len(bad) > 1 else "")
        )
    return given if (sums == 1).all() else given / sums.repeat(np.diff(mdp.indptr))


def _pair(mdp: MDP, row: int) -> str:
    return f"state {row // mdp.n_actions}, action {row % mdp.n_actions}"
