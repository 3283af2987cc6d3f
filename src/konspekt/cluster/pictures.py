"""Pictures of clusters: points in the plane in colours that need no colour vision, frames of a fit's history."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from konspekt.cluster.panels import NAMED, SINGLE, SPREAD, View, head, is_numbered, kinds, panel, said
from konspekt.cluster.plane import Plane, by_distances, in_the_plane, largest
from konspekt.core.errors import ConfigError, DataError
from konspekt.core.folders import write_file
from konspekt.core.grouped import alike

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["by_distances", "draw_clusters", "draw_frames", "in_the_plane", "save_frames"]

PANELS = 12
FRAMES = 60  # of an animation
LARGEST = 1e150  # beyond it, an axis overflows


def draw_clusters(
    points: NDArray[Any],
    labels: NDArray[Any],
    *,
    title: str = "",
    columns: list[str] | None = None,
    truth: NDArray[Any] | None = None,
    marks: NDArray[Any] | None = None,
    precomputed: bool = False,
) -> Figure:
    """The points in the colours of their clusters as a matplotlib figure, both axes to one scale.

    Colours and shapes go by the cluster, and its number is written at its middle; noise is small and grey. With more than
    two columns, the picture is a projection onto the first two principal components, and the axes say so. More than 5,000
    points are shown by how densely they lie.

    points: (N, F). labels: (N,), the cluster of each; -1: noise. columns: the names of the F columns. truth: (N,), other
    labels, drawn beside; each has the colour of the cluster with which it shares most points. marks: (K, F), the centres.
    precomputed: points is the matrix of distances (N, N); the picture is `by_distances`, of 5,000 points at most.

    Raises DataError where these do not fit together, or hold what cannot be drawn.
    """
    from matplotlib.figure import Figure

    if precomputed:
        plane, axes_names, labels, truth = _spread_out(points, labels, truth)
        marks = None
    else:
        plane, axes_names, place = _placed(points, columns)
    codes, names = _coded(labels, len(plane), "labels")
    centres = np.zeros((0, 2)) if marks is None or not len(marks) else place(marks)
    view = View.of(plane, centres, axes_names)
    figure = Figure(
        figsize=(6.4 if truth is None else 11.8, 5.2 * view.height + 0.9), layout="constrained", facecolor="white"
    )
    left, *right = figure.subplots(1, 1 if truth is None else 2, squeeze=False)[0]
    looks = kinds(plane, codes)
    panel(left, view, plane, codes, names, looks, centres)
    more = f"; {'circles' if is_numbered(names, centres) else 'crosses'}: centres" if len(centres) else ""
    more += "; axes of different scale" if not view.even and view.names[1] != SPREAD else ""
    head(left, title, said(codes, names, "cluster") + more)
    if truth is not None:
        others, words = _coded(truth, len(plane), "truth")
        matched = alike(codes, others)
        numbers, first = np.unique(matched, return_index=True)
        named = {int(n): words[int(others[i])] for n, i in zip(numbers, first, strict=True) if n >= 0}
        panel(right[0], view, plane, matched, named, kinds(plane, matched, looks))
        head(right[0], "Given labels", said(others, words, "label"))
    return figure


def draw_frames(points: NDArray[Any], frames: Sequence[Mapping[str, Any]], title: str = "") -> Figure:
    """The steps of a fit as panels of one matplotlib figure, at most 12, evenly chosen, the first and the last among them.

    points: (N, F). frames: one a step, with "labels" (N,), "marks" (K, F) or both, and "title". A thin line is the way
    that a centre has come, as long as their number stays the same.

    Raises ConfigError where there is no frame, DataError as `draw_clusters` does.
    """
    from matplotlib.figure import Figure

    film = _Film(points, frames)
    chosen = np.unique(np.linspace(0, len(frames) - 1, PANELS).round().astype(int))
    across = min(4, len(chosen)) if len(chosen) != 6 else 3
    down = -(-len(chosen) // across)
    figure = Figure(
        figsize=(3.3 * across, (2.8 * film.view.height + 0.4) * down + 0.6), layout="constrained", facecolor="white"
    )
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for axes, number in zip(panels, chosen, strict=False):
        film.draw(axes, int(number))
    for axes in panels[len(chosen) :]:
        axes.set_axis_off()
    said = f"{len(chosen)} of {len(frames)} steps" if len(chosen) < len(frames) else ""
    heading = f"{title}: {said}" if title and said else title or said
    if heading:
        figure.suptitle(heading, fontsize=12, parse_math=False)
    across_name, up_name = film.view.names
    figure.supxlabel(across_name, fontsize=9, parse_math=False)
    figure.supylabel(up_name, fontsize=9, parse_math=False)
    return figure


def save_frames(
    path: str | Path,
    points: NDArray[Any],
    frames: Sequence[Mapping[str, Any]],
    title: str = "",
    *,
    seconds: float = 0.5,
) -> Path:
    """The steps of a fit as an animated GIF, at most 60, evenly chosen; the last one stays three times as long.

    path: a name that ends in .gif. points, frames, title: as in `draw_frames`. seconds: how long a step is shown.

    Raises ConfigError on the name, ResourceError where the disk refuses, otherwise as `draw_frames`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    target = Path(path)
    if target.suffix.lower() != ".gif":
        raise ConfigError(f"save_frames writes an animated GIF, but the name is {target.name!r}; let it end in .gif")
    film = _Film(points, frames)
    chosen = np.unique(np.linspace(0, len(frames) - 1, FRAMES).round().astype(int))
    pictures = []
    for number in chosen:
        figure = Figure(figsize=(5.6, 4.8 * film.view.height + 0.6), dpi=100, layout="constrained", facecolor="white")
        film.draw(figure.subplots(), int(number), f"{title}: " if title else "")
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        pixels = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
        pictures.append(pixels.quantize(128, dither=Image.Dither.NONE))
    shown = max(20, round(1000 * seconds))
    content = io.BytesIO()
    durations = [*[shown] * (len(pictures) - 1), 3 * shown]
    pictures[0].save(content, "GIF", save_all=True, append_images=pictures[1:], duration=durations, loop=0)
    write_file(target, content.getvalue())
    return target


