"""The page of a comparison, of clusterings or of agents: `report_comparison(folder)` reads what `Comparison.save` wrote.

The folder is not trusted, as that of a run is not: what is missing or damaged is said, in a sentence or an error.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes

from konspekt.core.errors import DataError
from konspekt.core.folders import read_json, write_file
from konspekt.metrics.clustering import INDICES
from konspekt.reports.agents_compared import render_agents
from konspekt.reports.canvas import MUTED, SERIES, WIDTH, name_axes, scale, svg
from konspekt.reports.figures import Picture
from konspekt.reports.page import Headline
from konspekt.reports.reading import dicts, mapping
from konspekt.reports.templates import Cell, Grid, bullets, charts, environment, heading, part, sentence, table
from konspekt.reports.words import (
    Digits,
    clean,
    decimal,
    duration,
    listed,
    number,
    percent,
    plural,
    real,
    score_name,
    short,
)

__all__ = ["report_comparison"]

MAX_DOTS = 800  # of a picture
MAX_METHODS = 40
MARKS = "osD^v<>P"
LARGE = 50_000_000  # bytes of comparison.npz that are read


def report_comparison(folder: str | Path, out: str | Path | None = None) -> Path:
    """Write the page of a comparison and return where it is.

    folder: what `Comparison.save` wrote. out: the file; None: report.html in the folder.

    Raises DataError where there is no comparison in the folder, ResourceError where the disk refuses.
    """
    place = Path(folder)
    target = place / "report.html" if out is None else Path(out)
    write_file(target, render(place).encode("utf-8", "replace"))
    return target


def render(place: Path) -> str:
    """The page as text."""
    file = place / "comparison.json"
    if not file.is_file():
        raise DataError(f"{place}: there is no comparison.json; `konspekt compare` or Comparison.save writes one")
    said = mapping(read_json(file))
    if said.get("task") == "acting":
        return render_agents(place, said)
    rows = [r for r in dicts(said.get("rows")) if isinstance(r.get("method"), str)][:MAX_METHODS]
    if not rows:
        raise DataError(f"{file}: names no method; it is no comparison, or damaged")
    arrays, note = _arrays(place / "comparison.npz")
    indices = {kind: _texts(mapping(said.get("indices")).get(kind)) for kind in ("internal", "external")}
    sections = [
        ("methods", "Methods", _methods(rows, bool(indices["external"]))),
        ("pictures", "Pictures", _pictures(rows, arrays) or sentence(note, "note")),
        ("internal", "Internal indices", _indices(rows, indices["internal"], "Of the points and the clusters alone. Noise is left out.")),
        ("external", "External indices", _indices(rows, indices["external"], "Of the clusters and the labels that were given. Noise counts as a cluster.")),
        ("agreement", "Agreement of the methods", _agreement(rows, arrays)),
        ("parameters", "Parameters", _parameters(rows)),
        ("reading", "How to read this", bullets(_texts(said.get("notes")))),
    ]  # fmt: skip
    head = _headline(place, said, rows)
    return environment().get_template("report.html").render(head=head, sections=[s for s in sections if s[2]])


def _texts(values: Any) -> list[str]:
    """The texts in a list; nothing where it is no list."""
    return [clean(v) for v in values if isinstance(v, str)] if isinstance(values, list) else []


def _headline(place: Path, said: dict[str, Any], rows: list[dict[str, Any]]) -> Headline:
    failed = [r["method"] for r in rows if r.get("clusters") is None]
    story = plural(len(rows), "method")
    points, total = said.get("points"), said.get("total")
    if isinstance(points, int):
        story += f" on {plural(points, 'point')}"
        story += f", drawn from {number(total)}" if isinstance(total, int) and total != points else ""
    story += f". Without a clustering: {', '.join(map(clean, failed))}." if failed else "."
    settings = mapping(said.get("settings"))
    told = [
        ("columns", number(len(_texts(said.get("columns"))))),
        ("subsamples", number(settings.get("n_resamples"))),
        ("seeds", number(settings.get("n_seeds"))),
        ("seed", clean(settings.get("seed", ""))),
    ]
    return Headline(
        run=clean(place.resolve().name),
        system="Comparison of clusterings",
        data=short(Path(str(said.get("source") or "")).name, 80),
        score="",
        score_name="",
        context=_texts(said.get("notes"))[0 if _texts(mapping(said.get("indices")).get("external")) else 1 :][:1],
        state="finished",
        story=story,
        facts=told,
        problems="",
    )


def _methods(rows: list[dict[str, Any]], with_truth: bool) -> Markup:
    """The few numbers that matter, of each method."""
    head = ["method", "clusters", "noise", "silhouette", "agreement with labels (adjusted Rand)", "stability, subsamples", "stability, seeds", "time of a fit"]  # fmt: skip
    cells = []
    for row in rows:
        cells.append(
            [
                clean(row["method"]),
                "failed" if row.get("clusters") is None else row["clusters"],
                None if row.get("noise") is None else percent(real(row["noise"])),
                _decimal(row.get("silhouette")),
                _decimal(row.get("adjusted_rand")) if with_truth else None,
                _decimal(row.get("stability")),
                _decimal(row.get("seeds")),
                None if row.get("seconds") is None else duration(row["seconds"]),
            ]
        )
    body = table("Methods", head, cells)
    problems = [f"{row['method']}: {short(row['problem'], 300)}" for row in rows if row.get("problem")]
    return body + (heading("Failures and warnings") + bullets(problems) if problems else Markup())


def _indices(rows: list[dict[str, Any]], names: list[str], note: str) -> Markup | None:
    """A column for each method, a row for each index: there are more indices than methods."""
    if not names:
        return None
    shown = [r for r in rows if r.get("clusters") is not None]
    cells = []
    for name in names:
        values = [real(r.get(name)) for r in shown]
        known = INDICES.get(name)
        way = "" if known is None else "high" if known.higher_is_better else "low"
        seen = [v for v in values if np.isfinite(v)]
        best = None if not (seen and way) else max(seen) if way == "high" else min(seen)
        leaders = [clean(r["method"]) for r, v in zip(shown, values, strict=True) if v == best]
        numbers = [Digits(number(v, 3)) if np.isfinite(v) else None for v in values]
        cells.append([score_name(name), way, listed(leaders, 2), *numbers])
    head = ["index", "better is", "best", *(clean(r["method"]) for r in shown)]
    return table("Indices", head, cells, f"{note} Values of different indices cannot be compared.")


def _agreement(rows: list[dict[str, Any]], arrays: dict[str, np.ndarray]) -> Markup | None:
    """Adjusted Rand index of each pair of methods."""
    found = [(clean(r["method"]), arrays[f"labels-{i}"]) for i, r in enumerate(rows) if f"labels-{i}" in arrays]
    if len(found) < 2:
        return None
    from konspekt.metrics.clustering import adjusted_rand

    names = [name for name, _ in found]
    values = [[float(adjusted_rand(one, other)) for _, other in found] for _, one in found]
    cells = [[Cell(f"{v:.2f}", max(0.0, min(1.0, v))) for v in row] for row in values]
    note = "Adjusted Rand index of every two methods: 1 is the same clusters, 0 is chance."
    return part("grid", Grid("Agreement of the methods", names, names, cells, note=note))


def _parameters(rows: list[dict[str, Any]]) -> Markup:
    cells = [[clean(r["method"]), short(r.get("parameters") or "", 200), short(r.get("rule") or "", 300)] for r in rows]
    return table("Parameters", ["method", "parameters", "how they were chosen"], cells)


def _decimal(value: Any) -> Any:
    return None if value is None else decimal(real(value))


# --- pictures -------------------------------------------------------------------------------------------------------


def _pictures(rows: list[dict[str, Any]], arrays: dict[str, np.ndarray]) -> Markup | None:
    """The points in the plane, once for each method and for the labels that were given."""
    if "points" not in arrays:
        return None
    points, axes = arrays["points"], [clean(a) for a in arrays["axes"]]
    chosen = np.arange(len(points))
    if len(points) > MAX_DOTS:
        chosen = np.sort(np.random.default_rng(0).choice(len(points), MAX_DOTS, replace=False))
    labellings = [("truth", "The labels that were given", arrays["truth"])] if "truth" in arrays else []
    labellings += [
        (f"method-{i}", clean(row["method"]), arrays[f"labels-{i}"])
        for i, row in enumerate(rows)
        if f"labels-{i}" in arrays
    ]
    pictures, first = [], None
    for name, title, labels in labellings:
        ranks = _ranks(labels.astype(str), first)
        first = ranks if first is None else first
        pictures.append(_picture(name, title, points[chosen], ranks[chosen], len(np.unique(ranks[ranks >= 0]))))
    drawn = f" {number(len(chosen))} of {number(len(points))} points are drawn." if len(chosen) < len(points) else ""
    across = f"Across: {axes[0]}; upwards: {axes[1]}." if axes[1] else f"Across: {axes[0]}."
    note = f"{across}{drawn} Clusters differ in colour and mark, which are those of the first picture's cluster that they share the most "
    note += "points with. Noise is small and grey."
    return charts(pictures) + sentence(note, "note")


def _ranks(labels: np.ndarray, first: np.ndarray | None) -> np.ndarray:
    """Clusters as numbers: those of `first` that they share the most points with, one each, else by size; -1 is noise."""
    from scipy.optimize import linear_sum_assignment

    found, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    noise = found == "-1"
    order = np.argsort(np.where(noise, 1, -counts), kind="stable")
    ranks = np.full(len(found), -1)
    if first is None or not (first >= 0).any():
        ranks[order[: (~noise).sum()]] = np.arange((~noise).sum())
        return ranks[codes]
    shared = np.zeros((len(found), int(first.max()) + 1))
    np.add.at(shared, (codes[first >= 0], first[first >= 0]), 1)
    shared[noise] = 0
    for here, there in zip(*linear_sum_assignment(shared, maximize=True), strict=True):
        if shared[here, there]:
            ranks[here] = there
    free = (n for n in range(len(found) + shared.shape[1]) if n not in set(ranks.tolist()))
    for cluster in order:
        if ranks[cluster] < 0 and not noise[cluster]:
            ranks[cluster] = next(free)
    return ranks[codes]


def _picture(name: str, title: str, points: np.ndarray, ranks: np.ndarray, count: int) -> Picture:
    """One clustering. ranks: which colour and mark, -1: noise."""

    def draw(axes: Axes) -> None:
        axes.plot(*points[ranks < 0].T, ".", ms=2.5, mec="none", color=MUTED, alpha=0.7)
        for rank in np.unique(ranks[ranks >= 0]):
            mark, colour = MARKS[rank % len(MARKS)], SERIES[rank % len(SERIES)]
            axes.plot(*points[ranks == rank].T, mark, ms=3.4, mec="none", color=colour, alpha=0.75)
        scale(axes, "x", bins=4)
        scale(axes, "y", bins=4)
        name_axes(axes, "", "")

    label = f"{title}: {plural(count, 'cluster')}, noise: {percent(float((ranks < 0).mean()))} of the points"
    drawing = svg(f"clusters-{name}", label, draw, size=(WIDTH, 0.8 * WIDTH), margins=(40, 10, 8, 24))
    return Picture(f"{short(title, 34)}, {plural(count, 'cluster')}", drawing)


def _arrays(file: Path) -> tuple[dict[str, np.ndarray], str]:
    """The arrays that go together, and what is to be said where there are none."""
    if not file.is_file() or file.is_symlink() or file.stat().st_size > LARGE:
        return {}, "There are no pictures: comparison.npz is missing, a link, or too large."
    try:
        with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, KeyError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        return {}, f"There are no pictures: comparison.npz is not readable ({short(error, 80)})."
    points, axes = arrays.get("points"), arrays.get("axes")
    if points is None or points.ndim != 2 or points.shape[1] != 2 or points.dtype.kind != "f" or not len(points):
        return {}, "There are no pictures: comparison.npz holds no points of the plane."
    if not np.isfinite(points).all() or np.abs(points).max() > 1e150 or axes is None or axes.shape != (2,):
        return {}, "There are no pictures: the points of comparison.npz cannot be drawn."
    return {k: v for k, v in arrays.items() if k == "axes" or (v.ndim > 0 and len(v) == len(points))}, ""
