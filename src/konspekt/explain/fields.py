"""What the units of a map see of the image, along one axis at a time: the arithmetic of receptive fields.

A map of H x W units over an image is followed as two `Axis`es, rows and columns. Each says exactly, for every unit, which
rows (or columns) of the image reach it, with the image's border and the gaps of dilation; and, where that is regular, by
a line: unit i sees `size` rows from row `start + jump * i` on, padding included (Araujo, Norris and Sim 2019, "Computing
receptive fields of convolutional neural networks", https://doi.org/10.23915/distill.00021). Course: row A17.

Shape letters in this file: n units along the axis, P rows or columns of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Axis",
    "Field",
    "Line",
    "adaptive",
    "joined",
    "mixed",
    "picked",
    "spread",
    "stretched",
    "transposed",
    "window",
]

Reach = NDArray[np.bool_]


@dataclass(frozen=True)
class Line:
    """Unit i sees `size` rows from row `start + jump * i` on, rows of the padding included."""

    start: float = 0.0
    jump: float = 1.0
    size: float = 1.0


@dataclass(frozen=True, eq=False)
class Axis:
    """What the units of a map see of the image along one axis.

    dim: the dimension of the tensor along which the units lie; None where they are folded, or mixed into one.
    reach: (n, P), whether the row reaches the unit.
    line: the same as a line, before the image's border cuts it; None where there is none.
    whole: whether a unit sees all by construction: behind global pooling, or a full layer.
    fold: where the units are folded into a dimension with others, as by flattening: number i of the tensor's numbers, in
        their order, belongs to unit (i // fold) % n.
    """

    dim: int | None
    reach: Reach
    line: Line | None
    whole: bool = False
    fold: int | None = None

    @classmethod
    def of_image(cls, dim: int, pixels: int) -> Axis:
        """Each pixel sees itself."""
        return cls(dim, np.eye(pixels, dtype=bool), Line())

    def __len__(self) -> int:
        return len(self.reach)

    def same(self, other: Axis) -> bool:
        """Whether both say the same."""
        return self is other or (
            (self.dim, self.line, self.whole, self.fold) == (other.dim, other.line, other.whole, other.fold)
            and np.array_equal(self.reach, other.reach)
        )


def window(axis: Axis, taps: int, count: int, *, stride: int = 1, padding: int = 0, dilation: int = 1) -> Axis:
    """Behind a window of `taps` units, `dilation` apart: `count` windows, `stride` apart, from `-padding` on."""
    reach = np.zeros((count, axis.reach.shape[1]), dtype=bool)
    starts = np.arange(count) * stride - padding
    for tap in range(taps):
        at = starts + tap * dilation
        inside = (at >= 0) & (at < len(axis))
        reach[inside] |= axis.reach[at[inside]]
    line = axis.line and Line(
        axis.line.start - padding * axis.line.jump,
        axis.line.jump * stride,
        axis.line.size + (taps - 1) * dilation * axis.line.jump,
    )
    return replace(axis, reach=reach, line=line)


def transposed(axis: Axis, taps: int, count: int, *, stride: int, padding: int, dilation: int) -> Axis:
    """Behind a transposed convolution: unit i of n is added to units i * stride - padding + tap * dilation."""
    if stride == 1:  # a convolution with the kernel turned round
        return window(axis, taps, count, padding=(taps - 1) * dilation - padding, dilation=dilation)
    reach = np.zeros((count, axis.reach.shape[1]), dtype=bool)
    starts = np.arange(len(axis)) * stride - padding
    for tap in range(taps):
        at = starts + tap * dilation
        inside = (at >= 0) & (at < count)
        reach[at[inside]] |= axis.reach[inside]
    return replace(axis, reach=reach, line=None)


def adaptive(axis: Axis, count: int) -> Axis:
    """Behind pooling to `count` units: unit i sees those from floor(i n / count) to ceil((i + 1) n / count)."""
    n = len(axis)
    if count == 1:
        return mixed(axis, keep=True)
    if n % count == 0:
        return window(axis, n // count, count, stride=n // count)
    bounds = [(i * n // count, -((i + 1) * n // -count)) for i in range(count)]
    reach = np.array([axis.reach[low:high].any(axis=0) for low, high in bounds])
    return replace(axis, reach=reach, line=None)


def stretched(axis: Axis, count: int, sources: NDArray[np.int64]) -> Axis:
    """Behind an operation whose unit i takes those units that sources[i] (count, k) names; -1 names none."""
    reach = np.zeros((count, axis.reach.shape[1]), dtype=bool)
    for column in sources.T:
        inside = column >= 0
        reach[inside] |= axis.reach[column[inside]]
    return replace(axis, reach=reach, line=None)


def picked(axis: Axis, start: int, count: int, step: int = 1) -> Axis:
    """A slice of the units, `axis[start::step]`, of which there are `count`."""
    line = axis.line and Line(axis.line.start + start * axis.line.jump, axis.line.jump * step, axis.line.size)
    return replace(axis, reach=axis.reach[start::step][:count], line=line)


def mixed(axis: Axis, *, keep: bool = False) -> Axis:
    """All units taken together. keep: the dimension stays, with one unit."""
    reach: Reach = np.asarray(axis.reach.any(axis=0))[None]
    return Axis(axis.dim if keep else None, reach, None, whole=True)


def spread(axis: Axis) -> Axis:
    """Each unit gets to see what any of them sees, as where statistics over all are divided by."""
    return replace(axis, reach=np.broadcast_to(axis.reach.any(axis=0), axis.reach.shape), line=None, whole=True)


def joined(axes: Sequence[Axis], dim: int | None) -> Axis:
    """What is seen through any of several maps, as in a sum or where their channels are put together.

    A map of one unit is repeated, as in broadcasting.
    """
    first = axes[0]
    if all(a is first for a in axes[1:]):
        return first if first.dim == dim else replace(first, dim=dim)
    reach: Reach = axes[0].reach
    for other in axes[1:]:
        reach = np.logical_or(reach, other.reach)
    lines = [a.line for a in axes]
    line = None
    if len({len(a) for a in axes}) == 1 and len({x and x.jump for x in lines}) == 1 and lines[0] is not None:
        known = [x for x in lines if x is not None]
        start = min(x.start for x in known)
        line = Line(start, known[0].jump, max(x.start + x.size for x in known) - start)
    whole = any(a.whole for a in axes)
    return Axis(dim, reach, None if whole else line, whole)


@dataclass(frozen=True, eq=False)
class Field:
    """The receptive field of a layer's units: which pixels of the image can change them.

    units: (height, width) of the map. rows: (units, height of the image), whether the row of the image reaches the units
    of that row of the map; columns: the same for columns. Where a unit sees the whole image there is one line for all.
    size, jump, start: (vertical, horizontal), in pixels, before the border cuts the field: a unit sees `size` pixels; its
    neighbour's field lies `jump` further; that of the first unit begins at `start`, which is negative in the padding.
    jump and start are NaN where the units do not lie evenly (pooling to a number of units that does not divide the map,
    transposed convolution); size then is the largest within the image.
    whole: whether a unit sees the whole image by construction, as behind global pooling or squeeze-and-excitation.

    The channels of a layer are taken together. Where branches see boxes of different shape, as 1 x 7 and 7 x 1, the
    field is the smallest box around them.
    """

    units: tuple[int, int]
    rows: Reach
    columns: Reach
    size: tuple[int, int]
    jump: tuple[float, float]
    start: tuple[float, float]
    whole: bool

    @classmethod
    def of(cls, vertical: Axis, horizontal: Axis) -> Field:
        """The field of a map whose axes these are."""
        lines = [a.line or Line(np.nan, np.nan, max(_extent(row) for row in a.reach)) for a in (vertical, horizontal)]
        whole = vertical.whole or horizontal.whole
        image = vertical.reach.shape[1], horizontal.reach.shape[1]
        sizes = [
            side if a.whole else round(x.size) for a, x, side in zip((vertical, horizontal), lines, image, strict=True)
        ]
        return cls(
            (len(vertical), len(horizontal)),
            vertical.reach,
            horizontal.reach,
            (sizes[0], sizes[1]),
            (lines[0].jump, lines[1].jump),
            (lines[0].start, lines[1].start),
            whole,
        )

    @property
    def centre(self) -> tuple[float, float]:
        """The middle of the first unit's field, in pixels from the middle of the first pixel."""
        return self.start[0] + (self.size[0] - 1) / 2, self.start[1] + (self.size[1] - 1) / 2

    @property
    def padding(self) -> tuple[float, float]:
        """How far the first unit's field reaches beyond the image, above and to the left."""
        return max(0.0, -self.start[0]), max(0.0, -self.start[1])

    @property
    def middle(self) -> tuple[int, int]:
        """The unit in the middle of the map."""
        return self.units[0] // 2, self.units[1] // 2

    def pixels(self, row: int, column: int) -> Reach:
        """The pixels (height, width) that reach a unit."""
        return np.outer(self.rows[row], self.columns[column])

    def box(self, row: int, column: int) -> tuple[int, int, int, int]:
        """(top, left, bottom, right) of the pixels that reach a unit, the last two not included, within the image."""
        vertical, horizontal = np.flatnonzero(self.rows[row]), np.flatnonzero(self.columns[column])
        if not len(vertical) or not len(horizontal):
            return 0, 0, 0, 0
        return int(vertical[0]), int(horizontal[0]), int(vertical[-1]) + 1, int(horizontal[-1]) + 1

    def to_json(self) -> dict[str, Any]:
        """Only numbers, strings and lists; None for what is not a number."""
        pairs = {"size": self.size, "jump": self.jump, "start": self.start, "centre": self.centre}
        plain = {name: [None if v != v else v for v in pair] for name, pair in pairs.items()}
        return {"units": list(self.units), **plain, "whole": self.whole}

    def __str__(self) -> str:
        if self.whole:
            return "whole"
        return str(self.size[0]) if self.size[0] == self.size[1] else f"{self.size[0]}x{self.size[1]}"

    def __repr__(self) -> str:
        size, jump, start = (f"{a:g} x {b:g}" for a, b in (self.size, self.jump, self.start))
        if self.whole:
            return f"Field(the whole image; {self.units[0]} x {self.units[1]} units)"
        return f"Field({size} pixels, jump {jump}, start {start}; {self.units[0]} x {self.units[1]} units)"


def _extent(row: Reach) -> int:
    seen = np.flatnonzero(row)
    return int(seen[-1] - seen[0] + 1) if len(seen) else 0
