"""LeNet-5: two convolutions, two subsamplings and three full layers that read digits.

LeCun, Bottou, Bengio and Haffner 1998, "Gradient-based learning applied to document recognition", section II.B;
http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf. Course: row D3.

The layers as the paper numbers them, with their trainable parameters for 1 channel, 32 x 32 pixels and 10 classes:

    layer   maps@size   what it does                          form="paper"   form="default"
    C1      6@28x28     convolution 5x5                                156              156
    S2      6@14x14     halves height and width                         12                0
    C3      16@10x10    convolution 5x5                              1,516            2,416
    S4      16@5x5      halves height and width                         32                0
    C5      120         each unit sees all of S4                    48,120           48,120
    F6      84          full                                        10,164           10,164
    output  10          full                                           850              850
                                                                    60,850           61,706

form="default" is what the name stands for in today's libraries: ReLU, maximum pooling, each map of C3 sees all of S2,
torch's initialisation.

form="paper" differs from the paper in three things. The output is a linear layer that gives logits, where the paper
has radial basis units with fixed targets, so that the classes need no bitmaps. C5 is written as a full layer; the paper
calls it a convolution, which is the same at 32 x 32. The coefficients of S2 and S4 start at 1/4, so that they start as
means, with bias 0; the paper does not say. All other weights start as in its appendix A: uniform in +-2.4 / fan-in.

Shape letters in this file: B images, C channels, H height, W width, M maps, K classes.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from konspekt.core.params import AtLeast, MoreThan
from konspekt.core.registry import system
from konspekt.vision.nets.shared import check_size, thin

__all__ = ["C3_INPUTS", "LeNet", "PaperLeNet", "lenet"]

# The paper's table I: the maps of S2 that each of the 16 maps of C3 sees.
C3_INPUTS = (
    (0, 1, 2),
    (1, 2, 3),
    (2, 3, 4),
    (3, 4, 5),
    (0, 4, 5),
    (0, 1, 5),
    (0, 1, 2, 3),
    (1, 2, 3, 4),
    (2, 3, 4, 5),
    (0, 3, 4, 5),
    (0, 1, 4, 5),
    (0, 1, 2, 5),
    (0, 1, 3, 4),
    (1, 2, 4, 5),
    (0, 2, 3, 5),
    (0, 1, 2, 3, 4, 5),
)
SMALLEST = 16  # 16 -> 12 -> 6 -> 2 -> 1


def _after_s4(side: int) -> int:
    return ((side - 4) // 2 - 4) // 2


def _thinned(maps: int, outputs: int) -> tuple[tuple[int, ...], ...]:
    """C3_INPUTS for another number of maps before and behind: each stands for the one at its place in the paper's table."""
    rows = [C3_INPUTS[out * len(C3_INPUTS) // outputs] for out in range(outputs)]
    if maps < 6:
        return tuple(tuple(sorted({seen * maps // 6 for seen in row})) for row in rows)
    return tuple(tuple(seen for seen in range(maps) if seen * 6 // maps in row) for row in rows)


class LeNet(nn.Module):
    """LeNet-5 in its usual form today.

    x (B, C, H, W) float -> logits (B, K)

    heads: the modules that give one number a class.
    """

    heads: ClassVar[tuple[str, ...]] = ("fc3",)

    def __init__(self, in_channels: int, num_classes: int, image_size: tuple[int, int], width: float = 1.0) -> None:
        super().__init__()
        m1, m2, u1, u2 = (thin(count, width) for count in (6, 16, 120, 84))
        self.conv1 = nn.Conv2d(in_channels, m1, 5)
        self.conv2 = nn.Conv2d(m1, m2, 5)
        self.fc1 = nn.Linear(m2 * _after_s4(image_size[0]) * _after_s4(image_size[1]), u1)
        self.fc2 = nn.Linear(u1, u2)
        self.fc3 = nn.Linear(u2, num_classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Images to logits."""
        x_BMHW = F.max_pool2d(F.relu(self.conv1(x_BCHW)), 2)
        x_BMHW = F.max_pool2d(F.relu(self.conv2(x_BMHW)), 2)
        x = F.relu(self.fc1(x_BMHW.flatten(1)))
        return self.fc3(F.relu(self.fc2(x)))  # type: ignore[no-any-return]


def squash(x: Tensor) -> Tensor:
    """1.7159 tanh(2x / 3), which is 1 at 1 and -1 at -1 (appendix A); any shape."""
    return 1.7159 * torch.tanh(x * (2 / 3))


class Subsample(nn.Module):
    """The sum of each 2 x 2 square, times a coefficient, plus a bias; one of both for each map.

    x (B, M, H, W) -> (B, M, H // 2, W // 2)
    """

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.coefficient = nn.Parameter(torch.full((maps, 1, 1), 0.25))
        self.bias = nn.Parameter(torch.zeros(maps, 1, 1))

    def forward(self, x_BMHW: Tensor) -> Tensor:
        return 4 * self.coefficient * F.avg_pool2d(x_BMHW, 2) + self.bias


class PartialConv2d(nn.Module):
    """A 5 x 5 convolution in which each output map sees some of the input maps. Only those have weights.

    x (B, in_maps, H, W) -> (B, len(inputs), H - 4, W - 4)
    """

    place: Tensor

    def __init__(self, in_maps: int, inputs: tuple[tuple[int, ...], ...]) -> None:
        super().__init__()
        self.shape = (len(inputs), in_maps, 5, 5)
        place = [out * in_maps + seen for out, maps in enumerate(inputs) for seen in maps]
        self.register_buffer("place", torch.tensor(place), persistent=False)
        self.weight = nn.Parameter(torch.empty(len(place), 5, 5))
        self.bias = nn.Parameter(torch.empty(len(inputs)))
        fan_in = torch.tensor([25.0 * len(maps) for maps in inputs])
        bound = 2.4 / fan_in
        with torch.no_grad():
            self.weight.uniform_(-1, 1).mul_(bound.repeat_interleave((fan_in / 25).long())[:, None, None])
            self.bias.uniform_(-1, 1).mul_(bound)

    def forward(self, x_BMHW: Tensor) -> Tensor:
        out, seen, *kernel = self.shape
        weight = self.weight.new_zeros(out * seen, *kernel).index_copy(0, self.place, self.weight)
        return F.conv2d(x_BMHW, weight.view(self.shape), self.bias)


class PaperLeNet(nn.Module):
    """LeNet-5 as published, but for its output layer (see the top of the file).

    x (B, C, H, W) float -> logits (B, K)

    heads: the modules that give one number a class.
    """

    heads: ClassVar[tuple[str, ...]] = ("output",)

    def __init__(self, in_channels: int, num_classes: int, image_size: tuple[int, int], width: float = 1.0) -> None:
        super().__init__()
        m1, m2, u1, u2 = (thin(count, width) for count in (6, 16, 120, 84))
        self.c1 = nn.Conv2d(in_channels, m1, 5)
        self.s2 = Subsample(m1)
        self.c3 = PartialConv2d(m1, _thinned(m1, m2))
        self.s4 = Subsample(m2)
        self.c5 = nn.Linear(m2 * _after_s4(image_size[0]) * _after_s4(image_size[1]), u1)
        self.f6 = nn.Linear(u1, u2)
        self.output = nn.Linear(u2, num_classes)
        for layer in (self.c1, self.c5, self.f6, self.output):
            bound = 2.4 / layer.weight[0].numel()
            for parameter in layer.parameters():
                nn.init.uniform_(parameter, -bound, bound)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Images to logits."""
        x_BMHW = squash(self.s2(squash(self.c1(x_BCHW))))
        x_BMHW = squash(self.s4(squash(self.c3(x_BMHW))))
        x = squash(self.f6(squash(self.c5(x_BMHW.flatten(1)))))
        return self.output(x)  # type: ignore[no-any-return]


@system(name="lenet", kind="net", rows=("D3",), paper="LeCun, Bottou, Bengio and Haffner 1998")
def lenet(
    in_channels: Annotated[int, AtLeast(1)] = 1,
    num_classes: Annotated[int, AtLeast(1)] = 10,
    image_size: tuple[Annotated[int, AtLeast(1)], Annotated[int, AtLeast(1)]] = (32, 32),
    *,
    width: Annotated[float, MoreThan(0)] = 1.0,
    form: Literal["default", "paper"] = "default",
) -> nn.Module:
    """LeNet-5, the convolutional net that read cheques.

    x (B, in_channels, height, width) float -> logits (B, num_classes)

    in_channels: channels of the images; the paper has 1.
    num_classes: outputs.
    image_size: (height, width) in pixels, each at least 16; the paper has 32 x 32.
    width: multiplies the maps of the convolutions and the units of the full layers; the paper's table I is scaled with it.
    form: the net of today's libraries, or the paper's: partial C3, trainable subsampling, scaled tanh.

    Raises ConfigError on a size below 16 x 16 pixels.
    """
    check_size("lenet", lenet, locals(), SMALLEST, "its two convolutions and two halvings leave 1 x 1")
    net = LeNet if form == "default" else PaperLeNet
    return net(in_channels, num_classes, image_size, width)
