"""A chosen number of clusters, with the curve that it was chosen by, and its picture."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Choice", "Widths"]

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#888888"  # apart for every colour vision, and in grey
PALE = ("#0072b2", "#56b4e9")  # of neighbouring clusters
MARKED = 40  # clusters that get a number beside their silhouettes


@dataclass(frozen=True, eq=False)
class Widths:
    """Silhouettes of points, (n,), and their clusters, (n,)."""

    values: NDArray[np.float64]
    labels: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Choice:
    """How many clusters, and why.

    k: the number; None: the rule finds none. method: "elbow", "silhouette" or "gap". ks: those that were tried, increasing.
    curves: by name, a number for each k, NaN where it is not defined. rule: how k is chosen, in words. reason: what the rule saw here.
    notes: what else is to be known. estimator: fitted with k; None where there is none.
    widths: of "silhouette", those of the chosen k.
    """

    k: int | None
    method: str
    ks: NDArray[np.int64]
    curves: Mapping[str, NDArray[np.float64]]
    rule: str
    reason: str
    notes: tuple[str, ...] = ()
    estimator: Any = None
    widths: Widths | None = None

    def __str__(self) -> str:
        chosen = "no k is chosen" if self.k is None else f"k = {self.k}"
        return "\n".join([f"{chosen}: {self.reason}", f"rule ({self.method}): {self.rule}", *self.notes])

    def figure(self) -> Figure:
        """The curve with the chosen k and, beside it, what the rule looks at, as a matplotlib figure free of pyplot."""
        from matplotlib.figure import Figure

        said = [self.reason, f"rule: {self.rule}", *self.notes]
        note = textwrap.wrap(" ".join(f"{text[0].upper()}{text[1:]}." for text in said), 125)
        below = 0.75 + 0.17 * len(note)
        wide, high = 8.4, 3.7 + below
        figure = Figure(figsize=(wide, high), facecolor="white")
        title = f"Number of clusters by {'the ' * (self.method != 'silhouette')}{self.method}: {self.k or 'none'}"
        figure.text(0.09, 1 - 0.12 / high, title, fontsize=11, fontweight="bold", va="top", color="black")
        frame = (below / high, 1 - (below + 0.75) / high)
        left = figure.add_axes((0.09, frame[0], 0.385, frame[1]))
        right = figure.add_axes((0.595, frame[0], 0.385, frame[1]))
        {"elbow": self._draw_elbow, "silhouette": self._draw_silhouette, "gap": self._draw_gap}[self.method](
            left, right
        )
        for axes in (left, right):
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(labelsize=8, color=GREY)
        for i, line in enumerate(note):
            figure.text(0.09, (below - 0.62 - 0.17 * i) / high, line, fontsize=8.5, va="top", color="#444444")
        return figure

    def _curve(self, axes: Axes, name: str, title: str) -> None:
        values = self.curves[name]
        axes.plot(self.ks, values, "-o", color=BLUE, markersize=3.5, linewidth=1.3)
        self._mark(axes, values)
        axes.set_xlabel("number of clusters k", fontsize=9)
        axes.set_title(title, fontsize=9, loc="left")
        ticks = self.ks if len(self.ks) <= 12 else self.ks[:: -(-len(self.ks) // 10)]
        axes.set_xticks(ticks, [str(k) for k in ticks])
        axes.minorticks_off()

    def _mark(self, axes: Axes, values: NDArray[np.float64]) -> None:
        if self.k is None or self.k not in self.ks:
            return
        at = int(np.flatnonzero(self.ks == self.k)[0])
        axes.axvline(self.k, color=ORANGE, linewidth=0.9, linestyle=":", zorder=0)
        axes.plot(
            [self.k],
            [values[at]],
            "o",
            markersize=10,
            markerfacecolor="none",
            markeredgecolor=ORANGE,
            markeredgewidth=1.6,
        )

    def _draw_elbow(self, left: Axes, right: Axes) -> None:
        name = next(iter(self.curves))
        self._curve(left, name, name)
        left.set_ylim(bottom=0)
        if "depth below the chord" not in self.curves:
            self._empty(right, "the sum reaches 0")
            return
        values = self.curves[name]
        self._curve(right, name, "the same on logarithmic axes, with the line")
        right.plot(self.ks[[0, -1]], values[[0, -1]], color=GREY, linewidth=1, linestyle="--", zorder=0)
        right.set_xscale("log")
        right.set_yscale("log")
        _few_ticks(right, values)
        ticks = [k for i, k in enumerate(self.ks) if i in (0, len(self.ks) - 1) or k in (2, 3, 5, 10, 20, 50, self.k)]
        right.set_xticks(_apart(ticks, self.k), [str(k) for k in _apart(ticks, self.k)])
        right.minorticks_off()
        if self.k is not None:
            at = int(np.flatnonzero(self.ks == self.k)[0])
            line = values[at] * np.exp(self.curves["depth below the chord"][at])
            right.plot([self.k, self.k], [values[at], line], color=ORANGE, linewidth=1.6)

    def _draw_silhouette(self, left: Axes, right: Axes) -> None:
        self._curve(left, "mean silhouette", "mean silhouette")
        if self.widths is None:
            self._empty(right, "not defined")
            return
        values, labels = self.widths.values, self.widths.labels
        found = np.unique(labels)
        gap, base = 0.012 * len(values), 0.0
        for number, cluster in enumerate(found):
            own = np.sort(values[labels == cluster])
            y = base + np.arange(len(own) + 1)
            colour = PALE[number % 2]
            steps = np.append(own, own[-1])
            right.fill_betweenx(y, 0, steps, step="post", color=colour, linewidth=0)
            right.fill_betweenx(y, 0, np.minimum(steps, 0), step="post", color=ORANGE, linewidth=0)
            if len(found) <= MARKED:
                right.text(
                    1.01, base + len(own) / 2, str(cluster), fontsize=7, va="center",
                    transform=right.get_yaxis_transform(), color="#444444", clip_on=False,
                )  # fmt: skip
            base += len(own) + gap
        mean = float(values.mean())
        right.axvline(mean, color="black", linewidth=0.9, linestyle="--")
        right.axvline(0, color=GREY, linewidth=0.6)
        right.set_yticks([])
        right.set_ylim(base, 0)
        right.set_xlim(min(-0.1, float(values.min()) - 0.02), 1)
        right.set_xlabel("silhouette of each point, by cluster", fontsize=9)
        right.set_title(f"k = {self.k}; the dashed line is the mean, {mean:.2f}", fontsize=9, loc="left")

    def _draw_gap(self, left: Axes, right: Axes) -> None:
        if "gap" not in self.curves:
            self._curve(left, "sum of squares", "sum of squares")
            self._empty(right, "all points are the same")
            return
        self._curve(left, "log of the sum", "logarithm of the sum of squares")
        left.plot(self.ks, self.curves["of references"], "--", color=GREY, linewidth=1.2)
        left.legend(left.lines[:: len(left.lines) - 1], ["points", "references"], fontsize=8, frameon=False)
        self._curve(right, "gap", "gap, with its standard error")
        right.errorbar(
            self.ks,
            self.curves["gap"],
            self.curves["standard error"],
            fmt="none",
            ecolor=BLUE,
            elinewidth=1,
            capsize=2.5,
        )

    def _empty(self, axes: Axes, text: str) -> None:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", fontsize=9, color=GREY)


def _apart(ticks: list[int], chosen: int | None) -> list[int]:
    """Those of the ticks that stand apart on a logarithmic axis; the chosen one and the ends before others."""
    kept: list[int] = []
    first = [t for t in (chosen, ticks[0], ticks[-1]) if t is not None and t in ticks]
    span = np.log(ticks[-1] / ticks[0])
    for tick in [*first, *ticks]:
        if all(abs(np.log(tick / k)) > 0.06 * span for k in kept):
            kept.append(int(tick))
    return sorted(kept)


def _few_ticks(axes: Axes, values: NDArray[np.float64]) -> None:
    """Plain numbers at a few places of a logarithmic axis, whatever its range."""
    ticks = np.geomspace(values.min(), values.max(), 4)
    axes.set_yticks(ticks, [f"{t:,.0f}" if 1e3 <= t < 1e7 else f"{t:.3g}" for t in ticks])
