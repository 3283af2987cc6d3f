"""Squeeze-and-excitation: a residual net whose blocks weigh each map by what all maps hold.

Hu, Shen and Sun 2018, "Squeeze-and-excitation networks", https://arxiv.org/abs/1709.01507. Course: row D9.

The branch of each block of a ResNet is followed by

    squeeze       the mean of each map                      (B, C)
    se.fc1, relu  to C / reduction numbers                  (B, C / 16)
    se.fc2        back to C, through a sigmoid              (B, C), each between 0 and 1
    scale         map c of the branch times number c        (B, C, H, W)

and then added to the shortcut. In SE-ResNet-50 this adds 2 C^2 / 16 weights and C + C / 16 biases for each of its 16 blocks,
2.5 million to ResNet-50's 25.6. The two full layers are 1x1 convolutions of one pixel, so that their shapes are those of the
published files. squeeze="max" takes the maximum of each map, which the paper tries in its section 6.2 and finds slightly worse.

Everything else is as in `resnet.py`: names, initialisation, forms, and the sizes of images.

Shape letters in this file: B images, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from konspekt.core.registry import system
from konspekt.vision.nets.residual import BasicBlock, Bottleneck, Count, Form, Size, Width, build_resnet

__all__ = [  # noqa: RUF022 - in the order of the letters, as everywhere; ruff would count
    "SEBasicBlock",
    "SEBottleneck",
    "SqueezeExcitation",
    "se_resnet101",
    "se_resnet152",
    "se_resnet18",
    "se_resnet34",
    "se_resnet50",
]

Squeeze = Literal["average", "max"]


class SqueezeExcitation(nn.Module):
    """Each map times a number between 0 and 1 that is made of the squeezed maps.

    x (B, C, H, W) -> (B, C, H, W)
    """

    def __init__(self, channels: int, reduction: int, squeeze: Squeeze) -> None:
        super().__init__()
        inside = max(1, channels // reduction)
        self.squeeze = nn.AdaptiveAvgPool2d(1) if squeeze == "average" else nn.AdaptiveMaxPool2d(1)
        self.fc1 = nn.Conv2d(channels, inside, 1)
        self.relu = nn.ReLU()
        self.fc2 = nn.Conv2d(inside, channels, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Squeeze, excite, scale."""
        return x_BCHW * torch.sigmoid(self.fc2(self.relu(self.fc1(self.squeeze(x_BCHW)))))


class SEBasicBlock(BasicBlock):
    """Two 3x3 convolutions, then squeeze and excitation.

    x (B, C, H, W) -> (B, C', ceil(H / stride), ceil(W / stride))
    """

    PARTS: ClassVar[tuple[str, ...]] = (*BasicBlock.PARTS, "se")

    def __init__(self, before: int, inside: int, *rest: Any, reduction: int, squeeze: Squeeze) -> None:
        super().__init__(before, inside, *rest)
        self.se = SqueezeExcitation(inside * self.EXPANSION, reduction, squeeze)

    def branch(self, x_BCHW: Tensor) -> Tensor:
        """What is learned, each map weighed."""
        return self.se(super().branch(x_BCHW))  # type: ignore[no-any-return]


class SEBottleneck(Bottleneck):
    """1x1, 3x3, 1x1, then squeeze and excitation.

    x (B, C, H, W) -> (B, C', ceil(H / stride), ceil(W / stride))
    """

    PARTS: ClassVar[tuple[str, ...]] = (*Bottleneck.PARTS, "se")

    def __init__(self, before: int, inside: int, *rest: Any, reduction: int, squeeze: Squeeze) -> None:
        super().__init__(before, inside, *rest)
        self.se = SqueezeExcitation(inside * self.EXPANSION, reduction, squeeze)

    def branch(self, x_BCHW: Tensor) -> Tensor:
        """What is learned, each map weighed."""
        return self.se(super().branch(x_BCHW))  # type: ignore[no-any-return]


@system(name="se_resnet18", kind="net", rows=("D9",), paper="https://arxiv.org/abs/1709.01507")
def se_resnet18(
    in_channels: Count = 3,
    num_classes: Count = 1000,
    image_size: Size = (224, 224),
    *,
    width: Width = 1.0,
    form: Form = "default",
    squeeze: Squeeze = "average",
    reduction: Count = 16,
    shortcuts: bool = True,
    drop: tuple[str, ...] = (),
) -> nn.Module:
    """SE-ResNet-18: ResNet-18 whose 8 blocks weigh their maps.

    x (B, in_channels, height, width) float -> logits (B, num_classes)

    in_channels: channels of the images.
    num_classes: outputs.
    image_size: (height, width) in pixels, from 1 x 1 on; made for 224 x 224.
    width: multiplies the channels of all layers.
    form: the two are the same net here; they differ where there are bottlenecks.
    squeeze: what is taken of each map, its mean as in the paper or its maximum.
    reduction: channels of a block over those between its two full layers.
    shortcuts: False leaves the shortcuts out.
    drop: blocks without their branch, by name: ("layer3.1",).

    Raises ConfigError on an argument out of bounds or the name of no block.
    """
    given = dict(locals())
    block = partial(SEBasicBlock, reduction=reduction, squeeze=squeeze)
    return build_resnet(se_resnet18, given, block, 1, (2, 2, 2, 2))


