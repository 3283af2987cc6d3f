"""The neocognitron: layers of simple and complex cells that organise themselves, without labels and without a gradient.

Fukushima 1980, "Neocognitron: a self-organizing neural network model for a mechanism of pattern recognition unaffected by
shift in position", Biological Cybernetics 36, https://doi.org/10.1007/BF00344251. Course: row D10.

Each module has K planes of S-cells, which look for a feature everywhere, and K planes of C-cells, which say that it is
somewhere near. With u_C the C-cells before (or the image), r the selectivity, and [.]+ for the positive part,

    v_C(n) = sqrt(sum_kv c(v) u_C(k, n + v)^2)                                    V-cell: inhibition, sum_kv c(v) = 1
    u_S(k, n) = r [(1 + sum_jv a(k, j, v) u_C(j, n + v)) / (1 + 2r/(1+r) b(k) v_C(n)) - 1]+
    v_S(n) = mean_k sum_v d(v) u_S(k, n + v)                                      inhibition between planes
    u_C(k, n) = psi[(1 + sum_v d(v) u_S(k, n + v)) / (1 + v_S(n)) - 1],           psi[x] = [x]+ / (alpha + [x]+)

Only a and b are learned. When an image is shown, the S-cell with the largest output in each S-column (all planes, a square of
the map) is a candidate; of the candidates of one plane the largest is its seed cell, at n. All cells of the plane then become

    a(k, j, v) += q c(v) u_C(j, n + v)          b(k) += q/2 v_C(n)

so that the plane answers where the pattern under a cell and the pattern that was learned have a cosine (weighted by c) above
r / (1 + r), whatever their strength. A plane that has learned nothing answers a little to everything, so that what no plane
knows goes to a new one. `grow` shows the images layer after layer.

Modules at 16 x 16, 28 x 28 and 64 x 64 (cells of a plane's side); S-cells see 5 x 5, C-cells see 5 x 5 with stride 2, and the
last ones the whole map. More modules follow as long as the last map of S-cells has a side above 8:

    image   S1   C1   S2   C2   S3   C3   S4   C4
       16   16    8    8    4    4    1
       28   28   14   14    7    7    1
       64   64   32   32   16   16    8    8    1

As the paper: the equations, the rule, 24 planes; r = 4, 1.5, 1.5, q = 1, 16, 16 and alpha = 0.5 are the numbers that are
quoted for it, and were not compared with the original. Not as the paper: any size of image; what the first module sees (see
`form`); the readout, a linear layer on the last C-cells, standardised by their mean and deviation over the images shown,
which is trained by gradient and is the only thing that is; the modules learn one after the other, not at once; the sides and
decays of what cells see; the size of an S-column.

Shape letters in this file: B images, C channels, H height, W width, J planes before, K planes, P images shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from konspekt.core.errors import ConfigError, DataError
from konspekt.core.params import AtLeast, MoreThan
from konspekt.core.registry import system
from konspekt.vision.nets.shared import check_size, thin

__all__ = ["ComplexCells", "Neocognitron", "SimpleCells", "contrast", "neocognitron"]

Positive = Annotated[float, MoreThan(0)]
WINDOW = 5  # side of what an S-cell and a C-cell see
SURROUNDINGS = 9  # side of what a pixel is compared with
DECAY = 0.9  # of the weights c and d by distance from the middle
ALPHA = 0.5  # where a C-cell gives one half
FIRST = 0.01  # of the weights a before learning, beside what one image adds
TINY = 1e-20
LAST = 8  # modules are added until the side of the last map is at most so much
SMALLEST = WINDOW  # 5 -> 3 -> 2


def _distances(height: int, width: int) -> Tensor:
    """DECAY to the power of the distance from the middle (height, width)."""
    y = torch.arange(height) - (height - 1) / 2
    x = torch.arange(width) - (width - 1) / 2
    return DECAY ** (y[:, None].square() + x.square()).sqrt()


def contrast(x_BCHW: Tensor) -> Tensor:
    """How much brighter, and how much darker, each pixel is than the mean of the 9 x 9 around it.

    x (B, C, H, W) of any sign -> (B, 2 C, H, W), none negative; nothing where the image is even.
    """
    around = F.avg_pool2d(F.pad(x_BCHW, (SURROUNDINGS // 2,) * 4, mode="replicate"), SURROUNDINGS, 1)
    return torch.cat([F.relu(x_BCHW - around), F.relu(around - x_BCHW)], 1)


class SimpleCells(nn.Module):
    """Planes of S-cells and the V-cells that inhibit them.

    u_C (B, J, H, W), none negative -> u_S (B, K, H, W)
    """

    a: Tensor
    b: Tensor
    c: Tensor

    def __init__(self, before: int, planes: int, selectivity: float, rate: float) -> None:
        super().__init__()
        self.selectivity = selectivity
        self.rate = rate
        near = _distances(WINDOW, WINDOW)
        self.register_buffer("c", near / (before * near.sum()), persistent=False)
        self.register_buffer("a", FIRST * torch.rand(planes, before, WINDOW, WINDOW) * self.c)
        self.register_buffer("b", torch.zeros(planes))

    def inhibition(self, u_BJHW: Tensor) -> Tensor:
        """v_C, the weighted root mean square of what a cell sees: (B, J, H, W) -> (B, 1, H, W)."""
        energy = u_BJHW.square().sum(1, keepdim=True)
        # the root of 0 has no finite slope, and a picture of the gradient of an empty image is to have one
        return F.conv2d(energy, self.c[None, None], padding=WINDOW // 2).clamp(min=TINY).sqrt()

    def forward(self, u_BJHW: Tensor) -> Tensor:
        """u_S."""
        return self.respond(u_BJHW, self.inhibition(u_BJHW))

    def respond(self, u_BJHW: Tensor, v_B1HW: Tensor) -> Tensor:
        """u_S, from the C-cells before and the V-cells."""
        r = self.selectivity
        excited = F.conv2d(u_BJHW, self.a, padding=WINDOW // 2)
        inhibited = 2 * r / (1 + r) * self.b[:, None, None] * v_B1HW
        return r * F.relu((excited - inhibited) / (1 + inhibited))  # (1 + e) / (1 + h) - 1, also where both are small

    def seeds(self, u_KHW: Tensor, column: int) -> list[tuple[int, int, int]]:
        """The seed cell (plane, row, column) of each plane that has one, for the S-cells of one image.

        column: side of an S-column in cells.
        """
        planes, height, width = u_KHW.shape
        rows, columns = -(-height // column), -(-width // column)
        padded = F.pad(u_KHW, (0, columns * column - width, 0, rows * column - height))
        parts = padded.view(planes, rows, column, columns, column).permute(1, 3, 0, 2, 4).flatten(2).flatten(0, 1)
        values, places = (t.tolist() for t in parts.max(1))
        best: dict[int, tuple[float, int, int]] = {}
        for i, (value, place) in enumerate(zip(values, places, strict=True)):
            plane, inside = divmod(place, column * column)
            at = (i // columns * column + inside // column, i % columns * column + inside % column)
            if value > 0 and (plane not in best or value > best[plane][0]):
                best[plane] = (value, *at)
        return [(plane, y, x) for plane, (_, y, x) in sorted(best.items())]

    @torch.no_grad()
    def reinforce(self, u_JHW: Tensor, column: int) -> int:
        """Show one image: each seed cell's plane learns what the cell sees. Returns how many planes learned."""
        u_1JHW = u_JHW[None]
        v = self.inhibition(u_1JHW)
        found = self.seeds(self.respond(u_1JHW, v)[0], column)
        seen = F.pad(u_JHW, (WINDOW // 2,) * 4)
        for plane, y, x in found:
            self.a[plane] += self.rate * self.c * seen[:, y : y + WINDOW, x : x + WINDOW]
            self.b[plane] += self.rate / 2 * v[0, 0, y, x]
        return len(found)


class ComplexCells(nn.Module):
    """Planes of C-cells, each of which sees a part of one plane of S-cells.

    u_S (B, K, H, W) -> u_C (B, K, ceil(H / 2), ceil(W / 2)), or (B, K, 1, 1) where `whole` is the map's size; 0 <= u_C < 1
    """

    d: Tensor

    def __init__(self, planes: int, whole: tuple[int, int] | None) -> None:
        super().__init__()
        self.planes = planes
        self.whole = whole
        d = torch.ones(whole) if whole else _distances(WINDOW, WINDOW)
        self.register_buffer("d", d, persistent=False)

    def forward(self, u_BKHW: Tensor) -> Tensor:
        """u_C."""
        kernel = self.d.expand(self.planes, 1, *self.d.shape)
        stride, padding = (1, 0) if self.whole else (2, WINDOW // 2)
        summed = F.conv2d(u_BKHW, kernel, stride=stride, padding=padding, groups=self.planes)
        mean = summed.mean(1, keepdim=True)
        x = F.relu((summed - mean) / (1 + mean))  # (1 + s) / (1 + v) - 1, also where both are small
        return x / (ALPHA + x)


class Neocognitron(nn.Module):
    """Modules of S-cells and C-cells, and a linear readout.

    x (B, C, H, W) float, standardised -> logits (B, classes)
    """

    heads: ClassVar[tuple[str, ...]] = ("readout",)
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        image_size: tuple[int, int],
        planes: int,
        selectivity: tuple[float, ...],
        rates: tuple[float, ...],
        column: int,
        form: Literal["default", "paper"],
    ) -> None:
        super().__init__()
        self.form = form
        self.channels = in_channels
        self.column = column
        maps = [image_size]
        while len(maps) < 3 or max(maps[-1]) > LAST:
            maps.append(((maps[-1][0] + 1) // 2, (maps[-1][1] + 1) // 2))
        before = in_channels * (2 if form == "default" else 1)
        simple, complex_ = [], []
        for i, size in enumerate(maps):
            r, q = (values[min(i, len(values) - 1)] for values in (selectivity, rates))
            simple.append(SimpleCells(before, planes, r, q))
            complex_.append(ComplexCells(planes, size if size is maps[-1] else None))
            before = planes
        self.simple = nn.ModuleList(simple)
        self.complex = nn.ModuleList(complex_)
        self.register_buffer("mean", torch.zeros(planes))
        self.register_buffer("std", torch.ones(planes))
        self.readout = nn.Linear(planes, num_classes)

    def enter(self, x_BCHW: Tensor) -> Tensor:
        """What the first module sees: (B, C, H, W) of any sign -> (B, J, H, W), none negative."""
        return contrast(x_BCHW) if self.form == "default" else F.relu(x_BCHW)

    def features(self, x_BCHW: Tensor) -> Tensor:
        """The last C-cells, one of each plane: (B, C, H, W) -> (B, K)."""
        u = self.enter(x_BCHW)
        for simple, complex_ in zip(self.simple, self.complex, strict=True):
            u = complex_(simple(u))
        return u.flatten(1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Images to logits."""
        return self.readout((self.features(x_BCHW) - self.mean) / self.std)  # type: ignore[no-any-return]

    @torch.no_grad()
    def grow(self, batches: Iterable[Tensor], patterns: int = 1000) -> list[list[int]]:
        """Let the S-cells organise themselves, module after module, from images shown one by one in their order.

        batches: standardised images (B, C, H, W); the same images in the same order give the same cells.
        patterns: how many images are shown; those that come later are not looked at.

        Returns for each module how many planes learned at each image.

        Raises DataError where there is no image, and on images of other channels or with numbers that are not finite.
        """
        shown: list[Tensor] = []
        for batch in batches:
            if batch.ndim != 4 or batch.shape[1] != self.channels:
                raise DataError(
                    f"net 'neocognitron': it grows from batches of images of {self.channels} channels, got "
                    f"{' x '.join(map(str, batch.shape))} (images x channels x height x width are needed)"
                )
            if not bool(batch.isfinite().all()):
                raise DataError("net 'neocognitron': an image to grow from holds a number that is not finite")
            shown.append(batch[: patterns - sum(map(len, shown))].to(self.readout.weight))
            if sum(map(len, shown)) >= patterns:
                break
        if not sum(map(len, shown)):
            raise DataError("net 'neocognitron': there is no image to grow from; give batches with images")
        inputs = [self.enter(batch) for batch in shown]
        learned = []
        for simple, complex_ in zip(self.simple, self.complex, strict=True):
            learned.append([simple.reinforce(u, self.column) for batch in inputs for u in batch])  # type: ignore[operator]
            inputs = [complex_(simple(batch)) for batch in inputs]
        last = torch.cat(inputs).flatten(1)
        self.mean.copy_(last.mean(0))
        std = last.std(0, correction=0)
        self.std.copy_(torch.where(std > TINY, std, 1))  # a plane that answers the same to all tells nothing
        return learned


@system(name="neocognitron", kind="net", rows=("D10",), paper="https://doi.org/10.1007/BF00344251")
def neocognitron(
    in_channels: Annotated[int, AtLeast(1)] = 1,
    num_classes: Annotated[int, AtLeast(1)] = 10,
    image_size: tuple[Annotated[int, AtLeast(1)], Annotated[int, AtLeast(1)]] = (16, 16),
    *,
    planes: Annotated[int, AtLeast(1)] = 24,
    width: Positive = 1.0,
    selectivity: tuple[Positive, ...] = (4.0, 1.5, 1.5),
    rates: tuple[Positive, ...] = (1.0, 16.0, 16.0),
    column: Annotated[int, AtLeast(1)] = 5,
    form: Literal["default", "paper"] = "default",
) -> nn.Module:
    """The neocognitron: cells that organise themselves from images without labels, and a linear readout.

    x (B, in_channels, height, width) float, standardised -> logits (B, num_classes)

    Before `grow` the cells answer a little to everything; the readout can be trained all the same.

    in_channels: channels of the images.
    num_classes: outputs.
    image_size: (height, width) in pixels, each at least 5.
    planes: features that each module looks for.
    width: multiplies the planes.
    selectivity: r of each module, the last one for all that follow; a cell answers to a cosine above r / (1 + r).
    rates: q of each module, how much one image adds to the weights of a plane; the last one for all that follow.
    column: side in cells of the square in which the planes compete for an image.
    form: what the first module sees. "default": how much brighter and darker a pixel is than its surroundings, in planes
        of their own, so that it does not matter whether figures are bright or dark; "paper": what is above the mean.

    Raises ConfigError on a size below 5 x 5 pixels and other arguments out of bounds.
    """
    check_size(
        "neocognitron", neocognitron, dict(locals()), SMALLEST, "its cells see 5 x 5, and two halvings leave 2 x 2"
    )
    for name, values in (("selectivity", selectivity), ("rates", rates)):
        if not values:
            raise ConfigError(f"net 'neocognitron': {name} must have a number for the first module, got ()")
    return Neocognitron(in_channels, num_classes, image_size, thin(planes, width), selectivity, rates, column, form)
