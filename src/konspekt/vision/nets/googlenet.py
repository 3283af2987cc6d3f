"""GoogLeNet: nine inception blocks, each of which sees its input at four scales.

Szegedy et al. 2015, "Going deeper with convolutions", https://arxiv.org/abs/1409.4842. Course: row D7.

An inception block puts side by side a 1x1 convolution, a 3x3 and a 5x5 behind 1x1 convolutions that reduce the maps, and a
maximum of 3x3 with a 1x1 behind it. The paper's table 1 for 3 channels, 224 x 224 pixels and 1000 classes; "weights" are those of
form="paper" without biases, in thousands of 1024 as the paper counts, and "printed" is what its table says of them:

    layer          maps@size     1x1   3x3 reduce  3x3   5x5 reduce  5x5   pool   weights  printed
    conv1          64@112x112    7x7, stride 2                                        9.2      2.7
    maxpool1       64@56x56      3x3, stride 2
    conv2, conv3   192@56x56           64          192                              112.0      112
    maxpool2       192@28x28     3x3, stride 2
    inception3a    256@28x28     64    96          128   16          32    32       159.5      159
    inception3b    480@28x28     128   128         192   32          96    64       379.0      380
    maxpool3       480@14x14     3x3, stride 2
    inception4a    512@14x14     192   96          208   16          48    64       366.8      364
    inception4b    512@14x14     160   112         224   24          64    64       438.0      437
    inception4c    512@14x14     128   128         256   24          64    64       497.5      463
    inception4d    528@14x14     112   144         288   32          64    64       590.5      580
    inception4e    832@14x14     256   160         320   32          128   128      847.0      840
    maxpool4       832@7x7       3x3, stride 2; 2x2 in form="default"
    inception5a    832@7x7       256   160         320   32          128   128    1,018.0    1,072
    inception5b    1024@7x7      384   192         384   48          128   128    1,409.0    1,388
    avgpool        1024@1x1      mean of each map, then dropout of 0.2
    fc             1000                                                           1,000.0     1000
                                                                                  6,826.4    6,797.7

The printed counts do not all follow from the printed maps, those of conv1, 4c, 4d and 5a least. With biases there are
6,998,552 parameters, and 13,378,280 with both auxiliary heads.

The auxiliary heads see the maps of 4a and of 4d: mean of 5x5 with stride 3, 1x1 convolution to 128 maps, full layer of 1024
units, dropout of 0.7, full layer to the classes. In training the net returns (logits, logits of aux1, logits of aux2); the
losses of the two count 0.3 each. In prediction they are not computed.

form="default" is torchvision's net, with its names, so that its weights load: batch normalisation behind each convolution and no
biases, 3x3 in the place of the 5x5, a 2x2 maximum before 5a, auxiliary heads that average to 4 x 4 whatever the size, weights
that start from N(0, 0.01^2). It has 6,624,904 parameters, and 13,004,888 with both auxiliary heads.

form="paper" has no batch normalisation, which is younger, but local response normalisation behind maxpool1 and before maxpool2
(5 maps, alpha 1e-4 on their mean, beta 0.75, k 1, as in the copy published with Caffe; the paper gives no numbers). The paper
does not say how weights start; here those before a ReLU from N(0, 2 / fan-in), the outputs from N(0, 0.01^2), biases from 0.

The notes of the course tell of stage-wise training: first the net up to its first auxiliary head, then up to the second, then
the whole. The paper trains all heads at once. `GoogLeNet.progression` gives the stages for who wants them.

Shape letters in this file: B images, C channels, H height, W width, M maps, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from konspekt.core.params import AtLeast, MoreThan
from konspekt.core.registry import system
from konspekt.vision.nets.shared import check_size, thin

__all__ = ["AuxiliaryHead", "Convolution", "GoogLeNet", "Inception", "Stage", "googlenet"]

# Block -> maps of the 1x1, the reduction before the 3x3, the 3x3, the reduction before the 5x5, the 5x5, behind the maximum.
TABLE_1 = {
    "inception3a": (64, 96, 128, 16, 32, 32),
    "inception3b": (128, 128, 192, 32, 96, 64),
    "inception4a": (192, 96, 208, 16, 48, 64),
    "inception4b": (160, 112, 224, 24, 64, 64),
    "inception4c": (128, 128, 256, 24, 64, 64),
    "inception4d": (112, 144, 288, 32, 64, 64),
    "inception4e": (256, 160, 320, 32, 128, 128),
    "inception5a": (256, 160, 320, 32, 128, 128),
    "inception5b": (384, 192, 384, 48, 128, 128),
}
HEAD_AT = {"inception4a": "aux1", "inception4d": "aux2"}  # block -> the auxiliary head that sees it
SMALLEST = {
    "default": (15, "its halvings leave 1 x 1"),  # 15 -> 8 -> 4 -> 2 -> 1 -> 1
    "paper": (79, "its halvings leave 5 x 5 for the auxiliary heads"),  # 79 -> 40 -> 20 -> 10 -> 5
}


def _halved(side: int) -> int:
    """The side behind a maximum of 3x3 with stride 2 that rounds up."""
    return -(-(side - 3) // 2) + 1


class Convolution(nn.Module):
    """Convolution, batch normalisation (`normal`) or a bias, ReLU.

    x (B, before, H, W) -> (B, maps, H', W')
    """

    def __init__(
        self, before: int, maps: int, kernel: int, *, stride: int = 1, padding: int = 0, normal: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, maps, kernel, stride=stride, padding=padding, bias=not normal)
        if normal:
            self.bn = nn.BatchNorm2d(maps, eps=0.001)
        self.normal = normal

    def forward(self, x_BMHW: Tensor) -> Tensor:
        x_BMHW = self.conv(x_BMHW)
        return F.relu(self.bn(x_BMHW) if self.normal else x_BMHW, inplace=True)


class Inception(nn.Module):
    """Four branches side by side: 1x1; 1x1 and 3x3; 1x1 and 5x5 (or 3x3); a maximum of 3x3 and 1x1.

    maps: as in TABLE_1. kernel: of the third branch, 5 in the paper.

    x (B, before, H, W) -> (B, maps[0] + maps[2] + maps[4] + maps[5], H, W)
    """

    def __init__(self, before: int, maps: tuple[int, ...], kernel: int, *, normal: bool) -> None:
        super().__init__()
        m1, reduce3, m3, reduce5, m5, pool = maps
        self.branch1 = Convolution(before, m1, 1, normal=normal)
        self.branch2 = nn.Sequential(
            Convolution(before, reduce3, 1, normal=normal), Convolution(reduce3, m3, 3, padding=1, normal=normal)
        )
        self.branch3 = nn.Sequential(
            Convolution(before, reduce5, 1, normal=normal),
            Convolution(reduce5, m5, kernel, padding=kernel // 2, normal=normal),
        )
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), Convolution(before, pool, 1, normal=normal))

    def forward(self, x_BMHW: Tensor) -> Tensor:
        branches = (self.branch1, self.branch2, self.branch3, self.branch4)
        return torch.cat([branch(x_BMHW) for branch in branches], 1)


class AuxiliaryHead(nn.Module):
    """A small classifier that sees the maps in the middle of the net.

    maps, units: of its convolution and its full layer. size: (height, width) of its input, for which the paper's mean of 5x5 with
    stride 3 is taken; None: the mean to 4 x 4 of an input of any size.

    x (B, before, H, W) -> logits (B, K)
    """

    def __init__(
        self, before: int, num_classes: int, maps: int, units: int, size: tuple[int, int] | None, *, normal: bool
    ) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d((4, 4)) if size is None else nn.AvgPool2d(5, stride=3)
        pixels = 16 if size is None else ((size[0] - 5) // 3 + 1) * ((size[1] - 5) // 3 + 1)
        self.conv = Convolution(before, maps, 1, normal=normal)
        self.fc1 = nn.Linear(maps * pixels, units)
        self.fc2 = nn.Linear(units, num_classes)
        self.dropout = nn.Dropout(0.7)

    def forward(self, x_BMHW: Tensor) -> Tensor:
        x_BMHW = self.conv(self.pool(x_BMHW))
        return self.fc2(self.dropout(F.relu(self.fc1(x_BMHW.flatten(1)))))  # type: ignore[no-any-return]


class Stage(nn.Module):
    """The first part of a GoogLeNet, up to the head `last`, made of the net's own modules under their names.

    x (B, C, H, W) float -> logits (B, K) of that head; in training, where there is an earlier head, (logits, its logits)

    heads: the modules that give one number a class, the last head's first. aux_weight: the weight of an earlier head's loss.
    """

    aux_weight: ClassVar[float] = 0.3
    heads: tuple[str, ...]

    def __init__(self, net: GoogLeNet, last: str) -> None:
        super().__init__()
        self.trunk: list[str] = []
        found: list[str] = []
        for name in net.trunk:
            self.trunk.append(name)
            if name in HEAD_AT:
                found.insert(0, HEAD_AT[name])
            if last in found:
                break
        for name in [*self.trunk, *found]:
            self.add_module(name, net.get_submodule(name))
        self.heads = tuple(f"{head}.fc2" for head in found)

    def forward(self, x_BCHW: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Images to logits, in training with those of the earlier head."""
        x_BMHW, auxiliary = _run(self, self.trunk, x_BCHW)
        head = HEAD_AT[self.trunk[-1]]
        if not self.training:
            return getattr(self, head)(x_BMHW)  # type: ignore[no-any-return]
        return tuple(reversed(auxiliary)) if len(auxiliary) > 1 else auxiliary[0]