@system(name="se_resnet34", kind="net", rows=("D9",), paper="https://arxiv.org/abs/1709.01507")
def se_resnet34(
    in_channels: Count = 3,
    num_classes: Count = 1000,
    image_size: Size = (224, 224),
    *,
    width: Width = 1.0,
    form: Form = "default",
    squeeze: Squeeze = "average",
    reduction: Count = 16,
    shortcuts: bool = True,
    drop: tuple[str, ...] = (),
) -> nn.Module:
    """SE-ResNet-34: ResNet-34 whose 16 blocks weigh their maps.

    x (B, in_channels, height, width) float -> logits (B, num_classes)

    in_channels: channels of the images.
    num_classes: outputs.
    image_size: (height, width) in pixels, from 1 x 1 on; made for 224 x 224.
    width: multiplies the channels of all layers.
    form: the two are the same net here; they differ where there are bottlenecks.
    squeeze: what is taken of each map, its mean as in the paper or its maximum.
    reduction: channels of a block over those between its two full layers.
    shortcuts: False leaves the shortcuts out.
    drop: blocks without their branch, by name: ("layer3.1",).

    Raises ConfigError on an argument out of bounds or the name of no block.
    """
    given = dict(locals())
    block = partial(SEBasicBlock, reduction=reduction, squeeze=squeeze)
    return build_resnet(se_resnet34, given, block, 1, (3, 4, 6, 3))


@system(name="se_resnet50", kind="net", rows=("D9",), paper="https://arxiv.org/abs/1709.01507")
def se_resnet50(
    in_channels: Count = 3,
    num_classes: Count = 1000,
    image_size: Size = (224, 224),
    *,
    width: Width = 1.0,
    form: Form = "default",
    squeeze: Squeeze = "average",
    reduction: Count = 16,
    shortcuts: bool = True,
    drop: tuple[str, ...] = (),
) -> nn.Module:
    """SE-ResNet-50: ResNet-50 whose 16 bottlenecks weigh their maps, 28.1 million weights.

    x (B, in_channels, height, width) float -> logits (B, num_classes)

    in_channels: channels of the images.
    num_classes: outputs.
    image_size: (height, width) in pixels, from 1 x 1 on; made for 224 x 224.
    width: multiplies the channels of all layers.
    form: where a bottleneck halves: in its 3x3 convolution, or in its first 1x1 as the paper has it.
    squeeze: what is taken of each map, its mean as in the paper or its maximum.
    reduction: channels of a block over those between its two full layers.
    shortcuts: False leaves the shortcuts out.
    drop: blocks without their branch, by name: ("layer3.1",).

    Raises ConfigError on an argument out of bounds or the name of no block.
    """
    given = dict(locals())
    block = partial(SEBottleneck, reduction=reduction, squeeze=squeeze)
    return build_resnet(se_resnet50, given, block, 4, (3, 4, 6, 3))


@system(name="se_resnet101", kind="net", rows=("D9",), paper="https://arxiv.org/abs/1709.01507")
def se_resnet101(
    in_channels: Count = 3,
    num_classes: Count = 1000,
    image_size: Size = (224, 224),
    *,
    width: Width = 1.0,
    form: Form = "default",
    squeeze: Squeeze = "average",
    reduction: Count = 16,
    shortcuts: bool = True,
    drop: tuple[str, ...] = (),
) -> nn.Module:
    """SE-ResNet-101: ResNet-101 whose 33 bottlenecks weigh their maps.

    x (B, in_channels, height, width) float -> logits (B, num_classes)

    in_channels: channels of the images.
    num_classes: outputs.
    image_size: (height, width) in pixels, from 1 x 1 on; made for 224 x 224.
    width: multiplies the channels of all layers.
    form: where a bottleneck halves: in its 3x3 convolution, or in its first 1x1 as the paper has it.
    squeeze: what is taken of each map, its mean as in the paper or its maximum.
    reduction: channels of a block over those between its two full layers.
    shortcuts: False leaves the shortcuts out.
    drop: blocks without their branch, by name: ("layer3.1",).

    Raises ConfigError on an argument out of bounds or the name of no block.
    """
    given = dict(locals())
    block = partial(SEBottleneck, reduction=reduction, squeeze=squeeze)
    return build_resnet(se_resnet101, given, block, 4, (3, 4, 23, 3))


@system(name="se_resnet152", kind="net", rows=("D9",), paper="https://arxiv.org/abs/1709.01507")
def se_resnet152(
    in_channels: Count = 3,
    num_classes: Count = 1000,
    image_size: Size = (224, 224),
    *,
    width: Width = 1.0,
    form: Form = "default",
    squeeze: Squeeze = "average",
    reduction: Count = 16,
    shortcuts: bool = True,
    drop: tuple[str, ...] = (),
) -> nn.Module:
    """SE-ResNet-152: ResNet-152 whose 50 bottlenecks weigh their maps.

    x (B, in_channels, height, width) float -> logits (B, num_classes)

    in_channels: channels of the images.
    num_classes: outputs.
    image_size: (height, width) in pixels, from 1 x 1 on; made for 224 x 224.
    width: multiplies the channels of all layers.
    form: where a bottleneck halves: in its 3x3 convolution, or in its first 1x1 as the paper has it.
    squeeze: what is taken of each map, its mean as in the paper or its maximum.
    reduction: channels of a block over those between its two full layers.
    shortcuts: False leaves the shortcuts out.
    drop: blocks without their branch, by name: ("layer3.1",).

    Raises ConfigError on an argument out of bounds or the name of no block.
    """
    given = dict(locals())
    block = partial(SEBottleneck, reduction=reduction, squeeze=squeeze)
    return build_resnet(se_resnet152, given, block, 4, (3, 8, 36, 3))
