"""How the page shows what a system kept by `Run.keep`: one drawer for each kind, from the value as JSON holds it.

A drawer takes the name and the value and returns HTML. It raises ValueError, TypeError or KeyError on a value that is
not of its kind; the page then says so in its place.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from konspekt.reports.canvas import spans_decades
from konspekt.reports.figures import Line, lines, points, raster
from konspekt.reports.templates import Cell, Grid, Table, Tile, part
from konspekt.reports.words import clean, number, plural, real, short, title

__all__ = ["DRAWERS", "beside_row", "draw", "png", "series_of", "table_of"]

MAX_GRID = 30  # rows or columns of a matrix that is written out
MAX_RASTER = 600  # rows or columns of a matrix that is shaded
MAX_SERIES = 24
MAX_ROWS = 200
MAX_COLUMNS = 40
MAX_IMAGES = 64
MAX_LARGE, LARGE = 6, 160  # so few pictures of so many pixels across, which have something to be read, are shown large


def curve(name: str, value: Any) -> Markup:
    """{series: values} or {series: (x, values)} as lines; a series of two points with one x is a mark at that x."""
    series = series_of(value)
    marks = [s for s in series if len(s.x) == 2 and s.x[0] == s.x[1]]
    mark = marks[0] if len(marks) == 1 < len(series) else None
    series = [s for s in series if s is not mark]
    note = f"{MAX_SERIES} of {len(value)} series are drawn." if len(value) > MAX_SERIES else ""
    if len(series) > 8:
        names = ", ".join(short(s.name, 20) for s in series)
        note = f"{note} Series: {names}.".strip()
    logx = all(spans_decades(s.x) and not np.allclose(np.diff(s.x), s.x[1] - s.x[0]) for s in series)
    only = series[0].name if len(series) == 1 else ""
    at: dict[str, Any] = {} if mark is None else {"best": float(mark.x[0]), "best_name": mark.name}
    return part("figure", lines(f"kept-{name}", only, series, xlabel="", logx=logx, note=note, **at))


def series_of(value: Any) -> list[Line]:
    """The lines of a kept curve.

    Raises ValueError, TypeError or AttributeError where it is none.
    """
    series = []
    for label, data in list(value.items())[:MAX_SERIES]:
        paired = len(data) == 2 and all(isinstance(d, list) for d in data)
        y = _reals(data[1] if paired else data)
        x = _reals(data[0]) if paired else np.arange(len(y), dtype=float)
        if len(x) != len(y):
            raise ValueError(f"{short(label)}: {len(x)} x values for {len(y)} y values")
        series.append(Line(clean(label), x[np.isfinite(x)], y[np.isfinite(x)], "main" if len(value) <= 8 else "quiet"))
    if not any(np.isfinite(s.y).any() for s in series):
        raise ValueError("it holds no number")
    return series


def matrix(name: str, value: Any) -> Markup:
    """{"values", "rows", "columns"}: written out with shades, or as shades alone where it is large."""
    values = np.array([_reals(row) for row in value["values"]])
    if values.ndim != 2 or values.size == 0:
        raise ValueError(f"a matrix has rows and columns, this has the shape {values.shape}")
    rows = _names(value.get("rows"), len(values))
    columns = _names(value.get("columns"), values.shape[1])
    if max(values.shape) > MAX_GRID:
        steps = [-(-n // MAX_RASTER) for n in values.shape]
        part_of = values[:: steps[0], :: steps[1]]
        names = rows if len(part_of) <= MAX_GRID and value.get("rows") else []
        ends = (columns[0], columns[-1])
        size = f"{number(values.shape[0])} rows, {number(values.shape[1])} columns."
        return part("figure", raster(f"kept-{name}", "", part_of, names, columns=ends, caption=size))
    seen = np.abs(values[np.isfinite(values)])
    top = float(seen.max()) if seen.size else 0.0
    signed = bool((values < 0).any())
    cells = [
        [Cell(number(float(v), 3), abs(float(v)) / top if top and np.isfinite(v) else 0.0, v < 0) for v in row]
        for row in values
    ]
    note = "The shade is the size, the second colour means below zero." if signed else ""
    return part("grid", Grid(title(name), rows, columns, cells, note=note))


def scatter(name: str, value: Any) -> Markup:
    """{"x", "y", "xlabel", "ylabel"} as dots."""
    x, y = _reals(value["x"]), _reals(value["y"])
    if len(x) != len(y):
        raise ValueError(f"{len(x)} x values for {len(y)} y values")
    labels = {k: clean(value.get(k) or k[0]) for k in ("xlabel", "ylabel")}
    return part("figure", points(f"kept-{name}", "", x, y, **labels))


def images(name: str, value: Any) -> Markup:
    """{"images": (N, H, W) or (N, H, W, 3), "titles"} as a gallery."""
    pictures = [np.nan_to_num(np.array(p, dtype=float)) for p in value["images"][:MAX_IMAGES]]
    if not pictures:
        raise ValueError("it holds no picture")
    given = bool(value.get("titles"))
    names = _names(value.get("titles"), len(pictures))
    low, high = min(float(p.min()) for p in pictures), max(float(p.max()) for p in pictures)
    tiles = [
        Tile(png(p, low, high), n if given else f"{title(name)}, {n}", [short(n, 60)] if given else [])
        for p, n in zip(pictures, names, strict=True)
    ]
    more = len(value["images"]) - MAX_IMAGES
    note = Markup('<p class="note">And {}.</p>').format(plural(more, "more picture")) if more > 0 else Markup()
    large = len(pictures) <= MAX_LARGE and min(p.shape[1] for p in pictures) >= LARGE
    return part("gallery", tiles, title(name), "large" if large else "") + note


def table(name: str, value: Any) -> Markup:
    """A list of rows, each a dict."""
    if not isinstance(value, list) or not value or not all(isinstance(row, dict) for row in value):
        raise ValueError("a table is a list of rows, each a dict, and has at least one")
    return part("table", table_of(title(name), value))


def table_of(caption: str, rows: list[dict[str, Any]]) -> Table:
    """Dicts as a table: the columns are all keys, in order of appearance."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    cut = [plural(len(rows) - MAX_ROWS, "more row")] if len(rows) > MAX_ROWS else []
    cut += [plural(len(keys) - MAX_COLUMNS, "more column")] if len(keys) > MAX_COLUMNS else []
    keys = keys[:MAX_COLUMNS]
    cells = [[_cell(row.get(key)) for key in keys] for row in rows[:MAX_ROWS]]
    return Table(caption, [short(k, 40) for k in keys], cells, f"And {' and '.join(cut)}." if cut else "")


