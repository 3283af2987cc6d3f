"""Pooling: the maximum, the mean or the sum of a window, or of a whole map. Row D1.

Sources: Dumoulin and Visin 2016, https://arxiv.org/abs/1603.07285 (arithmetic); Lin, Chen and Yan 2013,
https://arxiv.org/abs/1312.4400 (global averages in the place of full layers). Course: document I, section 21; H, 1.1.10.
Pooling makes small shifts matter less; it does not make a net blind to scale, as the notes have it.

Shape letters in this file: B images, C channels, H height, W width.
"""

from __future__ import annotations

from typing import Annotated, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from konspekt.core.errors import ConfigError
from konspekt.core.params import AtLeast, check_arguments
from konspekt.core.registry import system
from konspekt.nn.convolution import output_size

__all__ = ["GlobalPool", "Pool", "average_pool", "global_pool", "max_pool", "sum_pool"]

Count = Annotated[int, AtLeast(1)]
More = Annotated[int, AtLeast(0)]
How = Literal["max", "average", "sum"]


class Pool(nn.Module):
    """One number for each window of each map.

    x (B, C, H, W) -> (B, C, H', W') with H' and W' by `output_size`
    """

    def __init__(
        self, how: How, kernel: int, stride: int, padding: int, ceil: bool, count_padding: bool = True
    ) -> None:
        super().__init__()
        self.how = how
        self.kernel = kernel
        self.stride = stride
        self.padding = padding
        self.ceil = ceil
        self.count_padding = count_padding

    def forward(self, x: Tensor) -> Tensor:
        """The pooled maps.

        Raises ConfigError where the window is larger than the image.
        """
        for size in x.shape[-2:]:
            output_size(size, self.kernel, self.stride, self.padding, ceil=self.ceil)
        window = (self.kernel, self.stride, self.padding)
        if self.how == "max":
            return F.max_pool2d(x, *window, ceil_mode=self.ceil)
        if self.how == "sum":
            return F.avg_pool2d(x, *window, ceil_mode=self.ceil, divisor_override=1)
        return F.avg_pool2d(x, *window, ceil_mode=self.ceil, count_include_pad=self.count_padding)

    def extra_repr(self) -> str:
        """What stands between the parentheses when the module is printed."""
        return f"{self.how!r}, kernel={self.kernel}, stride={self.stride}, padding={self.padding}, ceil={self.ceil}"


class GlobalPool(nn.Module):
    """One number for each map.

    x (B, C, H, W) -> (B, C), or (B, C, 1, 1) where `keep`
    """

    def __init__(self, how: How, keep: bool) -> None:
        super().__init__()
        self.how = how
        self.keep = keep

    def forward(self, x: Tensor) -> Tensor:
        """The maximum, mean or sum of each map."""
        if self.how == "max":
            return x.amax((-2, -1), keepdim=self.keep)
        if self.how == "sum":
            return x.sum((-2, -1), keepdim=self.keep)
        return x.mean((-2, -1), keepdim=self.keep)

    def extra_repr(self) -> str:
        """What stands between the parentheses when the module is printed."""
        return f"{self.how!r}, keep={self.keep}"


def _check_padding(name: str, kernel: int, padding: int) -> None:
    if 2 * padding > kernel:  # torch's rule: no window may lie in the padding alone
        raise ConfigError(f"layer {name!r}: padding must be at most half of kernel={kernel}, got {padding}")


@system(name="max-pool", kind="layer", rows=("D1",), paper="https://arxiv.org/abs/1603.07285")
def max_pool(*, kernel: Count = 2, stride: Count | None = None, padding: More = 0, ceil: bool = False) -> nn.Module:
    """The maximum of each window. What is padded never wins.

    x (B, C, H, W) -> (B, C, H', W')

    kernel: height and width of the window in pixels.
    stride: by how many pixels the window moves; None is the kernel, so that windows touch.
    padding: pixels added at each edge, at most half of the kernel.
    ceil: whether pixels at the end that fill no whole window count too.

    Raises ConfigError on an argument out of bounds.
    """
    check_arguments("layer 'max-pool'", max_pool, dict(locals()))
    _check_padding("max-pool", kernel, padding)
    return Pool("max", kernel, stride or kernel, padding, ceil)


@system(name="average-pool", kind="layer", rows=("D1",), paper="https://arxiv.org/abs/1603.07285")
def average_pool(
    *,
    kernel: Count = 2,
    stride: Count | None = None,
    padding: More = 0,
    ceil: bool = False,
    count_padding: bool = True,
) -> nn.Module:
    """The mean of each window.

    x (B, C, H, W) -> (B, C, H', W')

    kernel: height and width of the window in pixels.
    stride: by how many pixels the window moves; None is the kernel, so that windows touch.
    padding: zeros added at each edge, at most half of the kernel.
    ceil: whether pixels at the end that fill no whole window count too.
    count_padding: whether the zeros at the edges count as pixels when dividing.

    Raises ConfigError on an argument out of bounds.
    """
    check_arguments("layer 'average-pool'", average_pool, dict(locals()))
    _check_padding("average-pool", kernel, padding)
    return Pool("average", kernel, stride or kernel, padding, ceil, count_padding)


@system(name="sum-pool", kind="layer", rows=("D1",), paper="https://arxiv.org/abs/1603.07285")
def sum_pool(*, kernel: Count = 2, stride: Count | None = None, padding: More = 0, ceil: bool = False) -> nn.Module:
    """The sum of each window.

    x (B, C, H, W) -> (B, C, H', W')

    kernel: height and width of the window in pixels.
    stride: by how many pixels the window moves; None is the kernel, so that windows touch.
    padding: zeros added at each edge, at most half of the kernel.
    ceil: whether pixels at the end that fill no whole window count too.

    Raises ConfigError on an argument out of bounds.
    """
    check_arguments("layer 'sum-pool'", sum_pool, dict(locals()))
    _check_padding("sum-pool", kernel, padding)
    return Pool("sum", kernel, stride or kernel, padding, ceil)


@system(name="global-pool", kind="layer", rows=("D1",), paper="https://arxiv.org/abs/1312.4400")
def global_pool(*, how: How = "average", keep: bool = False) -> nn.Module:
    """The mean, maximum or sum of each map, whatever the image's size.

    x (B, C, H, W) -> (B, C)

    how: what is taken of a map.
    keep: whether height and width stay, as 1 and 1.

    Raises ConfigError on an argument out of bounds.
    """
    check_arguments("layer 'global-pool'", global_pool, dict(locals()))
    return GlobalPool(how, keep)
