"""What the page says about the training: curves of everything measured, the learning rate, the gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from konspekt.reports.canvas import finite
from konspekt.reports.drawers import series_of
from konspekt.reports.figures import Line, Picture, lines, raster
from konspekt.reports.reading import Folder
from konspekt.reports.templates import charts, sentence
from konspekt.reports.timeline import Timeline
from konspekt.reports.words import listed, number, plural, score_name, title

__all__ = ["is_range_test", "range_test", "training"]

MAX_CHARTS = 12
MAX_LAYERS = 32  # rows of the gradient picture


def training(folder: Folder) -> Markup | None:
    """Curves of everything measured, the learning rate, the gradients."""
    time = Timeline(folder.stages)
    if not time.stages:
        return sentence("metrics.jsonl holds no step and no epoch: the run ended before its first record.", "note")
    pictures = [p for name in time.measures if (p := _measure(time, name))]
    more = [score_name(name) for name in time.measures[MAX_CHARTS:]] if len(pictures) > MAX_CHARTS else []
    pictures = pictures[:MAX_CHARTS]
    body = Markup()
    rates = time.steps("lr") if len(time.steps("lr")[0]) else time.epochs("lr")
    steady = len(np.unique(rates[1][np.isfinite(rates[1])])) <= 1
    if len(rates[0]) and not steady:
        pictures.append(_chart(time, "lr", "Learning rate", [Line("learning rate", *rates)], log=False))
    tried, taken = range_test(folder)
    if tried:
        pictures.append(_rates_tried(tried, taken))
    risk = [Line("single steps", *time.steps("loss"), "faint"), Line("running estimate", *time.steps("risk"))]
    if np.isfinite(risk[1].y).sum() > 1:
        pictures.append(_chart(time, "risk", "Running estimate of the risk", risk))
    norms = [Line("single steps", *time.steps("grad_norm"), "faint"), Line("gradient norm", *time.epochs("grad_norm"))]
    if any(np.isfinite(n.y).any() for n in norms):
        pictures.append(_chart(time, "grad-norm", "Gradient norm", norms))
    names, values = time.layers()
    if len(names) > 1 and np.isfinite(values).any():
        pictures.append(_gradients(names, values))
    if len(rates[0]) and steady:
        body += sentence(f"The learning rate was {number(float(rates[1][0]))} throughout.", "note")
    if more:
        body += sentence(f"Also recorded, in metrics.jsonl: {listed(more, 20)}.", "note")
    return charts(pictures) + body


def range_test(folder: Folder) -> tuple[list[Line], list[Line]]:
    """The kept range test: losses over the rates that were tried, and single points, the rate that was taken.

    Both are empty where there is none that can be drawn; what was kept then says why.
    """
    value = next((k.get("value") for name, k in folder.kept.items() if is_range_test(name)), None)
    try:
        series = series_of(value)
    except (ValueError, TypeError, AttributeError):
        return [], []
    return [s for s in series if len(finite(s.y)) > 1], [s for s in series if len(s.x) == 1]


def is_range_test(name: str) -> bool:
    """Whether this is the name under which the engine keeps its range test."""
    return title(name).lower() == "learning rate range test"


def _rates_tried(tried: list[Line], points: list[Line]) -> Picture:
    note = "The loss while the rate rises from step to step, before the fit."
    cut = [_until_it_explodes(s) for s in tried]
    if any(len(a.x) < len(b.x) for a, b in zip(cut, tried, strict=True)):
        note += f" It ends where the loss explodes; rates up to {number(max(float(s.x.max()) for s in tried), 3)} were tried."
    low, high = min(float(s.x.min()) for s in cut), max(float(s.x.max()) for s in cut)
    mark = next((rate for s in points if low <= (rate := float(s.x[0])) <= high), None)
    logx = all((s.x > 0).all() for s in cut)
    layout: dict[str, Any] = {"xlabel": "learning rate", "best_name": "taken", "logx": logx, "log": False}
    return lines("range-test", "Learning-rate range test", cut, best=mark, note=note, **layout)


def _until_it_explodes(s: Line) -> Line:
    """The line up to where it is as far above its start as its lowest point is below, and half as much more."""
    y = np.where(np.isfinite(s.y), s.y, np.inf)
    first = next((v for v in y if np.isfinite(v)), 0.0)
    gone = np.flatnonzero(y > first + 1.5 * max(first - y.min(), 0.02 * abs(first)))
    gone = gone[gone > y.argmin()]
    return Line(s.name, s.x[: gone[0]], s.y[: gone[0]], s.role) if len(gone) else s


def _measure(time: Timeline, name: str) -> Picture | None:
    train, steps, held = time.epochs(name), time.steps(name), time.epochs(f"val_{name}")
    both = len(held[0]) > 0
    series = [
        Line("validation", *held),
        Line("training", *train, "quiet" if both else "main"),
        Line("single steps", *steps, "faint" if len(train[0]) else "main"),
    ]
    series = [s for s in series if np.isfinite(s.y).any()]
    if not series:
        return None
    lost = sum(int((~np.isfinite(s.y)).sum()) for s in series)
    note = f"{plural(lost, 'value was', 'values were')} not finite: the line has a gap there." if lost else ""
    return _chart(time, f"measure-{name}", title(score_name(name)), series, best=both, note=note)


def _chart(
    time: Timeline,
    name: str,
    heading: str,
    series: Sequence[Line],
    *,
    best: bool = False,
    log: bool | None = None,
    note: str = "",
) -> Picture:
    stages = time.starts if len(time.starts) > 1 else ()
    mark = time.best if best else None
    series = [s for s in series if len(s.x)]
    return lines(name, heading, series, xlabel=time.unit, best=mark, stages=stages, log=log, note=note)


def _gradients(names: list[str], values: np.ndarray) -> Picture:
    while len({n.partition(".")[0] for n in names}) == 1 and all("." in n for n in names):
        names = [n.partition(".")[2] for n in names]
    caption = "One row a parameter"
    while len(names) > MAX_LAYERS and any("." in n for n in names):
        parents = [n.rpartition(".")[0] or n for n in names]
        groups = list(dict.fromkeys(parents))
        inside = np.array([[p == g for p in parents] for g in groups], dtype=float)
        values = np.sqrt(inside @ np.nan_to_num(values) ** 2)
        names, caption = groups, "One row a group of parameters"
    if len(names) > MAX_LAYERS:
        caption = f"The first {MAX_LAYERS} of {number(len(names))} parameters"
    values, names = values[:MAX_LAYERS], names[:MAX_LAYERS]
    last = values.shape[1]
    values = values[:, :: -(-last // 600)]
    caption += ", one column an epoch; a row without colour got no gradient."
    columns = ("epoch 1", f"epoch {number(last)}" if last > 1 else "")
    return raster("layers", "Gradient norm by layer", values, names, columns=columns, log=True, caption=caption)
