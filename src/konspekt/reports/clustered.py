"""What the page says about a clustering: its headline, the picture of the clusters, their sizes and means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes

from konspekt.core.grouped import alike, colours, middles
from konspekt.reports.canvas import INK, MUTED, PAPER, SERIES, WIDTH, name_axes, scale, svg
from konspekt.reports.drawers import draw
from konspekt.reports.figures import Picture
from konspekt.reports.reading import Folder, dicts, mapping
from konspekt.reports.templates import Bar, charts, heading, sentence, table
from konspekt.reports.words import clean, duration, listed, number, percent, plural, real, score, score_name, short

__all__ = ["CLUSTERS", "clusters", "counts", "is_clustering", "leading", "meaning", "outcome"]

CLUSTERS = "clusters"  # the name under which a clustering keeps the table of its sizes
SHAPES = "os^Dv"  # with six colours thirty pairs
SAMPLE = 10_000  # points of which a run takes the silhouette
NAMED = 24  # clusters whose numbers are written
UNEVEN = 50.0  # longer than so many times the other side, a picture with one scale for both is a line
LETTER, LINE = 6.4, 15.0  # CSS pixels of a text in a picture
INDICES = {
    "adjusted_rand": (
        "Adjusted Rand index (Hubert and Arabie 1985): how far the clusters agree with the given labels. 1 is full agreement, "
        "0 what chance would reach."
    ),
    "silhouette": (
        "Mean silhouette (Rousseeuw 1987): 1 is compact and well apart, 0 on the border between two clusters, below 0 nearer to "
        "another cluster than to the own. It favours round clusters."
    ),
}


def is_clustering(folder: Folder) -> bool:
    """Whether the run looked for clusters, and went through no epochs."""
    task = clean(folder.data.get("task") or "")
    return (task == "clustering" or bool(folder.clusters)) and not any(s.epochs or s.steps for s in folder.stages)


# --- the headline ---------------------------------------------------------------------------------------------------


def leading(scores: Mapping[str, Any]) -> str | None:
    """The measure of the headline: agreement where labels were given, else the silhouette, else how many clusters."""
    return next((name for name in (*INDICES, "clusters") if name in scores), next(iter(scores), None))


def meaning(folder: Folder, main: str) -> list[str]:
    """What the measure of the headline says."""
    scores = mapping(folder.result.get("scores"))
    told = [INDICES[main]] if main in INDICES else []
    clustered = real(folder.data.get("train")) * (1 - np.nan_to_num(real(scores.get("noise"))))
    if main == "silhouette" and clustered > SAMPLE:
        told.append(f"It was taken of {number(SAMPLE)} points, chosen at random.")
    if "silhouette" not in scores and real(scores.get("clusters")) < 2:
        told.append("With fewer than two clusters nothing can be compared, so there is no silhouette.")
    return told


def counts(folder: Folder, main: str | None) -> list[tuple[str, str]]:
    """The few numbers below the headline."""
    scores = mapping(folder.result.get("scores"))
    told = [(score_name(k), score(k, v)) for k, v in scores.items() if k not in (main, "clusters", "noise")][:4]
    found = [("clusters", number(scores["clusters"]))] if "clusters" in scores and main != "clusters" else []
    points, noise = folder.data.get("train"), real(scores.get("noise"))
    told = found + told + [("points", number(points) if points is not None else "")]
    return told + ([("noise", percent(noise))] if noise > 0 else [])


def outcome(folder: Folder) -> tuple[str, str]:
    """One word for the state of the run, and its story in a sentence."""
    scores = mapping(folder.result.get("scores"))
    if not folder.result:
        return "not finished", "There is no result.json: the run ended before its clusters were written."
    count, points = real(scores.get("clusters")), folder.data.get("train")
    among = f" among {plural(points, 'point')}" if isinstance(points, int) else ""
    seconds = next((real(s.end.get("seconds")) for s in folder.stages if s.end), np.nan)
    within = f" in {duration(seconds)}" if np.isfinite(seconds) else ""
    if not np.isfinite(count) or count < 1:
        what = "No cluster was found" if count == 0 else "Clusters were looked for"
        return "finished", f"{what}{among}{within}."
    story = f"{plural(int(count), 'cluster was', 'clusters were')} found{among}{within}."
    noise = real(scores.get("noise"))
    if noise > 0:
        story += f" {percent(noise)} of the points belong to none of them."
    return "finished", story


# --- the section ----------------------------------------------------------------------------------------------------


def clusters(folder: Folder) -> Markup | None:
    """The picture, with the given labels beside it, and the clusters one by one; None where no clusters were looked for."""
    if not is_clustering(folder):
        return None
    body = Markup()
    if folder.clusters:
        body += charts(_pictures(folder.clusters))
    elif mapping(folder.config.get("params")).get("metric") == "precomputed":
        body += sentence("Only distances were given, no coordinates: there is no picture of the points.", "note")
    body += _sizes(folder)
    text = "A clustering is one view of the data: another method, or another number of clusters, may show as much."
    if "adjusted_rand" in mapping(folder.result.get("scores")):
        text += (
            " An external index, such as the adjusted Rand index, rates only the agreement with given labels, not what the "
            "clustering is worth: points can fall into clusters by something else than their labels say."
        )
    else:
        text += " An index of compactness favours the shapes that it assumes, whether the data have them or not."
    return body + sentence(text)


def _sizes(folder: Folder) -> Markup:
    """The kept table, its shares as bars."""
    if CLUSTERS not in folder.kept:
        return Markup()
    value = folder.kept[CLUSTERS].get("value")
    rows = dicts(value)
    if not rows or len(rows) != len(value) or "cluster" not in rows[0]:
        return heading("One by one") + draw(CLUSTERS, folder.kept[CLUSTERS].get("kind"), value)
    keys = [k for k in dict.fromkeys(k for row in rows for k in row) if k not in ("cluster", "points", "share")][:12]
    keys.sort(key=lambda k: k != "commonest label")
    largest = max((np.nan_to_num(real(row.get("share"))) for row in rows), default=0.0)
    cells = []
    for row in rows:
        share = real(row.get("share"))
        bar = Bar(min(1.0, max(0.0, float(np.nan_to_num(share)) / (largest or 1.0))))
        rest = [v if v is None or isinstance(v, (int, float)) else short(v, 60) for v in map(row.get, keys)]
        cells.append([short(row.get("cluster")), row.get("points"), bar, percent(share), *rest])
    found = real(mapping(folder.result.get("scores")).get("clusters"))
    shown = sum(row.get("cluster") != "noise" for row in rows)
    note = f"The {number(shown)} largest of {number(int(found))} clusters." if found > shown else ""
    head = ["cluster", "points", "", "share", *(short(k, 40) for k in keys)]
    return heading("One by one") + table("Clusters", head, cells, note)


# --- the picture ----------------------------------------------------------------------------------------------------


def _pictures(arrays: Mapping[str, np.ndarray]) -> list[Picture]:
    points, labels, marks = arrays["points"], arrays["labels"], arrays.get("marks", np.zeros((0, 2)))
    axes = [short(name, 44) for name in arrays["axes"].tolist()]
    if not axes[1] and not points[:, 1].any():
        points, marks = points.copy(), marks.copy()
        points[:, 1] = np.random.default_rng(0).uniform(-1, 1, len(points))
    names = {int(c): number(int(c)) for c in np.unique(labels) if c >= 0}
    told = [f"{number(len(points))} of {number(int(arrays['total']))} points are drawn."] * (
        int(arrays["total"]) > len(points)
    )
    told += ["A projection: points that lie apart may look close."] * axes[0].startswith("principal component")
    told += ["Placed by their distances (classical scaling)."] * axes[0].startswith("principal coordinate")
    told += ["Upwards the points are spread at random, for sight."] * (not axes[1])
    told += ["Crosses are centres."] * bool(len(marks))
    told += ["Small and grey: noise, points of no cluster."] * bool((labels < 0).any())
    view = _View(points, marks, axes)
    told += ["The axes have different scales."] * (not view.even and bool(axes[1]))
    looks = colours(points, labels, len(SERIES))
    pictures = [_picture("clusters", "Clusters found", view, labels, names, marks, " ".join(told), looks)]
    if "truth" in arrays:
        words, codes = np.unique(arrays["truth"], return_inverse=True)
        codes = np.where(np.isin(words, ("-1", "-1.0"))[codes], -1, codes)  # noise, as methods write it
        matched = alike(labels, codes)
        named = {int(m): clean(words[c]) for m, c in zip(matched, codes, strict=True) if m >= 0}
        note = "Each label has the colour of that cluster with which it shares most points."
        pictures.append(_picture("given", "Given labels", view, matched, named, np.zeros((0, 2)), note, looks))
    return pictures


class _View:
    """The limits of the axes and the size of the picture, so that a step to the right is as long as one upwards."""

    margins = (44.0, 12.0, 22.0, 34.0)

    def __init__(self, points: np.ndarray, marks: np.ndarray, names: list[str]) -> None:
        self.points = points
        every = np.concatenate([points, marks])
        self.low, self.high = every.min(0), every.max(0)
        sides = self.high - self.low
        longer = float(sides.max()) or max(1.0, float(np.abs(every).max()))
        self.names = names
        self.even = bool(names[1]) and not 1e-9 * longer < sides.min() < longer / UNEVEN
        sides = np.maximum(sides, 1e-9 * longer if self.even else 0)
        sides = np.where(sides > 0, sides, longer)
        left, right, top, bottom = self.margins
        room = np.array([WIDTH - left - right, 0.0])
        room[1] = room[0] * np.clip(sides[1] / sides[0], 0.4, 1.0) if self.even else 150
        unit = np.full(2, (sides / room).max()) if self.even else sides / room  # of the data, in a CSS pixel
        middle, half = (self.low + self.high) / 2, 0.54 * unit * room
        self.low, self.high, self.unit = middle - half, middle + half, 1.08 * unit
        self.size = (float(WIDTH), float(room[1] + top + bottom))


def _picture(
    name: str,
    title: str,
    view: _View,
    codes: np.ndarray,
    names: Mapping[int, str],
    marks: np.ndarray,
    caption: str,
    known: Mapping[int, int] | None = None,
) -> Picture:
    """The points in colours and shapes of their clusters, with the clusters' names."""
    points = view.points
    looks = colours(points, codes, len(SERIES), known)
    size = float(np.clip(14 / len(points) ** 0.22, 1.8, 5.0))
    labels = {c: short(word, 12) for c, word in names.items()}
    pairs = np.array([looks[c] * len(SHAPES) + c % len(SHAPES) if c >= 0 else -1 for c in codes.tolist()])

    def box(code: int) -> tuple[float, float]:
        width, height = view.unit * (LETTER * len(labels[code]) + 20, LINE + 12)
        return float(width), float(height)

    places = middles(points, codes, NAMED, box, taken=marks, drop=True)
    if len(places) < len(names):
        caption = f"{caption} Not every one has room for its name.".strip()

    def draw(axes: Axes) -> None:
        axes.plot(*points[codes < 0].T, "o", ms=max(1.2, 0.45 * size), color=MUTED, mec="none", alpha=0.7, zorder=2)
        for turn in range(3):  # so that no cluster hides another
            for pair in np.unique(pairs[pairs >= 0]).tolist():
                own, colour, shape = points[pairs == pair][turn::3], *divmod(pair, len(SHAPES))
                axes.plot(*own.T, SHAPES[shape], ms=size, color=SERIES[colour], mec="none", alpha=0.75, zorder=3)
        axes.plot(*marks.T, "X", ms=9, color=INK, mec=PAPER, mew=1.2, zorder=5)
        for code, (x, y) in places.items():
            half = box(code)[0] / 2
            frame = {"boxstyle": "round,pad=0.2", "fc": PAPER, "ec": SERIES[looks[code]], "lw": 1.4}
            place = (float(np.clip(x, view.low[0] + half, view.high[0] - half)), y)
            axes.annotate(labels[code], place, color=INK, ha="center", va="center", bbox=frame, zorder=6)
        axes.set(xlim=(view.low[0], view.high[0]), ylim=(view.low[1], view.high[1]))
        scale(axes, "x")
        scale(axes, "y")
        name_axes(axes, view.names[0], view.names[1])
        if not view.names[1]:
            axes.set_yticks([])

    sizes = [f"{word}: {number(int((codes == c).sum()))}" for c, word in names.items()]
    label = f"{title}: {plural(len(points), 'point')}, {view.names[0]} across, {view.names[1] or 'nothing'} upwards. "
    drawing = svg(name, f"{label}{listed(sizes)}. {caption}", draw, size=view.size, margins=view.margins)
    return Picture(title, drawing, caption)
