"""One panel of a picture of clusters: points or their density, the clusters' names, the centres.

Up to 5,000 points are drawn one by one; more are counted in cells, so that a million makes no blot: a cell's colour is the
mix of its clusters' by their share, its strength the logarithm of how many points lie there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from konspekt.cluster.plane import Plane
from konspekt.core.grouped import colours, middles

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "COLOURS",
    "NAMED",
    "SHAPES",
    "SPREAD",
    "Kinds",
    "Plane",
    "View",
    "head",
    "is_numbered",
    "kinds",
    "panel",
    "said",
]

# Okabe and Ito 2008, without the yellow, which is pale on white. Seven colours and six shapes make 42 pairs.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#333333")
SHAPES = "os^DvP"
NOISE = "#9a9a9a"
SINGLE = 5_000  # points that are drawn one by one
NAMED = 40  # clusters whose numbers are written
UNEVEN = 50.0  # longer than so many times the other side, a picture with one scale for both is a line
SPREAD = "spread at random, for sight"  # the other axis of a single column


Kinds = Mapping[int, tuple[int, int]]  # of each cluster the numbers of its colour and its shape


@dataclass(frozen=True)
class View:
    """What all panels of a figure show: the corners, the names of the axes, and whether both axes have one scale."""

    low: Plane
    high: Plane
    names: list[str]
    even: bool

    @classmethod
    def of(cls, plane: Plane, marks: Plane, names: list[str]) -> View:
        corners = [np.concatenate([p, marks]) for p in (plane.min(0, keepdims=True), plane.max(0, keepdims=True))]
        low, high = corners[0].min(0), corners[1].max(0)
        sides = high - low
        longer = float(sides.max()) or max(1.0, float(np.abs(low).max()))  # all points are one
        even = names[1] != SPREAD and not 1e-9 * longer < sides.min() < longer / UNEVEN
        margin = 0.05 * np.where(sides > 0, sides if not even else np.full(2, longer), longer)
        return cls(low - margin, high + margin, names, even)

    @property
    def height(self) -> float:
        """Of a panel one wide: as the points need, within bounds."""
        return float(np.clip((self.high - self.low)[1] / (self.high - self.low)[0], 0.45, 1.0)) if self.even else 0.7


def kinds(plane: Plane, codes: NDArray[np.int64], known: Kinds | None = None) -> Kinds:
    """The looks of the clusters. known: those that are given already, and stay."""
    found = colours(plane, codes, len(COLOURS), {code: colour for code, (colour, _) in (known or {}).items()})
    return {code: (colour, code % len(SHAPES)) for code, colour in found.items()}


def panel(
    axes: Axes,
    view: View,
    plane: Plane,
    codes: NDArray[np.int64],
    names: Mapping[int, str],
    looks: Kinds,
    marks: Plane | None = None,
    *,
    small: bool = False,
) -> None:
    """Points, names and centres on one pair of axes."""
    if len(plane) <= SINGLE:
        _points(axes, plane, codes, looks, 0.7 if small else 1.0)
    else:
        _density(axes, view, plane, codes, looks, 240 if small else 460)
    marks = np.zeros((0, 2)) if marks is None else marks
    if numbered := not small and is_numbered(names, marks):
        for number, (x, y) in enumerate(marks):
            box = {"boxstyle": "circle,pad=0.25", "fc": "white", "ec": COLOURS[looks.get(number, (0, 0))[0]], "lw": 1.6}
            axes.text(x, y, str(number), size=9, weight="bold", ha="center", va="center", bbox=box, zorder=5)
    else:
        axes.plot(*marks.T, "X", ms=8, color="black", mec="white", mew=1, ls="", zorder=5)
    if not numbered and not small:
        _names(axes, plane, codes, names, marks)
    axes.set_xlabel(short(view.names[0], 60), fontsize=9, parse_math=False)
    axes.set_ylabel(short(view.names[1], 60), fontsize=9, parse_math=False)
    axes.tick_params(labelsize=7 if small else 8, length=2)
    if view.names[1] == SPREAD:
        axes.set_yticks([])
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlim(view.low[0], view.high[0], auto=True)
    axes.set_ylim(view.low[1], view.high[1], auto=True)
    axes.set_aspect("equal" if view.even else "auto", adjustable="datalim")


def is_numbered(names: Mapping[int, str], marks: Plane) -> bool:
    """Whether the centres bear the clusters' numbers: mark k is the centre of cluster k."""
    return max(names, default=-1) < len(marks) <= NAMED


