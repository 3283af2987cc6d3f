"""One box and its class in each image: reading and checking what a net that localises learns from.

People give boxes in pixels of the image as it is seen, turned by its EXIF orientation and before it is brought to a
size. Here they are shares of its width and height, which no resizing changes.

Shape letters in this file: N images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from konspekt.core.errors import DataError
from konspekt.data.image_tables import images_listed
from konspekt.data.images import Images
from konspekt.data.readers import ImageReader

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BoxReader", "Boxes"]

_LABELS = ("label", "class", "name", "category")
_CORNERS = ("left", "top", "right", "bottom"), ("xmin", "ymin", "xmax", "ymax")
_SIDES = ("x", "y", "width", "height")  # of the upper left corner; then the size
_OTHERS = ("left", "top", "width", "height"), ("xmin", "ymin", "width", "height"), ("x", "y", "w", "h")  # the same
_FORMS = (
    "a table with the columns label, left, top, right, bottom (or xmin, ymin, xmax, ymax; or x, y, width, height), an "
    "array (N, 5) in that order, or a pair of labels (N,) and boxes (N, 4); in pixels of the original images"
)
_LISTED = 20


@dataclass(frozen=True)
class Boxes:
    """The box of each image, and the label of what is in it.

    labels (N,): of any type. boxes (N, 4) float64: left, top, right, bottom, as shares of the image's width and height.
    """

    labels: NDArray[Any]
    boxes: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.labels)


class BoxReader(ImageReader):
    """Images, as `ImageReader` reads them, with one labelled box in each; `Opened.y` and `Encoded.y` are `Boxes`.

    y: what `_FORMS` says; of a table of paths its columns are found by these names where y is None.
    """

    folders_are_classes: ClassVar[bool] = False

    def listed(self, X: Any, y: Any, where: str, *, truth: bool) -> tuple[Any, Any]:
        """X and y, where what is a table of paths has become the images that it names, and the columns of boxes."""
        return images_listed(X, y, where, truth=truth, guess=_columns)

    def targets(self, images: Images, y: Any, where: str, *, truth: bool) -> Boxes | None:
        """The boxes of these images.

        Raises DataError with a list where a box is missing, empty, or not within its image.
        """
        if y is None:
            if truth:
                raise DataError(f"{where}: requires y to be passed, but the target y is None; give {_FORMS}")
            return None
        if isinstance(y, str):
            raise DataError(f"{where}: y={y!r}: one column is no box; give {_FORMS}")
        labels, boxes = _read(y, where)
        offered = len(images) + len(images.bad)
        if len(labels) != offered:
            raise DataError(f"{where}: X has {offered} images and y has {len(labels)} boxes; each image has one")
        labels, boxes = labels[images.kept], boxes[images.kept]
        _check(boxes, images, where)
        height, width = images.sizes.T
        return Boxes(labels, boxes / np.stack([width, height, width, height], axis=1))


def _columns(names: list[str]) -> tuple[str, ...] | None:
    """The columns of label and box, in order, by their names; None where they are not there.

    Raises DataError where they could be several.
    """
    found = {name.strip().lower(): name for name in names}
    label = next((found[n] for n in _LABELS if n in found), None)
    forms = [form for form in (*_CORNERS, _SIDES) if all(n in found for n in form)]
    # width and height beside four sides are those of the image
    forms = forms or [form for form in _OTHERS if all(n in found for n in form)][:1]
    if label is None or not forms:
        return None
    if len(forms) > 1:
        raise DataError(
            f"the table has boxes twice, as {' and as '.join(', '.join(form) for form in forms)}: name the five columns "
            "that are meant as y (target=label,left,top,right,bottom on the command line)"
        )
    return (label, *(found[n] for n in forms[0]))


def _read(y: Any, where: str) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Labels (N,), and boxes (N, 4) in pixels: left, top, right, bottom."""
    if isinstance(y, Mapping) or getattr(getattr(y, "dtype", None), "names", None):  # a structured array
        import pandas as pd

        y = pd.DataFrame(y)
    if hasattr(y, "iloc") and getattr(y, "ndim", 0) == 2:
        return _of_table(y, where)
    if isinstance(y, (tuple, list)) and len(y) == 2 and np.ndim(_array(y[1], where)) == 2:
        labels, boxes = (_array(part, where) for part in y)
    else:
        rows = _array(y, where)
        if rows.ndim != 2 or rows.shape[1] != 5:
            raise DataError(f"{where}: the boxes have shape {rows.shape}: give {_FORMS}")
        labels, boxes = rows[:, 0], rows[:, 1:]
    if labels.ndim != 1 or boxes.shape != (len(labels), 4):
        raise DataError(f"{where}: labels {labels.shape} and boxes {boxes.shape} are not (N,) and (N, 4)")
    return _plain(labels), _numbers(boxes, where)


