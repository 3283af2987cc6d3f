"""Data sets of other libraries as X: torch's map-style `Dataset`, and `datasets.Dataset` of Hugging Face.

A torch Dataset gives (x, y) or x by its number; x is an image (a Pillow image, an array or tensor (H, W), (H, W, C) or
(C, H, W)) or a row of numbers. Of a Hugging Face Dataset images come from the column "image" (or the only one that holds
images) and labels from "label", or the column that y names; class numbers become their names. It becomes a table as its
`to_pandas` makes it. It is known by its methods, so that the library need not be installed.

Items are read one by one into memory, with the rules for lists of images; what cannot be read is listed with the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from konspekt.core.errors import DataError, nearest
from konspekt.data.image_files import attempt
from konspekt.data.image_items import Unreadable

__all__ = ["images_of", "is_outside", "table_of"]

_IMAGES, _LABELS = ("image", "img", "images"), ("label", "labels", "fine_label", "target")


def is_outside(X: Any) -> bool:
    """Whether X is a data set of torch or of Hugging Face.

    Raises DataError where it is one that can only be gone through, or a mapping of splits.
    """
    names = {c.__name__ for c in type(X).__mro__ if c.__module__.split(".")[0] not in ("builtins", "konspekt")}
    if names & {"IterableDataset", "IterDataPipe"}:
        raise DataError(
            f"X is a {type(X).__name__}: its items come one after the other and cannot be asked for by number, so they "
            "can neither be shuffled as a whole nor found again by a run that is resumed. Give a Dataset with __len__ and "
            "__getitem__, or write the items to a folder of images or a csv file; both can be larger than the memory"
        )
    if isinstance(X, Mapping) and names & {"DatasetDict", "IterableDatasetDict"}:
        splits = list(map(str, X))
        raise DataError(f"X holds the splits {', '.join(splits)}: give one of them, such as X[{splits[0]!r}]")
    if not isinstance(X, Dataset) and not _of_columns(X):
        return False
    for method in ("__len__", "__getitem__"):
        if not hasattr(X, method):
            raise DataError(f"X is a {type(X).__name__} without {method}: the items must be had by number")
    if len(X) == 0:
        raise DataError(f"X is a {type(X).__name__} without any item")
    return True


def _of_columns(X: Any) -> bool:
    return all(hasattr(X, name) for name in ("column_names", "features", "to_pandas", "__getitem__", "__len__"))


def images_of(X: Any, y: Any, where: str, *, truth: bool) -> tuple[Any, Any]:
    """A data set as a list of images, with its labels where y is None or names their column; anything else as it is.

    truth: whether labels are wanted.

    Raises DataError where there is no such column.
    """
    if not is_outside(X):
        return X, y
    if _of_columns(X):
        image, label = _image_column(X, where), _label_column(X, y, truth=truth)
        named = None if label is None else _names_of(X, label)
        labels = y if label is None else [v if named is None else named(v) for v in X[label]]
        return [_thing(partial(_cell, X, i, image)) for i in range(len(X))], None if not truth else labels
    if isinstance(y, str):
        raise DataError(f"{where}: y={y!r}: a {type(X).__name__} has no columns: give y as an array, or items (x, y)")
    things, found = _pairs(X)
    known = [label for label in found if label is not None]
    if y is None and truth and known:  # the place of an item that cannot be read is left out with it
        y = [known[0] if label is None else label for label in found]
    return things, y


def _pairs(X: Any) -> tuple[list[Any], list[Any]]:
    """The x and the y of each item; y is None where there is none."""
    things: list[Any] = []
    labels: list[Any] = []
    for i in range(len(X)):
        thing = _thing(partial(X.__getitem__, i))
        is_pair = isinstance(thing, (tuple, list)) and len(thing) == 2
        things.append(thing[0] if is_pair else thing)
        labels.append(_plain(thing[1]) if is_pair else None)
    return things, labels


def _thing(get: Callable[[], Any]) -> Any:
    thing, reason = attempt(get)
    return Unreadable(reason) if reason is not None else thing


def _plain(label: Any) -> Any:
    return label.tolist() if isinstance(label, (Tensor, np.ndarray, np.generic)) else label


def _cell(X: Any, item: int, column: str) -> Any:
    return X[item][column]


def _image_column(X: Any, where: str) -> str:
    kinds = [n for n in X.column_names if type(X.features.get(n)).__name__ == "Image"]
    named = [n for n in _IMAGES if n in X.column_names]
    found = (named if not kinds or set(named) & set(kinds) else []) or (kinds if len(kinds) == 1 else [])
    if not found:
        raise DataError(
            f"{where}: no column of images: the data set has {', '.join(X.column_names)}; name one 'image' "
            "(X.rename_column)"
        )
    return str(found[0])


def _label_column(X: Any, y: Any, *, truth: bool) -> str | None:
    if not truth or not (y is None or isinstance(y, str)):
        return None
    if isinstance(y, str):
        if y not in X.column_names:
            raise DataError(f"the data set has no column {y!r}; {nearest(y, X.column_names)}")
        return y
    return next((n for n in _LABELS if n in X.column_names), None)


def _names_of(X: Any, column: str) -> Callable[[Any], Any] | None:
    """What turns a class number of a column into its name, where the column has names."""
    names: Iterable[str] | None = getattr(X.features.get(column), "names", None)
    if not names:
        return None
    table = list(names)
    return lambda number: table[number] if number is not None and 0 <= number < len(table) else None


def table_of(X: Any, y: Any, where: str) -> tuple[Any, Any]:
    """A data set as a table, and its targets where y is None; anything else as it is.

    Raises DataError where an item cannot be read or is no row of numbers.
    """
    if not is_outside(X):
        return X, y
    if _of_columns(X):
        frame = X.to_pandas()
        for name in X.column_names:
            named = _names_of(X, name)
            if named is not None:
                frame[name] = [None if v != v else named(int(v)) for v in frame[name]]
        return frame, y
    things, found = _pairs(X)
    bad = [f"item {i}: {t.reason}" for i, t in enumerate(things) if isinstance(t, Unreadable)]
    if bad:
        more = f"\n  and {len(bad) - 20} more" if len(bad) > 20 else ""
        raise DataError(
            f"{where}: {len(bad)} of {len(things)} items cannot be read:\n  " + "\n  ".join(bad[:20]) + more
        )
    try:
        rows = np.stack([np.asarray(t.detach().cpu() if isinstance(t, Tensor) else t, np.float64) for t in things])
    except (ValueError, TypeError) as error:
        raise DataError(f"{where}: the items of a {type(X).__name__} must be rows of numbers ({error})") from None
    if y is None and all(label is not None for label in found):
        y = np.asarray(found)
    return rows, y
