"""What augmentations work on: the images of a batch, with the boxes and masks that have to move with them.

Whole-pixel moves are collected and done in one copy; other changes work on float pixels, which are rounded once, at the
end. Nothing here asks for a value on the host.

Points are (x, y) in pixels, with (0, 0) at the upper left corner of the image and (W, H) at its lower right one, so the
middle of the first pixel is at (0.5, 0.5). A box is (left, upper, right, lower) edge.

Shape letters in this file: B images, C channels, H height, W width, K boxes of an image.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from konspekt.core.errors import ConfigError
from konspekt.core.params import Within
from konspekt.core.seeds import item_draws
from konspekt.data.fields import Batch

__all__ = ["Chance", "Fill", "Images"]

Chance = Annotated[float, Within(0, 1)]
Fill = Literal["zero", "edge"]


class Images:
    """A batch on its way through augmentations.

    batch: "x" (B, C, H, W), "index" (B,); "boxes" (B, 4) or (B, K, 4) floats, and "masks" (B, H, W) or (B, K, H, W)
        labels, if there are any. It is left as it is.
    certain: `chosen` chooses every image, unless p is 0.
    white: the value of white; None: 255 of uint8, 1 of floats.

    seed: of the augmentation at work; `augment` sets it.

    Raises ConfigError where "x" or "index" is missing or a field has not the shape above.
    """

    def __init__(self, batch: Batch, *, epoch: int = 0, certain: bool = False, white: float | None = None) -> None:
        self.batch = dict(batch)
        self.seed, self.epoch, self.certain = 0, epoch, certain
        x, index = self._tensor("x", (4,)), self._tensor("index", (1,))
        self.count, self.channels, self.height, self.width = x.shape
        if len(index) != self.count:
            raise ConfigError(f"augment: the batch has {self.count} images and {len(index)} numbers in 'index'")
        self.dtype, self.device = x.dtype, x.device
        self.white = white if white is not None else 255.0 if x.dtype is torch.uint8 else 1.0
        self._index = index.to(x.device)
        self._own = False  # whether x is a float copy that may be changed in place
        self._rows: Tensor | None = None  # pending moves; None: as they are
        self._columns: Tensor | None = None
        self._holes = False  # whether a pending row or column may be -1, which is zero
        if x.dtype is not torch.uint8 and not x.is_floating_point():
            raise ConfigError(f"augment: pixels must be uint8 or floats, got {x.dtype}; convert them")
        if "boxes" in batch:
            boxes = self._tensor("boxes", (2, 3))
            if boxes.shape[-1] != 4 or not boxes.is_floating_point():
                got = f"{tuple(boxes.shape)} of {boxes.dtype}"
                raise ConfigError(f"augment: boxes must be floats of shape (B, 4) or (B, K, 4), got {got}")
        if "masks" in batch and self._tensor("masks", (3, 4)).shape[-2:] != x.shape[-2:]:
            shape = tuple(self._tensor("masks", (3, 4)).shape)
            raise ConfigError(
                f"augment: masks must be as large as the images, {self.height} x {self.width}, got {shape}"
            )

    def _tensor(self, name: str, dims: tuple[int, ...]) -> Tensor:
        field = self.batch.get(name)
        if isinstance(field, Tensor) and field.dim() in dims:
            return field
        what = f"{tuple(field.shape)}" if isinstance(field, Tensor) else f"a {type(field).__name__}"
        what = "nothing" if field is None else what
        wanted = " or ".join(str(d) for d in dims)
        raise ConfigError(f"augment: the batch must have a tensor {name!r} of {wanted} dimensions, got {what}")

    # -- draws ---------------------------------------------------------------------------------------------------------

    def draws(self, count: int) -> tuple[Tensor, ...]:
        """`count` tensors (B,) of numbers from [0, 1), which belong to (seed, epoch, index)."""
        return item_draws(self.seed, self.epoch, self._index, count).unbind(1)

    def noise(self) -> Tensor:
        """(B, C, H, W) float32: the middles of 2^24 equal pieces of (-1, 1), each equally likely, drawn for each number.

        They belong to (seed, epoch, index) and the place in the image: a hash of the place, keyed by two draws of the
        image. It has 32 bits, for speed (Wellons 2018, "Prospecting for hash functions", lowbias32).
        """
        first, second = (item_draws(self.seed, self.epoch, self._index, 2) * 2**24).int()[:, :, None].unbind(1)
        place = torch.arange(self.channels * self.height * self.width, dtype=torch.int32, device=self.device)
        state = place * -0x61C88647 + (first << 8)  # the golden ratio, as in splitmix
        state.bitwise_xor_((state >> 16) & 0xFFFF).mul_(0x7FEB352D).bitwise_xor_(second)
        state.bitwise_xor_((state >> 15) & 0x1FFFF).mul_(-0x7B935975)
        state.bitwise_xor_((state >> 16) & 0xFFFF)
        numbers = (state >> 8).float().mul_(2**-23).add_(2**-24)
        return numbers.view(self.count, self.channels, self.height, self.width)

    def chosen(self, p: float, draw: Tensor) -> Tensor | None:
        """(B,) bool: the images on which a change with this probability acts; None: all."""
        return None if p >= 1 or (self.certain and p > 0) else draw < p

    def between(self, low: float, high: float, draw: Tensor, chosen: Tensor | None, neutral: float) -> Tensor:
        """(B,) float32: numbers from low to high, evenly; `neutral` for images that are not chosen."""
        value = draw * (high - low) + low
        return value if chosen is None else torch.where(chosen, value, neutral)

    # -- pixels --------------------------------------------------------------------------------------------------------

    def pixels(self) -> Tensor:
        """(B, C, H, W) as the changes so far have made them, of x's dtype or float32; not to be changed in place."""
        if self._rows is not None or self._columns is not None:
            rows, columns, self._rows, self._columns = self._rows, self._columns, None, None
            for name in ("x", "masks"):
                if name in self.batch:
                    self.batch[name] = _gathered(self._tensor(name, (3, 4)), rows, columns, self._holes)
            self._holes = False
        return self._tensor("x", (4,))

    def floats(self) -> Tensor:
        """(B, C, H, W) float32, contiguous, in the units of x; to be changed in place."""
        x = self.pixels()
        if not self._own:
            x = torch.empty(x.shape, dtype=torch.float32, device=x.device).copy_(x)
            self.batch["x"], self._own = x, True
        return x

    def set(self, x: Tensor) -> None:
        """Put new float32 pixels, which nobody else holds, in the place of the old ones; uint8's are held in 0..255."""
        self.batch["x"] = x.clamp_(0, 255) if self.dtype is torch.uint8 else x
        self._own = True

    def done(self) -> Batch:
        """The batch, with x in the dtype that it came in."""
        x = self.pixels()
        if x.dtype is not self.dtype:
            # + 0.5 and down: to the nearest, as Pillow does it
            self.batch["x"] = (x.add_(0.5) if self.dtype is torch.uint8 else x).to(self.dtype)
        return self.batch

    # -- geometry ------------------------------------------------------------------------------------------------------

    def move(self, rows: Tensor | None, columns: Tensor | None, *, holes: bool = False) -> None:
        """Let each pixel come from another row and column of the same image; boxes are not touched, see `carry`.

        rows (B, H), columns (B, W) int64: where each comes from; None: as they are; -1 with `holes`: zero.
        """
        self._rows = _composed(self._rows, rows)
        self._columns = _composed(self._columns, columns)
        self._holes |= holes

    def warp(self, source: Tensor, *, nearest: bool, fill: Fill, chosen: Tensor | None) -> None:
        """Draw each image anew through a linear map of the plane, with masks and boxes.

        source (B, 2, 3): each point (x, y, 1) of the new image shows that point of the old one; masks take the nearest
        pixel. Images that are not chosen stay as they are, to the bit.
        """
        old = self.floats()
        grid = self._grid(source)
        padding = "zeros" if fill == "zero" else "border"
        mode = "nearest" if nearest else "bilinear"
        new = F.grid_sample(old, grid, mode=mode, padding_mode=padding, align_corners=False)
        self.set(new if chosen is None else torch.where(chosen[:, None, None, None], new, old))
        if "masks" in self.batch:
            masks = self._tensor("masks", (3, 4))
            flat = masks[:, None] if masks.dim() == 3 else masks
            moved = F.grid_sample(
                flat.double(), grid.double(), mode="nearest", padding_mode=padding, align_corners=False
            )
            moved = moved.to(masks.dtype)
            self.batch["masks"] = (
                moved if chosen is None else torch.where(chosen[:, None, None, None], moved, flat)
            ).view(masks.shape)
        self.carry(source, chosen)

    def _grid(self, source: Tensor) -> Tensor:
        """(B, H, W, 2): the points of the old image as grid_sample counts them, from -1 to 1."""
        xs, ys = (torch.arange(0.5, n, device=self.device) for n in (self.width, self.height))
        across, down, start = (source * source.new_tensor([2 / self.width, 2 / self.height])[:, None]).unbind(2)
        rows = down[:, :, None] * ys + (start - 1)[:, :, None]  # (B, 2, H)
        columns = across[:, :, None] * xs  # (B, 2, W)
        # As complex numbers the two coordinates of a point lie side by side, and one addition makes all of the grid.
        first, second = (torch.complex(*part.unbind(1)) for part in (rows, columns))
        return torch.view_as_real(first[:, :, None] + second[:, None])

    def carry(self, source: Tensor, chosen: Tensor | None = None) -> None:
        """Move the boxes: each becomes the smallest upright box around its moved corners, clipped to the image.

        source (B, 2, 3): each point of the new image shows that point of the old one, as in `warp`. A box that has left
        the image is an edge of it, without an area.
        """
        if "boxes" not in self.batch:
            return
        boxes = self._tensor("boxes", (2, 3))
        old = boxes[:, None] if boxes.dim() == 2 else boxes
        a, b, c, d, e, f = source.to(old.dtype).flatten(1)[:, :, None, None].unbind(1)  # (B, 1, 1) each
        left, upper, right, lower = old.unbind(2)
        x = torch.stack([left, right, left, right], 2) - c  # (B, K, 4): the corners
        y = torch.stack([upper, upper, lower, lower], 2) - f
        size = a * e - b * d
        new_x = ((e * x - b * y) / size).clamp(0, self.width)
        new_y = ((a * y - d * x) / size).clamp(0, self.height)
        new = torch.stack([new_x.amin(2), new_y.amin(2), new_x.amax(2), new_y.amax(2)], 2)
        if chosen is not None:
            new = torch.where(chosen[:, None, None], new, old)
        self.batch["boxes"] = new.view(boxes.shape)


