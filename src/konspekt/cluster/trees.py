"""The picture of a tree of clusters, a dendrogram. Course: row J3 (document I, section 40.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from konspekt.cluster.dendrogram import roots_of
from konspekt.cluster.panels import COLOURS
from konspekt.core.errors import DataError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_tree"]

WHOLE = 60  # leaves up to which a picture shows each of them
FEWEST, MOST = 40, 120  # bundles that the picture of a larger tree shows
GREY = "#8a8a8a"  # what is above the cut


def draw_tree(
    tree: NDArray[np.float64],
    made: NDArray[np.bool_],
    sizes: NDArray[np.int64],
    labels: NDArray[np.int64],
    *,
    title: str,
    height_is: str,
    at: float | None,
    names: list[str],
) -> Figure:
    """A dendrogram as a matplotlib figure.

    tree: (L - 1, 4). made: (L - 1,) the merges below the cut. sizes: (L,) the points in each leaf. labels: (L,) its cluster.
    at: the height of the line of the cut; None: no line. names: (L,) what to write under leaves of one point.

    Raises DataError where the tree has one leaf.
    """
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from scipy.cluster.hierarchy import dendrogram

    leaves, clusters = len(tree) + 1, int((~made).sum()) + 1
    if leaves < 2:
        raise DataError(f"{title}: the tree has one leaf, since all points are alike; there is nothing to draw")
    shown = leaves if leaves <= WHOLE else min(max(2 * clusters, FEWEST), MOST, leaves)
    plan = dendrogram(tree, p=shown, truncate_mode="lastp", no_plot=True, link_color_func=str)  # colour: node number
    of_node, points = _below(tree, made, labels, sizes)

    def colour(node: int) -> str:
        return GREY if of_node[node] < 0 else COLOURS[of_node[node] % len(COLOURS)]

    figure = Figure(figsize=(min(max(6.4, 0.2 * shown + 1.5), 16.0), 4.6), layout="constrained", facecolor="white")
    axes = figure.subplots()
    lines = [list(zip(x, y, strict=True)) for x, y in zip(plan["icoord"], plan["dcoord"], strict=True)]
    colours = [colour(int(node)) for node in plan["color_list"]]
    axes.add_collection(LineCollection(lines, colors=colours, linewidths=1.4))
    places = 5.0 + 10.0 * np.arange(len(plan["leaves"]))  # where SciPy puts them
    axes.scatter(places, np.zeros(len(places)), c=[colour(n) for n in plan["leaves"]], s=16, marker="s", zorder=3)
    top = float(np.max(plan["dcoord"]))
    if at is not None:
        axes.axhline(at, color="black", linewidth=1.0, linestyle=(0, (5, 4)), zorder=2)
        top = max(top, at)
    axes.set_xlim(0, 10.0 * len(places))
    axes.set_ylim(-0.015 * (top or 1.0), 1.05 * (top or 1.0))
    single = [node < leaves and sizes[node] == 1 for node in plan["leaves"]]
    texts = [names[node] if alone else f"({points[node]})" for node, alone in zip(plan["leaves"], single, strict=True)]
    turned = max(len(t) for t in texts) * len(texts) > 75
    small = 6.0 if len(texts) > 80 else 7.0 if len(texts) > 40 else 9.0
    axes.set_xticks(places, texts, rotation=90 if turned else 0, fontsize=small)
    axes.tick_params(axis="x", length=0)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.set_ylabel(f"height: {height_is}")
    axes.set_xlabel("point" if all(single) else "in brackets: how many points hang there; else the point")
    if 1 < clusters <= len(COLOURS):
        counts = np.bincount(labels, sizes).astype(int)
        handles = [
            Line2D([], [], color=COLOURS[c], marker="s", markersize=4, label=f"cluster {c}: {n:,}")
            for c, n in enumerate(counts)
        ]
        figure.legend(handles=handles, loc="outside right center", frameon=False, fontsize=8)
    said = f"cut at {at:.4g}" if at is not None else "all one" if clusters == 1 else "no height cuts it so"
    total = int(sizes.sum())
    axes.set_title(f"{title}: {clusters} cluster{'s' * (clusters > 1)} of {total:,} points ({said})", fontsize=11)
    return figure


def _below(
    tree: NDArray[np.float64], made: NDArray[np.bool_], labels: NDArray[np.int64], sizes: NDArray[np.int64]
) -> tuple[NDArray[np.int64], list[int]]:
    """The cluster of each node, -1 above the cut, and how many points it has."""
    leaves = len(tree) + 1
    roots = roots_of(tree, made)
    of_root = np.full(2 * leaves - 1, -1)
    of_root[roots[:leaves]] = labels
    points = sizes.tolist()
    for left, right in tree[:, :2].astype(np.int64).tolist():
        points.append(points[left] + points[right])
    return of_root[roots], points
