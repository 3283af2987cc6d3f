"""What a pruning has come to: quality against size, before and after the fine-tuning."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup

from konspekt.reports.drawers import table_of
from konspekt.reports.figures import Line, lines
from konspekt.reports.reading import Folder, dicts, mapping
from konspekt.reports.templates import charts, heading, part, sentence
from konspekt.reports.words import number, percent, plural, real, score, score_name, short

__all__ = ["PRUNING", "pruning"]

PRUNING = "pruning"  # the name under which `explain.prune` keeps its curve
_BEFORE = " before fine-tuning"


def pruning(folder: Folder) -> Markup | None:
    """The curve, what it comes to in words, and its points as a table; None where nothing was pruned."""
    rows = dicts(mapping(folder.kept.get(PRUNING)).get("value"))
    if not rows:
        return None
    before = next((k for k in rows[0] if k.endswith(_BEFORE)), "")
    measure = before.removesuffix(_BEFORE)
    if not measure:
        return part("table", table_of("Pruning", rows))
    pictures = []
    for key, xlabel in (("parameters", "parameters left"), ("multiply-adds", "multiply-adds an item")):
        x = np.array([real(r.get(key)) for r in rows])
        series = [
            Line(name, *_sorted(x, np.array([real(r.get(column)) for r in rows])), "main")
            for name, column in (("fine-tuned", measure), ("as cut", before))
        ]
        if len(series[0].x) > 1 and np.ptp(series[0].x) > 0 and any(np.isfinite(s.y).any() for s in series):
            title = f"{score_name(measure)} against {key}"
            pictures.append(lines(f"pruning-{key}", title, series, xlabel=xlabel, log=False))
    body = sentence(_story(rows, measure))
    body += charts(pictures) if pictures else Markup()
    return body + heading("Steps") + part("table", table_of("Pruning", rows))


def _sorted(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The points by size, without those whose size is not known."""
    order = [i for i in np.argsort(x, kind="stable") if np.isfinite(x[i])]
    return x[order], y[order]


def _story(rows: list[dict[str, Any]], measure: str) -> str:
    """The first and the last point in a sentence."""
    first, last = rows[0], rows[-1]
    scores = [score(measure, row.get(measure)) for row in (first, last)]
    what = f"In {plural(len(rows) - 1, 'step')} {short(last.get('removed'), 120)} were taken out"
    story = f"{what}: {score_name(measure)} {scores[0]} with all, {scores[1]} at the end."
    left = []
    for key, name in (
        ("parameters", "parameters"),
        ("multiply-adds", "multiply-adds"),
        ("seconds an item", "measured time"),
    ):
        was, now = real(first.get(key)), real(last.get(key))
        if was > 0 and np.isfinite(now):
            figures = f" ({number(int(now))} of {number(int(was))})" if key != "seconds an item" else ""
            left.append(f"{percent(now / was)} of the {name}{figures}")
    return story + (f" Left: {', '.join(left)}." if left else "")
