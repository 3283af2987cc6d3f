"""How an estimator's X is read: what a fit learns of it, and how a prediction encodes it in the same way."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from konspekt.core.errors import DataError
from konspekt.data.fields import Field
from konspekt.data.images import Images, ImageSchema, OnBad, read_images
from konspekt.data.sets import DataSet
from konspekt.data.tables import TableSchema, is_table, split_target
from konspekt.data.targets import as_target

__all__ = ["Encoded", "ImageReader", "Learned", "Opened", "Reader", "TableReader", "source_of"]


@dataclass
class Opened:
    """What X holds, before anything is learned of it.

    data: rows or pictures, as the reader goes on with them. total: how many items. y: the targets of these items.
    skipped: items that could not be read, each {"item", "reason"}.
    """

    data: Any
    total: int
    y: Any
    skipped: list[dict[str, str]] = field(default_factory=list)


@dataclass
class Learned:
    """What a fit learned of X from its training items.

    schema: what to remember. fields: the tensors of all items. facts: for data.json. notes: for the log.
    show: an item's number -> {"row": ...} or {"image": ...} for the report.
    """

    schema: Any
    fields: dict[str, Field]
    facts: Callable[[], dict[str, Any]]
    notes: list[str]
    show: Callable[[int], dict[str, Any]]


@dataclass
class Encoded:
    """X as tensors, by what a fit learned. y: the targets of these items. names: what to call each item."""

    fields: dict[str, Field]
    y: Any
    names: list[Any]
    skipped: list[dict[str, str]] = field(default_factory=list)


class Reader(Protocol):
    """One for each kind of X; it holds no state, the schema does."""

    def open(self, estimator: Any, X: Any, y: Any) -> Opened:
        """Read X for a fit."""

    def learn(self, estimator: Any, opened: Opened, train: NDArray[np.int64]) -> Learned:
        """Learn the schema from the training items only, and encode all."""

    def encode(self, estimator: Any, X: Any, y: Any = None, *, truth: bool = False, on_bad: OnBad = "raise") -> Encoded:
        """Read X by `estimator.schema_`. truth: the targets are wanted too, from X itself where y is None."""

    def schema(self, value: Mapping[str, Any]) -> Any:
        """The schema out of a model's config.json."""


def source_of(X: Any, y: Any, validation: Any = None) -> dict[str, Any]:
    """Where the data came from, so that a run can say it and `konspekt resume` can find it again."""
    held = validation.name if isinstance(validation, DataSet) else validation
    held = str(held) if isinstance(held, Path) else held
    named = isinstance(X, (DataSet, str, Path)) and isinstance(held, (float, str, type(None)))
    shape = "x".join(map(str, getattr(X, "shape", None) or ()))
    return {
        "source": X.name if isinstance(X, DataSet) else str(X) if named else f"{type(X).__name__} {shape}".strip(),
        "kind": "memory" if not named else "set" if isinstance(X, DataSet) else "path",
        "target": y if isinstance(y, str) else list(y) if isinstance(y, tuple) else None,
        "validation": held if isinstance(held, (float, str)) else None,  # else it is something that only the caller has
    }


