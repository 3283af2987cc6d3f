"""What is to be predicted: classes as numbers, numbers standardised, and the way back."""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from konspekt.core.errors import ConfigError, DataError

__all__ = ["ClassTargets", "NumberTargets", "as_target"]

_MAX_LABEL = 1 << 20  # bytes: more than any label has, too few to fill the memory


def as_target(y: Any, where: str) -> Any:
    """y as a Series or DataFrame, if it is one, or as an array (N, ...).

    Raises DataError where it is a single value or its rows differ in length.
    """
    if hasattr(y, "iloc"):
        return y
    if isinstance(y, Tensor):
        y = y.detach().cpu()
    try:
        array = np.asarray(y)
    except ValueError:
        raise DataError(f"{where}: the rows of y differ in length; y must be (N,) or (N, T)") from None
    if array.ndim == 0:
        raise DataError(f"{where}: y must hold one value a row, got a single {type(y).__name__}")
    return array.astype(object) if array.dtype.kind == "T" else array


def _check_values(y: NDArray[Any], where: str) -> None:
    """Raise DataError where the target is of a type that cannot be predicted, or, with the row numbers, is missing."""
    if y.dtype.kind == "c":
        raise DataError(f"{where}: y: Complex data not supported; make it two targets of real numbers")
    if y.dtype.kind in "mM":
        raise DataError(f"{where}: the target holds dates or times, which are no targets yet; turn it into numbers")
    if y.dtype.kind == "f":
        gone = np.isnan(y)
    elif y.dtype == object:
        gone = np.array([v is None or v != v or type(v).__name__ == "NAType" for v in y.ravel()]).reshape(y.shape)
    else:
        return
    rows = np.flatnonzero(gone.reshape(len(y), -1).any(axis=1))
    if len(rows):
        shown = ", ".join(map(str, rows[:20])) + (", ..." if len(rows) > 20 else "")
        raise DataError(
            f"{where}: the target is missing (NaN) in {len(rows)} of {len(y)} rows: {shown} (counted from 0); "
            "remove these rows or fill them in"
        )
    _check_finite(y, where)


def _check_finite(y: NDArray[Any], where: str) -> None:
    """Raise DataError, with the row numbers, where a number is infinite."""
    if y.dtype.kind == "f" and np.isinf(y).any():
        rows = np.flatnonzero(np.isinf(y).reshape(len(y), -1).any(axis=1))[:20].tolist()
        raise DataError(f"{where}: the target is infinite (inf) in rows {rows} (counted from 0); mend or remove them")