def beside_row(first: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """What is said of an item, then its columns; a column of the same name does not hide it."""
    return first | {f"{k} (column)" if k in first else k: v for k, v in row.items()}


def _cell(value: Any) -> Any:
    return value if value is None or isinstance(value, (int, float)) else short(value, 200)


def text(name: str, value: Any) -> Markup:
    """A string, its lines kept."""
    return Markup('<pre class="text" tabindex="0">{}</pre>').format(clean(value))


DRAWERS: dict[str, Callable[[str, Any], Markup]] = {
    "curve": curve,
    "matrix": matrix,
    "scatter": scatter,
    "images": images,
    "table": table,
    "text": text,
}


def draw(name: str, kind: Any, value: Any) -> Markup:
    """What was kept under this name, or a sentence that says why it cannot be shown."""
    drawer = DRAWERS.get(kind) if isinstance(kind, str) else None
    try:
        if drawer is None:
            raise ValueError(f"the kind {short(kind)!r} has no drawer here")
        return drawer(name, value)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError) as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else short(error, 160)
        return Markup('<p class="note">This could not be shown: {}.</p>').format(why)


def _reals(values: Any) -> np.ndarray:
    """Numbers as floats; null, which stands for what was not finite, as NaN."""
    if not isinstance(values, list):
        raise TypeError(f"a list of numbers belongs here, found {type(values).__name__}")
    return np.array([real(v) for v in values], dtype=float)


def _names(values: Any, count: int) -> list[str]:
    """The given names, or 1, 2, 3 and so on where there are none or not enough."""
    given = [short(v) for v in values] if isinstance(values, list) else []
    return (given + [str(i + 1) for i in range(len(given), count)])[:count]


def png(pixels: np.ndarray, low: float, high: float) -> str:
    """A picture as a data URI. Values are 0 to 255, or 0 to 1; any other range is stretched to full contrast."""
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3) or pixels.size == 0:
        raise ValueError(f"a picture has the shape (H, W) or (H, W, 3), this has {pixels.shape}")
    if low < 0 or high > 255:
        pixels = (pixels - low) * (255 / ((high - low) or 1))
    elif high <= 1:
        pixels = pixels * 255
    target = io.BytesIO()
    Image.fromarray(np.round(pixels).astype(np.uint8)).save(target, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(target.getvalue()).decode()}"
