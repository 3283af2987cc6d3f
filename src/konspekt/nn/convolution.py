"""Convolution over images with every way to continue them past their edge, and its transpose. Row D1.

Sources: Dumoulin and Visin 2016, "A guide to convolution arithmetic for deep learning", https://arxiv.org/abs/1603.07285.
Course: document I, section 21; H, 1.1.7 to 1.1.12. The notes' formula for the size lacks the floor, O = floor((I - K + 2 P) / S)
+ 1, and dilation; a layer over images is two-dimensional, with a kernel of four dimensions (out, in, height, width), where
the notes call it three-dimensional. What is computed is the cross-correlation, as in every library: the kernel is not flipped.

The four ways past the edge, for a row a b c d and two pixels:

    zeros       0 0 | a b c d | 0 0
    replicate   a a | a b c d | d d
    reflect     c b | a b c d | c b      at most 3 pixels: the edge itself is not repeated
    circular    c d | a b c d | a b      at most 4 pixels

Shape letters in this file: B images, C channels in, F channels out, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from torch import Tensor, nn

from konspekt.core.errors import ConfigError
from konspekt.core.params import AtLeast, check_arguments
from konspekt.core.registry import system

__all__ = ["Convolution", "convolution", "output_size", "pointwise", "transposed", "transposed_size"]

Count = Annotated[int, AtLeast(1)]
More = Annotated[int, AtLeast(0)]
Edge = Literal["zeros", "replicate", "reflect", "circular"]
MODES = ("zeros", "replicate", "reflect", "circular")


def output_size(
    size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1, *, ceil: bool = False
) -> int:
    """How many numbers a row of `size` pixels becomes under a convolution or a pooling.

    floor((size + 2 padding - dilation (kernel - 1) - 1) / stride) + 1

    ceil: rounds up instead, as a pooling may, so that pixels at the end that fill no whole window count too; a window that
        would begin in the padding behind the last pixel is left out.

    Raises ConfigError where not even one window fits.
    """
    reach = dilation * (kernel - 1) + 1
    free = size + 2 * padding - reach
    count = (-(-free // stride) if ceil else free // stride) + 1
    if ceil and (count - 1) * stride >= size + padding:
        count -= 1
    if count < 1:
        raise ConfigError(
            f"a window of {reach} pixels (kernel {kernel}, dilation {dilation}) does not fit into {size} pixels with "
            f"{padding} of padding at each end: enlarge the image or the padding, or take a smaller kernel"
        )
    return count


def transposed_size(
    size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1, *, output_padding: int = 0
) -> int:
    """How many numbers a row of `size` pixels becomes under a transposed convolution.

    (size - 1) stride - 2 padding + dilation (kernel - 1) + 1 + output_padding

    A convolution with these arguments takes that many back to `size`; as it rounds down, `stride` sizes are taken to the
    same, and output_padding, less than the stride, says which of them is meant.

    Raises ConfigError where nothing is left.
    """
    out = (size - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1 + output_padding
    if out < 1:
        raise ConfigError(
            f"a transposed convolution (kernel {kernel}, stride {stride}, padding {padding}, dilation {dilation}) leaves "
            f"{out} of {size} pixels: take less padding or a larger kernel"
        )
    return out


class Convolution(nn.Conv2d):
    """torch's convolution, which says before it computes why an image does not fit.

    x (B, C, H, W) -> (B, F, H', W') with H' and W' by `output_size`; (C, H, W) -> (F, H', W') without a batch.
    """

    def forward(self, x: Tensor) -> Tensor:
        """The convolution.

        Raises ConfigError where the image is smaller than the window, or too small to be continued so far past its edge.
        """
        pads: Sequence[int] = (0, 0)
        if not isinstance(self.padding, str):
            pads = self.padding
            for axis, name in ((0, "high"), (1, "wide")):
                size, pad = x.shape[axis - 2], pads[axis]
                most = {"reflect": size - 1, "circular": size}.get(self.padding_mode, pad)
                if pad > most:
                    raise ConfigError(
                        f"layer 'convolution': padding_mode={self.padding_mode!r} continues an image of {size} pixels by at "
                        f"most {most}, and {pad} are asked for: the images are too small ({size} pixels {name}); enlarge them, "
                        "or take padding_mode='replicate'"
                    )
                output_size(size, self.kernel_size[axis], self.stride[axis], pad, self.dilation[axis])
        return super().forward(x)


def _check_groups(name: str, groups: int, **channels: int) -> None:
    for which, count in channels.items():
        if count % groups:
            raise ConfigError(f"layer {name!r}: groups={groups} does not divide {which}={count}")


def _same(name: str, kernel: int, stride: int, dilation: int) -> int:
    """The padding that keeps the size at stride 1, and gives ceil(size / stride) otherwise."""
    reach = dilation * (kernel - 1)
    if reach % 2:
        raise ConfigError(
            f"layer {name!r}: padding='same' needs a window with a middle; kernel={kernel} with dilation={dilation} has "
            "none: take an odd kernel, or padding=0"
        )
    return reach // 2


@system(name="convolution", kind="layer", rows=("D1",), paper="https://arxiv.org/abs/1603.07285")
def convolution(
    in_channels: Count,
    out_channels: Count,
    *,
    kernel: Count = 3,
    stride: Count = 1,
    padding: More | Literal["same"] = "same",
    padding_mode: Edge = "zeros",
    dilation: Count = 1,
    groups: Count = 1,
    bias: bool = True,
) -> nn.Module:
    """A convolution over images.

    x (B, in_channels, H, W) -> (B, out_channels, H', W') with H' and W' by `output_size`

    kernel: height and width of the window in pixels.
    stride: by how many pixels the window moves.
    padding: pixels added at each edge; "same" adds dilation (kernel - 1) / 2, so that a size becomes ceil(size / stride).
    padding_mode: what is added: zeros, the edge, the mirrored image, or the image's other end.
    dilation: distance of the pixels within the window; 1 is an ordinary kernel.
    groups: channels are split so, and each part sees its own only; in_channels gives one kernel for each channel.
    bias: whether a number is added to each output channel.

    Raises ConfigError on an argument out of bounds, groups that do not divide the channels, and "same" for an even kernel;
    the layer raises it for an image that is too small.
    """
    check_arguments("layer 'convolution'", convolution, dict(locals()), inputs=True)
    _check_groups("convolution", groups, in_channels=in_channels, out_channels=out_channels)
    pad = _same("convolution", kernel, stride, dilation) if padding == "same" else padding
    return Convolution(in_channels, out_channels, kernel, stride, pad, dilation, groups, bias, padding_mode)


@system(name="pointwise", kind="layer", rows=("D1",), paper="https://arxiv.org/abs/1312.4400")
def pointwise(in_channels: Count, out_channels: Count, *, stride: Count = 1, bias: bool = True) -> nn.Module:
    """A 1x1 convolution: the same full layer at each pixel, which mixes channels and no pixels.

    x (B, in_channels, H, W) -> (B, out_channels, ceil(H / stride), ceil(W / stride))

    stride: takes every so many-th pixel.
    bias: whether a number is added to each output channel.

    Raises ConfigError on an argument out of bounds.
    """
    check_arguments("layer 'pointwise'", pointwise, dict(locals()), inputs=True)
    return Convolution(in_channels, out_channels, 1, stride, bias=bias)


@system(name="transposed", kind="layer", rows=("D1",), paper="https://arxiv.org/abs/1603.07285")
def transposed(
    in_channels: Count,
    out_channels: Count,
    *,
    kernel: Count = 2,
    stride: Count = 2,
    padding: More = 0,
    output_padding: More = 0,
    dilation: Count = 1,
    groups: Count = 1,
    bias: bool = True,
) -> nn.Module:
    """The transpose of a convolution: each number lays down a kernel, and overlapping ones add up. It enlarges by `stride`.

    x (B, in_channels, H, W) -> (B, out_channels, H', W') with H' and W' by `transposed_size`

    kernel: height and width of what each number lays down.
    stride: distance in the output of neighbours in the input.
    padding: pixels cut off at each edge.
    output_padding: rows and columns added at the end, fewer than the stride or the dilation.
    dilation: distance of the pixels within the kernel.
    groups: channels are split so, and each part sees its own only.
    bias: whether a number is added to each output channel.

    Raises ConfigError on an argument out of bounds, groups that do not divide the channels, and too much output_padding.
    """
    check_arguments("layer 'transposed'", transposed, dict(locals()), inputs=True)
    _check_groups("transposed", groups, in_channels=in_channels, out_channels=out_channels)
    if output_padding >= max(stride, dilation):
        raise ConfigError(
            f"layer 'transposed': output_padding must be less than stride={stride} or dilation={dilation}, got {output_padding}"
        )
    return nn.ConvTranspose2d(
        in_channels, out_channels, kernel, stride, padding, output_padding, groups, bias, dilation
    )
