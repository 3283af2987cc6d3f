"""Arrays of numbers as tables, block by block: the common case without a Series a column and without a second copy.

Shape letters in this file: N rows, F columns, M training rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from konspekt.core.errors import DataError

if TYPE_CHECKING:
    from konspekt.data.tables import Column

__all__ = ["encode_array", "is_plain", "learn_array"]

_BLOCK = 1 << 22  # values looked at together


def is_plain(X: Any) -> bool:
    """Whether X is an array (N, F) of real numbers."""
    return isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype.kind in "biuf"


def _blocks(rows: NDArray[np.int64], width: int) -> Iterator[NDArray[np.int64]]:
    step = max(_BLOCK // max(width, 1), 1)
    for start in range(0, len(rows), step):
        yield rows[start : start + step]


def learn_array(X: NDArray[Any], rows: NDArray[np.int64], where: str) -> list[Column]:
    """Mean and scale of each column of X (N, F) over `rows` (M,); sums are taken in float64, in two passes.

    Raises DataError where values are too large for that.
    """
    from konspekt.data.tables import Column

    width = X.shape[1]
    with np.errstate(over="ignore", invalid="ignore"):
        mean = sum((X[b].sum(axis=0, dtype=np.float64) for b in _blocks(rows, width)), np.zeros(width)) / len(rows)
        squares = sum(((X[b] - mean) ** 2).sum(axis=0) for b in _blocks(rows, width))
        scale = np.sqrt(squares / len(rows))
    columns = []
    for place in range(width):
        if not np.isfinite([mean[place], scale[place]]).all():
            raise DataError(f"{where}: column 'x{place}': the values are too large to be standardised")
        constant = scale[place] <= 1e-12 * abs(mean[place]) or scale[place] == 0
        note = "constant" if constant else ""
        columns.append(
            Column(f"x{place}", "number", float(mean[place]), 1.0 if constant else float(scale[place]), note=note)
        )
    return columns


def encode_array(X: NDArray[Any], columns: Sequence[Column], where: str) -> torch.Tensor:
    """Standardise an array (N, F) whose columns are all numbers without gaps: (N, F) float32.

    Raises DataError where a value is too large.
    """
    mean, scale = (np.array([getattr(c, name) for c in columns]) for name in ("mean", "scale"))
    x = np.empty(X.shape, dtype=np.float32)
    start = 0
    for rows in _blocks(np.arange(len(X)), X.shape[1]):
        part = x[start : start + len(rows)]
        with np.errstate(over="ignore", invalid="ignore"):  # what becomes infinite is reported below
            part[:] = (X[start : start + len(rows)] - mean) / scale
        if not np.isfinite(part).all():
            row, at = np.argwhere(~np.isfinite(part))[0]
            raise DataError(
                f"{where}: row {start + row}, column {columns[at].name!r}: the value is too large (infinity) for 32-bit "
                "numbers"
            )
        start += len(rows)
    return torch.from_numpy(x)
