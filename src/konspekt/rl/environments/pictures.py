"""A canvas on which the environments draw themselves: Pillow at twice the size, made smooth when it is taken."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["BLUE", "GREY", "INK", "ORANGE", "PAPER", "RED", "WATER", "Canvas"]

Colour = tuple[int, int, int]
Place = tuple[float, float]

PAPER: Colour = (250, 248, 243)
INK: Colour = (44, 48, 56)
GREY: Colour = (176, 178, 182)
BLUE: Colour = (38, 92, 158)
ORANGE: Colour = (222, 122, 34)
RED: Colour = (196, 52, 52)
WATER: Colour = (222, 232, 242)
SCALE = 2


class Canvas:
    """A picture to draw on, in pixels of the finished size, from the left and from the top."""

    def __init__(self, width: int, height: int, colour: Colour = PAPER) -> None:
        from PIL import Image, ImageDraw

        self.size = (width, height)
        self.image = Image.new("RGB", (width * SCALE, height * SCALE), colour)
        self.pen = ImageDraw.Draw(self.image)

    def box(
        self,
        left: float,
        top: float,
        right: float,
        bottom: float,
        fill: Colour | None,
        *,
        edge: Colour | None = None,
        width: float = 1,
        radius: float = 0,
    ) -> None:
        """A rectangle, its corners rounded by `radius`."""
        # Pillow's lower right corner belongs to the rectangle; ours does not, so that neighbours share no pixel.
        corners = (
            left * SCALE,
            top * SCALE,
            max(right * SCALE - 1, left * SCALE),
            max(bottom * SCALE - 1, top * SCALE),
        )
        self.pen.rounded_rectangle(corners, radius * SCALE, fill, edge, round(width * SCALE) if edge else 0)

    def disc(
        self, centre: Place, radius: float, fill: Colour | None, *, edge: Colour | None = None, width: float = 1
    ) -> None:
        """A circle."""
        x, y, r = centre[0] * SCALE, centre[1] * SCALE, radius * SCALE
        self.pen.ellipse((x - r, y - r, x + r, y + r), fill, edge, round(width * SCALE) if edge else 0)

    def line(self, places: Sequence[Place], colour: Colour, width: float = 1) -> None:
        """A line through these places, with round ends."""
        scaled = [(x * SCALE, y * SCALE) for x, y in places]
        self.pen.line(scaled, colour, round(width * SCALE), joint="curve")
        for x, y in (scaled[0], scaled[-1]) if width > 2 else ():
            r = width * SCALE / 2
            self.pen.ellipse((x - r, y - r, x + r, y + r), colour)

    def shape(self, places: Sequence[Place], fill: Colour, edge: Colour | None = None) -> None:
        """A polygon."""
        self.pen.polygon([(x * SCALE, y * SCALE) for x, y in places], fill, edge)

    def text(self, place: Place, words: str, colour: Colour = INK, size: float = 14, anchor: str = "lt") -> None:
        """Words in Pillow's own font; the anchor is Pillow's: l, m, r and t, m, b."""
        from PIL import ImageFont

        font = ImageFont.load_default(round(size * SCALE))
        self.pen.text((place[0] * SCALE, place[1] * SCALE), words, colour, font, anchor)

    def pixels(self) -> NDArray[np.uint8]:
        """The picture (height, width, 3)."""
        from PIL import Image

        return np.array(self.image.resize(self.size, Image.Resampling.BOX))