def _of_table(y: pd.DataFrame, where: str) -> tuple[NDArray[Any], NDArray[np.float64]]:
    columns = _columns([str(c) for c in y.columns])
    table = y.set_axis([str(c) for c in y.columns], axis=1)
    if columns is None and table.shape[1] == 5:  # by their places, whatever they are called but sizes
        columns = tuple(table.columns)
        sizes = [
            n for n in columns[1:] if n.strip().lower() in ("w", "h") or n.strip().lower().endswith(("width", "height"))
        ]
        if sizes:
            raise DataError(
                f"{where}: in the columns {', '.join(columns)} {' and '.join(sizes)} seem to be sizes, and it is not clear "
                f"of what: give {_FORMS}"
            )
    if columns is None or not table.columns.is_unique:
        raise DataError(f"{where}: no boxes in the columns {', '.join(table.columns[:20])}: give {_FORMS}")
    boxes = _numbers(table[list(columns[1:])].to_numpy(dtype=object), where)
    if tuple(c.strip().lower() for c in columns[1:]) in (_SIDES, *_OTHERS):
        boxes[:, 2:] += boxes[:, :2]
    return _plain(table[columns[0]].to_numpy()), boxes


def _array(value: Any, where: str) -> NDArray[Any]:
    try:
        return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
    except ValueError:
        raise DataError(f"{where}: the rows of y differ in length: give {_FORMS}") from None


def _numbers(boxes: NDArray[Any], where: str) -> NDArray[np.float64]:
    try:
        return boxes.astype(np.float64)
    except (ValueError, TypeError) as error:
        row = next((row for row, box in enumerate(boxes) if not all(map(_is_number, box))), None)
        place = "" if row is None else f"row {row}: "
        raise DataError(f"{where}: {place}the sides of boxes must be numbers ({error})") from None


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (ValueError, TypeError):
        return False
    return True


def _plain(labels: NDArray[Any]) -> NDArray[Any]:
    """Labels that an array of floats has made floats are whole numbers again."""
    whole = labels.dtype.kind == "f" and np.isfinite(labels).all() and (labels == np.floor(labels)).all()
    return labels.astype(np.int64) if whole else labels


def _check(boxes: NDArray[np.float64], images: Images, where: str) -> None:
    """Raise DataError with all boxes that cannot be, by their rows and images."""
    if len(boxes) and 0 <= boxes.min() <= boxes.max() <= 1 and (boxes % 1).any():
        raise DataError(
            f"{where}: all sides of boxes lie between 0 and 1, such as {', '.join(f'{v:g}' for v in boxes[0])}: they seem to be "
            "shares of the images; give pixels: multiply left and right by the width, top and bottom by the height"
        )
    wrong: list[str] = []
    for row, name, (height, width), box in zip(
        images.kept.tolist(), images.names, images.sizes.tolist(), boxes.tolist(), strict=True
    ):
        reason = _reason(box, height, width)
        if reason:
            wrong.append(f"  row {row} ({name}): {reason}")
    if wrong:
        more = [f"  and {len(wrong) - _LISTED} more"] if len(wrong) > _LISTED else []
        raise DataError(
            f"{where}: {len(wrong)} of {len(boxes)} boxes cannot be used (rows are counted from 0):\n"
            + "\n".join(wrong[:_LISTED] + more)
            + "\nMend or remove them; boxes are in pixels of the original image, as it is seen (turned by its EXIF "
            "orientation), left and top from 0"
        )
    first: dict[str, int] = {}
    for row, name in zip(images.kept.tolist(), images.names, strict=True):
        if first.setdefault(name, row) != row:
            raise DataError(
                f"{where}: {name} stands in rows {first[name]} and {row}: an image has one box here; keep one row for each"
            )


def _reason(box: list[float], height: int, width: int) -> str | None:
    """Why this can be no box of an image of this size; None where it can."""
    left, top, right, bottom = box
    if not all(map(math.isfinite, box)):
        return "a side is missing (NaN) or infinite"
    for low, high, names in ((left, right, ("left", "right")), (top, bottom, ("top", "bottom"))):
        if low >= high:
            return f"{names[0]} {low:g} is not less than {names[1]} {high:g}, so the box is empty"
    for value, name, beyond in (
        (left, "left", left < 0),
        (top, "top", top < 0),
        (right, "right", right > width),
        (bottom, "bottom", bottom > height),
    ):
        if beyond:
            return f"{name} {value:g} is outside of the image, which is {width} wide and {height} high"
    return None
