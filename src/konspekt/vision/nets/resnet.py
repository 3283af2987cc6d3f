"""Residual nets: blocks that add what they compute to what they were given, so that a hundred layers can be trained.

He, Zhang, Ren and Sun 2016, "Deep residual learning for image recognition", https://arxiv.org/abs/1512.03385. Course: row D8.

Each block computes relu(branch(x) + shortcut(x)). The nets for ImageNet (the paper's table 1), at 224 x 224:

    stage    size   18               34               50                101               152
    conv1    112    7x7, 64, stride 2, then a maximum of 3x3, stride 2
    layer1    56    2x (3x3, 3x3)    3x (3x3, 3x3)    3x (1x1, 3x3, 1x1; 64, 64, 256)     3x
    layer2    28    2x, 128          4x, 128          4x (128, 128, 512)     4x           8x
    layer3    14    2x, 256          6x, 256          6x (256, 256, 1024)   23x          36x
    layer4     7    2x, 512          3x, 512          3x (512, 512, 2048)    3x           3x
    fc         1    the mean of each map, then a full layer
    weights         11,689,512       21,797,672       25,557,032        44,549,160        60,192,808

and the nets for CIFAR-10 (its section 4.2), at 32 x 32, with n = 3, 5, 7, 9, 18 blocks (3x3, 3x3) a stage:

    conv1     32    3x3, 16
    layer1    32    n x, 16
    layer2    16    n x, 32
    layer3     8    n x, 64
    fc         1    the mean of each map, then a full layer
    weights         20: 269,722   32: 464,154   44: 658,586   56: 853,018   110: 1,727,962

Where a stage halves the maps and changes their number, the shortcut of the large nets is a 1x1 convolution with batch
normalisation (the paper's option B), and that of the small ones takes every second pixel and adds maps of zeros (option A).

Names, shapes, order and initialisation of the parameters are torchvision's. form="default" halves in the 3x3 convolution of
a bottleneck, as torchvision does; form="paper" in its first 1x1. Where there is no bottleneck, the two are the same.

Any image of at least one pixel passes: every convolution and every maximum that halves is padded. A batch to train on needs
two values for each channel of the last stage, i.e. two images where they are 32 x 32 or smaller (8 x 8 in the form for
CIFAR-10: 4 x 4).

Shape letters in this file: B images, K classes.
"""

from __future__ import annotations

from torch import nn

from konspekt.core.registry import system
from konspekt.vision.nets.residual import (
    BasicBlock,
    Bottleneck,
    Count,
    Form,
    Residual,
    ResNet,
    Size,
    Width,
    build_resnet,
)

__all__ = [  # noqa: RUF022 - in the order of the letters, as everywhere; ruff would count
    "BasicBlock",
    "Bottleneck",
    "ResNet",
    "Residual",
    "resnet101",
    "resnet110",
    "resnet152",
    "resnet18",
    "resnet20",
    "resnet32",
    "resnet34",
    "resnet44",
    "resnet50",
    "resnet56",
]


@system(name="resnet18", kind="net", rows=("D8",), paper="https://arxiv.org/abs/1512.03385")
def resnet18(
    in_channels: Count = 3,
    num_classes: Count = 1000,
    image_size: Size = (224, 224),
    *,
    width: Width = 1.0,
    form: Form = "default",
    shortcuts: bool = True,
    drop: tuple[str, ...] = (),
) -> nn.Module:
    """ResNet-18: 8 blocks of two 3x3 convolutions, 11.7 million weights.

    x (B, in_channels, height, width) float -> logits (B, num_classes)

    in_channels: channels of the images.
    num_classes: outputs.
    image_size: (height, width) in pixels, from 1 x 1 on; made for 224 x 224.
    width: multiplies the channels of all layers.
    form: the two are the same net here; they differ where there are bottlenecks.
    shortcuts: False builds the plain net, whose training error grows with depth.
    drop: blocks without their branch, by name: ("layer3.1",).

    Raises ConfigError on an argument out of bounds or the name of no block.
    """
    return build_resnet(resnet18, locals(), BasicBlock, 1, (2, 2, 2, 2))


