"""Matplotlib as SVG that belongs to the page: its fonts, its colours, light and dark.

Matplotlib draws with marker colours; afterwards they are replaced by the page's CSS variables, fonts are left to the
page, and ids get the figure's name in front, so that two figures on one page never share one. A figure is about as
wide as a phone, so that its text keeps its size everywhere; wide screens show several side by side.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from konspekt.reports.words import clean, short, tick

__all__ = [
    "HEIGHT",
    "INK",
    "MUTED",
    "PAPER",
    "SERIES",
    "WIDTH",
    "end_labels",
    "finite",
    "name_axes",
    "scale",
    "spans_decades",
    "svg",
    "thin",
    "write",
]

INK, MUTED, RULE, PAPER = "#000001", "#000002", "#000003", "#000004"
SERIES = tuple(f"#0000a{i}" for i in range(6))
_PAINT = {INK: "currentColor", MUTED: "var(--muted)", RULE: "var(--rule)", PAPER: "var(--page)"}
_PAINT |= {colour: f"var(--s{i})" for i, colour in enumerate(SERIES)}

WIDTH, HEIGHT = 328, 204  # CSS pixels
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 11.0,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 1.0,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.unicode_minus": True,
    "axes.formatter.useoffset": False,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 4.0,
    "ytick.major.size": 0.0,
    "grid.color": RULE,
    "grid.linewidth": 1.0,
    "text.color": INK,
    "lines.linewidth": 2.0,
    "path.simplify": True,
    "text.usetex": False,
}


def svg(
    name: str,
    label: str,
    draw: Callable[[Axes], None],
    *,
    size: tuple[float, float] = (WIDTH, HEIGHT),
    margins: tuple[float, float, float, float] = (44, 12, 18, 34),
) -> Markup:
    """Draw on one pair of axes.

    name: stands before the picture's ids. label: what it says to those who do not see it.
    margins: left, right, top, bottom, in CSS pixels, as is the size.
    """
    (width, height), (left, right, top, bottom) = size, margins
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()  # whatever the user's own style is
        matplotlib.rcParams.update(_STYLE | {"svg.hashsalt": name})
        warnings.filterwarnings("ignore", message="Glyph")  # the reader's fonts may have what ours lack
        figure = Figure(figsize=(width / 72, height / 72), dpi=72)
        box = (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
        draw(figure.add_axes(box))
        target = io.BytesIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(target, format="svg", transparent=True, metadata=nothing)
    prefix = re.sub(r"[^A-Za-z0-9-]", lambda m: f"_{ord(m[0]):x}_", name)  # two names never become one
    return _adopt(target.getvalue(), prefix, label, size)


def _adopt(source: bytes, name: str, label: str, size: tuple[float, float]) -> Markup:
    root = ElementTree.fromstring(source)  # noqa: S314 - matplotlib wrote it a moment ago
    linked = {link[1:] for e in root.iter() for k, link in e.attrib.items() if k.endswith("href") and link[:1] == "#"}
    linked |= {clip[5:-1] for e in root.iter() if (clip := e.get("clip-path", "")).startswith("url(#")}
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = dict(_attributes(element, name, linked))
        for child in [c for c in element if c.tag.endswith(("metadata", "style"))]:
            element.remove(child)
        if element.tag != "text":
            element.text = None
        element.tail = None
    for group in root.iter("g"):
        styles = {e.get("style") for e in group}
        if len(styles) == 1 and None not in styles and all(e.tag == "use" for e in group):
            group.set("style", styles.pop() or "")
            for use in group:
                del use.attrib["style"]
    width, height = size
    root.attrib = {
        "viewBox": f"0 0 {width:g} {height:g}",
        "role": "img",
        "aria-label": clean(label),
        "style": f"--width:{width:g}px",
    }
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # noqa: S704 - every text in it was escaped just now


def _attributes(element: ElementTree.Element, name: str, linked: set[str]) -> list[tuple[str, str]]:
    kept = []
    for key, value in element.attrib.items():
        key = key.rpartition("}")[2]
        if key == "id":
            if value not in linked:
                continue
            value = f"{name}-{value}"
        elif key == "href" and value.startswith("#"):
            value = f"#{name}-{value[1:]}"
        elif key == "clip-path":
            value = f"url(#{name}-{value[5:-1]})"
        elif key == "style":
            value = re.sub(r"#0000[0-9a-f]{2}", lambda m: _PAINT.get(m[0], m[0]), value)
            value = re.sub(r"font-family: [^;]*;?\s*", "", value)
        elif key in ("d", "x", "y"):
            value = re.sub(r"(\.\d\d)\d+", r"\1", " ".join(value.split()))
        elif key == "transform" and value.startswith("rotate(-0 "):
            continue
        kept.append((key, value))
    return kept


def thin(x: np.ndarray, y: np.ndarray, limit: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """At most `limit` points of a line; of each stretch the lowest and the highest stay, so that no peak is lost."""
    if len(x) <= limit:
        return x, y
    chosen: list[int] = [0, len(x) - 1]
    for stretch in np.array_split(np.arange(1, len(x) - 1), (limit - 2) // 2):
        values = y[stretch]
        if np.isfinite(values).any():
            chosen += [int(stretch[np.nanargmin(values)]), int(stretch[np.nanargmax(values)])]
        else:
            chosen.append(int(stretch[0]))
    order = np.unique(chosen)
    return x[order], y[order]


def finite(values: np.ndarray) -> np.ndarray:
    """The values that can be drawn: finite, and not so large that an axis would overflow."""
    kept: np.ndarray = values[np.isfinite(values) & (np.abs(values) < 1e150)]
    return kept


def spans_decades(values: np.ndarray, ratio: float = 30.0) -> bool:
    """Whether a log scale shows the values better."""
    return len(values) > 0 and float(values.min()) > 0 and float(values.max()) / float(values.min()) > ratio


def scale(axes: Axes, which: str, *, log: bool = False, whole: bool = False, bins: int = 5) -> None:
    """Set an axis: linear or log, with about `bins` ticks and short numbers; whole: at whole numbers only."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    if log:
        axes.set_xscale("log") if which == "x" else axes.set_yscale("log")
        low, high = axis.get_view_interval()
        few = high / max(low, 1e-300) < 1e3
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,), numticks=bins + 1))
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())
    else:
        axis.set_major_locator(MaxNLocator(nbins=bins, integer=whole, min_n_ticks=2))
    axis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))


