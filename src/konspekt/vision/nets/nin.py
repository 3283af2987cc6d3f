"""Network in Network: a small multilayer perceptron slides over the image in the place of each kernel.

Lin, Chen and Yan 2014, "Network in network", https://arxiv.org/abs/1312.4400. Course: row D6.

An mlpconv block is a convolution and two 1x1 convolutions, each followed by ReLU: the cascaded cross-channel pooling of the paper. The
last block gives one map a class, the logits are the maps' means, and there is no full layer.

The paper gives the shape of the net, its authors' published Caffe models the numbers. Two are built here, with their parameters
for 3 channels, 224 x 224 or 32 x 32 pixels, 1000 or 10 classes:

    form="default", for ImageNet                                    form="cifar", for CIFAR-10
    block 1   11x11, stride 4   96, 96, 96@54x54         53,568     5x5, padding 2   192, 160, 96@32x32      60,928
              maximum of 3x3, stride 2  @27x27                      maximum of 3x3, stride 2  @16x16, dropout 1/2
    block 2   5x5, padding 2    256, 256, 256@27x27     746,240     5x5, padding 2   192, 192, 192@16x16    535,104
              maximum of 3x3, stride 2  @13x13                      mean of 3x3, stride 2     @8x8, dropout 1/2
    block 3   3x3, padding 1    384, 384, 384@13x13   1,180,800     3x3, padding 1   192, 192, K@8x8        370,954
              maximum of 3x3, stride 2  @6x6, dropout 1/2           mean of each map
    block 4   3x3, padding 1    1024, 1024, K@6x6     5,614,568
              mean of each map
                                                      7,595,176                                             966,986

last_relu=True puts a ReLU behind the last 1x1 convolution too, as published, so that no logit is below 0. The default leaves it
out: with few classes it often shuts all maps of a class for good, the logits stay 0 and nothing is learned, from which 1000
classes and a slow start protected the authors. Pooling rounds sizes up, as Caffe does. The text of the paper has a maximum behind every block, where the model for CIFAR-10 has a mean behind the second. Kernels start from
N(0, 2 / fan-in) and biases from 0 (He et al. 2015), which train without care for each layer's scale; Caffe's models started from
N(0, 0.01^2) or N(0, 0.05^2).

Shape letters in this file: B images, C channels, H height, W width, M maps, K classes.
"""

from __future__ import annotations

from typing import Annotated, Literal

from torch import Tensor, nn

from konspekt.core.params import AtLeast, MoreThan
from konspekt.core.registry import system
from konspekt.vision.nets.shared import check_size, thin

__all__ = ["NiN", "mlpconv", "nin"]

SMALLEST = {
    "default": (39, "its stride of 4 and its three halvings leave 1 x 1"),  # 39 -> 8 -> 4 -> 2 -> 1
    "cifar": (4, "its two halvings leave 1 x 1"),  # 4 -> 2 -> 1; halvings of 3x3 need 2 pixels
}


def mlpconv(before: int, maps: tuple[int, int, int], kernel: int, stride: int = 1, padding: int = 0) -> list[nn.Module]:
    """A convolution and two 1x1 convolutions, each with ReLU: x (B, before, H, W) -> (B, maps[2], H', W')."""
    first, second, third = maps
    return [
        nn.Conv2d(before, first, kernel, stride=stride, padding=padding),
        nn.ReLU(inplace=True),
        nn.Conv2d(first, second, 1),
        nn.ReLU(inplace=True),
        nn.Conv2d(second, third, 1),
        nn.ReLU(inplace=True),
    ]


class NiN(nn.Module):
    """Network in Network, in the form for ImageNet ("default") or for CIFAR-10 ("cifar").

    x (B, C, H, W) float -> logits (B, K)

    heads: the modules that give one number a class.
    """

    heads: tuple[str, ...]

    def __init__(
        self, in_channels: int, num_classes: int, width: float = 1.0, form: str = "default", *, last_relu: bool = False
    ) -> None:
        super().__init__()

        def maps(*channels: int) -> tuple[int, int, int]:
            first, second, third = (thin(c, width) for c in channels)
            return first, second, third

        def last(channels: int) -> tuple[int, int, int]:
            return thin(channels, width), thin(channels, width), num_classes

        if form == "cifar":
            m1, m2, m3 = maps(192, 160, 96), maps(192, 192, 192), last(192)
            layers = [
                *mlpconv(in_channels, m1, 5, padding=2),
                nn.MaxPool2d(3, stride=2, ceil_mode=True),
                nn.Dropout(),
                *mlpconv(m1[2], m2, 5, padding=2),
                nn.AvgPool2d(3, stride=2, ceil_mode=True),
                nn.Dropout(),
                *mlpconv(m2[2], m3, 3, padding=1),
            ]
        else:
            m1, m2, m3, m4 = maps(96, 96, 96), maps(256, 256, 256), maps(384, 384, 384), last(1024)
            layers = [
                *mlpconv(in_channels, m1, 11, stride=4),
                nn.MaxPool2d(3, stride=2, ceil_mode=True),
                *mlpconv(m1[2], m2, 5, padding=2),
                nn.MaxPool2d(3, stride=2, ceil_mode=True),
                *mlpconv(m2[2], m3, 3, padding=1),
                nn.MaxPool2d(3, stride=2, ceil_mode=True),
                nn.Dropout(),
                *mlpconv(m3[2], m4, 3, padding=1),
            ]
        self.heads = (f"features.{len(layers) - 2}",)
        self.features = nn.Sequential(*layers if last_relu else layers[:-1])
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Images to logits."""
        return self.avgpool(self.features(x_BCHW)).flatten(1)  # type: ignore[no-any-return]


@system(name="nin", kind="net", rows=("D6",), paper="https://arxiv.org/abs/1312.4400")
def nin(
    in_channels: Annotated[int, AtLeast(1)] = 3,
    num_classes: Annotated[int, AtLeast(1)] = 1000,
    image_size: tuple[Annotated[int, AtLeast(1)], Annotated[int, AtLeast(1)]] = (224, 224),
    *,
    width: Annotated[float, MoreThan(0)] = 1.0,
    form: Literal["default", "cifar"] = "default",
    last_relu: bool = False,
) -> nn.Module:
    """Network in Network: convolutions that are perceptrons, and a mean in the place of full layers.

    x (B, in_channels, height, width) float -> logits (B, num_classes)

    in_channels: channels of the images.
    num_classes: outputs.
    image_size: (height, width) in pixels, each at least 39, or 4 in the form "cifar"; made for 224 x 224, or 32 x 32.
    width: multiplies the maps of all layers but the last.
    form: the net for ImageNet, four blocks of which the first has a stride of 4, or the net for CIFAR-10, three blocks.
    last_relu: the ReLU behind the last 1x1 convolution, as published; with few classes it may keep the net from learning.

    Raises ConfigError on a size below 39 x 39 pixels, or 4 x 4 in the form "cifar".
    """
    check_size("nin", nin, locals(), *SMALLEST.get(form, SMALLEST["default"]))
    return NiN(in_channels, num_classes, width, form, last_relu=last_relu)
