"""Tables that name images: a csv or parquet file, or a DataFrame, with a column of paths and others of targets.

The column of paths is the one whose values all end as files of images do. Where several do, or none, the name decides:
"path", "file", "filename", "image" and what is spelled alike. Relative paths start at the folder of the file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from konspekt.core.errors import DataError
from konspekt.data.image_items import SUFFIXES, Item
from konspekt.data.tables import split_target

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["images_listed", "is_list_of_images"]

_FILES = (".csv", ".csv.gz", ".parquet", ".pq")
_NAMES = ("path", "file", "filename", "filepath", "image", "imagepath", "imagefile", "img", "imgpath")


def is_list_of_images(X: Any) -> bool:
    """Whether X is a table that names images: a file of a table, or a DataFrame with a column of text.

    A DataFrame of numbers only is one of pixels.
    """
    if isinstance(X, (str, Path)):
        return str(X).lower().endswith(_FILES) and not Path(X).is_dir()
    return hasattr(X, "columns") and hasattr(X, "iloc") and any(_is_text(X.iloc[:, i]) for i in range(X.shape[1]))


def images_listed(
    X: Any, y: Any, where: str, *, truth: bool, guess: Callable[[list[str]], tuple[str, ...] | None] | None = None
) -> tuple[Any, Any]:
    """The images that a table names, and its targets where y names their columns; anything else as it is.

    y: the name of a column, a tuple of names, or the targets themselves. truth: whether targets are wanted.
    guess: which of the columns hold the targets where y is None; None: y must say it.

    Raises DataError where there is no such column, y is missing, or it is not clear which column has the paths.
    """
    if hasattr(X, "columns") and hasattr(X, "to_pandas"):  # polars, pyarrow
        X = X.to_pandas()
    if not is_list_of_images(X):
        return X, y
    base = Path(X).parent if isinstance(X, (str, Path)) else None
    called = "the table" if base is None else str(X)
    table, y = split_target(X, y)
    if not table.columns.is_unique:
        twice = sorted(set(table.columns[table.columns.duplicated()].astype(str)))
        raise DataError(f"{where}: columns named twice: {', '.join(twice)}; rename them")
    if truth and y is None and guess is not None and (columns := guess(list(map(str, table.columns)))):
        table, y = split_target(table, columns)
    if truth and y is None:
        shown = ", ".join(map(str, table.columns[:20]))
        how = (
            "the column of {} that holds it, y=COLUMN (target=COLUMN on the command line)"
            if guess is None
            else "the five columns of {} that hold it, y=(LABEL, LEFT, TOP, RIGHT, BOTTOM) "
            "(target=LABEL,LEFT,TOP,RIGHT,BOTTOM on the command line)"
        ).format(called)
        raise DataError(f"{where}: requires y to be passed, but the target y is None; name {how}: {shown}")
    column = _column_of_paths(table, called, where)
    return [_listed(row, path, base) for row, path in enumerate(table[column])], y


def _listed(row: int, path: Any, base: Path | None) -> Item:
    if not isinstance(path, (str, Path)) or not str(path).strip():
        return Item("(no path)", reason="the path is missing", row=row)
    place = Path(str(path).strip()) if base is None else base / str(path).strip()
    return Item(str(place), place, row=row)


def _is_text(column: Any) -> bool:
    return column.dtype.kind not in "biufcmM" and any(isinstance(value, (str, Path)) for value in column)


def _column_of_paths(table: pd.DataFrame, called: str, where: str) -> Any:
    texts = [name for name in table.columns if _is_text(table[name])]
    named = [name for name in texts if str(name).lower().replace("_", "").replace(" ", "") in _NAMES]
    ending = [name for name in texts if all(_ends(value) for value in table[name].dropna())]
    found = ending if len(ending) == 1 else [name for name in named if name in ending] if ending else named
    if len(found) == 1:
        return found[0]
    if len(found) > 1 or len(ending) > 1:
        several = " and ".join(repr(str(name)) for name in found or ending)
        raise DataError(
            f"{where}: in {called} the columns {several} could be the paths of the images: rename the one that is meant "
            "to 'path', and leave the others out"
        )
    raise DataError(
        f"{where}: {called} has no column of paths of images: a column named 'path', or one whose values all end in one "
        f"of {' '.join(SUFFIXES)}; it has {', '.join(map(str, table.columns[:20])) or 'no column besides the target'}"
    )


def _ends(value: Any) -> bool:
    return isinstance(value, (str, Path)) and str(value).strip().lower().endswith(SUFFIXES)
