"""The pictures of the page: curves, scatters, histograms, shaded tables, reliability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from konspekt.reports.canvas import (
    HEIGHT,
    INK,
    MUTED,
    SERIES,
    WIDTH,
    end_labels,
    finite,
    name_axes,
    scale,
    spans_decades,
    svg,
    thin,
    write,
)
from konspekt.reports.words import number, short, tick

__all__ = ["Line", "Picture", "histogram", "lines", "points", "raster", "reliability"]

_DASHES: tuple[str | tuple[int, tuple[float, ...]], ...] = ("-", (0, (5, 2)), (0, (1, 1.4)), (0, (6, 2, 1, 2)))
SHADE = (46, 134, 193)  # a blue between the light page and the dark one; how much of it shows is the value
MAX_DOTS = 600  # of a scatter


@dataclass(frozen=True)
class Picture:
    """A figure of the page: its heading, its SVG, and a sentence below."""

    title: str
    svg: Markup
    caption: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Line:
    """A series. "main" lines are labelled at their end, "quiet" ones are thin and grey, "faint" ones a backdrop."""

    name: str
    x: np.ndarray
    y: np.ndarray
    role: str = "main"


def lines(
    name: str,
    title: str,
    series: Sequence[Line],
    *,
    xlabel: str = "epoch",
    best: float | None = None,
    stages: Sequence[tuple[float, str]] = (),
    best_name: str = "best",
    log: bool | None = None,
    logx: bool = False,
    ylabel: str = "",
    share: bool = False,
    note: str = "",
) -> Picture:
    """Curves. best: an x to mark on the first main line. stages: where each begins, and its name. log: None decides.

    share: both axes are shares, from 0 to 1.
    """
    series = [Line(s.name, *thin(s.x, np.where(np.abs(s.y) < 1e150, s.y, np.nan)), s.role) for s in series]
    shown = [s for s in series if len(finite(s.y)) > (s.role == "faint")]  # a backdrop of one point is none
    mains = [s for s in shown if s.role == "main"]
    named = [s for s in shown if s.role != "faint"]
    if log is None and not share:
        log = spans_decades(finite(np.concatenate([s.y for s in shown]))) if shown else False
    words = [short(s.name, 18) for s in named] if 1 < len(named) <= 8 else []
    right = 14 + 6.0 * max(map(len, words), default=0)

    def draw(axes: Axes) -> None:
        ends = []
        for i, s in enumerate(shown):
            rank = mains.index(s) if s in mains else i
            colour = SERIES[rank % len(SERIES)] if s.role == "main" else MUTED
            dash = _DASHES[rank % len(_DASHES)] if s.role == "main" else "-"
            width, alpha = {"main": (2.2, 1.0), "quiet": (1.4, 1.0), "faint": (0.8, 0.45)}[s.role]
            few = len(finite(s.y)) <= 12 and s.role != "faint"
            axes.plot(
                *_broken(s.x, s.y, [start for start, _ in stages[1:]]), color=colour, lw=width, alpha=alpha, ls=dash, marker="o" if few else "",
                ms=3.5, solid_capstyle="round", clip_on=False, zorder=3 if s.role == "main" else 2,
            )  # fmt: skip
            if s in named and words:
                ends.append((float(finite(s.y)[-1]), words[named.index(s)], colour))
        low = min((float(s.x.min()) for s in shown), default=0.0)
        high = max((float(s.x.max()) for s in shown), default=1.0)
        margin = 0.0 if logx else 0.5 if high == low else 0.01 * (high - low)
        axes.set_xlim(low - margin, high + (margin if high == low else 0.0))
        scale(axes, "y", log=bool(log))
        scale(axes, "x", log=logx, whole=not share)
        name_axes(axes, xlabel, ylabel)
        axes.autoscale_view(scalex=False)
        if share:
            axes.set(xlim=(-0.01, 1), ylim=(0, 1.02))
        end_labels(axes, ends)
        _mark_best(axes, (mains or shown)[:1], best, best_name)
        _mark_stages(axes, stages, low, high)

    told = "; ".join(_told(s, xlabel) for s in (named or shown)[:8])
    faint = f"Faint: {next((s.name for s in shown if s.role == 'faint'), '')}."
    caption = " ".join(t for t in ("Log scale." if log else "", faint if len(faint) > 8 else "", note) if t)
    drawing = svg(name, f"{title}. {told}" if title else told, draw, margins=(44, right, 32 if stages else 18, 34))
    return Picture(title, drawing, caption)


def _broken(x: np.ndarray, y: np.ndarray, starts: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """The line with a gap wherever a new stage starts."""
    places = np.searchsorted(x, starts, side="right")
    return np.insert(x, places, starts), np.insert(y, places, np.nan)


def _told(line: Line, unit: str) -> str:
    """A line in words, for those who do not see it."""
    seen = np.isfinite(line.y)
    x, y = line.x[seen], line.y[seen]
    low, high = int(np.argmin(y)), int(np.argmax(y))
    text = f"{line.name}: from {number(float(y[0]), 3)} to {number(float(y[-1]), 3)}"
    text += f", lowest {number(float(y[low]), 3)} at {unit} {number(float(x[low]), 3)}"
    return text + f", highest {number(float(y[high]), 3)} at {unit} {number(float(x[high]), 3)}"


def _mark_best(axes: Axes, line: Sequence[Line], best: float | None, name: str) -> None:
    if best is None or not line:
        return
    axes.axvline(best, color=MUTED, lw=1, ls=(0, (2, 2)), zorder=1)
    at = line[0].y[np.isclose(line[0].x, best)]
    if len(finite(at)):
        axes.plot([best], finite(at)[:1], "o", ms=7, mfc="none", mec=INK, mew=1.5, clip_on=False, zorder=4)
    where = float(axes.transAxes.inverted().transform(axes.transData.transform((best, 1)))[0])
    side = "left" if where < 0.2 else "right" if where > 0.8 else "center"
    write(axes, f"{name}: {number(best)}", (best, 1), (0, 4), coords=("data", "axes fraction"), color=INK, ha=side)


def _mark_stages(axes: Axes, stages: Sequence[tuple[float, str]], low: float, high: float) -> None:
    room = float(axes.get_window_extent().width) / 6.2 / max(high - low, 1e-9)
    for (start, name), end in zip(stages, [*(s for s, _ in stages), high][1:], strict=True):
        if start > low:
            axes.axvline(start, color=MUTED, lw=1, zorder=1)
        letters = int(room * (end - max(start, low)))
        if letters >= 3:
            write(axes, short(name, letters), (max(start, low), 1), (0, 18), coords=("data", "axes fraction"))


def points(
    name: str,
    title: str,
    x: np.ndarray,
    y: np.ndarray,
    *,
    xlabel: str,
    ylabel: str,
    rule: str = "",
    caption: str = "",
) -> Picture:
    """A scatter. rule: "diagonal" (where y is x) or "zero" (where y is 0)."""
    seen = np.isfinite(x) & np.isfinite(y) & (np.abs(x) < 1e150) & (np.abs(y) < 1e150)
    total = int(seen.sum())
    x, y = x[seen], y[seen]
    if total > MAX_DOTS:
        chosen = np.linspace(0, total - 1, MAX_DOTS).astype(int)
        extremes = (x.argmin(), x.argmax(), y.argmin(), y.argmax())
        chosen = np.unique([*chosen, *(int(i) for i in extremes)])
        x, y = x[chosen], y[chosen]
        caption = f"{caption} {number(len(x))} of {number(total)} points are drawn.".strip()

    def draw(axes: Axes) -> None:
        axes.plot(x, y, "o", ms=4, mec="none", color=SERIES[0], alpha=0.65, zorder=3)
        if rule == "zero":
            axes.axhline(0, color=INK, lw=1, zorder=4)
        if rule == "diagonal" and len(x):
            ends = (max(x.min(), y.min()), min(x.max(), y.max()))
            axes.plot(ends, ends, color=INK, lw=1, zorder=4)
        scale(axes, "x")
        scale(axes, "y")
        name_axes(axes, xlabel, ylabel)

    label = f"{title}: {number(total)} points, {xlabel} across, {ylabel} upwards. {caption}"
    return Picture(title, svg(name, label, draw, margins=(44, 12, 24, 34)), caption)


def histogram(name: str, title: str, values: np.ndarray, *, xlabel: str, caption: str = "") -> Picture:
    """How often which value occurs, with a rule at zero."""
    values = finite(values)

    def draw(axes: Axes) -> None:
        if len(values):
            bins = min(40, max(8, round(2 * len(values) ** (1 / 3))))
            axes.hist(values, bins=bins, color=SERIES[0], rwidth=0.9, zorder=2)
            axes.axvline(0, color=INK, lw=1, zorder=3)
        scale(axes, "x")
        scale(axes, "y", whole=True)
        name_axes(axes, xlabel, "items")

    label = f"{title}: histogram of {number(len(values))} values. {caption}"
    return Picture(title, svg(name, label, draw, margins=(44, 12, 24, 34)), caption)


def reliability(name: str, title: str, confidence: np.ndarray, right: np.ndarray) -> Picture:
    """How often the classifier was right when it was so sure, in ten bins of equal width, and how many items each has.

    The expected calibration error is the mean over the items of the distance between their bin's mean probability and
    its share of right answers. Guo and others 2017, https://arxiv.org/abs/1706.04599.
    """
    bins = np.clip((confidence * 10).astype(int), 0, 9)
    counts = np.bincount(bins, minlength=10)
    used = np.flatnonzero(counts)
    sure = np.array([confidence[bins == b].mean() for b in used])
    hits = np.array([right[bins == b].mean() for b in used])
    error = float((counts[used] / len(bins) * np.abs(sure - hits)).sum())

    def draw(axes: Axes) -> None:
        box = axes.get_position()
        below = axes.figure.add_axes((box.x0, box.y0, box.width, 0.16 * box.height), sharex=axes)
        axes.set_position((box.x0, box.y0 + 0.3 * box.height, box.width, 0.7 * box.height))
        axes.plot([0, 1], [0, 1], color=MUTED, lw=1, ls=(0, (2, 2)), zorder=1)
        axes.annotate("as sure as right", (0, 0.4), color=MUTED)
        axes.plot(sure, hits, color=SERIES[0], lw=1.2, marker="o", ms=6, zorder=3)
        axes.set(xlim=(-0.02, 1.04), ylim=(-0.05, 1.08))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
        name_axes(axes, "", "share that was right")
        axes.tick_params(axis="x", labelbottom=False)
        below.bar(used / 10 + 0.05, counts[used], width=0.09, color=SERIES[0], alpha=0.55)
        for b in used:
            words = tick(float(counts[b])) if counts[b] < 10_000 else tick(float(f"{counts[b]:.2g}"))
            write(below, words, (b / 10 + 0.05, counts[b]), (0, 2), coords="data", color=INK, ha="center")
        below.set_yticks([])
        write(below, "items", (0, 0), (-40, 0))
        below.set_xlabel("probability given", loc="right", labelpad=1)

    caption = (
        f"Expected calibration error {number(100 * error, 3)} points: the mean distance from the dashed line, by the "
        "highest probability of each item, in ten bins of equal width. The bars count the items of each bin."
    )
    told = "; ".join(
        f"{10 * b} to {10 * b + 10} %: {number(int(counts[b]))} items, {number(float(100 * h), 3)} % right"
        for b, h in zip(used.tolist(), hits, strict=True)
    )
    label = f"{title or 'Reliability'}. {told}. {caption}"
    return Picture(title, svg(name, label, draw, size=(WIDTH, HEIGHT + 56), margins=(44, 12, 24, 34)), caption)


def raster(
    name: str,
    title: str,
    values: np.ndarray,
    rows: Sequence[str],
    *,
    columns: tuple[str, str] = ("", ""),
    xlabel: str = "",
    log: bool = False,
    caption: str = "",
) -> Picture:
    """A table of numbers (R, C) as shades: the fuller the colour, the larger the value. columns: first and last name."""
    usable = np.where(np.isfinite(values) & (values > 0 if log else True), values, np.nan).astype(float)
    scale = np.log10(usable) if log else usable
    seen = scale[np.isfinite(scale)]
    low, high = (float(seen.min()), float(seen.max())) if len(seen) else (0.0, 1.0)
    alpha = np.nan_to_num(0.06 + 0.94 * (scale - low) / ((high - low) or 1.0), nan=0.0)
    pixels = np.zeros((*values.shape, 4), dtype=np.uint8)
    pixels[..., :3] = SHADE
    pixels[..., 3] = np.round(255 * np.clip(alpha, 0, 1))
    line = 15 if len(rows) else max(2.0, min(15.0, 400 / max(1, len(values))))
    names = [short(r, 34) for r in rows]
    left = 12 + 6.4 * max(map(len, names), default=0)
    width = max(WIDTH, left + min(620.0, max(248.0, 3.0 * values.shape[1])) + 14)
    height = 6 + line * len(values) + 22

    def draw(axes: Axes) -> None:
        axes.imshow(pixels, aspect="auto", interpolation="none")
        axes.set_yticks(range(len(names)), names)
        axes.set_xticks([])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.spines["bottom"].set_visible(False)
        for x, side, text in ((0.0, "left", columns[0]), (1.0, "right", columns[1]), (0.5, "center", xlabel)):
            write(axes, short(text, 24), (x, 0), (0, -14), ha=side)

    ends = (10**low, 10**high) if log else (low, high)
    scale_text = f"Faint is {number(float(ends[0]), 3)}, full is {number(float(ends[1]), 3)}"
    caption = f"{scale_text}{', log scale' if log else ''}. {caption}".strip()
    label = f"{title}: {len(values)} rows, {values.shape[1]} columns. {caption}"
    drawing = svg(name, label, draw, size=(width, height), margins=(left, 14, 6, 22))
    return Picture(title, drawing, caption, wide=width > 1.1 * WIDTH)
