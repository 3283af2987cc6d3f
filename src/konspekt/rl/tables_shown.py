"""What the report shows of a table of q-values. Course: row R3."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from konspekt.core.runs import Run
from konspekt.rl.grids import draw_grid, grid_of
from konspekt.rl.making import single

if TYPE_CHECKING:
    from konspekt.rl.tabular import TableAgent

__all__ = ["show_table"]

LISTED = 64  # states of which the report lists q
DPI = 80


def show_table(agent: TableAgent, run: Run, env: Any) -> None:
    """Keep what the report shows: v on the grid, q, visits, the shares of the actions, q of first actions against returns."""
    q, visits = agent.q_, agent.visits_
    shape, letters = _grid(env) if isinstance(agent.observation_space_, spaces.Discrete) else (None, None)
    if shape is not None:
        figure = draw_grid(q.max(axis=1), shape=shape, letters=letters, title="v: the largest q of each state")
        run.keep("v on the grid", "images", {"images": _pixels(figure)[None], "titles": ["v after the training"]})
        counts = np.log10(1.0 + visits.sum(axis=1)).reshape(shape)
        rows, columns = (list(map(str, range(side))) for side in shape)
        run.keep("visits, log10 of 1 + their number", "matrix", {"values": counts, "rows": rows, "columns": columns})
    if len(q) <= LISTED:
        states, actions = list(map(str, range(len(q)))), list(map(str, range(q.shape[1])))
        run.keep("q of states and actions", "matrix", {"values": q, "rows": states, "columns": actions})
    shares = agent.taken_ / max(1, agent.taken_.sum())
    greedy = np.bincount(q.argmax(axis=1)[visits.any(axis=1)], minlength=q.shape[1])
    run.keep(
        "actions",
        "table",
        [
            {"action": a, "share of the training": round(float(share), 4), "visited states where it is best": int(best)}
            for a, (share, best) in enumerate(zip(shares, greedy, strict=True))
        ],
    )
    run.keep(
        "states",
        "text",
        f"The table has {len(q):,} rows and {q.shape[1]} actions; {(visits.sum(axis=1) > 0).mean():.1%} of the rows were visited, "
        f"{(visits > 0).mean():.1%} of the entries updated.",
    )
    if len(agent.firsts_):
        promised, got = agent.firsts_.T
        axes = {"xlabel": "q of the first action, as it is taken", "ylabel": "discounted return of the episode"}
        run.keep("q against returns", "scatter", {"x": promised, "y": got, **axes})


def _grid(env: Any) -> tuple[tuple[int, int] | None, str | None]:
    made = single(env)
    own = contextlib.nullcontext() if isinstance(env, gymnasium.Env) else contextlib.closing(made)
    with own:
        shape, letters, *_ = grid_of(made)
    return shape, letters


def _pixels(figure: Any) -> NDArray[np.uint8]:
    """A figure as (H, W, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    figure.set_dpi(DPI)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
