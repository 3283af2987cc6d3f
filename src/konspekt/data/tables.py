"""Tables: arrays, DataFrames, csv and parquet files as numbers and category codes that a net can take.

A column of a DataFrame or a file is a `number`, a `category`, a `date` or `ignored`. Numbers are standardised; a missing
one is replaced by the mean, and a column that had missing values at training gets an indicator beside it. Categories
become codes: 0 for a value that the training did not have, 1 for a missing one (if the training had any), then one code
each. Dates, times and durations become several numbers (`data/dates.py`); text does where all of it is ISO 8601.

Shape letters in this file: N rows, F numbers, K categories.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from konspekt.core.errors import ConfigError, DataError, nearest
from konspekt.data.dates import DateFeatures, are_dates
from konspekt.data.table_arrays import encode_array, is_plain, learn_array
from konspekt.data.table_files import is_table, read_csv, read_table

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "TYPES",
    "Column",
    "TableSchema",
    "is_table",
    "read_csv",
    "split_target",
]

TYPES = ("number", "category", "date", "ignored")
MAX_CATEGORIES = 1000  # rarer values share the code of unseen ones: an embedding row needs examples to learn from
_NO_CELL = (list, dict, set, tuple, np.ndarray, Tensor)


@dataclass
class Column:
    """One column as the training saw it. dates: of a date, its features."""

    name: str
    type: str
    mean: float = 0.0
    scale: float = 1.0
    missing: int = 0
    categories: list[str] = field(default_factory=list)
    note: str = ""
    dates: DateFeatures | None = None

    @property
    def indicator(self) -> bool:
        """Whether a column of zeros and ones beside it says where values were missing."""
        return self.type in ("number", "date") and self.missing > 0

    @property
    def num_codes(self) -> int:
        """Of a category: how many codes there are."""
        return len(self.categories) + 1 + (self.missing > 0)

    @property
    def date_names(self) -> list[str]:
        """Of a date: its features, the indicator last."""
        names = [f"{self.name}: {n}" for n in self.dates.names] if self.dates else []
        return names + [f"{self.name} is missing"] * (self.dates is not None and self.indicator)


def split_target(X: Any, y: Any, categories: Collection[str] = ()) -> tuple[Any, Any]:
    """Read X if it is a csv or parquet file, and take the column that y names (or columns) out of it.

    categories: columns of a file whose values are names, not numbers.

    Raises DataError where there is no such column, or X has no columns with names.
    """
    source = X
    if isinstance(X, (str, Path)):
        if not is_table(X):
            raise DataError(f"{X!s}: not a table; tables are .csv, .csv.gz and .parquet files, DataFrames and arrays")
        texts = {*categories, *([y] if isinstance(y, str) else y if isinstance(y, tuple) else ())}
        X = read_table(X, texts)
    elif hasattr(X, "columns") and hasattr(X, "to_pandas"):  # polars, pyarrow
        X = X.to_pandas()
    names = [y] if isinstance(y, str) else list(y) if isinstance(y, tuple) else None
    if isinstance(y, str) and not is_table(X):
        raise DataError(f"y={y!r} names a column, but X has no columns with names: give y as an array")
    if names is None or not all(isinstance(n, str) for n in names) or not is_table(X):
        return X, y
    for name in names:
        if name not in X.columns:
            where = f"{source}" if isinstance(source, (str, Path)) else "the DataFrame"
            raise DataError(f"{where} has no column {name!r}; {nearest(name, map(str, X.columns))}")
    return X.drop(columns=names), X[names[0]] if isinstance(y, str) else X[names]


@dataclass
class TableSchema:
    """What a net needs to know of a table, and all that is needed to encode another one in the same way.

    columns: in the table's order. named: whether the columns had names of their own (a DataFrame, a file).
    """

    columns: list[Column]
    named: bool

    @classmethod
    def learn(cls, X: Any, types: Mapping[str, str] | None, where: str, rows: NDArray[np.int64] | None = None) -> Self:
        """Learn the schema of X.

        X: DataFrame, or array (N, F) of finite numbers. types: column -> one of TYPES, to override what is found.
        rows: those to learn from; None: all.

        Raises DataError where a column holds what it should not, ConfigError where `types` names no column or type.
        """
        named = hasattr(X, "columns")
        names = [str(c) for c in X.columns] if named else [f"x{i}" for i in range(np.asarray(X).shape[1])]
        if is_plain(X) and X.shape[1] and not types:
            return cls(learn_array(X, np.arange(len(X)) if rows is None else rows, where), named)
        X = _frame(X) if rows is None else _frame(X).iloc[rows]
        return cls.learn_columns(names, lambda place: X.iloc[:, place], types, where, named=named)

    @classmethod
    def learn_columns(
        cls,
        names: list[str],
        column: Callable[[int], pd.Series[Any]],
        types: Mapping[str, str] | None,
        where: str,
        *,
        named: bool = True,
    ) -> Self:
        """Learn the schema of a table that is looked at column by column: `column` gives the one at a place.

        Raises what `learn` raises.
        """
        types = {str(name): kind for name, kind in (types or {}).items()}
        for name, kind in types.items():
            if name not in names:
                raise ConfigError(f"{where}: types names no column {name!r}; {nearest(name, names)}")
            if kind not in TYPES:
                raise ConfigError(f"{where}: types[{name!r}] must be one of {', '.join(TYPES)}, got {kind!r}")
        columns = []
        for place, name in enumerate(names):
            series = column(place)
            columns.append(_learn_column(name, series, types.get(name) or _find_type(series, where), where))
        if all(c.type == "ignored" for c in columns):
            why = f"{_some(names)} hold no value or are ignored" if names else "the table has none beside the target"
            raise DataError(f"{where}: no column is left to learn from: {why}")
        return cls(columns, named)

    @property
    def numbers(self) -> list[Column]:
        """The columns of numbers."""
        return [c for c in self.columns if c.type == "number"]

    @property
    def categories(self) -> list[Column]:
        """The columns of categories."""
        return [c for c in self.columns if c.type == "category"]

    @property
    def dates(self) -> list[Column]:
        """The columns of dates, times and durations."""
        return [c for c in self.columns if c.type == "date"]

    @property
    def num_features(self) -> int:
        """F: columns of numbers, with their indicators, and the features of dates."""
        return len(self.feature_names)

    @property
    def feature_names(self) -> list[str]:
        """(F,): the numbers, then their indicators, then the features of each date."""
        names = [c.name for c in self.numbers] + [f"{c.name} is missing" for c in self.numbers if c.indicator]
        return names + [name for c in self.dates for name in c.date_names]

    @property
    def num_codes(self) -> list[int]:
        """(K,): how many codes each category has."""
        return [c.num_codes for c in self.categories]

    @property
    def notes(self) -> list[str]:
        """What a user should be told: the types found, constant columns, missing values, rare categories."""
        notes = []
        if self.named:
            found = [(t, [c.name for c in self.columns if c.type == t]) for t in ("number", "category", "date")]
            notes.append("types found: " + "; ".join(f"{t}: {_some(names)}" for t, names in found if names))
        for c in self.dates:
            notes.append(f"column {c.name} is read as {c.dates.kind if c.dates else ''}: {', '.join(c.date_names)}")
        constant = [c.name for c in self.numbers + self.dates if c.note == "constant"]
        if constant:
            notes.append(f"{len(constant)} constant column(s) left out of scaling: {_some(constant)}")
        filled = [f"{c.name} ({c.missing})" for c in self.numbers if c.missing]
        if filled:
            notes.append(f"missing numbers filled with the mean, with an indicator column each: {_some(filled)}")
        filled = [f"{c.name} ({c.missing})" for c in self.dates if c.missing]
        if filled:
            notes.append(f"missing dates filled with the means, with an indicator column each: {_some(filled)}")
        filled = [f"{c.name} ({c.missing})" for c in self.categories if c.missing]
        if filled:
            notes.append(f"missing categories have a code of their own: {_some(filled)}")
        ignored = [c.name for c in self.columns if c.type == "ignored"]
        if ignored:
            notes.append(f"ignored columns: {_some(ignored)}")
        return notes + [f"column {c.name}: {c.note}" for c in self.categories if c.note]

    def match(self, X: pd.DataFrame, where: str) -> pd.DataFrame:
        """The columns of a file in the order of the training; columns that the training had not are left out.

        Where the training had no names, the columns count by their places.

        Raises DataError where columns are missing.
        """
        if not self.named:
            return X.set_axis(range(X.shape[1]), axis=1)
        gone = [c.name for c in self.columns if c.name not in X.columns]
        if gone:
            raise DataError(
                f"{where}: columns that the model was trained on are missing: {_some(gone)}; "
                f"the file has: {_some([str(c) for c in X.columns])}"
            )
        return X[[c.name for c in self.columns]]

    def check_columns(self, X: pd.DataFrame) -> None:
        """Raise DataError where a DataFrame has not the columns of the training, in their order.

        scikit-learn compares names too, but only where all are strings.
        """
        if X.shape[1] != len(self.columns):
            raise DataError(f"X has {X.shape[1]} features, expected {len(self.columns)}")
        names = [str(c) for c in X.columns]
        differ = [f"{was.name!r}, now {now!r}" for was, now in zip(self.columns, names, strict=True) if was.name != now]
        if self.named and differ:
            raise DataError(f"the columns are not those of the training in their order: was {'; '.join(differ[:5])}")

    def encode(self, X: Any, where: str) -> dict[str, Tensor]:
        """Encode a DataFrame, or an array (N, columns): x (N, F) float32 and, if there are categories, codes (N, K) int64.

        Raises DataError where a number column holds text or an infinite value, or a date column what is no date.
        """
        if is_plain(X) and all(c.type == "number" and not c.missing for c in self.columns):
            return {"x": encode_array(X, self.columns, where)}
        X = _frame(X)
        x = np.empty((len(X), self.num_features), dtype=np.float32)
        codes = np.empty((len(X), len(self.categories)), dtype=np.int64)
        place = indicator = code = 0
        at = len(self.feature_names) - sum(len(c.date_names) for c in self.dates)
        for position, column in enumerate(self.columns):
            series = X.iloc[:, position]
            if column.type == "number":
                values = _numbers(series, column.name, where)
                gone = np.isnan(values)
                with np.errstate(over="ignore", invalid="ignore"):  # what becomes infinite is reported below
                    x[:, place] = np.where(gone, 0.0, (values - column.mean) / column.scale)
                if column.indicator:
                    x[:, len(self.numbers) + indicator] = gone
                    indicator += 1
                place += 1
            elif column.dates is not None:
                features, gone = column.dates.encode(series, column.name, where)
                block = np.column_stack([features, gone]) if column.indicator else features
                x[:, at : at + block.shape[1]] = block
                at += block.shape[1]
            elif column.type == "category":
                first = 1 + (column.missing > 0)
                known = {c: first + i for i, c in enumerate(column.categories)}
                lost = 1 if column.missing else 0
                codes[:, code] = [lost if v is None else known.get(v, 0) for v in _texts(series)]
                code += 1
        if not np.isfinite(x).all():
            row, at = np.argwhere(~np.isfinite(x))[0]
            name = self.feature_names[at]
            raise DataError(
                f"{where}: row {row}, column {name!r}: the value is too large (infinity) for 32-bit numbers"
            )
        fields = {"x": torch.from_numpy(x)}
        if self.categories:
            fields["codes"] = torch.from_numpy(codes)
        return fields

    def facts(self, X: Any) -> list[dict[str, Any]]:
        """One row a column for the run folder: type, missing values, spread or most frequent values."""
        import pandas as pd

        X = _frame(X)
        rows = []
        for position, column in enumerate(self.columns):
            series = X.iloc[:, position]
            if column.type not in ("number", "date"):
                series = pd.Series(_texts(series), dtype=object)
            row: dict[str, Any] = {"name": column.name, "type": column.type}
            if column.type == "number":
                values = _numbers(series, column.name, "")
                present = np.sort(values[~np.isnan(values)])  # sorting counts values ten times as fast as hashing
                ends = np.flatnonzero(np.append(present[1:] != present[:-1], True))
                row |= {
                    "missing": len(values) - len(present),
                    "unique": len(ends),
                    "note": column.note,
                    "mean": column.mean,
                    "std": float(present.std()),
                    "min": float(present[0]),
                    "max": float(present[-1]),
                    "most": int(np.diff(ends, prepend=-1).max()),
                }
                rows.append(row)
                continue
            row |= {"missing": int(series.isna().sum()), "unique": int(series.nunique()), "note": column.note}
            if column.dates is not None:
                row |= column.dates.range(series)
            else:
                counts = series.value_counts()
                row["top"] = [[str(k), int(v)] for k, v in counts.head(5).items()]
                row["most"] = int(counts.iloc[0]) if len(counts) else 0
            rows.append(row)
        return rows

    def sentences(self) -> list[str]:
        """What the columns were, in words for a model's card."""
        kinds = [(t, [c.name for c in self.columns if c.type == t]) for t in TYPES]
        return [f"columns ({kind}): {_some(names)}" for kind, names in kinds if names]

    def to_json(self) -> dict[str, Any]:
        """All that `from_json` needs."""
        columns = [asdict(c) for c in self.columns]
        return {"named": self.named, "columns": [c if c["dates"] else _without(c, "dates") for c in columns]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        columns = [Column(**c) for c in value["columns"]]
        for c in columns:
            if isinstance(c.dates, Mapping):
                c.dates = DateFeatures.from_json(c.dates)
            sound = (c.type == "date") == isinstance(c.dates, DateFeatures)
            sound = sound and c.type in TYPES and isinstance(c.missing, int) and isinstance(c.name, str)
            sound = sound and all(isinstance(v, str) for v in c.categories)
            if not sound or not np.isfinite([c.mean, c.scale]).all() or c.scale <= 0:
                raise DataError(f"column {c.name!r} of the schema is damaged")
        return cls(columns, bool(value["named"]))


def _frame(X: Any) -> pd.DataFrame:
    """X as a DataFrame; an array's columns are numbered."""
    import pandas as pd

    return X if isinstance(X, pd.DataFrame) else pd.DataFrame(np.asarray(X), copy=False)


def _without(mapping: dict[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in mapping.items() if k != key}


def _some(names: list[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _find_type(series: pd.Series[Any], where: str) -> str:
    import pandas as pd

    kinds = pd.api.types
    if kinds.is_bool_dtype(series) or kinds.is_numeric_dtype(series):
        return "number"
    if series.isna().all():
        return "ignored"
    if are_dates(series):
        return "date"
    held = next((f"row {i} holds a {type(v).__name__}" for i, v in enumerate(series) if isinstance(v, _NO_CELL)), None)
    if held is not None:
        raise DataError(
            f"{where}: column {series.name!r}: {held} (counted from 0), but a cell must be a number or a text; make "
            f"columns of it, or leave it out: types={{{str(series.name)!r}: 'ignored'}}"
        )
    return "category"


def _learn_column(name: str, series: pd.Series[Any], kind: str, where: str) -> Column:
    missing = int(series.isna().sum())
    if kind == "ignored":
        return Column(name, kind, missing=missing, note="empty" if missing == len(series) else "")
    if kind == "number":
        values = _numbers(series, name, where)
        present = values[~np.isnan(values)]
        if not len(present):
            return Column(name, "ignored", missing=missing, note="empty")
        with np.errstate(over="ignore"):
            mean, scale = float(present.mean()), float(present.std())
        if not np.isfinite([mean, scale]).all():
            raise DataError(f"{where}: column {name!r}: the values are too large to be standardised")
        constant = scale <= 1e-12 * abs(mean) or scale == 0
        return Column(name, kind, mean, 1.0 if constant else scale, missing, note="constant" if constant else "")
    if kind == "date":
        if missing == len(series):
            return Column(name, "ignored", missing=missing, note="empty")
        dates = DateFeatures.learn(series, name, where)
        return Column(name, kind, missing=missing, note="" if dates.varies else "constant", dates=dates)
    counts: dict[str, int] = {}
    for value in _texts(series):
        if value is not None:
            counts[value] = counts.get(value, 0) + 1
    kept = sorted(sorted(counts), key=lambda c: -counts[c])[:MAX_CATEGORIES]
    note = ""
    if len(counts) > max(20, 0.5 * len(series)):
        note = f"{len(counts)} different values in {len(series)} rows: a name? types={name}:ignored leaves it out"
    if len(counts) > len(kept):
        note = f"{len(counts)} different values; the {len(kept)} most frequent have a code each, the rest share one"
    return Column(name, kind, missing=missing, categories=sorted(kept), note=note)


def _numbers(series: pd.Series[Any], name: str, where: str) -> NDArray[np.float64]:
    import pandas as pd

    if series.dtype.kind == "c":
        raise DataError(f"{where}: column {name!r}: Complex data not supported; make it two columns of real numbers")
    try:
        if series.dtype.kind in "biuf" and isinstance(series.dtype, np.dtype):
            values = series.to_numpy(dtype=np.float64)
        else:
            values = pd.to_numeric(series).to_numpy(dtype=np.float64, na_value=np.nan)
            values = np.where(series.isna(), np.nan, values)  # a missing date has become a number
    except (ValueError, TypeError, OverflowError):
        wrong = [i for i, v in enumerate(series.tolist()) if not _is_number(v)]
        rows = ", ".join(f"{i} ({series.iloc[i]!r})" for i in wrong[:10]) + (", ..." if len(wrong) > 10 else "")
        raise DataError(
            f"{where}: column {name!r} should hold numbers, but not in rows {rows} (counted from 0); mend them, or say "
            f"types={{{name!r}: 'category'}}"
        ) from None
    if np.isinf(values).any():
        rows = np.flatnonzero(np.isinf(values))[:20].tolist()
        raise DataError(f"{where}: column {name!r}: infinite values (inf) in rows {rows} (counted from 0)")
    return values


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (ValueError, TypeError, OverflowError):
        return value is None or type(value).__name__ == "NAType"
    return True


def _texts(series: pd.Series[Any]) -> list[str | None]:
    """Category values as text, None where missing. Whole floats read as integers, so that a file with gaps agrees."""
    out: list[str | None] = []
    for value, gone in zip(series.tolist(), series.isna().tolist(), strict=True):
        if gone:
            out.append(None)
        elif isinstance(value, float) and value.is_integer():
            out.append(str(int(value)))
        else:
            out.append(str(value))
    return out
