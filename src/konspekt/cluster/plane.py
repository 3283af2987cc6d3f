"""Points of any number of columns, or distances alone, as points in the plane, for pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Plane", "by_distances", "in_the_plane", "largest"]

WIDEST = 1_000  # columns, or points, up to which a square matrix is decomposed as a whole
BLOCK = 1 << 22  # numbers of the points that are centred at a time

Plane = NDArray[np.float64]


def in_the_plane(points: NDArray[Any], columns: list[str]) -> tuple[Plane, list[str], Callable[[NDArray[Any]], Plane]]:
    """Points (N, F) as (N, 2), the names of the two axes, and what brings other points there.

    Two columns stay as they are, one gets zeros beside it; of more, the first two principal components are taken, and the
    names of the axes say so, with their share of the variance.
    """
    if points.shape[1] <= 2:

        def same(other: NDArray[Any]) -> Plane:
            wide = np.zeros((len(other), 2))
            wide[:, : other.shape[1]] = other
            return wide

        return same(points), [*columns, ""][:2], same
    top = largest(points)
    top = top if top > 1e100 else 1.0  # the squares of larger numbers overflow
    mean = sum(block.sum(0) for block in _blocks(points, top)) / len(points)
    axes, variances, total = _components(points, top, mean)
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), [0, 1]])  # a sign that does not depend on the library
    shares = variances / max(total, np.finfo(float).tiny)

    def project(other: NDArray[Any]) -> Plane:
        return np.concatenate([(block - mean) @ axes for block in _blocks(other, top)]) * top

    names = [f"principal component {i + 1} ({share:.0%} of variance)" for i, share in enumerate(shares)]
    return project(points), names, project


def by_distances(distances: NDArray[Any]) -> tuple[Plane, list[str]]:
    """Points in the plane (N, 2) whose distances are near to the given ones (N, N), and the names of the two axes.

    Classical scaling (Torgerson 1952). What negative eigenvalues, of distances that are no Euclidean ones, would add is left out.
    """
    products = distances.astype(np.float64) ** 2
    rows = products.mean(0)
    products -= rows
    products -= rows[:, None]
    products += rows.mean()
    products *= -0.5
    total = float(np.trace(products))
    if len(products) <= WIDEST:
        values, vectors = np.linalg.eigh(products)
    else:
        from scipy.sparse.linalg import eigsh

        start = np.random.default_rng(0).standard_normal(len(products))
        values, vectors = eigsh(products, k=2, which="LA", v0=start, tol=1e-6)
    values, vectors = values[:-3:-1].clip(0), vectors[:, :-3:-1]
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(0), [0, 1]])
    shares = values / max(total, np.finfo(float).tiny)
    return vectors * np.sqrt(values), [
        f"principal coordinate {i + 1} ({s:.0%} of variance)" for i, s in enumerate(shares)
    ]


def largest(points: NDArray[Any]) -> float:
    """The largest absolute value; NaN where there is one."""
    return max(float(points.max()), -float(points.min()))


def _blocks(points: NDArray[Any], top: float) -> Iterator[Plane]:
    """The points divided by `top`, some rows at a time, so that no copy of all is made."""
    step = max(1, BLOCK // points.shape[1])
    for begin in range(0, max(1, len(points)), step):
        block = points[begin : begin + step].astype(np.float64)
        yield block if top == 1.0 else block / top


def _components(points: NDArray[Any], top: float, mean: Plane) -> tuple[Plane, Plane, float]:
    """The directions of the largest variance (F, 2), their variances and that of all columns together, all times N."""
    width = points.shape[1]
    if width <= WIDEST:
        scatter = np.zeros((width, width))
        for block in _blocks(points, top):
            block -= mean
            scatter += block.T @ block
        values, vectors = np.linalg.eigh(scatter)
        return vectors[:, :-3:-1], values[:-3:-1].clip(0), float(np.trace(scatter))
    from scipy.sparse.linalg import LinearOperator, eigsh

    def times(vector: Plane) -> Plane:
        total: Plane = sum((block - mean).T @ ((block - mean) @ vector.ravel()) for block in _blocks(points, top))
        return total

    total = float(sum(((block - mean) ** 2).sum() for block in _blocks(points, top)))
    if total == 0:
        return np.eye(width, 2), np.zeros(2), 0.0
    start = np.random.default_rng(0).standard_normal(width)
    values, vectors = eigsh(LinearOperator((width, width), times, dtype=np.float64), k=2, v0=start, tol=1e-6)
    return vectors[:, ::-1], values[::-1].clip(0), total
