"""What is to be predicted: classes as numbers, numbers standardised, and the way back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from konspekt.core.errors import ConfigError, DataError

__all__ = ["ClassTargets", "NumberTargets"]


def _missing_rows(y: NDArray[Any], where: str) -> None:
    """Raise DataError with the row numbers where a target is missing."""
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


@dataclass
class ClassTargets:
    """The classes of a classification, sorted.

    classes (C,): as they were given: strings, integers, booleans.
    """

    classes: NDArray[Any]

    @classmethod
    def learn(cls, y: Any, where: str) -> tuple[Self, Tensor]:
        """Find the classes of y (N,), and the class number of each item, (N,) int64.

        Raises DataError where a target is missing, y is not discrete, or holds one class only.
        """
        from sklearn.utils import column_or_1d
        from sklearn.utils.multiclass import check_classification_targets

        y = np.asarray(y)
        _missing_rows(y, where)
        try:
            y = column_or_1d(y, warn=True)
            check_classification_targets(y)
            classes, codes = np.unique(y, return_inverse=True)
        except (ValueError, TypeError) as error:
            raise DataError(f"{where}: {error}") from None
        if len(classes) < 2:
            raise DataError(
                f"{where}: y holds only one class ({classes[0]!r} in all {len(y)} rows); a classifier needs at least 2"
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
        y = np.asarray(y).ravel()
        _missing_rows(y, where)
        known = {_plain(c): i for i, c in enumerate(self.classes)}
        unknown = sorted({str(v) for v in y if _plain(v) not in known})
        if unknown:
            raise DataError(f"{where}: labels that the training did not have: {', '.join(unknown[:10])}")
        return torch.tensor([known[_plain(v)] for v in y], dtype=torch.int64)

    def weights(self, class_weight: Any, codes: Tensor, where: str) -> Tensor | None:
        """The weight of each class (C,), scaled so that its mean over the items is 1; None where all weigh the same.

        class_weight: None, "balanced" (n / (C * count)), or a mapping from class to weight.
        """
        if class_weight is None:
            return None
        counts = torch.bincount(codes, minlength=self.num_classes).double()
        if isinstance(class_weight, Mapping):
            given = {str(k): float(v) for k, v in class_weight.items()}
            unknown = sorted(set(given) - {str(_plain(c)) for c in self.classes})
            if unknown or any(v < 0 for v in given.values()):
                wrong = f"unknown classes {', '.join(unknown)}" if unknown else "a weight below 0"
                raise ConfigError(f"{where}: class_weight has {wrong}; the classes are {list(self.classes)[:20]}")
            weights = torch.tensor([given.get(str(_plain(c)), 1.0) for c in self.classes], dtype=torch.float64)
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
        kind = value["dtype"]
        if np.dtype(kind).kind not in "biufUO":
            raise DataError(f"classes of type {kind!r} are not known")
        return cls(np.array(value["classes"], dtype=object if kind == "object" else np.dtype(kind)))


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

    @classmethod
    def learn(cls, y: Any, train: NDArray[np.int64], where: str) -> tuple[Self, Tensor]:
        """Mean and scale of the training items of y (N,) or (N, T), and all targets standardised, (N, T) float32.

        Raises DataError where a target is missing, infinite or no number.
        """
        names = [str(c) for c in getattr(y, "columns", [])] or [str(n) for n in [getattr(y, "name", None)] if n]
        values = cls._numbers(y, where)
        flat = values.ndim == 1
        values = values.reshape(len(values), -1)
        mean, scale = values[train].mean(axis=0), values[train].std(axis=0)
        scale[scale <= 1e-12 * np.abs(mean)] = 1.0  # constant
        names = names or (["y"] if values.shape[1] == 1 else [f"y{i}" for i in range(values.shape[1])])
        targets = cls(mean, scale, flat, names)
        return targets, targets._standardised(values)

    @staticmethod
    def _numbers(y: Any, where: str) -> NDArray[np.float64]:
        y = np.asarray(y)
        _missing_rows(y, where)
        try:
            values = y.astype(np.float64)
        except (ValueError, TypeError) as error:
            raise DataError(f"{where}: the target of a regression must be numeric ({error})") from None
        if values.ndim not in (1, 2):
            raise DataError(f"{where}: y must be (N,) or (N, T), got shape {values.shape}")
        if not np.isfinite(values).all():
            rows = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))[:20].tolist()
            raise DataError(f"{where}: the target is infinite (inf) in rows {rows} (counted from 0)")
        return values

    def _standardised(self, values: NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(((values - self.mean) / self.scale).astype(np.float32))

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
            raise DataError(f"{where}: y has {values.shape[1]} columns, the training had {self.num_targets}")
        return self._standardised(values)

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
        if mean.shape != scale.shape or mean.ndim != 1:
            raise DataError("mean and scale of the targets do not fit together")
        return cls(mean, scale, bool(value["flat"]), [str(n) for n in value["names"]])
