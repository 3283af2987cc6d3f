"""The page of a comparison of agents: learning curves with their spread over seeds, interquartile means with intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes

from konspekt.core.errors import DataError
from konspekt.reports.canvas import HEIGHT, SERIES, WIDTH, end_labels, finite, name_axes, scale, svg, thin
from konspekt.reports.figures import Picture
from konspekt.reports.page import Headline
from konspekt.reports.reading import dicts, mapping
from konspekt.reports.templates import bullets, charts, environment, heading, table
from konspekt.reports.words import Digits, clean, duration, number, percent, plural, real, short

__all__ = ["render_agents"]

MAX_AGENTS = 24
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.4)), (0, (6, 2, 1, 2)))


def render_agents(place: Path, said: dict[str, Any]) -> str:
    """The page as text. said: what comparison.json holds."""
    rows = [r for r in dicts(said.get("rows")) if isinstance(r.get("agent"), str)][:MAX_AGENTS]
    if not rows:
        raise DataError(f"{place / 'comparison.json'}: names no agent; it is no comparison, or damaged")
    settings = mapping(said.get("settings"))
    notes = [clean(n) for n in said["notes"] if isinstance(n, str)] if isinstance(said.get("notes"), list) else []
    share = real(settings.get("confidence"))
    confidence = percent(share).replace(".0", "") if np.isfinite(share) else ""
    pictures = [
        p
        for p in (_curves(rows, mapping(said.get("curves"))), _intervals(rows, mapping(said.get("scores")), confidence))
        if p
    ]
    sections = [
        ("pictures", "Returns", charts(pictures) if pictures else None),
        ("agents", "Agents", _agents(rows, confidence)),
        ("reading", "How to read this", bullets(notes) if notes else None),
    ]
    head = _headline(place, said, rows, settings)
    return environment().get_template("report.html").render(head=head, sections=[s for s in sections if s[2]])


def _headline(place: Path, said: dict[str, Any], rows: list[dict[str, Any]], settings: dict[str, Any]) -> Headline:
    failed = [clean(r["agent"]) for r in rows if not np.isfinite(real(r.get("iqm")))]
    story = f"{plural(len(rows), 'agent')}, each trained from {plural(int(np.nan_to_num(real(settings.get('seeds')))), 'seed')}"
    story += f". Without a score: {', '.join(failed)}." if failed else "."
    steps = settings.get("steps")
    return Headline(
        run=clean(place.resolve().name),
        system="Comparison of agents",
        data=short(said.get("source") or "", 80),
        score="",
        score_name="",
        context=["Where two intervals overlap, the seeds do not tell the agents apart."],
        state="finished",
        story=story,
        facts=[
            ("seeds", number(settings.get("seeds"))),
            ("greedy episodes of each", number(settings.get("episodes"))),
            ("environment steps", number(steps) if isinstance(steps, int) else "as each agent has it"),
            ("resamples", number(settings.get("n_bootstrap"))),
        ],
        problems="",
    )


def _agents(rows: list[dict[str, Any]], confidence: str) -> Markup:
    head = ["agent", "interquartile mean", f"{confidence} interval".strip(), "mean", "standard deviation", "worst seed", "best seed", "mean length", "time of a training"]  # fmt: skip
    cells: list[list[Any]] = []
    for row in rows:
        values = {k: real(row.get(k)) for k in ("iqm", "low", "high", "mean", "std", "min", "max", "length", "seconds")}
        if not np.isfinite(values["iqm"]):
            cells.append([clean(row["agent"]), "failed", *[None] * (len(head) - 2)])
            continue
        numbers = [Digits(number(values[k])) for k in ("mean", "std", "min", "max", "length")]
        interval = f"{number(values['low'])} to {number(values['high'])}"
        cells.append(
            [clean(row["agent"]), Digits(number(values["iqm"])), interval, *numbers, duration(values["seconds"])]
        )
    body = table("Agents", head, cells)
    problems = [f"{clean(row['agent'])}: {short(row['problem'], 300)}" for row in rows if row.get("problem")]
    return body + (heading("Failures") + bullets(problems) if problems else Markup())


def _look(rows: list[dict[str, Any]], name: str) -> tuple[str, Any]:
    rank = [r["agent"] for r in rows].index(name)
    return SERIES[rank % len(SERIES)], _DASHES[rank // len(SERIES) % len(_DASHES)]


def _curves(rows: list[dict[str, Any]], curves: dict[str, Any]) -> Picture | None:
    known = []
    for row in rows:
        try:
            curve = mapping(curves.get(row["agent"]))
            steps, returns = np.array(curve["steps"], dtype=float), np.array(curve["returns"], dtype=float)
        except (KeyError, TypeError, ValueError):
            continue
        if (
            steps.ndim == 1
            and returns.ndim == 2
            and returns.shape[1:] == steps.shape
            and len(finite(returns)) == returns.size > 1
        ):
            known.append((row["agent"], steps, returns))
    if not known:
        return None
    words = [short(name, 18) for name, _, _ in known] if 1 < len(known) <= 8 else []
    right = 14 + 6.0 * max(map(len, words), default=0)

    def draw(axes: Axes) -> None:
        ends = []
        for place, (name, steps, returns) in enumerate(known):
            colour, dash = _look(rows, name)
            mean = returns.mean(0)
            axes.fill_between(steps, returns.min(0), returns.max(0), color=colour, alpha=0.16, linewidth=0, zorder=1)
            axes.plot(
                *thin(steps, mean), color=colour, lw=2.2, ls=dash, marker="o" if len(steps) == 1 else "", zorder=3
            )
            if words:
                ends.append((float(mean[-1]), words[place], colour))
        scale(axes, "x", whole=True, bins=4)
        scale(axes, "y")
        name_axes(axes, "environment steps", "")
        axes.set_xlim(left=0)
        end_labels(axes, ends)

    told = "; ".join(
        f"{n}: from {number(float(y.mean(0)[0]), 3)} to {number(float(y.mean(0)[-1]), 3)}" for n, _, y in known
    )
    drawing = svg("curves", f"Return of the training. {told}", draw, size=(WIDTH, HEIGHT), margins=(44, right, 18, 34))
    note = "Mean of the last 100 episodes, exploration included. Line: mean of the seeds; band: from the lowest seed to the highest."
    return Picture("Return of the training", drawing, note)


def _intervals(rows: list[dict[str, Any]], scores: dict[str, Any], confidence: str) -> Picture | None:
    shown = [
        r
        for r in rows
        if all(np.isfinite(real(r.get(k))) and abs(real(r.get(k))) < 1e150 for k in ("iqm", "low", "high"))
    ]
    if not shown:
        return None
    names = [short(r["agent"], 18) for r in shown]
    left = 14 + 6.2 * max(map(len, names))
    size = (WIDTH, 60 + 34 * len(shown))

    def draw(axes: Axes) -> None:
        for place, row in enumerate(shown):
            colour, _ = _look(rows, row["agent"])
            axes.plot(
                [row["low"], row["high"]],
                [place, place],
                color=colour,
                lw=9,
                alpha=0.3,
                solid_capstyle="butt",
                zorder=2,
            )
            given = scores.get(row["agent"])
            values = finite(np.array([real(v) for v in given] if isinstance(given, list) else [], dtype=float))
            axes.plot(values, np.full(len(values), place), "|", color=colour, ms=9, zorder=3)
            axes.plot([row["iqm"]], [place], "o", color=colour, ms=6, zorder=4)
        axes.set_ylim(len(shown) - 0.5, -0.5)
        scale(axes, "x", bins=4)
        name_axes(axes, "return", "")
        axes.set_yticks(range(len(shown)), names)
        axes.grid(visible=False, axis="y")
        axes.grid(axis="x")

    told = "; ".join(
        f"{n}: {number(real(r['iqm']))}, {number(real(r['low']))} to {number(real(r['high']))}"
        for n, r in zip(names, shown, strict=True)
    )
    drawing = svg("intervals", f"Interquartile means. {told}", draw, size=size, margins=(left, 14, 8, 34))
    note = f"Dot: interquartile mean of the seeds; bar: its {confidence} interval; strokes: single seeds."
    return Picture("Greedy return after the training", drawing, note)