class _Film:
    """The frames of a fit in the plane, all in one view."""

    def __init__(self, points: NDArray[Any], frames: Sequence[Mapping[str, Any]]) -> None:
        if not len(frames):
            raise ConfigError("there are no frames to draw; fit with keep_history=True")
        self.frames = frames
        self.plane, names, place = _placed(points, None)
        self.marks = [place(m) if (m := f.get("marks")) is not None and len(m) else np.zeros((0, 2)) for f in frames]
        self.view = View.of(self.plane, np.concatenate(self.marks), names)
        self.looks = kinds(
            self.plane, self._codes(len(frames) - 1)[0]
        )  # each cluster keeps its look from frame to frame

    def _codes(self, number: int) -> tuple[NDArray[np.int64], dict[int, str]]:
        labels = self.frames[number].get("labels")
        return _coded(np.full(len(self.plane), -1) if labels is None else labels, len(self.plane), "labels")

    def draw(self, axes: Axes, number: int, before: str = "") -> None:
        """One frame, with the ways of the centres up to it."""
        frame, marks = self.frames[number], self.marks[number]
        codes, names = self._codes(number)
        panel(axes, self.view, self.plane, codes, names, kinds(self.plane, codes, self.looks), marks, small=True)
        came = number
        while came and len(self.marks[came - 1]) == len(marks):
            came -= 1
        if number > came and len(marks) <= NAMED:
            ways = np.stack(self.marks[came : number + 1], axis=1)
            axes.plot(*ways.transpose(2, 1, 0), color="black", lw=1, zorder=4)
        head(axes, f"{before}{frame.get('title') or f'step {number}'}", "", small=True)
        axes.set(xlabel="", ylabel="")


# --- what is drawn ---


def _placed(
    points: NDArray[Any], columns: list[str] | None
) -> tuple[Plane, list[str], Callable[[NDArray[Any]], Plane]]:
    """What `in_the_plane` gives, of points that were checked; those of one column are spread along the other axis."""
    points = np.asarray(points)
    if points.ndim != 2 or not points.size or points.dtype.kind not in "biuf":
        raise DataError(f"points are numbers of the shape (N, F), these are {points.dtype} of the shape {points.shape}")
    if not largest(points) <= LARGEST:  # NaN as well
        raise DataError(f"points hold NaN or numbers beyond {LARGEST:g}, which cannot be drawn; mend or scale them")
    if columns is not None and len(columns) != points.shape[1]:
        raise DataError(f"{len(columns)} names of columns for {points.shape[1]} columns of points; give one for each")
    plane, names, place = in_the_plane(points, columns or [f"column {i}" for i in range(points.shape[1])])
    if points.shape[1] == 1:
        plane[:, 1] = np.random.default_rng(0).uniform(-1, 1, len(plane))
        names[1] = SPREAD
    return plane, names, place


def _spread_out(
    distances: NDArray[Any], labels: NDArray[Any], truth: NDArray[Any] | None
) -> tuple[Plane, list[str], NDArray[Any], NDArray[Any] | None]:
    """Points in the plane from distances, at most 5,000, evenly chosen; the names of the axes; their labels."""
    distances, count = np.asarray(distances), len(distances)
    if distances.shape != (count, count) or not count or not largest(distances) <= LARGEST:
        raise DataError(f"distances have the shape (N, N) and are finite, these are of the shape {distances.shape}")
    for what, given in (("labels", labels), ("truth", truth)):
        if given is not None:
            _coded(given, count, what)
    few = np.unique(np.linspace(0, count - 1, min(count, SINGLE)).astype(int))
    plane, names = by_distances(distances[np.ix_(few, few)] if len(few) < count else distances)
    return plane, names, np.asarray(labels)[few], None if truth is None else np.asarray(truth)[few]


def _coded(labels: NDArray[Any], count: int, what: str) -> tuple[NDArray[np.int64], dict[int, str]]:
    """Labels as numbers, -1 for noise or none, and the name of each number."""
    labels = np.asarray(labels)
    if labels.shape != (count,):
        raise DataError(f"{what} has the shape {labels.shape}, but there are {count} points; give one for each")
    if labels.dtype.kind in "iu":
        codes = labels.astype(np.int64).clip(-1)
        return codes, {int(c): str(c) for c in np.unique(codes) if c >= 0}
    import pandas as pd

    found, words = pd.factorize(labels, sort=False)
    order = sorted(range(len(words)), key=lambda i: str(words[i]))
    numbers = np.empty(len(words) + 1, dtype=np.int64)
    numbers[order], numbers[-1] = np.arange(len(words)), -1
    return numbers[found], {i: str(words[j]) for i, j in enumerate(order)}