class TableReader:
    """Rows of numbers and categories: an array (N, F), a DataFrame, a csv file."""

    def open(self, estimator: Any, X: Any, y: Any) -> Opened:
        """Read a table for a fit; y is an array, a Series or DataFrame, or the name of the column (names: a tuple)."""
        where = type(estimator).__name__
        types = getattr(estimator, "types", None) or {}
        X, y = split_target(X, y, [str(name) for name, kind in types.items() if kind == "category"])
        if y is None:
            raise DataError(
                f"{where}: requires y to be passed, but the target y is None; give y, or the name of its column "
                "(target=COLUMN on the command line)"
            )
        y = as_target(y, where)
        X = self._checked(estimator, X, reset=True)
        if len(X) != len(y):
            raise DataError(f"{where}: X has {len(X)} rows and y has {len(y)}; they must be as many")
        if len(X) < 2:
            raise DataError(f"{where}: there is 1 sample only; at least 2 are needed")
        return Opened(X, len(X), y)

    def learn(self, estimator: Any, opened: Opened, train: NDArray[np.int64]) -> Learned:
        """Learn types, means and categories from the training rows, and encode all rows."""
        X, where = opened.data, type(estimator).__name__
        schema = TableSchema.learn(X.iloc[train] if is_table(X) else X[train], getattr(estimator, "types", None), where)

        def show(item: int) -> dict[str, Any]:
            values = X.iloc[item] if is_table(X) else X[item]
            return {"row": {c.name: _cell(v) for c, v in zip(schema.columns, values, strict=True)}}

        def facts() -> dict[str, Any]:
            return {"columns": schema.facts(X), "rows": len(X)}

        return Learned(schema, dict(schema.encode(X, where)), facts, schema.notes, show)

    def encode(self, estimator: Any, X: Any, y: Any = None, *, truth: bool = False, on_bad: OnBad = "raise") -> Encoded:
        """Encode a table in the way of the training; items are called by their row number, from 0."""
        where = type(estimator).__name__
        from_file = isinstance(X, (str, Path))
        X, y = split_target(X, y, [c.name for c in estimator.schema_.categories])
        if truth and y is None:
            raise DataError(f"{where}: the true y is needed here: give y, or the name of its column (target=COLUMN)")
        if from_file:
            X = estimator.schema_.match(X, where)
        X = self._checked(estimator, X, reset=False)
        y = None if y is None else as_target(y, where)
        if y is not None and len(X) != len(y):
            raise DataError(f"{where}: X has {len(X)} rows and y has {len(y)}; they must be as many")
        return Encoded(dict(estimator.schema_.encode(X, where)), y, list(range(len(X))))

    def schema(self, value: Mapping[str, Any]) -> TableSchema:
        """The schema out of a model's config.json."""
        return TableSchema.from_json(value)

    @staticmethod
    def _checked(estimator: Any, X: Any, *, reset: bool) -> Any:
        """Have scikit-learn check shape and names, and for arrays the values too."""
        from sklearn.utils.validation import validate_data

        where = type(estimator).__name__
        if isinstance(X, Tensor):
            X = _as_array(X, where)
        kind = getattr(getattr(X, "dtype", None), "kind", None)
        try:
            if np.ma.is_masked(X):
                raise DataError("a masked array has missing values; pass pd.DataFrame(X.filled(np.nan)) instead")
            if kind in ("m", "M"):
                raise DataError("dates or times are not features yet; turn them into numbers")
            if is_table(X):
                if not len(X):
                    raise DataError("Found array with 0 sample(s): the table has no rows")
                if not X.columns.is_unique:
                    twice = sorted(set(X.columns[X.columns.duplicated()].astype(str)))
                    raise DataError(f"columns named twice: {', '.join(twice)}; rename them")
                validate_data(estimator, X, skip_check_array=True, reset=reset)
                if not reset:
                    estimator.schema_.check_columns(X)
                return X
            array: NDArray[Any] = validate_data(
                estimator, X, dtype=np.float64, reset=reset, ensure_min_samples=2 if reset else 1
            )
            return array
        except (ValueError, OverflowError) as error:
            raise DataError(f"{where}: {_advised(str(error))}") from None
        except TypeError:
            if kind == "O" or hasattr(X, "toarray") or isinstance(X, np.matrix) or is_table(X):
                raise  # scikit-learn's contract wants its own
            items = X.dtype if kind else type(X[0]).__name__ if isinstance(X, (list, tuple)) else None
            what = f"a {type(X).__name__}" + (f" of {items}" if items else "")
            raise DataError(
                f"{where}: X must be an array (N, F) of numbers, a DataFrame or a csv file, got {what}"
                + ("; pass pd.DataFrame(X)" if isinstance(X, (dict, list, tuple)) else "")
            ) from None


