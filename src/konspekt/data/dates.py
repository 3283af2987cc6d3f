"""Dates, times and durations of a table's column as numbers: elapsed time, and where in the year, week and day it is.

A column is of one kind: a `date` (with or without a time of day), a `zoned date` (with a time zone), a `duration` or a
`time of day`. What can be read: datetimes, periods (by their beginning), timedeltas, Python's own date, datetime, time
and timedelta, and text in the forms of ISO 8601: 2026-11-21, 2026/11/21, 2026-11-21 08:30[:15[.25]][Z or +01:00]. Other
orders of day and month are never guessed.

The cycles are points on a circle, sin and cos of a phase, so that December lies beside January, Sunday beside Monday. Of
a zoned date the elapsed time counts in UTC and the cycles by the clock on the wall. Times are whole microseconds.

Shape letters in this file: N rows, P features.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from konspekt.core.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DateFeatures", "are_dates"]

_MISSING, _BAD = "", "?"
_DATE, _ZONED, _DURATION, _CLOCK = KINDS = ("date", "zoned date", "duration", "time of day")
_UNITS = {_DATE: ("days", 86_400_000_000), _ZONED: ("days", 86_400_000_000), _DURATION: ("seconds", 1_000_000)}
CYCLES = ("year", "weekday", "time")
_DAY = 86_400_000_000  # microseconds
_BEYOND = 2**62  # microseconds, 146,000 years: the difference of two that are less is a 64-bit number

_EPOCH = dt.datetime(1970, 1, 1)
_MOMENT = re.compile(
    r"\d{4}([-/])\d\d\1\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)?)?", flags=re.ASCII
)
_TIME = re.compile(r"\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?", flags=re.ASCII)
_SPAN = re.compile(r"-?\d+ days?(?:,? [+-]?\d\d?:\d\d:\d\d(?:\.\d{1,9})?)?|P(?=[\dT])[\dDTHMS.]+", flags=re.ASCII)

_Cell = tuple[str, int, int]  # kind, microseconds since 1970 (or zero) in UTC, and by the clock on the wall


def are_dates(series: pd.Series[Any]) -> bool:
    """Whether a column without a type of numbers holds dates, times or durations in all cells that hold anything."""
    import pandas as pd

    kinds = pd.api.types
    if isinstance(series.dtype, pd.CategoricalDtype):
        return False
    present = series[series.notna()]
    if kinds.is_datetime64_any_dtype(series) or kinds.is_timedelta64_dtype(series):
        return len(present) > 0
    known: dict[str, bool] = {}

    def fits(value: Any) -> bool:
        if not isinstance(value, str):
            return isinstance(value, (dt.date, dt.time, dt.timedelta, pd.Period, np.datetime64, np.timedelta64))
        if value not in known:
            known[value] = _MOMENT.fullmatch(value) is not None and _cell(value)[0] != _BAD
        return known[value]

    return len(present) > 0 and all(fits(value) for value in present.tolist())


@dataclass
class _Times:
    """A column that was read. kinds (N,): of each cell. utc, wall (N,) int64: microseconds, 0 where there is none."""

    kinds: NDArray[np.str_]
    utc: NDArray[np.int64]
    wall: NDArray[np.int64]

    @property
    def present(self) -> NDArray[np.bool_]:
        return self.kinds != _MISSING


@dataclass
class DateFeatures:
    """The features of one column of dates, as the training rows have them.

    kind: one of KINDS. origin: the training's least value, microseconds since 1970 (or zero).
    mean, scale: of the time since the origin, in days; of a duration in seconds.
    cycles: which of CYCLES vary. fill: the means of the cycles' features, which a missing date gets. varies: whether not all are the same.
    """

    kind: str
    origin: int = 0
    mean: float = 0.0
    scale: float = 1.0
    cycles: list[str] = field(default_factory=list)
    fill: list[float] = field(default_factory=list)
    varies: bool = True

    @classmethod
    def learn(cls, series: pd.Series[Any], name: str, where: str) -> Self:
        """Learn the features of a column that has at least one date.

        Raises DataError, with the rows, where a cell is no date or the kinds differ.
        """
        times = _read(series)
        _refuse(times, series, name, where, None)
        present = times.present
        self = cls(str(times.kinds[present][0]), varies=bool(np.ptp(times.utc[present]) or np.ptp(times.wall[present])))
        if self._elapsed:
            self.origin = int(times.utc[present].min())
            elapsed = (times.utc[present] - self.origin) / _UNITS[self.kind][1]
            self.mean, self.scale = float(elapsed.mean()), float(elapsed.std()) or 1.0
        points = {c: _circle(times.wall[present], c) for c in self._possible}
        self.cycles = [c for c, (phase, _) in points.items() if np.ptp(phase) > 0]
        if not self._elapsed:
            self.cycles = ["time"]  # though it may not vary: else the column would give nothing
        self.fill = [float(m) for c in self.cycles for m in points[c][1].mean(axis=0)]
        return self

    @property
    def _elapsed(self) -> bool:
        return self.kind in _UNITS

    @property
    def _possible(self) -> tuple[str, ...]:
        return {_DURATION: (), _CLOCK: ("time",)}.get(self.kind, CYCLES)

    @property
    def names(self) -> list[str]:
        """(P,): what each feature is, as it stands behind the column's name."""
        words = {"year": "time of year", "weekday": "weekday", "time": "time of day"}
        elapsed = [_UNITS[self.kind][0]] if self._elapsed else []
        return elapsed + [f"{words[c]} ({wave})" for c in self.cycles for wave in ("sin", "cos")]

    def encode(self, series: pd.Series[Any], name: str, where: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """The features (N, P), and where the date is missing (N,).

        Raises DataError, with the rows, where a cell is no date or not of the training's kind.
        """
        times = _read(series)
        _refuse(times, series, name, where, self.kind)
        columns: list[NDArray[np.float64]] = []
        if self._elapsed:
            columns.append(((times.utc - self.origin) / _UNITS[self.kind][1] - self.mean) / self.scale)
        columns += [wave for c in self.cycles for wave in _circle(times.wall, c)[1].T]
        features = np.stack(columns, axis=1)
        gone = ~times.present
        features[gone] = [*([0.0] if self._elapsed else []), *self.fill]
        return features, gone

    def range(self, series: pd.Series[Any]) -> dict[str, str | None]:
        """The least and the greatest value of a column, as ISO 8601 text."""
        import pandas as pd

        times = _read(series)
        utc = times.utc[times.present]
        if not len(utc):
            return {"min": None, "max": None}

        def said(microseconds: int) -> str:
            if self.kind == _DURATION:
                return str(pd.Timedelta(microseconds, unit="us").isoformat())
            # NumPy's text, as Python's dates end with the year 9999
            text = str(np.datetime64(microseconds, "us")).removesuffix(".000000")
            if self.kind == _CLOCK:
                return text.partition("T")[2]
            return text + "+00:00" if self.kind == _ZONED else text.removesuffix("T00:00:00")

        return {"min": said(int(utc.min())), "max": said(int(utc.max()))}

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`. Raises DataError where the values cannot be such features."""
        self = cls(**value)
        sound = self.kind in KINDS and isinstance(self.origin, int) and abs(self.origin) < 2**63
        sound = sound and isinstance(self.cycles, list) and isinstance(self.fill, list)
        sound = sound and self.cycles == [c for c in self._possible if c in self.cycles]
        sound = sound and len(self.fill) == 2 * len(self.cycles) and len(self.names) > 0
        if not sound or not np.isfinite([self.mean, self.scale, *self.fill]).all() or self.scale <= 0:
            raise DataError("the features of its dates are damaged")
        return self


def _circle(wall: NDArray[np.int64], cycle: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The phase in a cycle, 0 to 1 (N,), and the points on the circle (N, 2), sin and cos."""
    days = wall // _DAY  # since Thursday, 1 January 1970
    if cycle == "time":
        phase = (wall - days * _DAY) / _DAY
    elif cycle == "weekday":
        phase = (days + 3) % 7 / 7
    else:
        year = days.astype("datetime64[D]").astype("datetime64[Y]")
        first = year.astype("datetime64[D]").astype(np.int64)
        phase = (days - first) / ((year + 1).astype("datetime64[D]").astype(np.int64) - first)
    angle = 2 * np.pi * phase
    return phase, np.stack([np.sin(angle), np.cos(angle)], axis=1)


def _read(series: pd.Series[Any]) -> _Times:
    """Each cell of a column; what is no date is marked as such."""
    import pandas as pd

    kinds = pd.api.types
    if isinstance(series.dtype, pd.PeriodDtype):
        series = series.dt.to_timestamp()
    gone = series.isna().to_numpy(dtype=bool)
    numpy_like = isinstance(series.dtype, (np.dtype, pd.DatetimeTZDtype))
    moments = numpy_like and kinds.is_datetime64_any_dtype(series)
    if moments or (numpy_like and kinds.is_timedelta64_dtype(series)):
        kind, wall = _DATE if moments else _DURATION, series
        if isinstance(series.dtype, pd.DatetimeTZDtype):
            kind, wall, series = _ZONED, series.dt.tz_localize(None), series.dt.tz_convert(None)
        utc, wall = _microseconds(series.to_numpy(), gone), _microseconds(wall.to_numpy(), gone)
        beyond = ~gone & (np.abs(utc) >= _BEYOND)
        return _Times(np.where(gone, _MISSING, np.where(beyond, _BAD, kind)), utc, wall)
    known: dict[str, _Cell] = {}
    cells: list[_Cell] = []
    for value, is_gone in zip(series.tolist(), gone.tolist(), strict=True):
        if is_gone:
            cell = (_MISSING, 0, 0)
        elif isinstance(value, str):
            cell = known[value] if value in known else known.setdefault(value, _cell(value))
        else:
            cell = _cell(value)
        cells.append(cell)
    numbers = np.array([cell[1:] for cell in cells], dtype=np.int64).reshape(-1, 2)
    return _Times(np.array([cell[0] for cell in cells], dtype=np.str_), numbers[:, 0], numbers[:, 1])


def _microseconds(values: NDArray[Any], gone: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Integers; what is too far away for them becomes _BEYOND."""
    name = values.dtype.kind + "8"
    days = values.astype(f"{name}[D]").astype(np.int64)
    exact = values.astype(f"{name}[us]").astype(np.int64)
    return np.where(gone, 0, np.where(np.abs(days) < _BEYOND // _DAY, exact, _BEYOND))


def _cell(value: Any) -> _Cell:
    """One value that is not missing: its kind, and its microseconds."""
    import pandas as pd

    bad = (_BAD, 0, 0)
    try:
        if isinstance(value, str):
            if _MOMENT.fullmatch(value):
                value = dt.datetime.fromisoformat(value.replace("/", "-"))
            elif _TIME.fullmatch(value):
                value = dt.time.fromisoformat(value)
            elif _SPAN.fullmatch(value):
                value = pd.Timedelta(value)
        if isinstance(value, (np.datetime64, pd.Period)):
            value = value.to_timestamp() if isinstance(value, pd.Period) else pd.Timestamp(value)
        if isinstance(value, pd.Timestamp):
            value = value.to_pydatetime(warn=False)
        if isinstance(value, (pd.Timedelta, np.timedelta64)):
            value = pd.Timedelta(value).to_pytimedelta()
        if isinstance(value, dt.datetime):
            wall = _whole(value.replace(tzinfo=None) - _EPOCH)
            offset = value.utcoffset()
            return (_DATE, wall, wall) if offset is None else (_ZONED, wall - _whole(offset), wall)
        if isinstance(value, dt.date):
            days = (value.toordinal() - _EPOCH.toordinal()) * _DAY
            return _DATE, days, days
        if isinstance(value, dt.timedelta):
            return _DURATION, _whole(value), _whole(value)
        if isinstance(value, dt.time) and value.tzinfo is None:
            length = dt.timedelta(
                hours=value.hour, minutes=value.minute, seconds=value.second, microseconds=value.microsecond
            )
            return _CLOCK, _whole(length), _whole(length)
    except (ValueError, OverflowError):  # 30 February, or a year that Python's dates do not reach
        return bad
    return bad


def _whole(length: dt.timedelta) -> int:
    return (length.days * 86_400 + length.seconds) * 1_000_000 + length.microseconds


def _refuse(times: _Times, series: pd.Series[Any], name: str, where: str, kind: str | None) -> None:
    """Raise DataError where a cell is no date, or not of this kind (None: of the first one's)."""
    out = f"or say types={{{name!r}: 'category'}}"
    wrong = np.flatnonzero(times.kinds == _BAD)
    if len(wrong):
        rows = ", ".join(f"{i} ({series.iloc[i]!r:.60})" for i in wrong[:10]) + (", ..." if len(wrong) > 10 else "")
        raise DataError(
            f"{where}: column {name!r} should hold dates or times, but not in rows {rows} (counted from 0); text must "
            f"be ISO 8601, such as 2026-11-21 or 2026-11-21 08:30:00+01:00: mend them (pd.to_datetime), {out}"
        )
    kinds = times.kinds[times.present]
    wanted = kind or (str(kinds[0]) if len(kinds) else _DATE)
    other = np.flatnonzero(times.present & (times.kinds != wanted))
    if not len(other):
        return
    rows = ", ".join(map(str, other[:10])) + (", ..." if len(other) > 10 else "")
    found = str(times.kinds[other[0]])
    words = {_DATE: "dates without a time zone", _ZONED: "dates with a time zone", _DURATION: "durations"}
    held, differ = words.get(wanted, "times of day"), words.get(found, "times of day")
    before = "the training had" if kind else "it holds"
    advice = (
        "give all of them a time zone or none (tz_localize)" if {wanted, found} == {_DATE, _ZONED} else "make them one"
    )
    raise DataError(
        f"{where}: column {name!r}: {before} {held}, but rows {rows} (counted from 0) hold {differ}; {advice}, {out}"
    )
