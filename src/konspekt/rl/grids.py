"""Values and policies of states that lie on a grid: which environments have one, and its picture. Course: row R1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from konspekt.core.errors import ConfigError, DataError

if TYPE_CHECKING:
    import gymnasium
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    from konspekt.rl.mdp import MDP

__all__ = ["draw_grid", "grid_of", "name_actions"]

MOVES = {  # an action's name -> what it adds to the row and the column
    "left": (0, -1),
    "down": (1, 0),
    "right": (0, 1),
    "up": (-1, 0),
    "west": (0, -1),
    "south": (1, 0),
    "east": (0, 1),
    "north": (-1, 0),
}
WORDS = {"G": "goal", "H": "hole", "C": "cliff", "E": "end"}
NUMBERS, ARROWS = 24, 80  # rows or columns of a grid that is drawn with the value in each cell, with an arrow in each
COLOURS = "viridis"
WALL, HOLE, GOAL, INK, PAPER = "#3b3b3b", "#b9b9b9", "#ffd54a", "#111111", "#ffffff"


def grid_of(env: gymnasium.Env[Any, Any]) -> tuple[tuple[int, int] | None, str | None]:
    """The grid that the numbered states of an environment lie on, in reading order: (rows, columns), and a letter for each.

    Known are maps of letters (`desc`, FrozenLake) and shapes (`shape`, CliffWalking); None where there is neither. Letters: S start,
    G goal, H hole, C cliff, others nothing.
    """
    inner: Any = env.unwrapped
    states = int(getattr(inner.observation_space, "n", 0))
    desc = getattr(inner, "desc", None)
    if isinstance(desc, np.ndarray) and desc.ndim == 2 and desc.size == states and desc.dtype == np.dtype("S1"):
        rows, columns = desc.shape
        return (rows, columns), b"".join(desc.ravel().tolist()).decode("ascii", "replace")
    shape = getattr(inner, "shape", None)
    if not isinstance(shape, tuple) or len(shape) != 2 or math.prod(shape) != states:
        return None, None
    letters = np.full(states, " ")
    cliff = getattr(inner, "_cliff", None)
    if isinstance(cliff, np.ndarray) and cliff.size == states:
        letters[cliff.ravel()] = "C"
    first = getattr(inner, "initial_state_distrib", None)
    if first is not None:
        letters[np.asarray(first) > 0] = "S"
    return (int(shape[0]), int(shape[1])), "".join(letters)


def name_actions(mdp: MDP, shape: tuple[int, int]) -> tuple[str, ...]:
    """What each action of a table on a grid mostly does: "left", "down", "right" or "up", or its number where that is not clear.

    Counted are moves to a neighbouring cell, from states that are no end, by their probabilities.
    """
    own = np.repeat(np.arange(mdp.n_states), mdp.n_actions).repeat(np.diff(mdp.indptr))
    action = np.tile(np.arange(mdp.n_actions), mdp.n_states).repeat(np.diff(mdp.indptr))
    rows, columns = ((mdp.next_states // shape[1] - own // shape[1]), (mdp.next_states % shape[1] - own % shape[1]))
    near = (abs(rows) + abs(columns) == 1) & ~mdp.terminal[own]
    weight = np.where(near, mdp.probabilities, 0.0)
    mean = np.stack([np.bincount(action, weight * part, mdp.n_actions) for part in (rows, columns)], axis=1)
    names = []
    for number, (down, right) in enumerate(mean):
        if abs(abs(down) - abs(right)) < 0.1 * max(abs(down), abs(right), 1e-9):
            names.append(str(number))
        elif abs(down) > abs(right):
            names.append("down" if down > 0 else "up")
        else:
            names.append("right" if right > 0 else "left")
    return tuple(names) if len(set(names)) == len(names) else tuple(map(str, range(mdp.n_actions)))


def draw_grid(
    values: ArrayLike,
    policy: ArrayLike | None = None,
    shape: tuple[int, int] | None = None,
    *,
    title: str = "",
    label: str = "v: expected return",
    walls: ArrayLike | None = None,
    letters: Sequence[str] | None = None,
    actions: Sequence[str] = ("left", "down", "right", "up"),
) -> Figure:
    """The value of each state on its cell in colour and figures, and what the policy does there, as a matplotlib figure.

    values: (S,) numbers in reading order, or (rows, columns). policy: the action of each state, (S,), or the probabilities of the
    actions, (S, A), which are the lengths of the arrows; None: no arrows. shape: (rows, columns). walls: (S,) booleans, cells
    that are drawn dark, without value or arrow. letters: one for each cell: S start, G goal, H hole, C cliff, E end, which are
    marked by a word; G, H, C and E have no arrow. actions: the name of each action; those that are no direction are written out.

    On grids of more than 24 rows or columns the figures are left out, beyond 80 the arrows too.

    Raises ConfigError where neither `shape` nor `values` has rows and columns, DataError where these do not fit together, or a value
    is not finite.
    """
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    grid, size = _as_grid(values, shape)
    marks = _marks(letters, size)
    wall = np.zeros(size, dtype=bool) if walls is None else _fitting(walls, (size,), "walls").astype(bool)
    shares = _shares(policy, size, actions)
    ends = np.isin(marks, list(WORDS))
    shown = ~wall & ~ends
    known = grid.ravel()[shown] if shown.any() else grid.ravel()
    low, high = float(known.min()), float(known.max())
    norm = Normalize(low, high if high > low else low + 1)
    rows, columns = grid.shape
    cell = min(0.95, 13 / max(columns, 1), 9 / max(rows, 1))
    figure = Figure(
        figsize=(max(4.2, cell * columns + 1.5), max(2.4, cell * rows + 0.8)), layout="constrained", facecolor="white"
    )
    axes = figure.subplots()
    colours = _paint(axes, grid, norm, wall, marks)
    if max(rows, columns) <= ARROWS and shares is not None:
        _arrows(
            axes, shares, shown, columns, list(actions), norm, grid, figured=max(rows, columns) <= NUMBERS, cell=cell
        )
    if max(rows, columns) <= NUMBERS:
        _write(axes, grid, shown, marks, norm, cell, shares is not None)
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xticks(range(columns) if columns <= NUMBERS else [0, columns - 1])
    axes.set_yticks(range(rows) if rows <= NUMBERS else [0, rows - 1])
    axes.tick_params(length=0, labelsize=8, colors="#555555")
    for side in axes.spines.values():
        side.set_visible(False)
    figure.colorbar(colours, ax=axes, label=label, shrink=0.9, pad=0.02)
    return figure


def _as_grid(values: ArrayLike, shape: tuple[int, int] | None) -> tuple[NDArray[np.float64], int]:
    array = np.asarray(values, dtype=np.float64)
    if shape is None and array.ndim != 2:
        raise ConfigError("draw_grid: give shape=(rows, columns), as the values have none")
    wanted = tuple(array.shape if shape is None else shape)
    if math.prod(wanted) != array.size or len(wanted) != 2 or not array.size:
        raise DataError(f"draw_grid: {array.size} values do not fill a grid of {' x '.join(map(str, wanted))}")
    bad = np.flatnonzero(~np.isfinite(array))
    if len(bad):
        raise DataError(f"draw_grid: the value of state {bad[0]} is {array.ravel()[bad[0]]}, which has no colour")
    return array.reshape(wanted), array.size


def _fitting(given: ArrayLike, shape: tuple[int, ...], name: str) -> NDArray[Any]:
    array = np.asarray(given)
    if array.size != math.prod(shape):
        raise DataError(f"draw_grid: {name} has {array.size} items, and there are {math.prod(shape)} cells")
    return array.reshape(shape)


def _marks(letters: Sequence[str] | None, size: int) -> NDArray[np.str_]:
    if letters is None:
        return np.full(size, " ")
    return _fitting(list(letters), (size,), "letters").astype(str)


def _shares(policy: ArrayLike | None, size: int, actions: Sequence[str]) -> NDArray[np.float64] | None:
    """The probability of each action in each cell, (S, A)."""
    if policy is None:
        return None
    array = np.asarray(policy)
    if array.ndim == 2 and array.shape == (size, len(actions)):
        return array.astype(np.float64)
    if array.size != size:
        raise DataError(
            f"draw_grid: the policy has the shape {array.shape}; give ({size},) actions, or ({size}, {len(actions)}) probabilities"
        )
    chosen = array.ravel().astype(np.int64)
    if chosen.min() < 0 or chosen.max() >= len(actions):
        bad = int(chosen.min() if chosen.min() < 0 else chosen.max())
        raise DataError(f"draw_grid: the policy has action {bad}, and {len(actions)} actions are named")
    return np.eye(len(actions))[chosen]


def _paint(
    axes: Axes, grid: NDArray[np.float64], norm: Normalize, wall: NDArray[np.bool_], marks: NDArray[np.str_]
) -> Any:
    """The cells in the colours of their values; walls, holes and goals in their own."""
    from matplotlib.colors import to_rgba

    rows, columns = grid.shape
    colours = axes.imshow(grid, cmap=COLOURS, norm=norm, interpolation="nearest")
    over = np.zeros((rows * columns, 4))
    for where, colour in ((np.isin(marks, ["H", "C", "E"]), HOLE), (marks == "G", GOAL), (wall, WALL)):
        over[where] = to_rgba(colour)
    axes.imshow(over.reshape(rows, columns, 4), interpolation="nearest")
    if max(rows, columns) <= ARROWS:
        axes.hlines(np.arange(rows + 1) - 0.5, -0.5, columns - 0.5, color="white", linewidth=1)
        axes.vlines(np.arange(columns + 1) - 0.5, -0.5, rows - 0.5, color="white", linewidth=1)
    return colours


def _ink(value: float, norm: Normalize) -> str:
    """Black or white, whichever is better read on the colour of a value."""
    from matplotlib import colormaps

    parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colormaps[COLOURS](norm(value))[:3]]
    luminance = 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]
    return INK if luminance > 0.179 else PAPER  # where both have the same contrast (WCAG)


def _arrows(
    axes: Axes,
    shares: NDArray[np.float64],
    shown: NDArray[np.bool_],
    columns: int,
    actions: list[str],
    norm: Normalize,
    grid: NDArray[np.float64],
    *,
    figured: bool,
    cell: float,
) -> None:
    """An arrow for each action that the policy may take; a single one stands in the middle. Figures stand below them."""
    lift, reach = (0.13, 0.44) if figured else (0.0, 0.64)
    for state in np.flatnonzero(shown):
        row, column = divmod(int(state), columns)
        colour = _ink(grid[row, column], norm)
        taken = np.flatnonzero(shares[state] > 0.005)
        for action in taken:
            name = actions[action]
            if name not in MOVES:
                axes.text(column, row - lift, name, ha="center", va="center", fontsize=9 * min(1, cell), color=colour)
                continue
            down, right = MOVES[name]
            alone = len(taken) == 1
            length = reach if alone else reach * (0.2 + 0.5 * shares[state, action])
            back = length / 2 if alone else 0.0
            y, x = row - lift - back * down, column - back * right
            axes.annotate(
                "",
                xytext=(x, y),
                xy=(x + length * right, y + length * down),
                arrowprops={
                    "arrowstyle": "-|>",
                    "color": colour,
                    "lw": (1.6 if alone else 1.2) * cell,
                    "mutation_scale": (13 if alone else 7) * cell,
                    "shrinkA": 0,
                    "shrinkB": 0,
                },
            )


def _write(
    axes: Axes,
    grid: NDArray[np.float64],
    shown: NDArray[np.bool_],
    marks: NDArray[np.str_],
    norm: Normalize,
    cell: float,
    arrows: bool,
) -> None:
    """The value in each cell, and the words of starts and ends."""
    numbers = _figures(grid.ravel(), shown)
    longest = max((len(n) for n in numbers), default=1)
    size = min(10.0, 72 * cell * 0.86 / (0.62 * longest))
    for state, mark in enumerate(marks):
        row, column = divmod(state, grid.shape[1])
        if mark in WORDS:
            axes.text(column, row, WORDS[mark], ha="center", va="center", fontsize=min(10, 17 * cell), color=INK)
        elif shown[state]:
            colour = _ink(grid[row, column], norm)
            low = row + (0.34 if arrows else 0.0)
            axes.text(column, low, numbers[state], ha="center", va="center", fontsize=size, color=colour)
            if mark == "S" and cell > 0.45:
                axes.text(column - 0.46, row - 0.47, "start", ha="left", va="top", fontsize=7.5 * cell, color=colour)


def _figures(values: NDArray[np.float64], shown: NDArray[np.bool_]) -> list[str]:
    """The values as text with three digits of the largest."""
    most = float(np.abs(values[shown]).max()) if shown.any() else 0.0
    if most and not 1e-3 <= most < 1e5:
        return [f"{value:.1e}" for value in values]
    if np.allclose(values[shown], np.round(values[shown]), atol=1e-6):
        return [f"{round(value)}" for value in values]
    digits = 2 if not most else min(3, max(0, 2 - math.floor(math.log10(most))))
    return [f"{value + 0.0:.{digits}f}" for value in values]