class ImageReader:
    """Images: a folder with a sub-folder for each class, paths, an array, Pillow images."""

    def open(self, estimator: Any, X: Any, y: Any) -> Opened:
        """Read images for a fit; a folder brings its own labels, everything else needs y."""
        images = read_images(
            X, image_size=estimator.image_size, on_bad=estimator.on_bad, labelled=y is None and _is_path(X)
        )
        y = self._labels(estimator, images, y, truth=True)
        if len(images) < 2:
            raise DataError(f"{type(estimator).__name__}: there is 1 sample only; at least 2 are needed")
        return Opened(images, len(images), y, _skipped(images))

    def learn(self, estimator: Any, opened: Opened, train: NDArray[np.int64]) -> Learned:
        """Learn the statistics of the channels from the training images."""
        images: Images = opened.data
        some = replace(images, pixels=images.pixels[train]) if len(train) < len(images) else images
        schema = ImageSchema.learn(some, resize=estimator.image_size is not None)

        def show(item: int) -> dict[str, Any]:
            return {"image": _displayed(images.pixels[item]), "name": images.names[item]}

        def facts() -> dict[str, Any]:
            shape = {"channels": schema.channels, "height": schema.height, "width": schema.width, "dtype": schema.dtype}
            return {"image": shape, "ignored": images.ignored}

        notes = []
        splits = sorted(set(images.labels or []) & {"train", "test", "val", "valid", "validation"})
        if splits:
            notes.append(f"classes named {', '.join(splits)}: is this a folder of splits? Then give one of its folders")
        if images.bad:
            notes.append(f"{len(images.bad)} images could not be read and were skipped; data.json lists them")
        if images.ignored:
            some_names = ", ".join(images.ignored[:5]) + (", ..." if len(images.ignored) > 5 else "")
            notes.append(f"{len(images.ignored)} entries of the folder are no images by their names: {some_names}")
        return Learned(schema, {"x": images.pixels}, facts, notes, show)

    def encode(self, estimator: Any, X: Any, y: Any = None, *, truth: bool = False, on_bad: OnBad = "raise") -> Encoded:
        """Encode images in the way of the training; items are called by their paths or "image 17"."""
        labelled = truth and y is None and _is_path(X)
        images = estimator.schema_.encode(X, on_bad, labelled=labelled)
        y = self._labels(estimator, images, y, truth=truth)
        return Encoded({"x": images.pixels}, y, images.names, _skipped(images))

    def schema(self, value: Mapping[str, Any]) -> ImageSchema:
        """The schema out of a model's config.json."""
        return ImageSchema.from_json(dict(value))

    @staticmethod
    def _labels(estimator: Any, images: Images, y: Any, *, truth: bool) -> Any:
        where = type(estimator).__name__
        if y is None:
            if truth and images.labels is None:
                raise DataError(
                    f"{where}: requires y to be passed, but the target y is None; only a folder brings labels"
                )
            return None if images.labels is None else np.array(images.labels)
        if isinstance(y, str):
            raise DataError(f"{where}: y={y!r}: images have no column of that name; give an array of labels")
        y = np.asarray(as_target(y, where))
        offered = len(images) + len(images.bad)
        if len(y) != offered:
            raise DataError(f"{where}: X has {offered} images and y has {len(y)} labels; they must be as many")
        return y[images.kept]


def _as_array(X: Tensor, where: str) -> NDArray[Any]:
    X = X.detach()
    try:
        return (X.to("cpu", torch.float64) if X.is_floating_point() else X.cpu()).numpy()
    except (TypeError, RuntimeError) as error:  # sparse, or without data
        raise DataError(f"{where}: X must be a dense tensor: {str(error).splitlines()[0]}") from None


def _advised(text: str) -> str:
    """scikit-learn's message without the data that it prints, and what to do."""
    text = re.sub(r"\narray=.*?(?=\nReshape|$)|(?<=not supported)\n.*", "", text, flags=re.S).rstrip(". \n")
    advice = {
        "contains NaN": ". Missing values are imputed in tables: pass a DataFrame or a csv file.",
        "could not convert string": "; strings belong in a DataFrame or a csv file, where they are categories",
        "Complex data not supported": "; make it columns of real numbers",
        "too large": "; mend or remove these rows",
        "with dim ": ". Rows of a table are flat: reshape with X.reshape(len(X), -1).",
        "inhomogeneous": ". The rows must be of one length.",
    }
    if "contains NaN" in text:
        text = text.split("\n")[0].rstrip(".")  # scikit-learn goes on with estimators of its own
    return text + "".join(more for part, more in advice.items() if part in text)


def _is_path(X: Any) -> bool:
    return isinstance(X, (str, Path))


def _skipped(images: Images) -> list[dict[str, str]]:
    return [{"item": b.item, "reason": b.reason} for b in images.bad]


def _displayed(pixels: Tensor) -> NDArray[np.uint8]:
    """One image (C, H, W) as an 8-bit picture, (H, W) or (H, W, 3); floats are stretched from least to largest."""
    image = pixels.numpy()
    if image.dtype != np.uint8:
        low, high = float(image.min()), float(image.max())
        image = ((image - low) / ((high - low) or 1.0) * 255).round().astype(np.uint8)
    return image[0] if len(image) == 1 else np.moveaxis(image, 0, -1)


def _cell(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float):
        return None if value != value else float(f"{value:.6g}")
    return value if isinstance(value, (int, bool, str)) or value is None else str(value)
