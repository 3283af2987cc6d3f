"""Finished episodes: one, and many of them in an array."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Self, overload

import numpy as np
from numpy.typing import NDArray

__all__ = ["Episode", "Episodes", "next_number"]

_FIELDS = 6
_AT_ONCE = 10_000  # episodes made of the array at a time, while it is gone through


class Episode(NamedTuple):
    """A finished episode."""

    env: int
    number: int
    seed: int
    total: float  # the undiscounted return
    length: int
    truncated: bool  # by a time limit, and not terminated in the same step


def next_number(env: int, *finished: Iterable[Episode]) -> int:
    """The number of the episode that an environment is amid, of which these are finished."""
    return max((one.number + 1 for some in finished for one in some if one.env == env), default=0)


class Episodes(Sequence[Episode]):
    """Episodes in an array, which become `Episode`s when they are asked for: a table learns from hundreds of thousands.

    table: (E, 6), a row for each, a column for each field. float64 holds them all: seeds are below 2**31.
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, table: NDArray[np.float64] | None = None) -> None:
        self._rows = np.zeros((0, _FIELDS)) if table is None else table
        self._count = len(self._rows)

    @property
    def table(self) -> NDArray[np.float64]:
        """(E, 6): a view."""
        return self._rows[: self._count]

    def append(self, episode: Episode) -> None:
        """One more."""
        self._add(np.array([episode], np.float64))

    def __iadd__(self, others: Iterable[Episode]) -> Self:
        if not isinstance(others, Episodes):
            others = list(others)
            self._add(np.array(others, np.float64).reshape(-1, _FIELDS))
        else:
            self._add(others.table)
        return self

    def _add(self, rows: NDArray[np.float64]) -> None:
        count = self._count + len(rows)
        if count > len(self._rows):
            grown = np.empty((max(count, 2 * len(self._rows)), _FIELDS))
            grown[: self._count] = self.table
            self._rows = grown
        self._rows[self._count : count] = rows
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, place: int) -> Episode: ...

    @overload
    def __getitem__(self, place: slice) -> Episodes: ...

    def __getitem__(self, place: int | slice) -> Episode | Episodes:
        if isinstance(place, slice):
            return Episodes(self.table[place].copy())
        return _episode(*self.table[place].tolist())

    def __iter__(self) -> Iterator[Episode]:
        for first in range(0, self._count, _AT_ONCE):
            for row in self.table[first : first + _AT_ONCE].tolist():
                yield _episode(*row)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Episodes):
            return np.array_equal(self.table, other.table)
        if isinstance(other, (list, tuple)):
            return list(self) == list(other)
        return NotImplemented

    def __repr__(self) -> str:
        return f"{self._count} episodes"


def _episode(*fields: Any) -> Episode:
    env, number, seed, total, length, truncated = fields
    return Episode(int(env), int(number), int(seed), total, int(length), bool(truncated))