@system(name="resnet34", kind="net", rows=("D8",), paper="https://arxiv.org/abs/1512.03385")
def resnet34(
    in_channels: Count = 3,
    num_classes: Count = 1000,
    image_size: Size = (224, 224),
    *,
    width: Width = 1.0,
    form: Form = "default",
    shortcuts: bool = True,
    drop: tuple[str, ...] = (),
) -> nn.Module:
    """ResNet-34: 16 blocks of two 3x3 convolutions, 21.8 million weights.

    x (B, in_channels, height, width) float -> logits (B, num_classes)

    in_channels: channels of the images.
    num_classes: outputs.
    image_size: (height, width) in pixels, from 1 x 1 on; made for 224 x 224.
    width: multiplies the channels of all layers.
    form: the two are the same net here; they differ where there are bottlenecks.
    shortcuts: False builds the plain net, whose training error grows with depth.
    drop: blocks without their branch, by name: ("layer3.1",).

    Raises ConfigError on an argument out of bounds or the name of no block.
    """
    return build_resnet(resnet34, locals(), BasicBlock, 1, (3, 4, 6, 3))


@system(name="resnet50", kind="net", rows=("D8",), paper="https://arxiv.org/abs/1512.03385")
def resnet50(
    in_channels: Count = 3,
    num_classes: Count = 1000,
    image_size: Size = (224, 224),
    *,
    width: Width = 1.0,
    form: Form = "default",
    shortcuts: bool = True,
    drop: tuple[str, ...] = (),
) -> nn.Module:
    """ResNet-50: 16 bottlenecks of three convolutions, 25.6 million weights.

    x (B, in_channels, height, width) float -> logits (B, num_classes)

    in_channels: channels of the images.
    num_classes: outputs.
    image_size: (height, width) in pixels, from 1 x 1 on; made for 224 x 224.
    width: multiplies the channels of all layers.
    form: where a bottleneck halves: in its 3x3 convolution, or in its first 1x1 as the paper has it.
    shortcuts: False builds the plain net, whose training error grows with depth.
    drop: blocks without their branch, by name: ("layer3.1",).

    Raises ConfigError on an argument out of bounds or the name of no block.
    """
    return build_resnet(resnet50, locals(), Bottleneck, 4, (3, 4, 6, 3))


@system(name="resnet101", kind="net", rows=("D8",), paper="https://arxiv.org/abs/1512.03385")
def resnet101(
    in_channels: Count = 3,
    num_classes: Count = 1000,
    image_size: Size = (224, 224),
    *,
    width: Width = 1.0,
    form: Form = "default",
    shortcuts: bool = True,
    drop: tuple[str, ...] = (),
) -> nn.Module:
    """ResNet-101: 33 bottlenecks of three convolutions, 44.5 million weights.

    x (B, in_channels, height, width) float -> logits (B, num_classes)

    in_channels: channels of the images.
    num_classes: outputs.
    image_size: (height, width) in pixels, from 1 x 1 on; made for 224 x 224.
    width: multiplies the channels of all layers.
    form: where a bottleneck halves: in its 3x3 convolution, or in its first 1x1 as the paper has it.
    shortcuts: False builds the plain net, whose training error grows with depth.
    drop: blocks without their branch, by name: ("layer3.1",).

    Raises ConfigError on an argument out of bounds or the name of no block.
    """
    return build_resnet(resnet101, locals(), Bottleneck, 4, (3, 4, 23, 3))


@system(name="resnet152", kind="net", rows=("D8",), paper="https://arxiv.org/abs/1512.03385")
def resnet152(
    in_channels: Count = 3,
    num_classes: Count = 1000,
    image_size: Size = (224, 224),
    *,
    width: Width = 1.0,
    form: Form = "default",
    shortcuts: bool = True,
    drop: tuple[str, ...] = (),
) -> nn.Module:
    """ResNet-152: 50 bottlenecks of three convolutions, 60.2 million weights.

    x (B, in_channels, height, width) float -> logits (B, num_classes)

    in_channels: channels of the images.
    num_classes: outputs.
    image_size: (height, width) in pixels, from 1 x 1 on; made for 224 x 224.
    width: multiplies the channels of all layers.
    form: where a bottleneck halves: in its 3x3 convolution, or in its first 1x1 as the paper has it.
    shortcuts: False builds the plain net, whose training error grows with depth.
    drop: blocks without their branch, by name: ("layer3.1",).

    Raises ConfigError on an argument out of bounds or the name of no block.
    """
    return build_resnet(resnet152, locals(), Bottleneck, 4, (3, 8, 36, 3))


@system(name="resnet20", kind="net", rows=("D8",), paper="https://arxiv.org/abs/1512.03385")
def resnet20(
    in_channels: Count = 3,
    num_classes: Count = 10,
    image_size: Size = (32, 32),
    *,
    width: Width = 1.0,
    shortcuts: bool = True,
    drop: tuple[str, ...] = (),
) -> nn.Module:
    """ResNet-20 in the form for CIFAR-10: 9 blocks of two 3x3 convolutions, 0.27 million weights.

    x (B, in_channels, height, width) float -> logits (B, num_classes)

    in_channels: channels of the images.
    num_classes: outputs.
    image_size: (height, width) in pixels, from 1 x 1 on; made for 32 x 32.
    width: multiplies the channels of all layers.
    shortcuts: False builds the plain net, whose training error grows with depth.
    drop: blocks without their branch, by name: ("layer3.1",).

    Raises ConfigError on an argument out of bounds or the name of no block.
    """
    return build_resnet(resnet20, locals(), BasicBlock, 1, (3, 3, 3), small=True)


