"""Pictures side by side, on one scale, as arrays, as a matplotlib figure or as a file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from konspekt.core.errors import ConfigError, ResourceError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Panel", "Sheet", "as_picture"]

Kind = Literal["image", "magnitude", "signed"]
MAPS = {"magnitude": "viridis", "signed": "RdBu_r"}  # which those with a colour-vision deficiency can read
SUFFIXES = ("png", "svg", "pdf", "jpg")
WIDEST = 7.2  # inches of a figure
TALLEST = 9.0  # inches of a picture: one of a narrow strip gets narrower instead of filling the memory


@dataclass(frozen=True, eq=False)
class Panel:
    """One picture.

    title: what stands above it; may be empty. values: (H, W), or (H, W, 3) in colour.
    kind: "image": grey or colour from 0 to 1; "magnitude": from 0 upwards; "signed": around 0.
    under: an image, (H, W) or (H, W, 3) from 0 to 1, on which the values lie like a glow. box: a frame, (top, left,
    bottom, right) in pixels, the last two not included.
    """

    title: str
    values: NDArray[Any]
    kind: Kind = "image"
    under: NDArray[Any] | None = None
    box: tuple[int, int, int, int] | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Sheet:
    """Pictures in rows. Those of a kind that is measured have one scale, which stands beside them.

    title: above all. note: below all. columns: pictures in a row; None: as fits.
    """

    title: str
    panels: Sequence[Panel]
    note: str = ""
    columns: int | None = None
    top: dict[str, float] = field(init=False)

    def __post_init__(self) -> None:
        top = {kind: _largest(self.panels, kind) for kind in MAPS}
        object.__setattr__(self, "top", {kind: value for kind, value in top.items() if value is not None})

    @property
    def images(self) -> list[NDArray[Any]]:
        """The values of the pictures, as they are."""
        return [panel.values for panel in self.panels]

    def __repr__(self) -> str:
        return f"Sheet({self.title!r}, {len(self.panels)} pictures)"

    def figure(self) -> Figure:
        """A matplotlib figure, free of pyplot."""
        from matplotlib.figure import Figure

        count = len(self.panels)
        columns = self.columns or _columns(count)
        rows = math.ceil(count / columns)
        side = min(2.3, (WIDEST - 0.9) / columns)
        tall = max(p.values.shape[0] / p.values.shape[1] for p in self.panels)
        side = min(side, TALLEST / tall)
        cell = max(side, 0.6)  # so that titles have room
        text = 0.26 if any(p.title for p in self.panels) else 0.05
        gap, left, above = 0.06, 0.15, 0.44
        bars = [kind for kind in self.top if self.top[kind] > 0]
        wide = left + columns * (cell + gap) + 0.2 + 0.75 * len(bars)
        wide = max(wide, 3.6)
        note = _wrapped(self.note, wide)
        below = 0.12 + 0.17 * len(note)
        height = above + rows * (side * tall + text + gap) + below
        figure = Figure(figsize=(wide, height), facecolor="white")
        figure.text(left / wide, 1 - 0.14 / height, self.title, fontsize=11, fontweight="bold", va="top", color="black")
        for i, panel in enumerate(self.panels):
            row, column = divmod(i, columns)
            x = left + column * (cell + gap)
            y = height - above - row * (side * tall + text + gap) - text - side * tall
            axes = figure.add_axes((x / wide, y / height, side / wide, side * tall / height))
            self._draw(axes, panel, cell)
        for i, kind in enumerate(bars):
            x = left + columns * (cell + gap) + 0.1 + 0.75 * i
            tallness = min(side * tall, 2.3)
            axes = figure.add_axes(
                (x / wide, (height - above - text - tallness) / height, 0.12 / wide, tallness / height)
            )
            _scale(axes, kind, self.top[kind])
        for i, line in enumerate(note):
            y = below - 0.1 - 0.17 * i
            figure.text(left / wide, y / height, line, fontsize=8.5, va="top", color="#444444")
        return figure

    def save(self, path: str | Path) -> Path:
        """Write the figure; the suffix says as what: png, svg, pdf or jpg.

        Raises ConfigError on another suffix, ResourceError where the disk refuses.
        """
        path = Path(path)
        if path.suffix.lower().lstrip(".") not in SUFFIXES:
            raise ConfigError(f"{path}: a picture is written as {', '.join(SUFFIXES)}, as the suffix of its name says")
        try:
            self.figure().savefig(path, dpi=150)
        except OSError as error:
            raise ResourceError(f"{path}: the picture cannot be written ({error})") from None
        return path

    def _draw(self, axes: Axes, panel: Panel, room: float) -> None:
        """Draw a picture. room: inches for its title."""
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set(color="#bbbbbb", linewidth=0.6)
        if panel.title:
            size = 9.0 if room > 1.2 else 7.0
            most = int(room * 72 / (0.55 * size))
            title = panel.title if len(panel.title) <= most else panel.title[: most - 1] + "…"
            axes.set_title(title, fontsize=size, pad=3, loc="left", color="black")
        height, width = panel.values.shape[:2]
        place = (-0.5, width - 0.5, height - 0.5, -0.5)
        if panel.under is not None:
            faint = 0.55 if panel.kind == "signed" else 0.0  # so that dark red and dark blue stand out
            axes.imshow(faint + (1 - faint) * _grey(panel.under), cmap="gray", vmin=0, vmax=1, extent=place)
        if panel.kind == "image":
            axes.imshow(panel.values, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        else:
            top = self.top.get(panel.kind) or 1.0
            low = -top if panel.kind == "signed" else 0.0
            alpha = 1.0 if panel.under is None else 0.25 + 0.5 * np.abs(panel.values) / top
            axes.imshow(
                panel.values,
                cmap=MAPS[panel.kind],
                vmin=low,
                vmax=top,
                alpha=alpha,
                interpolation="nearest",
                extent=place,
            )
        if panel.box is not None:
            from matplotlib.patches import Rectangle

            y, x, bottom, right = panel.box
            axes.add_patch(
                Rectangle(
                    (x - 0.5, y - 0.5),
                    right - x,
                    bottom - y,
                    fill=False,
                    edgecolor="#e69f00",
                    linewidth=1.6,
                    clip_on=False,
                )
            )


def _largest(panels: Sequence[Panel], kind: str) -> float | None:
    values = [float(np.abs(p.values).max()) for p in panels if p.kind == kind and p.values.size]
    return max(values) if values else None


def _columns(count: int) -> int:
    if count <= 4:
        return count
    return min(8, math.ceil(math.sqrt(count * 1.3)))


def _wrapped(text: str, inches: float) -> list[str]:
    import textwrap

    return textwrap.wrap(text, max(30, int(inches * 72 / 4.6)))


def _scale(axes: Axes, kind: str, top: float) -> None:
    """A bar that says what the colours mean."""
    ramp = np.linspace(-top if kind == "signed" else 0, top, 128)[:, None]
    axes.imshow(ramp, cmap=MAPS[kind], aspect="auto", origin="lower", extent=(0, 1, ramp[0, 0], top))
    axes.set_xticks([])
    axes.yaxis.tick_right()
    axes.set_yticks([-top, 0, top] if kind == "signed" else [0, top], labels=None)
    names = [f"{-top:.2g}", "0", f"{top:.2g}"] if kind == "signed" else ["0", f"{top:.2g}"]
    axes.set_yticklabels(names, fontsize=8, color="#444444")
    axes.tick_params(length=2, color="#bbbbbb")
    for spine in axes.spines.values():
        spine.set(color="#bbbbbb", linewidth=0.6)


def _grey(picture: NDArray[Any]) -> NDArray[Any]:
    """A picture without its colours, by the luma of ITU-R 601, so that those of what lies on it can be read."""
    return picture if picture.ndim == 2 else np.asarray(picture @ np.array([0.299, 0.587, 0.114]))


def as_picture(pixels: NDArray[Any]) -> NDArray[np.float64]:
    """An image (C, H, W) as (H, W) or (H, W, 3) from 0 to 1; numbers beyond 0..255 or below 0 are stretched to fit.

    An image of neither 1 nor 3 channels is shown as the mean of its channels.
    """
    image = np.asarray(pixels, dtype=np.float64)
    low, high = float(image.min()), float(image.max())
    if low >= 0 and high <= 1:
        image = image.copy()
    elif low >= 0 and high <= 255:
        image = image / 255
    else:
        image = (image - low) / ((high - low) or 1.0)
    if len(image) == 3:
        return np.moveaxis(image, 0, -1)
    return np.asarray(image[0] if len(image) == 1 else image.mean(axis=0))
