"""What was seen and done, kept to be learned from again: a ring of observations for each environment (Lin 1992).

Each observation is stored once. The observation that an action led to is the next entry of the ring; where an episode ends, its
final observation is an entry too, which no action follows. Of stacked frames each is stored once, and a stack is made when it is
asked for: frames of another episode never come in, in the place of those before the first one are zeros.

What is learned from old steps must be off-policy, as Q-learning is. Course: rows R3 and R4 (document M, 2.3 and 2.4).

Shape letters in this file: n environments, K entries that are asked for, S stacked frames.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from konspekt.core.errors import ResourceError
from konspekt.rl.vector import Step

__all__ = ["ENTRY_BYTES", "Replay"]

ENTRY_BYTES = 10  # of an entry besides its observation: action, reward, kind, age
_NONE, _GOES_ON, _TERMINATED, _TRUNCATED = range(4)  # what follows an entry; none: it is a last one, or the newest
_TOO_OLD = 255  # ages are counted so far

Rows = NDArray[np.int64]


class Replay:
    """The last `capacity` observations of n environments, with what was done and what came of it.

    shape, dtype: of one observation. stack: frames that make what the agent sees. gamma, n_steps: a transition goes over so many
    steps, fewer where the episode or what was seen so far ends before, and its reward is their discounted sum (Sutton 1988).

    Memory is reserved whole and taken as it is filled. Raises ResourceError where it cannot be reserved.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: Any,
        capacity: int,
        *,
        num: int = 1,
        stack: int = 1,
        gamma: float = 0.99,
        n_steps: int = 1,
    ) -> None:
        self.num, self.stack, self.gamma, self.n_steps = num, stack, gamma, n_steps
        self.length = capacity // num  # of a ring
        entries = self.length * num
        try:
            self.observation = np.empty((entries, *shape), dtype)
            self.action = np.zeros(entries, np.int32)
            self.reward = np.zeros(entries, np.float32)
        except MemoryError:
            raise ResourceError(
                f"the memory for {entries:,} observations of {math.prod(shape) * np.dtype(dtype).itemsize:,} bytes cannot be "
                "reserved: give a smaller buffer_size"
            ) from None
        self.kind = np.zeros(entries, np.uint8)
        self.age = np.zeros(entries, np.uint8)  # entries since the episode's first
        self.newest = [0] * num  # row of what is acted on now
        self.written = [0] * num  # entries that were ever written to a ring
        self.began = [0] * num  # what `written` was at the first entry of the episode
        # Environment and rewards of the episodes that ended in the last step; None: longer than the ring.
        self.ended: list[tuple[int, NDArray[np.float32] | None]] = []
        self._firsts = [i * self.length for i in range(num)]
        self._back = np.arange(stack - 1, -1, -1)

    def __len__(self) -> int:
        """How many transitions there are."""
        return int(np.count_nonzero(self.kind))

    # -- writing ----------------------------------------------------------------------------------------------------

    def begin(self, observations: NDArray[Any]) -> None:
        """The first observations, (n, ...)."""
        self.newest = list(self._firsts)
        self.observation[self.newest] = observations
        self.written = [1] * self.num
        self.began = [0] * self.num

    def add(self, actions: NDArray[Any], step: Step) -> None:
        """What was done in the newest observations, (n,), and what came of it."""
        old = self.newest
        new = [
            row + 1 if row + 1 < first + self.length else first for row, first in zip(old, self._firsts, strict=True)
        ]
        here: Any = slice(old[0], old[0] + 1) if self.num == 1 else np.array(old)
        there: Any = slice(new[0], new[0] + 1) if self.num == 1 else np.array(new)
        self.action[here] = actions
        self.reward[here] = step.reward
        self.kind[here] = _GOES_ON
        self.observation[there] = step.final
        self.kind[there] = _NONE
        self.age[there] = np.minimum(self.age[here], _TOO_OLD - 1) + 1
        self.newest = new
        for i in range(self.num):
            self.written[i] += 1
        self.ended = []
        if step.observation is not step.final:
            for i in np.flatnonzero(step.terminated | step.truncated).tolist():
                self._end(i, old[i], bool(step.terminated[i]), step.observation[i])
        if self.stack > 1:
            self._forget()
        self.changed(here, there)

    def _end(self, i: int, row: int, terminated: bool, observation: NDArray[Any]) -> None:
        """Begin the next episode of environment i after the entry of its final observation."""
        self.kind[row] = _TERMINATED if terminated else _TRUNCATED
        length = self.written[i] - 1 - self.began[i]
        whole = length < self.length
        rows = self._firsts[i] + np.arange(self.began[i], self.began[i] + length) % self.length
        self.ended.append((i, self.reward[rows] if whole else None))
        row = self.newest[i] + 1
        row = row if row < self._firsts[i] + self.length else self._firsts[i]
        self.observation[row] = observation
        self.kind[row] = self.age[row] = 0
        self.newest[i] = row
        self.began[i] = self.written[i]
        self.written[i] += 1

    def _forget(self) -> None:
        """The oldest entries, of whose stacks a frame is overwritten, are no transitions any more."""
        for first, row, written in zip(self._firsts, self.newest, self.written, strict=True):
            if written > self.length:
                oldest = first + (row - first + np.arange(1, self.stack)) % self.length
                self.kind[oldest] = _NONE
                self.changed(oldest[:0], oldest)

    def changed(self, now: Any, gone: Any) -> None:
        """Called after rows became transitions (`now`) or ceased to be (`gone`)."""

    # -- reading ----------------------------------------------------------------------------------------------------

    def draw(self, rng: np.random.Generator, count: int) -> Rows:
        """Rows of `count` transitions, (K,), each as likely as any other, with replacement."""
        filled = min(max(self.written), self.length)
        more = count + count // 4 + 8  # entries that no action follows are few
        rows = self._rows(rng, more, filled)
        while len(rows) < count:
            rows = np.concatenate([rows, self._rows(rng, more, filled)])
        return rows[:count]

    def _rows(self, rng: np.random.Generator, count: int, filled: int) -> Rows:
        rows = rng.integers(0, self.num * filled, count)
        if filled < self.length and self.num > 1:
            rows += rows // filled * (self.length - filled)
        return rows[self.kind[rows] != _NONE]

    def after(self, rows: Rows) -> Rows:
        """The entries that follow."""
        rows = rows + 1
        rows[rows % self.length == 0] -= self.length
        return rows

    def seen(self, rows: Rows) -> NDArray[Any]:
        """What the agent saw: (K, ...), or the stacks (K, S, ...), the newest frame last."""
        if self.stack == 1:
            return self.observation.take(rows, axis=0)
        before = self._back > self.age[rows][:, None]  # the episode's first frame
        frames = rows[:, None] - self._back
        frames[self._back > (rows % self.length)[:, None]] += self.length
        stacks = self.observation.take(frames, axis=0)
        if before.any():
            stacks[before] = 0
        return stacks

    def outcome(self, rows: Rows) -> tuple[NDArray[np.float32], NDArray[np.float32], Rows]:
        """For transitions: the reward over up to n_steps, what the value after it counts, and the entry after it; each (K,).

        The value counts gamma ** steps; 0 after a terminated step, not after a truncated one.
        """
        kind = self.kind[rows]
        reward = self.reward[rows]
        discount = np.where(kind == _TERMINATED, np.float32(0), np.float32(self.gamma))
        if self.n_steps > 1:
            rows = rows.copy()
            goes_on = kind == _GOES_ON
            for j in range(1, self.n_steps):
                further = self.after(rows)
                kind = self.kind[further]
                goes_on &= kind != _NONE  # the newest entry: what comes of it is not known yet
                if not goes_on.any():
                    break
                rows[goes_on] = further[goes_on]
                reward[goes_on] += np.float32(self.gamma**j) * self.reward[further[goes_on]]
                discount[goes_on] = np.where(kind[goes_on] == _TERMINATED, 0, np.float32(self.gamma ** (j + 1)))
                goes_on &= kind == _GOES_ON
        return reward, discount, self.after(rows)

    # -- checkpoints ------------------------------------------------------------------------------------------------

    @property
    def nbytes(self) -> int:
        """Bytes of the filled part."""
        filled = min(max(self.written), self.length) * self.num
        return filled * (self.observation[:1].nbytes + ENTRY_BYTES)

    def state(self) -> dict[str, Any]:
        """The filled part, as tensors, and the places in it."""
        import torch

        filled = min(max(self.written), self.length)
        arrays = {
            name: torch.from_numpy(self._of(name)[:, :filled].copy())
            for name in ("observation", "action", "reward", "kind", "age")
        }
        return arrays | {"newest": self.newest, "written": self.written, "began": self.began}

    def _of(self, name: str) -> NDArray[Any]:
        array: NDArray[Any] = getattr(self, name)
        return array.reshape(self.num, self.length, *array.shape[1:])

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take it back. Raises ValueError where it is none of this replay's."""
        places = {name: [int(x) for x in state[name]] for name in ("newest", "written", "began")}
        written = places["written"]
        filled = min(max(written), self.length)
        ok = all(len(p) == self.num for p in places.values()) and min(written) >= 1
        ok = ok and all(
            f <= r < f + min(w, self.length) for f, r, w in zip(self._firsts, places["newest"], written, strict=True)
        )
        ok = ok and all(0 <= b < w for b, w in zip(places["began"], written, strict=True))
        for name in ("observation", "action", "reward", "kind", "age"):
            array, given = self._of(name), state[name].numpy()
            ok = ok and given.shape == (self.num, filled, *array.shape[2:]) and given.dtype == array.dtype
            if not ok:
                raise ValueError(f"the replay's {name} is none of {self.num} rings of {self.length} entries")
            array[:, :filled] = given
        if self.action.min() < 0 or self.kind.max() > _TRUNCATED or not self.kind.any():
            raise ValueError("the replay holds actions or marks that there are not, or no transition")
        self.newest, self.written, self.began = places["newest"], written, places["began"]
        self.changed(np.flatnonzero(self.kind != _NONE), np.flatnonzero(self.kind == _NONE))
