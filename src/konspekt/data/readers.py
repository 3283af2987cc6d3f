"""How an estimator's X is read: what a fit learns of it, and how a prediction encodes it in the same way."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from konspekt.core.errors import ConfigError, DataError
from konspekt.data.bad_rows import bad_rows, without
from konspekt.data.fields import Field
from konspekt.data.idx import images_and_labels, is_idx
from konspekt.data.image_arrays import all_equal
from konspekt.data.image_tables import images_listed
from konspekt.data.images import Images, ImageSchema, OnBad, read_images
from konspekt.data.outside import images_of, is_outside, table_of
from konspekt.data.sets import DataSet
from konspekt.data.stream_images import StreamedImages, stream_images
from konspekt.data.stream_tables import StreamedTable, in_memory, open_csv
from konspekt.data.streams import Scratch, Source, is_larger
from konspekt.data.table_files import is_csv
from konspekt.data.tables import TableSchema, is_table, split_target
from konspekt.data.targets import as_target

__all__ = ["Encoded", "ImageReader", "Learned", "Opened", "Reader", "TableReader", "displayed", "source_of"]


@dataclass
class Opened:
    """What X holds, before anything is learned of it.

    data: rows or pictures, as the reader goes on with them. total: how many items. y: the targets of these items, None
    where there are none (only an estimator that is not `supervised` does without). skipped: items that could not be read, each {"item", "reason"}.
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
    source: what reads the items of data that are streamed; `fields` then has none of what it gives.
    """

    schema: Any
    fields: dict[str, Field]
    facts: Callable[[], dict[str, Any]]
    notes: list[str]
    show: Callable[[int], dict[str, Any]]
    source: Source | None = None


@dataclass
class Encoded:
    """X as tensors, by what a fit learned. y: the targets of these items. names: what to call each item.

    sizes: of images, (N, 2) int64, height and width of each before it was brought to a size; None for anything else.
    """

    fields: dict[str, Field]
    y: Any
    names: list[Any]
    skipped: list[dict[str, str]] = field(default_factory=list)
    sizes: NDArray[np.int64] | None = None


class Reader(Protocol):
    """One for each kind of X; it holds no state, the schema does."""

    def open(self, estimator: Any, X: Any, y: Any) -> Opened:
        """Read X for a fit."""

    def learn(self, estimator: Any, opened: Opened, train: NDArray[np.int64]) -> Learned:
        """Learn the schema from the training items only, and encode all."""

    def encode(self, estimator: Any, X: Any, y: Any = None, *, truth: bool = False, on_bad: OnBad = "raise") -> Encoded:
        """Read X by `estimator.schema_`. truth: the targets are wanted too, from X itself where y is None."""

    def stream(self, estimator: Any, X: Any, y: Any, scratch: Scratch) -> Opened | None:
        """As `open`, for X that stays on the disk; None where X is to be read into memory, or cannot be streamed.

        `learn` then gives a `source`. scratch: where files may be put during the fit. A reader need not have this method.
        """

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
        "target": str(y) if isinstance(y, (str, Path)) else list(y) if _are_names(y) else None,
        "validation": held if isinstance(held, (float, str)) else None,  # else it is something that only the caller has
    }


def _are_names(y: Any) -> bool:
    return isinstance(y, tuple) and all(isinstance(name, str) for name in y)


class TableReader:
    """Rows of numbers, categories and dates: an array (N, F), a DataFrame, a csv or parquet file."""

    def open(self, estimator: Any, X: Any, y: Any) -> Opened:
        """Read a table for a fit; y is an array, a Series or DataFrame, or the name of the column (names: a tuple)."""
        where = type(estimator).__name__
        types = getattr(estimator, "types", None) or {}
        X, y = table_of(X, y, where)
        X, y = split_target(X, y, [str(name) for name, kind in types.items() if kind == "category"])
        X, y, skipped, _ = self._sound(estimator, X, y, estimator.on_bad)
        y = self._wanted(estimator, y)
        X = self._checked(estimator, X, reset=True)
        self._as_many(len(X), y, where)
        return Opened(X, len(X), y, skipped)

    @staticmethod
    def _sound(
        estimator: Any, X: Any, y: Any, on_bad: OnBad
    ) -> tuple[Any, Any, list[dict[str, str]], NDArray[np.int64] | None]:
        """X and y, with `on_bad="skip"` without the rows that cannot be used; those, and the numbers of the others."""
        if on_bad != "skip":
            return X, y, [], None
        tables = [v for v in (X, y) if getattr(v, "ndim", 0) in (1, 2) and hasattr(v, "dtype" if v is y else "shape")]
        sizes = [v.shape[0] for v in tables]
        if len(set(sizes)) != 1:  # what is no table is refused later, by its reason
            return X, y, [], None
        bad = bad_rows(X, y, getattr(estimator, "types", None))
        if not bad:
            return X, y, [], None
        if len(bad) == sizes[0]:
            row, why = next(iter(bad.items()))
            raise DataError(f"{type(estimator).__name__}: no row can be used; row {row}: {why}")
        good = np.ones(sizes[0], dtype=bool)
        good[list(bad)] = False
        skipped = [{"item": f"row {row}", "reason": why} for row, why in bad.items()]
        return without(X, good), without(y, good), skipped, np.flatnonzero(good)

    def stream(self, estimator: Any, X: Any, y: Any, scratch: Scratch) -> Opened | None:
        """A csv file that stays on the disk, or None; y as in `open`."""
        path = Path(X) if is_csv(X) else None
        if path is None or not path.is_file() or not is_larger(estimator.stream, lambda: in_memory(path)):
            return None
        where = type(estimator).__name__
        if estimator.on_bad == "skip":
            raise ConfigError(
                f"{where}: on_bad='skip' cannot be had with a table that is streamed ({path}): mend the rows that "
                "on_bad='raise' names, or give stream='never' where the memory allows it"
            )
        types = getattr(estimator, "types", None) or {}
        table = open_csv(path, y, [str(name) for name, kind in types.items() if kind == "category"], scratch)
        y = self._wanted(estimator, y if table.y is None else table.y)
        self._checked(estimator, table.block(0).head(1), reset=True)
        self._as_many(table.total, y, where)
        return Opened(table, table.total, y)

    @staticmethod
    def _wanted(estimator: Any, y: Any) -> Any:
        where = type(estimator).__name__
        if y is None:
            if not getattr(estimator, "supervised", True):
                return None
            raise DataError(
                f"{where}: requires y to be passed, but the target y is None; give y, or the name of its column "
                "(target=COLUMN on the command line)"
            )
        return as_target(y, where)

    @staticmethod
    def _as_many(rows: int, y: Any, where: str) -> None:
        if y is not None and rows != len(y):
            raise DataError(f"{where}: X has {rows} rows and y has {len(y)}; they must be as many")
        if rows < 2:
            raise DataError(f"{where}: there is 1 sample only; at least 2 are needed")

    def learn(self, estimator: Any, opened: Opened, train: NDArray[np.int64]) -> Learned:
        """Learn types, means and categories from the training rows, and encode all rows."""
        X, where = opened.data, type(estimator).__name__
        if isinstance(X, StreamedTable):
            return self._learn_streamed(estimator, X, train)
        rows = None if len(train) == len(X) else train
        types = getattr(estimator, "types", None)
        try:
            schema = TableSchema.learn(X, types, where, rows)
        except DataError:
            TableSchema.learn(X, types, where)  # says the same of all rows, by the numbers that they have in the table
            raise

        def show(item: int) -> dict[str, Any]:
            values = X.iloc[item] if is_table(X) else X[item]
            return {"row": {c.name: _cell(v) for c, v in zip(schema.columns, values, strict=True)}}

        def facts() -> dict[str, Any]:
            return {"columns": schema.facts(X), "rows": len(X)}

        return Learned(schema, dict(schema.encode(X, where)), facts, schema.notes, show)

    @staticmethod
    def _learn_streamed(estimator: Any, table: StreamedTable, train: NDArray[np.int64]) -> Learned:
        where = type(estimator).__name__
        types = getattr(estimator, "types", None)
        try:
            schema = table.learn(train, types, where)
        except DataError:
            table.learn(np.arange(table.total), types, where)  # as above
            raise

        def show(item: int) -> dict[str, Any]:
            return {"row": {c.name: _cell(v) for c, v in zip(schema.columns, table.row(item), strict=True)}}

        def facts() -> dict[str, Any]:
            return {"columns": table.facts(schema), "rows": table.total}

        return Learned(schema, {}, facts, schema.notes, show, table.encoded(schema, where))

    def encode(self, estimator: Any, X: Any, y: Any = None, *, truth: bool = False, on_bad: OnBad = "raise") -> Encoded:
        """Encode a table in the way of the training; items are called by their row number, from 0."""
        where = type(estimator).__name__
        from_file = isinstance(X, (str, Path)) or is_outside(X)  # which may have columns besides
        X, y = table_of(X, y, where)
        X, y = split_target(X, y, [c.name for c in estimator.schema_.categories])
        if truth and y is None and getattr(estimator, "supervised", True):
            raise DataError(f"{where}: the true y is needed here: give y, or the name of its column (target=COLUMN)")
        X, y, skipped, rows = self._sound(estimator, X, y, on_bad)
        if from_file and is_table(X):
            X = estimator.schema_.match(X, where)
        X = self._checked(estimator, X, reset=False)
        y = None if y is None else as_target(y, where)
        if y is not None and len(X) != len(y):
            raise DataError(f"{where}: X has {len(X)} rows and y has {len(y)}; they must be as many")
        names = list(range(len(X))) if rows is None else rows.tolist()
        return Encoded(dict(estimator.schema_.encode(X, where)), y, names, skipped)

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
        # Numbers stay as they are: a copy in 64 bits could take more than the memory.
        wanted = (
            [np.float64, X.dtype] if isinstance(X, np.ndarray) and kind is not None and kind in "biuf" else np.float64
        )
        try:
            if np.ma.is_masked(X):
                raise DataError("a masked array has missing values; pass pd.DataFrame(X.filled(np.nan)) instead")
            if kind in ("m", "M"):
                raise DataError("an array of dates or times; pass pd.DataFrame(X), whose columns of dates are features")
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
                estimator, X, dtype=wanted, reset=reset, ensure_min_samples=2 if reset else 1
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
                f"{where}: X must be an array (N, F) of numbers, a DataFrame, a csv or a parquet file, got {what}"
                + ("; pass pd.DataFrame(X)" if isinstance(X, (dict, list, tuple)) else "")
            ) from None


class ImageReader:
    """Images: a folder with a sub-folder for each class, paths, an array, Pillow images, an idx file, a table of paths.

    Of the estimator it takes `image_size`, `on_bad`, `stream` and, where it has one, `channels` (None, 1 or 3).
    """

    folders_are_classes: ClassVar[bool] = True  # whether a folder brings targets

    def open(self, estimator: Any, X: Any, y: Any) -> Opened:
        """Read images for a fit; a folder and an idx file bring their own labels, everything else needs y.

        Of a table of paths y names the column, or a tuple of columns.
        """
        where, truth = type(estimator).__name__, getattr(estimator, "supervised", True)
        X, y = images_of(X, y, where, truth=truth)
        X, y = images_and_labels(X, y, where, truth=truth, later=False)
        X, y = self.listed(X, y, where, truth=truth)
        images = read_images(
            X,
            image_size=estimator.image_size,
            channels=getattr(estimator, "channels", None),
            on_bad=estimator.on_bad,
            labelled=truth and y is None and self.folders_are_classes and _is_path(X),
        )
        return self._opened(estimator, images, y)

    def stream(self, estimator: Any, X: Any, y: Any, scratch: Scratch) -> Opened | None:
        """A folder, a list of files or a table of them that stay on the disk, or None; y as in `open`."""
        if is_idx(X):
            return None
        where, truth = type(estimator).__name__, getattr(estimator, "supervised", True)
        y = images_and_labels(None, y, where, truth=False, later=False)[1]
        X, y = self.listed(X, y, where, truth=truth)
        images = stream_images(
            X,
            lambda need: is_larger(estimator.stream, need),
            image_size=estimator.image_size,
            channels=getattr(estimator, "channels", None),
            on_bad=estimator.on_bad,
            labelled=truth and y is None and self.folders_are_classes and _is_path(X),
        )
        return None if images is None else self._opened(estimator, images, y)

    def listed(self, X: Any, y: Any, where: str, *, truth: bool) -> tuple[Any, Any]:
        """X and y, where what is a table of paths has become the images that it names."""
        return images_listed(X, y, where, truth=truth)

    def targets(self, images: Images, y: Any, where: str, *, truth: bool) -> Any:
        """The targets of these images, which are some of those offered; None where there are none."""
        if y is None:
            if truth and images.labels is None:
                bring = (
                    "only folders and idx files bring labels"
                    if self.folders_are_classes
                    else "a folder brings none: give an array of numbers, or in the place of the folder a csv file of paths "
                    "and the name of its column (target=COLUMN on the command line)"
                )
                raise DataError(f"{where}: requires y to be passed, but the target y is None; {bring}")
            return None if images.labels is None else np.array(images.labels)
        if isinstance(y, str):
            out = ", or leave y (target=) out where sub-folders are the classes" if self.folders_are_classes else ""
            raise DataError(f"{where}: y={y!r}: images have no column of that name; give an array of labels{out}")
        y = as_target(y, where)
        offered = len(images) + len(images.bad)
        if len(y) != offered:
            raise DataError(f"{where}: X has {offered} images and y has {len(y)} labels; they must be as many")
        if getattr(y, "ndim", 1) == 2 and hasattr(y, "iloc"):  # several targets, which have names
            return y.iloc[images.kept].reset_index(drop=True)
        return np.asarray(y)[images.kept]

    def _opened(self, estimator: Any, images: Images, y: Any) -> Opened:
        where = type(estimator).__name__
        y = self.targets(images, y, where, truth=getattr(estimator, "supervised", True))
        if len(images) < 2:
            raise DataError(f"{where}: there is 1 sample only; at least 2 are needed")
        return Opened(images, len(images), y, _skipped(images))

    def learn(self, estimator: Any, opened: Opened, train: NDArray[np.int64]) -> Learned:
        """Learn the statistics of the channels from the training images."""
        images: Images = opened.data
        convert = getattr(estimator, "channels", None) is not None
        rules = {"resize": estimator.image_size is not None, "convert": convert}
        files = images.files if isinstance(images, StreamedImages) else None
        if all_equal(images.pixels) if files is None else files.all_equal():
            raise DataError(
                f"{type(estimator).__name__}: all {len(images)} images are the same, pixel for pixel, such as "
                f"{images.names[0]} and {images.names[1]}: there is nothing to learn from them; look at how they were made"
            )
        if files is None:
            some = replace(images, pixels=images.pixels[train]) if len(train) < len(images) else images
            schema = ImageSchema.learn(some, **rules)
        else:
            schema = files.learn(train, **rules)

        def show(item: int) -> dict[str, Any]:
            pixels = images.pixels[item] if files is None else torch.from_numpy(files.read(np.array([item]))["x"][0])
            return {"image": displayed(pixels), "name": images.names[item]}

        def facts() -> dict[str, Any]:
            shape = {"channels": schema.channels, "height": schema.height, "width": schema.width, "dtype": schema.dtype}
            return {"image": shape, "ignored": images.ignored}

        notes = []
        splits = sorted(set(images.labels or []) & {"train", "test", "val", "valid", "validation"})
        if splits:
            notes.append(f"classes named {', '.join(splits)}: is this a folder of splits? Then give one of its folders")
        # The first part of a name within a folder is the class.
        lost = sorted({bad.item.split("/")[0] for bad in images.bad} - set(images.labels or []))
        if lost and images.labels:
            notes.append(f"no image is left of the classes {', '.join(lost)}: the model does not know them")
        if images.bad:
            notes.append(f"{len(images.bad)} images could not be read and were skipped; data.json lists them")
        if images.ignored:
            some_names = ", ".join(images.ignored[:5]) + (", ..." if len(images.ignored) > 5 else "")
            notes.append(f"{len(images.ignored)} entries of the folder are no images by their names: {some_names}")
        return Learned(schema, {"x": images.pixels} if files is None else {}, facts, notes, show, files)

    def encode(self, estimator: Any, X: Any, y: Any = None, *, truth: bool = False, on_bad: OnBad = "raise") -> Encoded:
        """Encode images in the way of the training; items are called by their paths or "image 17"."""
        where, truth = type(estimator).__name__, truth and getattr(estimator, "supervised", True)
        X, y = images_of(X, y, where, truth=truth)
        X, y = images_and_labels(X, y, where, truth=truth, later=True)
        X, y = self.listed(X, y, where, truth=truth)
        labelled = truth and y is None and self.folders_are_classes and _is_path(X)
        images = estimator.schema_.encode(X, on_bad, labelled=labelled)
        y = self.targets(images, y, where, truth=truth)
        return Encoded({"x": images.pixels}, y, images.names, _skipped(images), images.sizes)

    def schema(self, value: Mapping[str, Any]) -> ImageSchema:
        """The schema out of a model's config.json."""
        return ImageSchema.from_json(dict(value))


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
    """What was left out; of a table of paths, with the row."""
    return [{"item": b.item, "reason": b.reason} | ({} if b.row is None else {"row": str(b.row)}) for b in images.bad]


def displayed(pixels: Tensor) -> NDArray[np.uint8]:
    """One image (C, H, W) as an 8-bit picture, (H, W) or (H, W, 3); floats are stretched from least to largest."""
    image = pixels.numpy()
    if image.dtype != np.uint8:
        low, high = float(image.min()), float(image.max())
        image = ((image - low) / ((high - low) or 1.0) * 255).round().astype(np.uint8)
    return image[0] if len(image) == 1 else np.moveaxis(image, 0, -1)


def _cell(value: Any) -> Any:
    if type(value).__name__ == "NaTType":  # a missing date
        return None
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float):
        return None if value != value else float(f"{value:.6g}")
    return value if isinstance(value, (int, bool, str)) or value is None else str(value)
