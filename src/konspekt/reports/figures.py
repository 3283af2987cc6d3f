"""Pictures as SVG that belongs to the page: its fonts, its colours, light and dark.

Matplotlib draws with marker colours; afterwards they are replaced by the page's CSS variables, fonts are left to the
page, and ids get the figure's name in front, so that two figures on one page never share one. A figure is about as
wide as a phone, so that its text keeps its size everywhere; wide screens show several side by side.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from konspekt.reports.words import clean, number, short, tick

__all__ = ["Line", "Picture", "histogram", "lines", "points", "raster", "reliability", "spans_decades"]

INK, MUTED, RULE = "#000001", "#000002", "#000003"
SERIES = tuple(f"#0000a{i}" for i in range(6))
_PAINT = {INK: "currentColor", MUTED: "var(--muted)", RULE: "var(--rule)"}
_PAINT |= {colour: f"var(--s{i})" for i, colour in enumerate(SERIES)}
_DASHES: tuple[str | tuple[int, tuple[float, ...]], ...] = ("-", (0, (5, 2)), (0, (1, 1.4)), (0, (6, 2, 1, 2)))
SHADE = (46, 134, 193)  # a blue between the light page and the dark one; how much of it shows is the value

WIDTH, HEIGHT = 340, 208  # CSS pixels
MAX_POINTS = 1000  # of a line
MAX_DOTS = 600  # of a scatter
_STYLE = {
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


@dataclass(frozen=True)
class Picture:
    """A figure of the page: its heading, its SVG, and a sentence below."""

    title: str
    svg: Markup
    caption: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Line:
    """A series. "main" lines are labelled at their end, "quiet" ones are thin and grey, "faint" ones a backdrop."""

    name: str
    x: np.ndarray
    y: np.ndarray
    role: str = "main"


# --- the page's SVG -------------------------------------------------------------------------------------------------


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
    with matplotlib.rc_context(_STYLE | {"svg.hashsalt": name}), warnings.catch_warnings():
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
    root = ElementTree.fromstring(source)  # noqa: S314: matplotlib wrote it a moment ago
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
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # noqa: S704: every text in it was escaped just now


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


# --- what the drawings share ----------------------------------------------------------------------------------------


def thin(x: np.ndarray, y: np.ndarray, limit: int = MAX_POINTS) -> tuple[np.ndarray, np.ndarray]:
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
    return values[np.isfinite(values) & (np.abs(values) < 1e150)]


def spans_decades(values: np.ndarray, ratio: float = 30.0) -> bool:
    """Whether a log scale shows the values better."""
    return len(values) > 0 and float(values.min()) > 0 and float(values.max()) / float(values.min()) > ratio


def _axis(axes: Axes, which: str, *, log: bool = False, whole: bool = False, bins: int = 5) -> None:
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


def _end_labels(axes: Axes, ends: Sequence[tuple[float, str, str]], gap: float = 13.0) -> None:
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
        axes.annotate(
            text, (1, y / height), xycoords=("axes fraction", "figure fraction"), xytext=(6, 0),
            textcoords="offset points", va="center", color=colour, annotation_clip=False,
        )  # fmt: skip


# --- the drawings ---------------------------------------------------------------------------------------------------


def lines(
    name: str,
    title: str,
    series: Sequence[Line],
    *,
    xlabel: str = "epoch",
    best: float | None = None,
    stages: Sequence[tuple[float, str]] = (),
    log: bool | None = None,
    logx: bool = False,
    note: str = "",
) -> Picture:
    """Curves. best: an x to mark on the first main line. stages: where each begins, and its name. log: None decides."""
    series = [Line(s.name, *thin(s.x, np.where(np.abs(s.y) < 1e150, s.y, np.nan)), s.role) for s in series]
    shown = [s for s in series if len(finite(s.y))]
    mains = [s for s in shown if s.role == "main"]
    named = [s for s in shown if s.role != "faint"]
    if log is None:
        log = spans_decades(finite(np.concatenate([s.y for s in shown]))) if shown else False
    words = [short(s.name, 18) for s in named] if 1 < len(named) <= 8 else []
    right = 14 + 6.0 * max(map(len, words), default=0)

    def draw(axes: Axes) -> None:
        ends = []
        for i, s in enumerate(shown):
            rank = mains.index(s) if s in mains else i
            colour = SERIES[rank % len(SERIES)] if s.role == "main" else MUTED
            dash = _DASHES[rank % len(_DASHES)] if s.role == "main" else "-"
            width, alpha = {"main": (2.2, 1.0), "quiet": (1.4, 1.0), "faint": (0.8, 0.45)}[s.role]
            few = len(finite(s.y)) <= 12 and s.role != "faint"
            axes.plot(
                *_broken(s.x, s.y, [start for start, _ in stages[1:]]), color=colour, lw=width, alpha=alpha, ls=dash, marker="o" if few else "",
                ms=3.5, solid_capstyle="round", zorder=3 if s.role == "main" else 2,
            )  # fmt: skip
            if s in named and words:
                ends.append((float(finite(s.y)[-1]), words[named.index(s)], colour))
        low = min((float(s.x.min()) for s in shown), default=0.0)
        high = max((float(s.x.max()) for s in shown), default=1.0)
        axes.set_xlim(low - 0.01 * (high - low) - (0.5 if high == low else 0), high + (0.5 if high == low else 0))
        _axis(axes, "y", log=bool(log))
        _axis(axes, "x", log=logx, whole=True)
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        axes.set_xlabel(xlabel, loc="right", labelpad=1)
        axes.autoscale_view(scalex=False)
        _end_labels(axes, ends)
        _mark_best(axes, (mains or shown)[:1], best)
        _mark_stages(axes, stages, low, high)

    told = "; ".join(_told(s, xlabel) for s in (named or shown)[:8])
    faint = f"Faint: {next((s.name for s in shown if s.role == 'faint'), '')}."
    caption = " ".join(t for t in ("Log scale." if log else "", faint if len(faint) > 8 else "", note) if t)
    drawing = svg(name, f"{title}. {told}", draw, margins=(44, right, 32 if stages else 18, 34))
    return Picture(title, drawing, caption)


def _broken(x: np.ndarray, y: np.ndarray, starts: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """The line with a gap wherever a new stage starts."""
    places = np.searchsorted(x, starts, side="right")
    return np.insert(x, places, starts), np.insert(y, places, np.nan)


def _told(line: Line, unit: str) -> str:
    """A line in words, for those who do not see it."""
    seen = np.isfinite(line.y)
    x, y = line.x[seen], line.y[seen]
    low, high = int(np.argmin(y)), int(np.argmax(y))
    text = f"{line.name}: from {number(float(y[0]), 3)} to {number(float(y[-1]), 3)}"
    text += f", lowest {number(float(y[low]), 3)} at {unit} {number(float(x[low]), 3)}"
    return text + f", highest {number(float(y[high]), 3)} at {unit} {number(float(x[high]), 3)}"


def _mark_best(axes: Axes, line: Sequence[Line], best: float | None) -> None:
    if best is None or not line:
        return
    axes.axvline(best, color=MUTED, lw=1, ls=(0, (2, 2)), zorder=1)
    at = line[0].y[np.isclose(line[0].x, best)]
    if len(finite(at)):
        axes.plot([best], finite(at)[:1], "o", ms=7, mfc="none", mec=INK, mew=1.5, zorder=4)
    low, high = axes.get_xlim()
    where = (best - low) / (high - low)
    side = "left" if where < 0.2 else "right" if where > 0.8 else "center"
    axes.annotate(
        f"best: {number(best)}", (best, 1), xycoords=("data", "axes fraction"), xytext=(0, 4),
        textcoords="offset points", ha=side, color=INK, annotation_clip=False,
    )  # fmt: skip


def _mark_stages(axes: Axes, stages: Sequence[tuple[float, str]], low: float, high: float) -> None:
    room = float(axes.get_window_extent().width) / 6.2 / max(high - low, 1e-9)
    for (start, name), end in zip(stages, [*(s for s, _ in stages), high][1:], strict=True):
        if start > low:
            axes.axvline(start, color=MUTED, lw=1, zorder=1)
        letters = int(room * (end - max(start, low)))
        if letters >= 3:
            axes.annotate(
                short(name, letters), (max(start, low), 1), xycoords=("data", "axes fraction"), xytext=(0, 18),
                textcoords="offset points", color=MUTED, annotation_clip=False,
            )  # fmt: skip


def points(
    name: str,
    title: str,
    x: np.ndarray,
    y: np.ndarray,
    *,
    xlabel: str,
    ylabel: str,
    rule: str = "",
    caption: str = "",
) -> Picture:
    """A scatter. rule: "diagonal" (where y is x) or "zero" (where y is 0)."""
    seen = np.isfinite(x) & np.isfinite(y) & (np.abs(x) < 1e150) & (np.abs(y) < 1e150)
    total = int(seen.sum())
    x, y = x[seen], y[seen]
    if total > MAX_DOTS:
        chosen = np.linspace(0, total - 1, MAX_DOTS).astype(int)
        extremes = (x.argmin(), x.argmax(), y.argmin(), y.argmax())
        chosen = np.unique([*chosen, *(int(i) for i in extremes)])
        x, y = x[chosen], y[chosen]
        caption = f"{caption} {number(len(x))} of {number(total)} points are drawn.".strip()

    def draw(axes: Axes) -> None:
        axes.plot(x, y, "o", ms=4, mec="none", color=SERIES[0], alpha=0.5, zorder=3)
        if rule == "zero":
            axes.axhline(0, color=INK, lw=1, zorder=4)
        if rule == "diagonal" and len(x):
            ends = (max(x.min(), y.min()), min(x.max(), y.max()))
            axes.plot(ends, ends, color=INK, lw=1, zorder=4)
        _axis(axes, "x")
        _axis(axes, "y")
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        axes.set_xlabel(short(xlabel, 40), loc="right", labelpad=1)
        axes.annotate(
            short(ylabel, 50), (0, 1), xycoords="axes fraction", xytext=(-40, 6), textcoords="offset points",
            color=MUTED, annotation_clip=False,
        )  # fmt: skip

    label = f"{title}: {number(total)} points, {xlabel} across, {ylabel} upwards. {caption}"
    return Picture(title, svg(name, label, draw, margins=(44, 12, 24, 34)), caption)


def histogram(name: str, title: str, values: np.ndarray, *, xlabel: str, caption: str = "") -> Picture:
    """How often which value occurs, with a rule at zero."""
    values = finite(values)

    def draw(axes: Axes) -> None:
        if len(values):
            bins = min(40, max(8, round(2 * len(values) ** (1 / 3))))
            axes.hist(values, bins=bins, color=SERIES[0], rwidth=0.9, zorder=2)
            axes.axvline(0, color=INK, lw=1, zorder=3)
        _axis(axes, "x")
        _axis(axes, "y", whole=True)
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        axes.set_xlabel(short(xlabel, 40), loc="right", labelpad=1)
        axes.annotate(
            "items", (0, 1), xycoords="axes fraction", xytext=(-40, 6), textcoords="offset points", color=MUTED,
            annotation_clip=False,
        )  # fmt: skip

    label = f"{title}: histogram of {number(len(values))} values. {caption}"
    return Picture(title, svg(name, label, draw, margins=(44, 12, 24, 34)), caption)


def reliability(name: str, title: str, confidence: np.ndarray, right: np.ndarray) -> Picture:
    """How often the classifier was right when it was so sure, in ten bins, and the mean distance between the two."""
    bins = np.clip((confidence * 10).astype(int), 0, 9)
    used = [b for b in range(10) if (bins == b).any()]
    sure = np.array([confidence[bins == b].mean() for b in used])
    hits = np.array([right[bins == b].mean() for b in used])
    share = np.array([(bins == b).mean() for b in used])
    error = float((share * np.abs(sure - hits)).sum())

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=MUTED, lw=1, ls=(0, (2, 2)), zorder=1)
        axes.annotate("as sure as right", (0.32, 0.36), color=MUTED, ha="right")
        axes.plot(sure, hits, color=SERIES[0], lw=1.2, zorder=2)
        axes.scatter(sure, hits, s=20 + 300 * share, color=SERIES[0], zorder=3)
        axes.set(xlim=(-0.02, 1.04), ylim=(-0.05, 1.08))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        axes.set_xlabel("probability given", loc="right", labelpad=1)
        axes.annotate(
            "share that was right", (0, 1), xycoords="axes fraction", xytext=(-40, 6), textcoords="offset points",
            color=MUTED, annotation_clip=False,
        )  # fmt: skip

    caption = (
        f"Expected calibration error {number(100 * error, 3)} points: the mean distance from the dashed line, in ten "
        "bins. A larger dot stands for more items."
    )
    return Picture(title, svg(name, f"{title}. {caption}", draw, margins=(44, 12, 24, 34)), caption)


def raster(
    name: str,
    title: str,
    values: np.ndarray,
    rows: Sequence[str],
    *,
    columns: tuple[str, str] = ("", ""),
    xlabel: str = "",
    log: bool = False,
    caption: str = "",
) -> Picture:
    """A table of numbers (R, C) as shades: the fuller the colour, the larger the value. columns: first and last name."""
    usable = np.where(np.isfinite(values) & (values > 0 if log else True), values, np.nan).astype(float)
    scale = np.log10(usable) if log else usable
    seen = scale[np.isfinite(scale)]
    low, high = (float(seen.min()), float(seen.max())) if len(seen) else (0.0, 1.0)
    alpha = np.nan_to_num(0.06 + 0.94 * (scale - low) / ((high - low) or 1.0), nan=0.0)
    pixels = np.zeros((*values.shape, 4), dtype=np.uint8)
    pixels[..., :3] = SHADE
    pixels[..., 3] = np.round(255 * np.clip(alpha, 0, 1))
    line = 15 if len(rows) else max(2.0, min(15.0, 400 / max(1, len(values))))
    names = [short(r, 34) for r in rows]
    left = 12 + 6.4 * max(map(len, names), default=0)
    width = max(WIDTH, left + max(240.0, min(620.0, 15.0 * values.shape[1])) + 14)
    height = 12 + line * len(values) + 34

    def draw(axes: Axes) -> None:
        axes.imshow(pixels, aspect="auto", interpolation="none")
        axes.set_yticks(range(len(names)), names)
        axes.set_xticks([])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.spines["bottom"].set_visible(False)
        for x, side, text in ((0.0, "left", columns[0]), (1.0, "right", columns[1]), (0.5, "center", xlabel)):
            axes.annotate(
                short(text, 24), (x, 0), xycoords="axes fraction", xytext=(0, -14), textcoords="offset points",
                ha=side, color=MUTED, annotation_clip=False,
            )  # fmt: skip

    ends = (10**low, 10**high) if log else (low, high)
    scale_text = f"Faint is {number(float(ends[0]), 3)}, full is {number(float(ends[1]), 3)}"
    caption = f"{scale_text}{', log scale' if log else ''}. {caption}".strip()
    label = f"{title}: {len(values)} rows, {values.shape[1]} columns. {caption}"
    drawing = svg(name, label, draw, size=(width, height), margins=(left, 14, 12, 34))
    return Picture(title, drawing, caption, wide=width > 1.1 * WIDTH)