@dataclass
class ClassTargets:
    """The classes of a classification, sorted.

    classes (C,): as they were given: strings, integers, booleans.
    """

    classes: NDArray[Any]

    def sentences(self) -> list[str]:
        """What is predicted, in words for a model's card."""
        names = [str(c) for c in self.classes[:20]]
        more = f" and {len(self.classes) - 20} more" if len(self.classes) > 20 else ""
        return [f"{len(self.classes)} classes: {', '.join(names)}{more}; an item of another class gets one of these"]

    @classmethod
    def learn(cls, y: Any, where: str) -> tuple[Self, Tensor]:
        """Find the classes of y (N,), and the class number of each item, (N,) int64.

        Raises DataError where a target is missing, y is not discrete, or holds one class only.
        """
        from sklearn.utils import column_or_1d
        from sklearn.utils.multiclass import check_classification_targets

        y = np.asarray(y)
        _check_values(y, where)
        if y.dtype == object and {type(v) for v in y.ravel()} in ({bool}, {int}):  # a column that once had gaps
            y = np.array(y.tolist())
        try:
            y = column_or_1d(y, warn=True)
            check_classification_targets(y)
            classes, codes = np.unique(y, return_inverse=True)
        except (ValueError, TypeError) as error:
            kinds = sorted({type(v).__name__ for v in y.ravel()}) if y.dtype == object else []
            hint = f" The labels are of several types: {', '.join(kinds)}; make them one." if len(kinds) > 1 else ""
            raise DataError(f"{where}: {error}{hint}") from None
        if len(classes) < 2:
            only = _plain(classes[0])
            raise DataError(
                f"{where}: y holds only one class ({only!r} in all {len(y)} rows); a classifier needs at least 2"
            )
        return cls(classes), torch.from_numpy(codes.astype(np.int64))

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.classes)

    def encode(self, y: Any, where: str) -> Tensor:
        """The class number of each label of y (N,), (N,) int64.

        Raises DataError where a label was not among the classes of the training.
        """
        y = np.asarray(y)
        _check_values(y, where)
        if y.ndim > 2 or (y.ndim == 2 and y.shape[1] != 1):
            raise DataError(f"{where}: y should be a 1d array, got an array of shape {y.shape} instead")
        y = y.ravel()
        known = {_plain(c): i for i, c in enumerate(self.classes)}
        unknown = sorted({repr(_plain(v)) for v in y if _plain(v) not in known})
        if unknown:
            raise DataError(
                f"{where}: labels that the training did not have: {', '.join(unknown[:10])}; its classes are "
                f"{', '.join(map(repr, list(known)[:20]))}"
            )
        return torch.tensor([known[_plain(v)] for v in y], dtype=torch.int64)

    def weights(self, class_weight: Any, codes: Tensor, where: str) -> Tensor | None:
        """The weight of each class (C,), scaled so that its mean over the items is 1; None where all weigh the same.

        class_weight: None, "balanced" (n / (C * count)), or a mapping from class to weight.
        """
        if class_weight is None:
            return None
        counts = torch.bincount(codes, minlength=self.num_classes).double()
        if isinstance(class_weight, Mapping):
            weights = torch.ones(self.num_classes, dtype=torch.float64)
            places = {name: i for i, c in enumerate(self.classes) for name in (_plain(c), str(_plain(c)))}
            for name, weight in class_weight.items():
                place = places.get(_plain(name), places.get(str(name)))  # a config file has the names as text
                if place is None:
                    raise ConfigError(
                        f"{where}: class_weight names no class {name!r}; the classes are {self.classes.tolist()[:20]}"
                    )
                if not isinstance(weight, numbers.Real) or not 0 <= weight < math.inf:
                    raise ConfigError(f"{where}: class_weight[{name!r}] must be a number at least 0, got {weight!r}")
                weights[place] = float(weight)
            if not (weights * counts).sum() > 0:
                raise ConfigError(f"{where}: class_weight is 0 for every class that the training items have")
        else:
            weights = len(codes) / (self.num_classes * counts.clamp(min=1))
        return (weights * len(codes) / (weights * counts).sum()).float()

    def decode(self, codes: Tensor) -> NDArray[Any]:
        """The labels of class numbers (N,)."""
        return self.classes[codes.cpu().numpy()]  # type: ignore[no-any-return]

    def to_json(self) -> dict[str, Any]:
        """Labels and their type."""
        return {"classes": [_plain(c) for c in self.classes], "dtype": str(self.classes.dtype)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        given, dtype = value["classes"], np.dtype(value["dtype"])
        if dtype.kind not in "biufUO" or dtype.itemsize > _MAX_LABEL or not isinstance(given, list):
            raise DataError(f"classes of type {value['dtype']!r} are not known")
        classes = np.array(given, dtype=dtype)
        if classes.ndim != 1 or classes.tolist() != given or len(set(given)) < max(2, len(given)):
            raise DataError(f"the classes must be at least 2, all different and of type {dtype}")
        return cls(classes)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


@dataclass
class NumberTargets:
    """The targets of a regression, each standardised by the training's mean and standard deviation.

    mean, scale (T,) float64. names: of the columns. flat: whether y came as (N,), so that predictions do too.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    flat: bool
    names: list[str] = field(default_factory=list)

    def sentences(self) -> list[str]:
        """What is predicted, in words for a model's card."""
        return [
            f"{name}: mean {m:.4g}, standard deviation {s:.4g} in training"
            for name, m, s in zip(self.names[:20], self.mean, self.scale, strict=False)
        ]

    @classmethod
    def learn(cls, y: Any, train: NDArray[np.int64], where: str) -> tuple[Self, Tensor]:
        """Mean and scale of the training items of y (N,) or (N, T), and all targets standardised, (N, T) float32.

        Raises DataError where a target is missing, infinite or no number.
        """
        names = [str(c) for c in getattr(y, "columns", [])] or [str(n) for n in [getattr(y, "name", None)] if n]
        values = cls._numbers(y, where)
        flat = values.ndim == 1
        values = values.reshape(len(values), -1)
        with np.errstate(over="ignore", invalid="ignore"):
            mean, scale = values[train].mean(axis=0), values[train].std(axis=0)
        if not np.isfinite([mean, scale]).all():
            raise DataError(f"{where}: the values of the target are too large to be standardised")
        scale[scale <= 1e-12 * np.abs(mean)] = 1.0  # constant
        names = names or (["y"] if values.shape[1] == 1 else [f"y{i}" for i in range(values.shape[1])])
        targets = cls(mean, scale, flat, names)
        return targets, targets._standardised(values, where)

    @staticmethod
    def _numbers(y: Any, where: str) -> NDArray[np.float64]:
        y = np.asarray(y)
        _check_values(y, where)
        try:
            values = y.astype(np.float64)
        except (ValueError, TypeError) as error:
            text = re.sub(r"np\.str_\((.*)\)$", r"\1", str(error))
            raise DataError(f"{where}: the target of a regression must be numeric ({text})") from None
        if values.ndim not in (1, 2) or values.shape[-1] == 0:
            raise DataError(f"{where}: y must be (N,) or (N, T), got shape {values.shape}")
        _check_finite(values, where)  # again: text can say infinity too
        return values

    def _standardised(self, values: NDArray[np.float64], where: str) -> Tensor:
        with np.errstate(over="ignore"):
            standardised = ((values - self.mean) / self.scale).astype(np.float32)
        if not np.isfinite(standardised).all():
            row = int(np.argwhere(~np.isfinite(standardised))[0][0])
            raise DataError(f"{where}: row {row}: the target is too large beside those of the training")
        return torch.from_numpy(standardised)

    @property
    def num_targets(self) -> int:
        """T."""
        return len(self.mean)

    def encode(self, y: Any, where: str) -> Tensor:
        """Standardised targets (N, T) float32.

        Raises DataError where the number of targets is not that of the training.
        """
        values = self._numbers(y, where)
        values = values.reshape(len(values), -1)
        if values.shape[1] != self.num_targets:
            raise DataError(
                f"{where}: y has {values.shape[1]} column{'s' * (values.shape[1] != 1)}, the training had {self.num_targets}: "
                f"{', '.join(self.names[:20])}"
            )
        return self._standardised(values, where)

    def decode(self, standardised: Tensor) -> NDArray[np.float64]:
        """Predictions (N, T) in the target's own units, as (N,) if y came so."""
        values = standardised.double().cpu().numpy() * self.scale + self.mean
        return values[:, 0] if self.flat else values  # type: ignore[no-any-return]

    def to_json(self) -> dict[str, Any]:
        """All four fields."""
        return {"mean": self.mean.tolist(), "scale": self.scale.tolist(), "flat": self.flat, "names": self.names}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        mean, scale = np.array(value["mean"], dtype=float), np.array(value["scale"], dtype=float)
        if mean.shape != scale.shape or mean.ndim != 1 or not np.isfinite([mean, scale]).all() or (scale <= 0).any():
            raise DataError("mean and scale of the targets are damaged")
        return cls(mean, scale, bool(value["flat"]), [str(n) for n in value["names"]])
