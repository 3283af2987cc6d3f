"""DIANA, which divides by a splinter group (Kaufman & Rousseeuw 1990, chapter 6). Course: row J3 (document I, section 40.6)."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any

import numpy as np
from numpy.typing import NDArray

from konspekt.cluster.dendrogram import sizes_of

__all__ = ["diana"]

_BLOCK = 64  # rows of distances that are looked through at once
_FRESH = 1e-3  # sums are taken anew where the diameter has fallen to this share, before differences lose their digits
_SLACK = 1e-12  # of the diameter: what is no more than rounding


def diana(D: NDArray[Any]) -> NDArray[np.float64]:
    """The tree (N - 1, 4), as `scipy.cluster.hierarchy` has it, of the dissimilarities (N, N), symmetric, 0 on the diagonal.

    The height of a merge is the diameter of the cluster that was divided there. Of equal candidates the first is taken.

    The sums of distances within a cluster are handed on to its halves, so a division takes time in its points times those that
    split off, and not in the square of its points; diameters are found by rows whose greatest distance was large before.
    """
    n = len(D)
    first = np.arange(n)
    far = D.max(1).astype(np.float64)
    whole = float(far.max())
    # a cluster: points, sums of distances to its others, upper bounds of the greatest, diameter when the sums were taken
    nodes: dict[int, tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], float]] = {
        0: (first, D.sum(1, dtype=np.float64), far, whole)
    }
    waiting = [(-whole, 0)]
    divided: list[tuple[int, int, int, float]] = []  # node, its halves, its diameter
    alone: dict[int, int] = {}  # the node of a single point
    made = 1
    while waiting:
        negative, node = heappop(waiting)
        own, sums, far, taken = nodes.pop(node)
        diameter = -negative
        if diameter > 0 and diameter < _FRESH * taken:
            sums, taken = _sums(D, own), diameter
        if diameter > 0:
            gone, sums = _splinter(D, own, sums, _SLACK * diameter)
        else:  # equal points leave one by one
            gone = np.arange(len(own)) == 0
        divided.append((node, made, made + 1, diameter))
        for part in (~gone, gone):
            points = own[part]
            if len(points) == 1:
                alone[made] = int(points[0])
            else:
                bounds = far[part]
                width = _diameter(D, points, bounds) if diameter > 0 else 0.0
                nodes[made] = (points, sums[part], bounds, taken)
                heappush(waiting, (-width, made))
            made += 1
    return _tree(divided, alone, n)


def _splinter(
    D: NDArray[Any], own: NDArray[np.int64], sums: NDArray[np.float64], slack: float
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which points of a cluster split off, and of each point the sum of distances to the others of its own half."""
    gone = np.zeros(len(own), bool)
    rest, splinter = sums.copy(), np.zeros(len(own))
    moving, left = int(sums.argmax()), len(own)
    while True:
        row = D[own[moving], own]
        rest -= row
        splinter += row
        gone[moving] = True
        left -= 1
        if left == 1:
            break
        gain = rest / (left - 1) - splinter / (len(own) - left)
        gain[gone] = -np.inf
        moving = int(gain.argmax())
        if gain[moving] <= slack:
            break
    return gone, np.where(gone, splinter, rest)


def _sums(D: NDArray[Any], own: NDArray[np.int64]) -> NDArray[np.float64]:
    """The sum of distances of each point of a cluster to its others."""
    found = np.empty(len(own))
    for begin in range(0, len(own), _BLOCK):
        rows = own[begin : begin + _BLOCK]
        found[begin : begin + _BLOCK] = D[np.ix_(rows, own)].sum(1, dtype=np.float64)
    return found


def _diameter(D: NDArray[Any], own: NDArray[np.int64], far: NDArray[np.float64]) -> float:
    """The greatest distance in a cluster. far: what no distance of each point exceeds; it is sharpened in place."""
    greatest = 0.0
    order = np.argsort(-far, kind="stable")
    for begin in range(0, len(own), _BLOCK):
        rows = order[begin : begin + _BLOCK]
        if far[rows[0]] <= greatest:
            break
        far[rows] = D[np.ix_(own[rows], own)].max(1)
        greatest = max(greatest, float(far[rows].max()))
    return greatest


def _tree(divided: list[tuple[int, int, int, float]], alone: dict[int, int], n: int) -> NDArray[np.float64]:
    """Divisions, from the first to the last, as a tree that merges from the last to the first."""
    number = dict(alone)
    tree = np.empty((n - 1, 4))
    for row, (node, one, other, height) in enumerate(reversed(divided)):
        number[node] = n + row
        tree[row, :3] = *sorted((number[one], number[other])), height
    tree[:, 3] = sizes_of(tree[:, :2].astype(np.int64))
    return tree
