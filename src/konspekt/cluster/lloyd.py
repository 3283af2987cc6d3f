"""Lloyd's k-means by torch, for points on a GPU, and for the steps that a history shows. Course: row J1.

The rules are those of scikit-learn's `KMeans`, so that from the same start both go the same way: points are centred first; a fit
ends where no label changes or the centres move by no more than tol; a centre that no point is nearest to takes the place of the
point that is furthest from its own.

Shape letters: N points, F features, K centres.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Found", "best_of", "lloyd", "nearest", "spread_out"]

ENTRIES = 1 << 24  # of a block of the distances between points and centres

Record = Callable[[Tensor, Tensor], None]


@dataclass(frozen=True, eq=False)
class Found:
    """What one start led to: labels (N,) int64, centres (K, F), the sum of squared distances, the steps taken."""

    labels: Tensor
    centres: Tensor
    inertia: float
    n_iter: int


def nearest(X: Tensor, centres: Tensor) -> Tensor:
    """The nearest centre of each point, (N,). X: (N, F), centred: far from the origin digits would be lost."""
    squares = centres.square().sum(1)  # a point's own square is the same for all centres, and left out
    rows = max(1, ENTRIES // len(centres))
    parts = [torch.addmm(squares, block, centres.T, alpha=-2).argmin(1) for block in X.split(rows)]
    return torch.cat(parts)


def sums_of(X: Tensor, labels: Tensor, clusters: int, *, product: bool) -> tuple[Tensor, Tensor]:
    """The sum of each cluster's points, (K, F) float64 where the device has it, and their numbers (K,).

    product: by a product of matrices, which on a GPU gives the same bits each time; adding in place does not.
    """
    wide = torch.float32 if X.device.type == "mps" else torch.float64
    counts = torch.bincount(labels, minlength=clusters)
    sums = torch.zeros(clusters, X.shape[1], dtype=wide, device=X.device)
    if not product:
        return sums.index_add_(0, labels, X.to(wide)), counts
    rows = max(1, ENTRIES // clusters)
    for block, own in zip(X.split(rows), labels.split(rows), strict=True):
        sums += (F.one_hot(own, clusters).to(X.dtype).T @ block).to(wide)
    return sums, counts


def _relocate(X: Tensor, labels: Tensor, centres: Tensor, sums: Tensor, counts: Tensor) -> None:
    """Give clusters without a point the points that are furthest from their own centres. Changes sums and counts."""
    empty = (counts == 0).nonzero()[:, 0]
    far = (X - centres[labels]).square().sum(1)
    if far.max() == 0:  # fewer places than clusters
        return
    for cluster, point in zip(empty.tolist(), far.topk(len(empty)).indices.tolist(), strict=True):
        home = int(labels[point])
        sums[home] -= X[point]
        counts[home] -= 1
        sums[cluster], counts[cluster] = X[point].to(sums.dtype), 1


def lloyd(X: Tensor, start: Tensor, *, max_iter: int, tol: float, record: Record | None = None) -> Found:
    """Steps from a start until they stand still. X: (N, F), centred; start: (K, F), centred alike.

    tol: what the squared moves of the centres, added up, may be at the end. record: called with the labels and centres of the
    start, and after each step.
    """
    centres, before = start.clone(), None
    labels = torch.empty(0, dtype=torch.int64)
    settled, step = False, 0
    while step < max_iter and not settled:
        step += 1
        labels = nearest(X, centres)
        settled = before is not None and bool(torch.equal(labels, before))
        if record is not None and not settled:
            record(labels, centres)
        sums, counts = sums_of(X, labels, len(centres), product=X.is_cuda)
        if bool((counts == 0).any()):
            _relocate(X, labels, centres, sums, counts)
        means = (sums / counts.clamp(min=1)[:, None]).to(X.dtype)
        moved = torch.where(counts[:, None] > 0, means, centres)
        shift = float((moved - centres).square().sum())
        centres, before = moved, labels
        if shift <= tol:
            break
    if not settled:
        labels = nearest(X, centres)
    if record is not None:
        record(labels, centres)
    return Found(labels, centres, within(X, labels, centres), step)


def within(X: Tensor, labels: Tensor, centres: Tensor) -> float:
    """The sum of squared distances to the own centres, from the differences, so that no digits cancel."""
    rows = max(1, ENTRIES // X.shape[1])
    parts = [
        float((block - centres[own]).square().sum(1).sum(dtype=centres.dtype))
        for block, own in zip(X.split(rows), labels.split(rows), strict=True)
    ]
    return math.fsum(parts)


def spread_out(X: Tensor, n_clusters: int, rng: np.random.Generator) -> Tensor:
    """Starting centres by greedy k-means++, (K, F): each the best of 2 + log K points drawn by their squared distance.

    Arthur and Vassilvitskii 2007, "k-means++: the advantages of careful seeding". Random numbers come from NumPy, so that a
    seed starts at the same points on any device.
    """
    trials = 2 + int(math.log(n_clusters))
    wide = torch.float32 if X.device.type == "mps" else torch.float64
    chosen = [int(rng.integers(len(X)))]
    closest = (X - X[chosen[0]]).square().sum(1)
    for _ in range(n_clusters - 1):
        heights = closest.to(wide).cumsum(0)
        drawn = torch.from_numpy(rng.random(trials)).to(X.device, wide) * heights[-1]
        tried = torch.searchsorted(heights, drawn).clamp(max=len(X) - 1)
        apart = torch.stack([torch.minimum(closest, (X - X[t]).square().sum(1)) for t in tried.tolist()])
        best = int(apart.sum(1).argmin())
        chosen.append(int(tried[best]))
        closest = apart[best]
    return X[chosen]


def best_of(
    X: Tensor, n_clusters: int, init: str | Tensor, *, n_init: int, max_iter: int, tol: float, seed: int
) -> tuple[Found, Tensor]:
    """The best of several starts, and the start (K, F) that led there. X: (N, F), centred. init: "k-means++", "random", a start."""
    rng = np.random.default_rng(seed)

    def drawn() -> Tensor:
        if isinstance(init, Tensor):
            return init
        if init == "random":
            return X[torch.from_numpy(rng.choice(len(X), n_clusters, replace=False)).to(X.device)]
        return spread_out(X, n_clusters, rng)

    starts = (drawn() for _ in range(n_init))
    return min(((lloyd(X, s, max_iter=max_iter, tol=tol), s) for s in starts), key=lambda pair: pair[0].inertia)
