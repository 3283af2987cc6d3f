"""What the indices of clusterings ask of their arguments, in one form."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
from numpy.typing import NDArray

from konspekt.core.errors import DataError

__all__ = ["check_scale", "codes_of", "kept", "matrix_and_codes", "points_and_codes", "two_labellings"]

ALIKE = 1e-9  # of the largest distance; d(x, y) and d(y, x) may be so far apart, as they may be rounded otherwise
LARGEST, LEAST = 1e150, 1e-150  # of points and of their spread: squares of what lies beyond overflow or vanish


def codes_of(labels: Any, what: str) -> tuple[NDArray[np.int64], int]:
    """Labels of any kind as codes (N,) from 0 to K - 1, and K.

    Raises DataError where they are no column of labels, and where some are missing.
    """
    given = np.asarray(labels.to_numpy() if hasattr(labels, "to_numpy") else labels)
    if given.ndim != 1:
        raise DataError(f"{what}: labels are one for each point, of shape (N,); got the shape {given.shape}")
    if not len(given):
        raise DataError(f"{what}: there are no labels; it takes one for each point, of shape (N,)")
    if given.dtype.kind == "f" and not np.isfinite(given).all():
        raise DataError(f"{what}: {int((~np.isfinite(given)).sum())} labels are NaN or infinite")
    if given.dtype.kind == "O":
        import pandas as pd

        if missing := int(pd.isna(given).sum()):
            raise DataError(f"{what}: {missing} labels are missing")
        given = given.astype(str)
    if given.dtype.kind in "biu":
        low, high = int(given.min()), int(given.max())
        if high - low <= 4 * len(given) + 1000:  # so few values that none needs sorting
            shifted = given.astype(np.int64) - low
            there = np.bincount(shifted, minlength=high - low + 1) > 0
            return (np.cumsum(there) - 1)[shifted], int(there.sum())
    values, codes = np.unique(given, return_inverse=True)
    return codes.astype(np.int64, copy=False), len(values)


def points_and_codes(
    X: Any, labels: Any, name: str, *, least: int = 2, singletons: bool = True
) -> tuple[NDArray[np.float64], NDArray[np.int64], int]:
    """Points (N, F) float64 in C order, the codes of their clusters (N,) and K. Points labelled -1 are noise: left out.

    least: how many clusters the index needs. singletons: whether it is defined where each point is a cluster by itself.

    Raises DataError on what is no table of finite numbers, on labels of another length, and where the index is not
    defined.
    """
    points, own = _table(X, labels, name)
    if own is not None:
        points, labels = np.ascontiguousarray(points[own]), _given(labels)[own]
    return points, *_clusters(labels, name, least, singletons)


def matrix_and_codes(
    distances: Any, labels: Any, name: str, *, least: int = 2, singletons: bool = True
) -> tuple[NDArray[np.float64], NDArray[np.int64], int]:
    """As `points_and_codes`, for a matrix of distances (N, N): rows and columns of noise are left out.

    Raises DataError where it is not square, not symmetric, holds a negative distance, or one of a point to itself that
    is not 0.
    """
    matrix, own = _table(distances, labels, name, check=False)
    if matrix.shape[0] != matrix.shape[1]:
        raise DataError(f"{name}: a matrix of distances is square; got the shape {matrix.shape}")
    _check_distances(matrix, name)
    if own is not None:
        matrix, labels = matrix[np.ix_(own, own)], _given(labels)[own]
    return matrix, *_clusters(labels, name, least, singletons)


def two_labellings(truth: Any, labels: Any, name: str) -> tuple[NDArray[np.int64], int, NDArray[np.int64], int]:
    """Codes and numbers of the classes, then of the clusters; noise, -1, counts as a cluster of its own.

    Raises DataError where they are not as many.
    """
    own, classes = codes_of(truth, name)
    found, clusters = codes_of(labels, name)
    if len(own) != len(found):
        raise DataError(f"{name}: {len(own)} true labels, but {len(found)} of clusters; they must be as many")
    return own, classes, found, clusters


def kept(labels: Any) -> NDArray[np.bool_]:
    """Which points are no noise, (N,)."""
    given = _given(labels)
    if given.dtype.kind == "O":
        return np.array([not (isinstance(label, numbers.Real) and label == -1) for label in given], dtype=bool)
    return np.asarray(given != -1) if given.dtype.kind in "if" else np.ones(len(given), bool)


def _given(labels: Any) -> NDArray[Any]:
    given = np.asarray(labels.to_numpy() if hasattr(labels, "to_numpy") else labels)
    if (
        given.dtype.kind == "U"
        and isinstance(labels, (list, tuple))
        and not all(isinstance(one, str) for one in labels)
    ):
        return np.array(labels, dtype=object)  # NumPy makes texts of [-1, "a"], and -1 is noise
    return given


def _table(
    X: Any, labels: Any, name: str, *, check: bool = True
) -> tuple[NDArray[np.float64], NDArray[np.bool_] | None]:
    """X as float64 in C order; which rows are no noise, or None where all are. check: whether X must be finite."""
    points = _numbers(X, name)
    if points.ndim != 2 or points.dtype.kind not in "biuf":
        raise DataError(f"{name}: X is a table (N, F) of numbers; got the shape {points.shape}, {points.dtype}")
    if not points.size:
        raise DataError(f"{name}: X is empty; its shape is {points.shape}")
    points = np.ascontiguousarray(points, dtype=np.float64)
    # A sum is finite only if all its terms are; where it is not, it may have overflown.
    with np.errstate(over="ignore", invalid="ignore"):
        finite = not check or np.isfinite(points.sum()) or np.isfinite(points).all()
    if not finite:
        raise DataError(f"{name}: X holds NaN or infinite numbers; leave these rows out")
    given = _given(labels)
    if given.ndim == 1 and len(given) != len(points):
        raise DataError(f"{name}: {len(points)} points, but {len(given)} labels; they must be as many")
    if given.ndim != 1 or (own := kept(given)).all():
        return points, None
    if not own.any():
        raise DataError(f"{name}: all points are noise (label -1), so there is no cluster to judge")
    return points, own


def _numbers(X: Any, name: str) -> NDArray[Any]:
    """X as an array; one of objects, as of a table with columns of several types, as floats if it holds numbers only."""
    if isinstance(X, np.ma.MaskedArray) and np.ma.is_masked(X):
        raise DataError(f"{name}: {int(np.ma.count_masked(X))} numbers of X are masked; leave these rows out")
    if hasattr(X, "toarray"):  # SciPy is not imported for it
        raise DataError(f"{name}: X is a sparse matrix of the shape {X.shape}; give X.toarray()")
    points = np.asarray(X.to_numpy() if hasattr(X, "to_numpy") else X)
    if points.dtype.kind != "O" or points.ndim != 2:
        return points
    try:
        return points.astype(np.float64)
    except (TypeError, ValueError) as error:  # text, or pandas' NA
        raise DataError(f"{name}: X is a table (N, F) of numbers, but holds something else: {error}") from None


def check_scale(points: NDArray[np.float64], name: str) -> None:
    """Raise DataError where squares of distances would overflow, or vanish although the points differ."""
    low, high = points.min(0), points.max(0)
    largest = float(max(high.max(), -low.min()))
    if largest > LARGEST:
        raise DataError(f"{name}: X holds numbers as large as {largest:.3g}, whose squares overflow; scale X down")
    spread = float((high - low).max())
    if 0 < spread < LEAST:
        raise DataError(f"{name}: the points differ by {spread:.3g} at most, the squares of which vanish; scale X up")


def _check_distances(matrix: NDArray[np.float64], name: str) -> None:
    """In one pass: M v = M^T v for a random v holds by chance only where M is not symmetric."""
    probe = np.random.default_rng(0).normal(size=len(matrix))
    low, high = np.float64(np.inf), np.float64(0.0)
    ahead, back = np.empty(len(matrix)), np.zeros(len(matrix))
    rows = max(1, 2**18 // len(matrix))
    for start in range(0, len(matrix), rows):
        part = matrix[start : start + rows]
        low, high = np.minimum(low, part.min()), np.maximum(high, part.max())  # NaN, where there is one
        if not np.isfinite(low + high):
            raise DataError(f"{name}: the matrix of distances holds NaN or infinite numbers")
        ahead[start : start + rows] = part @ probe
        back += probe[start : start + rows] @ part
    if low < 0:
        raise DataError(f"{name}: the matrix of distances holds {low:g}; distances are not negative")
    if (off := float(np.abs(matrix.diagonal()).max())) > 1e-12 * high:
        raise DataError(f"{name}: a point's distance to itself is 0, but the diagonal holds {off:g}")
    if np.abs(ahead - back).max() <= ALIKE * high:
        return
    for start in range(0, len(matrix), rows):
        part = matrix[start : start + rows]
        gap = np.abs(part - matrix[:, start : start + rows].T)
        if gap.max() > ALIKE * high:
            i, j = (int(a[0]) for a in np.nonzero(gap == gap.max()))
            raise DataError(
                f"{name}: the matrix of distances is not symmetric: row {start + i}, column {j} holds "
                f"{part[i, j]:g}, and the other way round it is {matrix[j, start + i]:g}"
            )


def _clusters(labels: Any, name: str, least: int, singletons: bool) -> tuple[NDArray[np.int64], int]:
    codes, count = codes_of(labels, name)
    if count < least:
        raise DataError(f"{name} compares clusters: it needs at least {least}, and the labels name {count}")
    if not singletons and count == len(codes):
        raise DataError(f"{name} is not defined where each of the {count} points is a cluster by itself")
    return codes, count
