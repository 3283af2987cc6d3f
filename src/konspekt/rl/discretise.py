"""From observations to rows of a table: numbered states, and boxes cut into cells. Course: row R3 (document M, section 2.4).

Boxes are cut along each of their numbers, into bins of equal width or of equal shares of what was seen, or by several tilings, each
shifted against the others (tile coding: Sutton and Barto 2018, 9.5.4), so that what is learned in one place is
known around it, and neighbours still differ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from konspekt.core.errors import ConfigError, DataError
from konspekt.rl.spaces import is_pixels, words

__all__ = ["Discretiser", "needs_sample", "numbered", "quantile", "tiles", "uniform"]

UNBOUNDED = 1e6  # a bound beyond it is none: some environments state the largest float
MOST = 2**48  # rows of a table that can be counted; memory is asked for elsewhere


@dataclass(frozen=True, eq=False)
class Discretiser:
    """Observations (N, ...) to rows (N, K) of a table of `size` rows.

    start, strides: (D,). edges: (K, D, E), ascending, then inf; a number goes into the next bin at an edge. E = 0 where the numbers
    are whole and count themselves, from `start`. tiling: rows of one tiling.
    """

    start: NDArray[np.float64]
    strides: NDArray[np.int64]
    edges: NDArray[np.float64]
    tiling: int

    @property
    def tilings(self) -> int:
        """K."""
        return len(self.edges)

    @property
    def size(self) -> int:
        """Rows of the table."""
        return self.tilings * self.tiling

    def rows(self, observations: NDArray[Any]) -> NDArray[np.int64]:
        """(N, ...) -> (N, K)."""
        flat = observations.reshape(len(observations), -1)
        if self.edges.shape[2] == 0:
            return ((flat - self.start).astype(np.int64) @ self.strides)[:, None]
        found = np.zeros((len(flat), self.tilings), np.int64)
        for k in range(self.tilings):
            found[:, k] = k * self.tiling
            for d, stride in enumerate(self.strides):
                places = np.searchsorted(self.edges[k, d], flat[:, d].astype(np.float64), side="right")
                found[:, k] += stride * places
        return found

    def to_json(self) -> dict[str, Any]:
        """Everything but the edges."""
        return {"start": self.start.tolist(), "strides": self.strides.tolist(), "tiling": self.tiling}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], edges: NDArray[np.float64]) -> Discretiser:
        """The inverse of `to_json`.

        Raises DataError where the numbers do not fit together.
        """
        start, strides = np.array(data["start"], np.float64), np.array(data["strides"], np.int64)
        made = cls(start, strides, np.array(edges, np.float64), int(data["tiling"]))
        shapes = start.shape == strides.shape == made.edges.shape[1:2] and made.edges.ndim == 3
        if not shapes or len(made.edges) < 1 or made.tiling < 1 or (strides < 0).any() or not np.isfinite(start).all():
            raise DataError("the cells of the table are damaged")
        finite = np.isfinite(made.edges).sum(axis=2).max(axis=0)
        if made.edges.shape[2] and (finite @ strides >= made.tiling or np.isnan(made.edges).any()):
            raise DataError("the cells of the table are damaged: some lie outside of it")
        return made


def numbered(space: gymnasium.Space[Any]) -> Discretiser:
    """A row for each observation of a space of whole numbers: Discrete, MultiDiscrete or MultiBinary."""
    if isinstance(space, spaces.Discrete):
        counts, start = [int(space.n)], [int(space.start)]
    elif isinstance(space, spaces.MultiDiscrete):
        counts, start = space.nvec.ravel().tolist(), space.start.ravel().tolist()
    else:
        counts = [2] * math.prod(space.shape or (1,))
        start = [0] * len(counts)
    strides, size = _strides(counts, space)
    return Discretiser(np.array(start, np.float64), strides, np.zeros((1, len(counts), 0)), size)


def needs_sample(space: spaces.Box, how: str) -> bool:
    """Whether bins are made from observations that were seen: quantiles, and where a bound is missing."""
    return how == "quantile" or not (_bounded(space.low) & _bounded(space.high)).all()


def _bounded(bound: NDArray[Any]) -> NDArray[np.bool_]:
    return np.abs(bound.astype(np.float64).ravel()) < UNBOUNDED


def uniform(space: spaces.Box, bins: Sequence[int], sample: NDArray[Any] | None = None) -> Discretiser:
    """Bins of equal width between the bounds; where there are none, between the extremes of `sample` (N, ...)."""
    low, high = _range(space, sample)
    edges = [
        np.linspace(a, b, n + 1)[1:-1] if b > a else np.zeros(0)
        for a, b, n in zip(low, high, _bins(space, bins), strict=True)
    ]
    return _cut(space, [edges])


def quantile(space: spaces.Box, bins: Sequence[int], sample: NDArray[Any]) -> Discretiser:
    """Bins into which equal shares of `sample` (N, ...) fall; fewer where values repeat."""
    flat = sample.reshape(len(sample), -1).astype(np.float64)
    edges = []
    for column, n in zip(flat.T, _bins(space, bins), strict=True):
        cuts = np.unique(np.quantile(column, np.linspace(0, 1, n + 1)[1:-1]))
        edges.append(cuts[cuts > column.min()])
    return _cut(space, [edges])


def tiles(space: spaces.Box, bins: Sequence[int], tilings: int, sample: NDArray[Any] | None = None) -> Discretiser:
    """`tilings` grids of `bins` tiles between the bounds and one more, each shifted by odd shares of a tile's width.

    The shifts are those of Sutton and Barto: k * (1, 3, 5, ...) / tilings of a width, modulo one width.
    """
    low, high = _range(space, sample)
    counts = _bins(space, bins)
    grids = []
    for k in range(tilings):
        grid = []
        for d, (a, b, n) in enumerate(zip(low, high, counts, strict=True)):
            width = (b - a) / n
            shift = width * ((k * (2 * d + 1)) % tilings) / tilings
            grid.append(a - shift + width * np.arange(1, n + 1) if width > 0 else np.zeros(0))
        grids.append(grid)
    return _cut(space, grids)


def _range(space: spaces.Box, sample: NDArray[Any] | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    low, high = (bound.astype(np.float64).ravel() for bound in (space.low, space.high))
    if sample is not None:
        flat = sample.reshape(len(sample), -1).astype(np.float64)
        low = np.where(_bounded(space.low), low, flat.min(axis=0))
        high = np.where(_bounded(space.high), high, flat.max(axis=0))
    return low, high


def _bins(space: spaces.Box, bins: Sequence[int]) -> list[int]:
    size = math.prod(space.shape)
    counts = list(bins) * size if len(bins) == 1 else list(bins)
    if len(counts) != size:
        raise ConfigError(
            f"bins={tuple(counts)} are for observations of {len(counts)} numbers; these are of {size} ({words(space)}): give one "
            "number of bins for all, or one for each"
        )
    _strides(counts, space)  # before memory is taken for the edges
    return counts


def _cut(space: gymnasium.Space[Any], grids: list[list[NDArray[np.float64]]]) -> Discretiser:
    """The discretiser of grids of edges, each a list by dimension; grids have equal numbers of edges."""
    counts = [len(e) + 1 for e in grids[0]]
    strides, size = _strides(counts, space)
    edges = np.full((len(grids), len(counts), max(max(counts) - 1, 1)), np.inf)
    for k, grid in enumerate(grids):
        for d, cuts in enumerate(grid):
            edges[k, d, : len(cuts)] = cuts
    return Discretiser(np.zeros(len(counts)), strides, edges, size)


def _strides(counts: list[int], space: gymnasium.Space[Any]) -> tuple[NDArray[np.int64], int]:
    """By how many rows each number goes on, and how many rows there are."""
    size = math.prod(counts)
    if size > MOST:
        rows = (
            f"{size:.3g}" if size < 10**300 else f"10^{math.floor(math.log10(size))}"
        )  # which may be beyond any float
        advice = (
            "pictures are for dqn"
            if is_pixels(space)
            else "take fewer bins, or an agent that approximates q, such as dqn"
        )
        raise ConfigError(f"a table of {words(space)} would have {rows} rows; {advice}")
    strides = [math.prod(counts[d + 1 :]) for d in range(len(counts))]
    return np.array(strides, np.int64), size