def write(
    axes: Axes,
    text: str,
    at: tuple[float, float],
    offset: tuple[float, float] = (0, 0),
    *,
    coords: str | tuple[str, str] = "axes fraction",
    color: str = MUTED,
    ha: str = "left",
    va: str = "baseline",
) -> None:
    """Write a text at a place, some pixels aside."""
    axes.annotate(
        text, at, xycoords=coords, xytext=offset, textcoords="offset points", color=color, ha=ha, va=va,
        annotation_clip=False,
    )  # fmt: skip


def name_axes(axes: Axes, xlabel: str, ylabel: str = "") -> None:
    """The axes' names: the one at its right end, the other above it, both upright; and rules to read values by."""
    axes.set_xlabel(short(xlabel, 40), loc="right", labelpad=1)
    write(axes, short(ylabel, 50), (0, 1), (-40, 6))
    axes.grid(axis="y")
    axes.set_axisbelow(True)


def end_labels(axes: Axes, ends: Sequence[tuple[float, str, str]], gap: float = 13.0) -> None:
    """Write each line's name where the line ends (y in data, text, colour), pushed apart where they would touch."""
    figure = axes.figure
    height = float(figure.bbox.height)
    box = axes.get_window_extent()
    placed = sorted((float(axes.transData.transform((1.0, y))[1]), text, colour) for y, text, colour in ends)
    heights = [min(max(y, box.y0), box.y1) for y, _, _ in placed]
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + gap)
    over = max(0.0, heights[-1] - float(box.y1)) if heights else 0.0
    for i in reversed(range(len(heights))):
        limit = heights[i + 1] - gap if i + 1 < len(heights) else heights[i] - over
        heights[i] = min(heights[i], limit)
    for (_, text, colour), y in zip(placed, heights, strict=True):
        write(
            axes, text, (1, y / height), (6, 0), color=colour, va="center", coords=("axes fraction", "figure fraction")
        )