def _run(net: nn.Module, trunk: list[str], x_BCHW: Tensor) -> tuple[Tensor, list[Tensor]]:
    """What the named modules make of the images, one after the other, and, in training, the logits of the auxiliary heads."""
    auxiliary: list[Tensor] = []
    x_BMHW = x_BCHW
    for name in trunk:
        x_BMHW = getattr(net, name)(x_BMHW)
        if net.training and name in HEAD_AT:
            auxiliary.append(getattr(net, HEAD_AT[name])(x_BMHW))
    return x_BMHW, auxiliary


class GoogLeNet(nn.Module):
    """GoogLeNet with both auxiliary heads, in torchvision's form or in the paper's.

    x (B, C, H, W) float -> logits (B, K); in training (logits, logits of aux1, logits of aux2), each (B, K)

    heads: the modules that give one number a class, the net's own first. aux_weight: the weight of each auxiliary loss.
    """

    aux_weight: ClassVar[float] = 0.3
    heads: ClassVar[tuple[str, ...]] = ("fc", "aux1.fc2", "aux2.fc2")

    def __init__(
        self, in_channels: int, num_classes: int, image_size: tuple[int, int], width: float = 1.0, form: str = "default"
    ) -> None:
        super().__init__()
        paper = form == "paper"
        some: dict[str, Any] = {"normal": not paper}
        m1, m2, m3 = (thin(maps, width) for maps in (64, 64, 192))
        self.conv1 = Convolution(in_channels, m1, 7, stride=2, padding=3, **some)
        self.maxpool1 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        if paper:
            self.norm1 = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
        self.conv2 = Convolution(m1, m2, 1, **some)
        self.conv3 = Convolution(m2, m3, 3, padding=1, **some)
        if paper:
            self.norm2 = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
        self.maxpool2 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        before, seen = m3, {}
        for name, row in TABLE_1.items():
            if name == "inception4a":
                self.maxpool3 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
            if name == "inception5a":
                self.maxpool4 = nn.MaxPool2d(3 if paper else 2, stride=2, ceil_mode=True)
            maps = tuple(thin(m, width) for m in row)
            self.add_module(name, Inception(before, maps, 5 if paper else 3, **some))
            before = seen[name] = maps[0] + maps[2] + maps[4] + maps[5]
        self.trunk = [name for name, _ in self.named_children()]
        height, wide = (_halved(_halved(_halved((side - 1) // 2 + 1))) for side in image_size)
        for name, head in HEAD_AT.items():
            size = (height, wide) if paper else None
            made = AuxiliaryHead(seen[name], num_classes, thin(128, width), thin(1024, width), size, **some)
            self.add_module(head, made)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(before, num_classes)
        self._start(paper)

    def _start(self, paper: bool) -> None:
        for name, layer in self.named_modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                if paper and name not in self.heads:
                    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                else:
                    nn.init.trunc_normal_(layer.weight, 0, 0.01, -2, 2)
                if paper:
                    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, x_BCHW: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Images to logits, in training with those of the auxiliary heads."""
        x_BMHW, auxiliary = _run(self, self.trunk, x_BCHW)
        logits_BK = self.fc(self.dropout(self.avgpool(x_BMHW).flatten(1)))
        return (logits_BK, *auxiliary) if self.training else logits_BK

    def progression(self) -> Iterator[tuple[str, nn.Module]]:
        """The parts to be trained before the whole, each with its name: up to the first auxiliary head, then to the second.

        They are made of this net's own modules, so that nothing has to be taken over.
        """
        for head in HEAD_AT.values():
            yield f"to-{head}", Stage(self, head)


@system(name="googlenet", kind="net", rows=("D7",), paper="https://arxiv.org/abs/1409.4842")
def googlenet(
    in_channels: Annotated[int, AtLeast(1)] = 3,
    num_classes: Annotated[int, AtLeast(1)] = 1000,
    image_size: tuple[Annotated[int, AtLeast(1)], Annotated[int, AtLeast(1)]] = (224, 224),
    *,
    width: Annotated[float, MoreThan(0)] = 1.0,
    form: Literal["default", "paper"] = "default",
) -> nn.Module:
    """GoogLeNet: nine inception blocks, and two auxiliary heads in training.

    x (B, in_channels, height, width) float -> logits (B, num_classes); in training a tuple: those, and each auxiliary head's

    in_channels: channels of the images.
    num_classes: outputs.
    image_size: (height, width) in pixels, each at least 15, or 79 in the paper's form; made for 224 x 224.
    width: multiplies the maps of the convolutions and the units of the auxiliary heads' full layers.
    form: torchvision's net, with batch normalisation and 3x3 in the place of the 5x5, or the paper's.

    Raises ConfigError on a size below 15 x 15 pixels, or 79 x 79 in the paper's form.
    """
    check_size("googlenet", googlenet, locals(), *SMALLEST.get(form, SMALLEST["default"]))
    return GoogLeNet(in_channels, num_classes, image_size, width, form)