def _names(axes: Axes, plane: Plane, codes: NDArray[np.int64], names: Mapping[int, str], marks: Plane) -> None:
    """The clusters' names, each at its middle."""
    from matplotlib.patheffects import withStroke

    side = float(np.ptp(plane, axis=0).max())
    above = 9 if len(plane) < 50 else 0  # points: few must not be covered

    def box(code: int) -> tuple[float, float]:
        return 0.02 * side * (1 + min(16, len(names[code]))), 0.05 * side

    style: dict[str, Any] = {
        "size": 10,
        "weight": "bold",
        "ha": "center",
        "va": "center",
        "zorder": 6,
        "parse_math": False,
    }
    for code, place in middles(plane, codes, NAMED, box, taken=marks).items():
        effects = [withStroke(linewidth=3, foreground="white")]
        axes.annotate(
            short(names[code], 16), place, (0, above), textcoords="offset points", path_effects=effects, **style
        )


def _points(axes: Axes, plane: Plane, codes: NDArray[np.int64], looks: Kinds, scale: float) -> None:
    """Single points, in turns, so that no cluster hides another."""
    size = scale * min(7.0, max(2.4, 17 / len(plane) ** 0.22))
    noise = codes < 0
    axes.plot(*plane[noise].T, "o", ms=max(1.4, 0.45 * size), color=NOISE, mew=0, ls="", zorder=1)
    pairs = _looked_up(codes, {c: colour * len(SHAPES) + shape for c, (colour, shape) in looks.items()})
    look: dict[str, Any] = {"ms": size, "mec": "white", "mew": 0.06 * size, "ls": "", "alpha": 0.85, "zorder": 2}
    for turn in range(3):
        for pair in np.unique(pairs[~noise]).tolist():
            own = plane[pairs == pair][turn::3]
            axes.plot(*own.T, SHAPES[pair % len(SHAPES)], color=COLOURS[pair // len(SHAPES)], **look)


def _looked_up(codes: NDArray[np.int64], table: Mapping[int, int]) -> NDArray[np.int64]:
    """The table's value for each code, -1 for noise."""
    keys = np.array([-1, *sorted(table)], dtype=np.int64)
    values = np.array([-1, *(table[k] for k in sorted(table))], dtype=np.int64)
    return values[np.searchsorted(keys, codes)]


def _density(axes: Axes, view: View, plane: Plane, codes: NDArray[np.int64], looks: Kinds, pixels: int) -> None:
    """Cells: their colour is the mix of the clusters' in them, their strength the logarithm of the number of points."""
    fine = int(min(pixels, max(140, 1.6 * len(plane) ** 0.5)))  # few points want larger cells
    sides = view.high - view.low
    cells = np.array([fine, fine]) if not view.even else np.maximum(1, np.ceil(fine * sides / sides.max())).astype(int)
    step = sides / cells if not view.even else np.full(2, sides.max() / fine)
    column, row = (np.minimum((plane[:, i] - view.low[i]) / step[i], cells[i] - 1).astype(np.int32) for i in (0, 1))
    depth = len(COLOURS) + 1
    place = (row * cells[0] + column) * depth + _looked_up(codes, {c: colour for c, (colour, _) in looks.items()}) + 1
    counts = np.bincount(place, minlength=cells.prod() * depth).reshape(cells[1], cells[0], depth)
    total = counts.sum(2)
    paints = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in (NOISE, *COLOURS)])
    image = np.zeros((*total.shape, 4))
    image[..., :3] = counts @ paints / np.maximum(total, 1)[..., None]
    full = np.log1p(np.quantile(total[total > 0], 0.995))
    image[..., 3] = np.where(total > 0, 0.3 + 0.7 * np.minimum(1, np.log1p(total) / full), 0)
    high = view.low + cells * step
    extent = (view.low[0], high[0], view.low[1], high[1])
    axes.imshow(image, extent=extent, origin="lower", interpolation="nearest", aspect="auto", zorder=1)


def short(text: str, length: int) -> str:
    """The text, cut to a length."""
    return text if len(text) <= length else text[: length - 1] + "…"


def head(axes: Axes, title: str, said: str, *, small: bool = False) -> None:
    """The title of a panel, and a line below it."""
    text = "\n".join(part for part in (short(title, 60), said) if part)
    axes.set_title(text, loc="left", fontsize=8 if small else 10, parse_math=False)


def said(codes: NDArray[np.int64], names: Mapping[int, str], what: str) -> str:
    """How many there are of what, in words."""
    count, noise = len(names), int((codes < 0).sum())
    said = f"{count:,} {what}{'' if count == 1 else 's'}, {len(codes):,} points"
    said += f", {noise:,} of them noise (grey)" if noise else ""
    return said + (f"; the {NAMED} largest are named" if count > NAMED else "")
