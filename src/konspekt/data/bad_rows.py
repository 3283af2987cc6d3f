"""Rows of a table that cannot be used, each with its reason: for `on_bad="skip"`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["bad_rows", "without"]


def bad_rows(X: Any, y: Any, types: Mapping[str, str] | None) -> dict[int, str]:
    """Row number -> why it cannot be used: a target that is missing or infinite, an infinite number, a gap in an array,
    a text in a column that is to hold numbers.

    X: DataFrame or array (N, F). y: (N,) or (N, T), or None. types: as an estimator has them.
    """
    import pandas as pd

    found: dict[int, str] = {}
    types = {str(k): v for k, v in (types or {}).items()}
    if y is not None:
        for name, column in _columns(y):
            called = f"the target {name!r}" if name else "the target"
            _note(found, pd.isna(column), f"{called} is missing")
            _note(found, _infinite(column), f"{called} is infinite")
    if isinstance(X, pd.DataFrame):
        for name, column in _columns(X):
            if types.get(name) == "ignored":
                continue
            if types.get(name) == "number" and column.dtype.kind not in "biuf":
                numbers = pd.to_numeric(pd.Series(column), errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
                for row in np.flatnonzero(np.isnan(numbers) & ~pd.isna(column)).tolist():
                    found.setdefault(row, f"column {name!r} should hold numbers, and has {column[row]!r}")
            _note(found, _infinite(column), f"column {name!r} is infinite")
    elif isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype.kind == "f":
        for place in range(X.shape[1]):
            _note(found, np.isnan(X[:, place]), f"column x{place} is NaN (gaps are filled in DataFrames)")
            _note(found, np.isinf(X[:, place]), f"column x{place} is infinite")
    return dict(sorted(found.items()))


def _columns(table: Any) -> list[tuple[str, NDArray[Any]]]:
    if hasattr(table, "columns"):
        return [(str(c), table.iloc[:, i].to_numpy()) for i, c in enumerate(table.columns)]
    values = table.to_numpy() if hasattr(table, "to_numpy") else np.asarray(table)
    name = str(getattr(table, "name", None) or "")
    return [(name, values)] if values.ndim == 1 else [(name, values[:, i]) for i in range(values.shape[1])]


def _infinite(column: NDArray[Any]) -> NDArray[np.bool_]:
    if column.dtype.kind == "f":
        return np.isinf(column)
    if column.dtype.kind != "O":
        return np.zeros(len(column), dtype=bool)
    return np.array([isinstance(v, float) and np.isinf(v) for v in column], dtype=bool)


def _note(found: dict[int, str], wrong: NDArray[np.bool_], why: str) -> None:
    for row in np.flatnonzero(wrong).tolist():
        found.setdefault(row, why)


def without(table: Any, rows: NDArray[np.bool_]) -> Any:
    """The rows of X or y that are marked."""
    if table is None:
        return None
    return table.loc[rows] if hasattr(table, "loc") else np.asarray(table)[rows]
