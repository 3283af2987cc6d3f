"""What a comparison of agents found: a table, a picture, files."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from konspekt.core.comparisons import write_comparison
from konspekt.core.folders import json_bytes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["Comparison"]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito 2008
DASHES = ("-", (0, (5, 2)), (0, (1, 1.4)), (0, (6, 2, 1, 2)))


@dataclass
class Comparison:
    """What `compare` found.

    rows: a dict for each agent: agent, iqm, low and high (its interval), mean, std, min, max (over the seeds), length, seconds (of a
    training, the median), seeds, problem (why there is no score).
    scores: agent -> (seeds,) mean returns of greedy episodes.
    curves: agent -> environment steps (G,) and returns of the training (seeds, G).
    env: the environment's name. settings: the arguments. notes: what a reader must know.
    path: where it was saved.
    """

    rows: list[dict[str, Any]]
    scores: dict[str, NDArray[np.float64]] = field(repr=False)
    curves: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = field(repr=False)
    env: str
    settings: dict[str, Any]
    notes: tuple[str, ...] = field(repr=False)
    path: Path | None = None

    def frame(self) -> pd.DataFrame:
        """The rows as a table."""
        import pandas as pd

        return pd.DataFrame(self.rows)

    def __str__(self) -> str:
        return self.text()

    def text(self, width: int = 80) -> str:
        """The rows for a terminal of `width` columns, and what failed."""
        share = f"{100 * self.settings['confidence']:g} % interval"
        lines = [["agent", "IQM", share, "mean ± sd", "worst", "best", "time"]]
        for row in self.rows:
            if row["iqm"] is None:
                lines.append([row["agent"], "failed", "", "", "", "", ""])
                continue
            low, high, mean, std = (f"{row[k]:.4g}" for k in ("low", "high", "mean", "std"))
            ends = [f"{row[k]:.4g}" for k in ("min", "max")]
            lines.append(
                [
                    row["agent"],
                    f"{row['iqm']:.4g}",
                    f"{low} to {high}",
                    f"{mean} ± {std}",
                    *ends,
                    f"{row['seconds']:.3g} s",
                ]
            )
        rest = [max(len(line[i]) for line in lines) for i in range(1, len(lines[0]))]
        longest = max(8, width - sum(rest) - 2 * len(rest))
        names = [n if len(n) <= longest else f"{n[: longest - 3]}..." for n in (line[0] for line in lines)]
        first = max(map(len, names))
        text = [
            "  ".join([name.ljust(first), *(c.rjust(w) for c, w in zip(line[1:], rest, strict=True))]).rstrip()
            for name, line in zip(names, lines, strict=True)
        ]
        for row in self.rows:
            if row["problem"]:
                text += textwrap.wrap(f"{row['agent']}: {row['problem']}", width, subsequent_indent="  ")
        seeds, episodes = self.settings["seeds"], self.settings["episodes"]
        said = f"{self.env}, {seeds} seed{'s' * (seeds != 1)}, {episodes} greedy episode{'s' * (episodes != 1)} of each. {self.notes[0]}"
        return "\n".join([*text, "", *textwrap.wrap(f"{said} {self.notes[1]}", width)])

    def plot(self) -> Figure:
        """Learning curves with their spread over the seeds, beside the interquartile means with their intervals."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10, 4), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        names = [row["agent"] for row in self.rows if row["iqm"] is not None]
        looks = {n: (COLOURS[i % len(COLOURS)], DASHES[i // len(COLOURS) % len(DASHES)]) for i, n in enumerate(names)}
        for name, (steps, returns) in self.curves.items():
            colour, dash = looks[name]
            left.plot(steps, returns.mean(0), color=colour, linestyle=dash, label=name)
            left.fill_between(steps, returns.min(0), returns.max(0), color=colour, alpha=0.18, linewidth=0)
        left.set(xlabel="environment steps", ylabel="return (mean of 100 episodes)", title=f"Training, {self.env}")
        if self.curves:
            left.legend(frameon=False)
        for place, row in enumerate(r for r in self.rows if r["iqm"] is not None):
            colour = looks[row["agent"]][0]
            points = self.scores[row["agent"]]
            right.plot(
                [row["low"], row["high"]], [place, place], color=colour, linewidth=8, alpha=0.35, solid_capstyle="butt"
            )
            right.plot(points, np.full(len(points), place), "|", color=colour, markersize=9)
            right.plot(row["iqm"], place, "o", color=colour)
        right.set(yticks=range(len(names)), yticklabels=names, xlabel="return", ylim=(len(names) - 0.5, -0.5))
        right.set_title(f"Greedy: IQM, {100 * self.settings['confidence']:g} % interval")
        for axes in (left, right):
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y" if axes is left else "x", alpha=0.3)
        return figure

    def save(self, folder: str | Path) -> Path:
        """Write comparison.json and comparison.csv, of which `konspekt.report` makes a page.

        folder: is made; one that is there must be empty, or hold an earlier comparison, which is replaced.

        Raises ConfigError on another folder, ResourceError where the disk refuses.
        """
        said = {
            "task": "acting",
            "source": self.env,
            "rows": self.rows,
            "scores": {name: values.tolist() for name, values in self.scores.items()},
            "curves": {n: {"steps": x.tolist(), "returns": y.tolist()} for n, (x, y) in self.curves.items()},
            "settings": self.settings,
            "notes": list(self.notes),
        }
        files = {"comparison.csv": self.frame().to_csv(index=False).encode(), "comparison.json": json_bytes(said)}
        self.path = write_comparison(folder, files)
        return self.path
