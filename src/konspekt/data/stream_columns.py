"""The columns of a table that is read block by block, in a file: 8 bytes a value, and the texts in memory.

Each block's types are found by itself, as the table goes by. What the whole column is follows from all of them, by the
rules by which pandas would have found it out.

Shape letters in this file: N rows, n rows of a block, C columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from konspekt.data.streams import full_disk

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Columns"]


class Columns:
    """The values of a table's columns in a file, as they were found in each block.

    What a block holds of a column is one of: i, u, f (whole numbers, unsigned ones, floats), e (nothing but gaps), b
    (true and false), B (the same with gaps), t (texts), ? (anything else).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: list[str] = []
        self.kinds: list[list[str]] = []  # of each column, in each block
        self.lengths: list[int] = []  # of the blocks
        self._words: list[dict[str, int]] = []
        self._negative: list[bool] = []
        self._text_dtype: Any = object

    @property
    def total(self) -> int:
        """N."""
        return sum(self.lengths)

    def write(self, frames: Iterator[pd.DataFrame]) -> None:
        """Take a table in, block by block.

        Raises ResourceError where the disk is full.
        """
        with full_disk(self.path), self.path.open("wb") as file:
            for frame in frames:
                if not self.names:
                    self.names = [str(c) for c in frame.columns]
                    self.kinds = [[] for _ in self.names]
                    self._words = [{} for _ in self.names]
                    self._negative = [False] * len(self.names)
                if not len(frame):
                    continue
                values = np.empty((len(self.names), len(frame)), np.int64)
                for place in range(len(self.names)):
                    kind, values[place] = self._coded(place, frame.iloc[:, place])
                    self.kinds[place].append(kind)
                self.lengths.append(len(frame))
                file.write(values.tobytes())

    def _coded(self, place: int, series: pd.Series[Any]) -> tuple[str, NDArray[np.int64]]:
        """What a block holds of a column, and its values in 8 bytes each."""
        import pandas as pd

        kind = series.dtype.kind if isinstance(series.dtype, np.dtype) else "O"
        if kind == "i":
            whole = series.to_numpy(np.int64)
            self._negative[place] |= bool((whole < 0).any())
            return kind, whole
        if kind == "u":
            return kind, series.to_numpy(np.uint64).view(np.int64)
        if kind == "f":
            floats = series.to_numpy(np.float64)
            return "e" if np.isnan(floats).all() else kind, floats.view(np.int64)
        if kind == "b":
            return kind, series.to_numpy(np.int64)
        what = pd.api.types.infer_dtype(series, skipna=True)
        if what == "boolean":
            return "B", np.array([-1 if gone else int(v) for v, gone in zip(series, series.isna(), strict=True)])
        if what == "empty":
            return "e", np.full(len(series), np.nan).view(np.int64)
        if what != "string":
            return "?", np.zeros(len(series), np.int64)
        self._text_dtype = series.dtype
        codes, found = pd.factorize(series)
        words = self._words[place]
        table = np.array([words.setdefault(str(w), len(words)) for w in found] + [-1], np.int64)  # -1: a gap
        return "t", table[codes]

    def dtype(self, place: int) -> str | None:
        """The type that the whole column has; None: its blocks disagree, and it must be read again as text."""
        all_kinds = set(self.kinds[place])
        kinds, gaps = all_kinds - {"e"}, "e" in all_kinds
        if kinds == {"t"}:
            return "text"
        if kinds == {"b"} and not gaps:
            return "bool"
        if kinds and kinds <= {"b", "B"}:
            return "object"
        if kinds == {"i"} and not gaps:
            return "int64"
        if kinds in ({"u"}, {"u", "i"}) and not gaps and not self._negative[place]:
            return "uint64"
        if kinds <= {"i", "f"} or ("f" in kinds and kinds <= {"u", "i", "f"}):
            return "float64"
        return None

    def words(self, place: int) -> list[str]:
        """The different texts of a column."""
        return list(self._words[place])

    def column(self, place: int) -> pd.Series[Any]:
        """A column of all rows, as reading the whole table would have given it."""
        return self._series(place, range(len(self.lengths)))

    def block(self, number: int, places: Sequence[int]) -> dict[int, pd.Series[Any]]:
        """Some columns of one block."""
        return {place: self._series(place, [number]) for place in places}

    def _series(self, place: int, blocks: Sequence[int]) -> pd.Series[Any]:
        import pandas as pd

        dtype = self.dtype(place)
        starts = np.concatenate([[0], np.cumsum(self.lengths)]) * len(self.names) * 8
        parts: list[NDArray[Any]] = []
        with self.path.open("rb") as file:
            for number in blocks:
                length = self.lengths[number]
                values = np.fromfile(file, np.int64, length, offset=int(starts[number]) + place * length * 8)
                file.seek(0)
                parts.append(self._values(values, self.kinds[place][number], dtype))
        whole = np.concatenate(parts)
        if dtype == "text":
            table = np.array([*self._words[place], np.nan], dtype=object)
            return pd.Series(table[whole], name=self.names[place], dtype=self._text_dtype)
        if dtype == "object":
            return pd.Series(np.array([False, True, np.nan], dtype=object)[whole], name=self.names[place])
        return pd.Series(whole, name=self.names[place])

    @staticmethod
    def _values(values: NDArray[np.int64], kind: str, dtype: str | None) -> NDArray[Any]:
        """A block's values of one column in the type of the whole; texts as their numbers."""
        if kind == "e":
            return values.view(np.float64) if dtype == "float64" else np.full(len(values), -1)
        if dtype == "float64":
            return values.view({"f": np.float64, "u": np.uint64}.get(kind, np.int64)).astype(np.float64)
        if dtype in ("bool", "uint64"):
            return values.astype(dtype)
        return values