def _composed(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    """The places (B, n) of two moves, one after the other."""
    if first is None or second is None:
        return second if first is None else first
    return torch.where(second < 0, second, first.gather(1, second.clamp_min(0)))


def _gathered(x: Tensor, rows: Tensor | None, columns: Tensor | None, holes: bool) -> Tensor:
    """x (B, ..., H, W) by rows (B, H) and columns (B, W), a new tensor."""
    height, width = x.shape[-2:]
    flat = x.reshape(len(x), x.shape[1] if x.dim() == 4 else 1, height * width)
    rows = torch.arange(height, device=x.device)[None] if rows is None else rows
    columns = torch.arange(width, device=x.device)[None] if columns is None else columns
    past = height * width
    if holes:  # a hole leads past the image's last pixel, to a zero that is put there
        flat = torch.cat([flat, flat.new_zeros(1, 1, 1).expand(*flat.shape[:2], 1)], 2)
        columns = torch.where(columns < 0, past, columns)
        place = torch.where(rows < 0, past, rows * width)[:, :, None] + columns[:, None]
        place.clamp_max_(past)
    else:
        place = (rows * width)[:, :, None] + columns[:, None]
    return flat.gather(2, place.view(len(place), 1, past).expand(len(x), flat.shape[1], past)).view(x.shape)
