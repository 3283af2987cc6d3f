"""How a clusterer reads its points: an array, a DataFrame, a tensor, a csv or parquet file; or a matrix of distances."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.utils.validation import validate_data
from torch import Tensor

from konspekt.core.errors import DataError
from konspekt.data.outside import table_of
from konspekt.data.sets import DataSet
from konspekt.data.tables import is_table, split_target

__all__ = ["read_points"]

_TILE = 256  # rows and columns that are held against each other at once: both tiles stay in the cache
_ASYMMETRY = 1e-8  # of the largest distance: what rounding may leave between d(i, j) and d(j, i)


def read_points(
    estimator: Any, X: Any, y: Any, *, reset: bool
) -> tuple[NDArray[Any], NDArray[Any] | None, list[str] | None]:
    """The points (N, F) float32 or float64 in C order, labels that came with them (N,), and the names of the columns.

    reset: of a fit; otherwise they are checked against the points of the fit.

    Raises DataError where there is text, a missing or infinite number, or fewer than two points to fit; where distances are
    negative, not symmetric, or not 0 from a point to itself.
    """
    where = type(estimator).__name__
    points, names = _as_it_is(estimator, X, y, reset=reset), None
    if points is None:
        points, y, names = _read(estimator, X, y, where, reset=reset)
    if reset and getattr(estimator, "metric", None) == "precomputed":  # affinities are checked where they are used
        _check_distances(points, where)
    if y is not None:
        y = np.asarray(y.to_numpy() if hasattr(y, "to_numpy") else y)
        if y.ndim != 1 or len(y) != len(points):
            raise DataError(
                f"{where}: X has {len(points)} points and y the shape {y.shape}; y is a label for each point, or is left out"
            )
    return points, y, names


def _as_it_is(estimator: Any, X: Any, y: Any, *, reset: bool) -> NDArray[Any] | None:
    """X, where it is already what all checks would make of it; else None.

    The checks take 0.2 ms, which predictions for some thousand points would feel.
    """
    named = hasattr(estimator, "feature_names_in_")
    if (
        type(X) is not np.ndarray
        or X.ndim != 2
        or X.dtype not in (np.dtype(np.float64), np.dtype(np.float32))
        or not X.flags.c_contiguous
        or not X.shape[1]
        or len(X) < (2 if reset else 1)
        or (not reset and (named or X.shape[1] != estimator.n_features_in_))
        or isinstance(y, (str, tuple))
    ):
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        if not np.isfinite(X.sum()):  # a gap, or a sum that overflows: the checks tell
            return None
    if reset:
        estimator.n_features_in_ = X.shape[1]
        if named:
            del estimator.feature_names_in_
    return X


def _read(estimator: Any, X: Any, y: Any, where: str, *, reset: bool) -> tuple[NDArray[Any], Any, list[str] | None]:
    """Points in any other form, their labels as they came, and the names of the columns."""
    if isinstance(X, DataSet):
        classes = "classification" in X.task  # of a regression, the targets are no labels
        X, own = X.for_task("clustering")
        y = own if y is None and classes else y
    from_file = isinstance(X, (str, Path))
    X, y = table_of(X, y, where)
    X, y = split_target(X, y)
    _refuse_kind(X, where)
    names = None
    if is_table(X):
        if from_file and not reset and hasattr(estimator, "feature_names_in_"):  # it may have columns besides
            X = _of_the_fit(X, list(estimator.feature_names_in_), where)
        _refuse_text(X, where)
        names = [str(name) for name in X.columns]
    elif isinstance(X, Tensor):
        X = X.detach().cpu().numpy()
    try:
        points: NDArray[Any] = validate_data(
            estimator, X, reset=reset, dtype=[np.float64, np.float32], order="C", ensure_min_samples=2 if reset else 1
        )
    except ValueError as error:
        raise DataError(f"{where}: {_advised(str(error))}") from None
    return points, y, names


def _of_the_fit(X: Any, wanted: list[str], where: str) -> Any:
    missing = [name for name in wanted if name not in X.columns]
    if missing:
        raise DataError(f"{where}: the table lacks the columns {', '.join(missing[:8])}, which the fit had")
    return X[wanted]


def _refuse_kind(X: Any, where: str) -> None:
    """Raise DataError on what is no table of points at all."""
    if issparse(X):
        raise DataError(
            f"{where}: X is a sparse matrix of the shape {X.shape}; clusters are found among dense points: give X.toarray(), or fewer "
            "columns of it (sklearn.decomposition.TruncatedSVD)"
        )
    if isinstance(X, Mapping):
        raise DataError(f"{where}: X is a {type(X).__name__}; make a table of it by pandas.DataFrame(X)")
    if is_table(X) and not X.shape[1]:
        raise DataError(
            f"{where}: the table has no columns besides the target, hence 0 feature(s); give at least one of numbers"
        )


def _refuse_text(X: Any, where: str) -> None:
    """Raise DataError that names columns which are no numbers, and cells that are missing."""
    kinds = {str(name): dtype.kind for name, dtype in X.dtypes.items()}
    texts = [name for name, kind in kinds.items() if kind not in "biuf"]
    if texts:
        shown = ", ".join(repr(t) for t in texts[:8]) + (" ..." if len(texts) > 8 else "")
        raise DataError(
            f"{where}: clusters are found among numbers, but {len(texts)} of {len(kinds)} columns hold something else: {shown}; "
            "leave them out, encode them (sklearn.preprocessing.OneHotEncoder), or name the one with known labels as target"
        )
    missing = X.isna()
    if missing.to_numpy().any():
        row, column = np.argwhere(missing.to_numpy())[0]
        raise DataError(
            f"{where}: {int(missing.to_numpy().sum())} missing values, the first in row {row}, column {X.columns[column]!r}; "
            "fill them (sklearn.impute.SimpleImputer) or leave these rows out: a distance to a gap is not defined"
        )


def _check_distances(D: NDArray[Any], where: str) -> None:
    head = f"{where}: with metric='precomputed' X is the matrix of distances (N, N)"
    if D.shape[0] != D.shape[1]:
        raise DataError(f"{head}, but its shape is {D.shape}")
    if D.min() < 0:
        row, column = np.unravel_index(np.argmin(D), D.shape)
        raise DataError(
            f"{head}, but the entry at {int(row)}, {int(column)} is {D[row, column]:g}: distances are not negative"
        )
    slack = (_ASYMMETRY + (1e-5 if D.dtype == np.float32 else 0.0)) * float(D.max())
    diagonal = np.abs(np.diagonal(D))
    if diagonal.max() > slack:
        place = int(np.argmax(diagonal))
        raise DataError(f"{head}, but the one from point {place} to itself is {diagonal[place]:g}, not 0")
    tiles = [(i, j) for i in range(0, len(D), _TILE) for j in range(i, len(D), _TILE)]
    for i, j in tiles:
        apart = np.abs(D[i : i + _TILE, j : j + _TILE] - D[j : j + _TILE, i : i + _TILE].T)
        if apart.max() > slack:
            row, column = (int(place) for place in np.unravel_index(np.argmax(apart), apart.shape))
            a, b = i + row, j + column
            raise DataError(
                f"{head}, which is symmetric, but {D[a, b]:g} at {a}, {b} stands against {D[b, a]:g} at {b}, {a}"
            )


def _advised(text: str) -> str:
    """scikit-learn's message in one line, with what to do."""
    text = text.splitlines()[0] if "NaN" in text else " ".join(text.split())
    text = re.sub(r"array=\[.*\]\. |(?<=not supported).*", "", text).rstrip(".")  # without the numbers
    advice = {
        "contains NaN": ": fill missing values (sklearn.impute.SimpleImputer) or leave the rows out",
        "infinity": ": mend or leave out these rows",
        "sample(s)": "; give more points",
        "feature(s)": "; give at least one column of numbers",
        "Complex": ": give real and imaginary parts as columns of their own",
        "could not convert": ": clusters are found among numbers; encode text, or leave it out",
    }
    return text + next((more for part, more in advice.items() if part in text), "")