@system(name="resnet32", kind="net", rows=("D8",), paper="https://arxiv.org/abs/1512.03385")
def resnet32(
    in_channels: Count = 3,
    num_classes: Count = 10,
    image_size: Size = (32, 32),
    *,
    width: Width = 1.0,
    shortcuts: bool = True,
    drop: tuple[str, ...] = (),
) -> nn.Module:
    """ResNet-32 in the form for CIFAR-10: 15 blocks of two 3x3 convolutions, 0.46 million weights.

    x (B, in_channels, height, width) float -> logits (B, num_classes)

    in_channels: channels of the images.
    num_classes: outputs.
    image_size: (height, width) in pixels, from 1 x 1 on; made for 32 x 32.
    width: multiplies the channels of all layers.
    shortcuts: False builds the plain net, whose training error grows with depth.
    drop: blocks without their branch, by name: ("layer3.1",).

    Raises ConfigError on an argument out of bounds or the name of no block.
    """
    return build_resnet(resnet32, locals(), BasicBlock, 1, (5, 5, 5), small=True)


@system(name="resnet44", kind="net", rows=("D8",), paper="https://arxiv.org/abs/1512.03385")
def resnet44(
    in_channels: Count = 3,
    num_classes: Count = 10,
    image_size: Size = (32, 32),
    *,
    width: Width = 1.0,
    shortcuts: bool = True,
    drop: tuple[str, ...] = (),
) -> nn.Module:
    """ResNet-44 in the form for CIFAR-10: 21 blocks of two 3x3 convolutions, 0.66 million weights.

    x (B, in_channels, height, width) float -> logits (B, num_classes)

    in_channels: channels of the images.
    num_classes: outputs.
    image_size: (height, width) in pixels, from 1 x 1 on; made for 32 x 32.
    width: multiplies the channels of all layers.
    shortcuts: False builds the plain net, whose training error grows with depth.
    drop: blocks without their branch, by name: ("layer3.1",).

    Raises ConfigError on an argument out of bounds or the name of no block.
    """
    return build_resnet(resnet44, locals(), BasicBlock, 1, (7, 7, 7), small=True)


@system(name="resnet56", kind="net", rows=("D8",), paper="https://arxiv.org/abs/1512.03385")
def resnet56(
    in_channels: Count = 3,
    num_classes: Count = 10,
    image_size: Size = (32, 32),
    *,
    width: Width = 1.0,
    shortcuts: bool = True,
    drop: tuple[str, ...] = (),
) -> nn.Module:
    """ResNet-56 in the form for CIFAR-10: 27 blocks of two 3x3 convolutions, 0.85 million weights.

    x (B, in_channels, height, width) float -> logits (B, num_classes)

    in_channels: channels of the images.
    num_classes: outputs.
    image_size: (height, width) in pixels, from 1 x 1 on; made for 32 x 32.
    width: multiplies the channels of all layers.
    shortcuts: False builds the plain net, whose training error grows with depth.
    drop: blocks without their branch, by name: ("layer3.1",).

    Raises ConfigError on an argument out of bounds or the name of no block.
    """
    return build_resnet(resnet56, locals(), BasicBlock, 1, (9, 9, 9), small=True)


@system(name="resnet110", kind="net", rows=("D8",), paper="https://arxiv.org/abs/1512.03385")
def resnet110(
    in_channels: Count = 3,
    num_classes: Count = 10,
    image_size: Size = (32, 32),
    *,
    width: Width = 1.0,
    shortcuts: bool = True,
    drop: tuple[str, ...] = (),
) -> nn.Module:
    """ResNet-110 in the form for CIFAR-10: 54 blocks of two 3x3 convolutions, 1.7 million weights.

    x (B, in_channels, height, width) float -> logits (B, num_classes)

    in_channels: channels of the images.
    num_classes: outputs.
    image_size: (height, width) in pixels, from 1 x 1 on; made for 32 x 32.
    width: multiplies the channels of all layers.
    shortcuts: False builds the plain net, whose training error grows with depth.
    drop: blocks without their branch, by name: ("layer3.1",).

    Raises ConfigError on an argument out of bounds or the name of no block.
    """
    return build_resnet(resnet110, locals(), BasicBlock, 1, (18, 18, 18), small=True)
