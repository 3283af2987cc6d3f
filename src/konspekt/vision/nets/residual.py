"""What residual nets are made of: the block that adds what it computes to what it was given, and the net of stages.

He, Zhang, Ren and Sun 2016, "Deep residual learning for image recognition", https://arxiv.org/abs/1512.03385. Course: rows
D8 and D9. The tables of the nets stand in `resnet.py` and `senet.py`.

Shape letters in this file: B images, C channels in, F channels out, H height, W width, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from konspekt.core.errors import ConfigError, nearest
from konspekt.core.params import AtLeast, MoreThan
from konspekt.vision.nets.shared import check_size, thin

__all__ = ["BasicBlock", "Bottleneck", "PaddedShortcut", "ResNet", "Residual", "build_resnet"]

Count = Annotated[int, AtLeast(1)]
Size = tuple[Annotated[int, AtLeast(1)], Annotated[int, AtLeast(1)]]
Width = Annotated[float, MoreThan(0)]
Form = Literal["default", "paper"]
SMALLEST = 1  # every convolution and maximum that halves is padded: 1 -> 1


class PaddedShortcut(nn.Module):
    """Option A: every `stride`-th pixel, and maps of zeros behind the others. It has no weights.

    x (B, C, H, W) -> (B, C + extra, ceil(H / stride), ceil(W / stride))
    """

    def __init__(self, extra: int, stride: int) -> None:
        super().__init__()
        self.extra = extra
        self.stride = stride

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Images to fewer pixels and more channels."""
        return F.pad(x_BCHW[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra))

    def extra_repr(self) -> str:
        """What stands between the parentheses when the module is printed."""
        return f"extra={self.extra}, stride={self.stride}"


class Residual(nn.Module):
    """relu(branch(x) + shortcut(x)); without its branch it is the shortcut alone, and without a shortcut a plain block.

    x (B, C, H, W) -> (B, F, ceil(H / stride), ceil(W / stride))
    """

    PARTS: ClassVar[tuple[str, ...]] = ()  # the modules of the branch
    EXPANSION: ClassVar[int] = 1  # F over the channels inside the branch

    def __init__(self, downsample: nn.Module | None, shortcuts: bool) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.downsample = downsample
        self.shortcuts = shortcuts
        self.dropped = False

    def branch(self, x_BCHW: Tensor) -> Tensor:
        """What is learned: x (B, C, H, W) -> (B, F, H', W')."""
        raise NotImplementedError

    def shortcut(self, x_BCHW: Tensor) -> Tensor:
        """What goes past the branch: x (B, C, H, W) -> (B, F, H', W')."""
        return x_BCHW if self.downsample is None else self.downsample(x_BCHW)  # type: ignore[no-any-return]

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """One block."""
        if self.dropped:
            # what comes in has passed a relu, so that only a projection can make a number negative
            x = self.shortcut(x_BCHW)
            return self.relu(x) if isinstance(self.downsample, nn.Sequential) else x
        x = self.branch(x_BCHW)
        return self.relu(x + self.shortcut(x_BCHW) if self.shortcuts else x)

    def drop(self) -> None:
        """Take the branch out, for good: its parameters leave the net, and an identity then costs nothing.

        Raises ConfigError where the block has no shortcut that could stand in its place.
        """
        if not self.shortcuts:
            raise ConfigError("a block without a shortcut cannot be dropped: nothing would go past it; shortcuts=True")
        for part in self.PARTS:
            if hasattr(self, part):
                delattr(self, part)
        self.dropped = True


class BasicBlock(Residual):
    """Two 3x3 convolutions."""

    PARTS: ClassVar[tuple[str, ...]] = ("conv1", "bn1", "conv2", "bn2")

    def __init__(
        self, before: int, inside: int, stride: int, form: Form, downsample: nn.Module | None, shortcuts: bool
    ) -> None:
        super().__init__(None, shortcuts)
        self.conv1 = nn.Conv2d(before, inside, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(inside)
        self.conv2 = nn.Conv2d(inside, inside, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inside)
        self.downsample = downsample

    def branch(self, x_BCHW: Tensor) -> Tensor:
        """Convolution, norm, relu, convolution, norm."""
        x = self.relu(self.bn1(self.conv1(x_BCHW)))
        return self.bn2(self.conv2(x))  # type: ignore[no-any-return]


class Bottleneck(Residual):
    """1x1 to fewer channels, 3x3, 1x1 to four times as many."""

    PARTS: ClassVar[tuple[str, ...]] = ("conv1", "bn1", "conv2", "bn2", "conv3", "bn3")
    EXPANSION: ClassVar[int] = 4

    def __init__(
        self, before: int, inside: int, stride: int, form: Form, downsample: nn.Module | None, shortcuts: bool
    ) -> None:
        super().__init__(None, shortcuts)
        first, second = (stride, 1) if form == "paper" else (1, stride)
        self.conv1 = nn.Conv2d(before, inside, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(inside)
        self.conv2 = nn.Conv2d(inside, inside, 3, second, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inside)
        self.conv3 = nn.Conv2d(inside, inside * self.EXPANSION, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(inside * self.EXPANSION)
        self.downsample = downsample

    def branch(self, x_BCHW: Tensor) -> Tensor:
        """Convolution, norm, relu, three times, but for the last relu."""
        x = self.relu(self.bn1(self.conv1(x_BCHW)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.bn3(self.conv3(x))  # type: ignore[no-any-return]


class ResNet(nn.Module):
    """A stem, stages of residual blocks, the mean of each map, a full layer.

    x (B, C, H, W) float -> logits (B, K)

    block: makes one block: block(before, inside, stride, form, downsample, shortcuts).
    blocks: how many in each stage; each stage after the first halves height and width.
    inside: channels inside the branches of each stage.
    small: the form for CIFAR, with a 3x3 stem and shortcuts that pad.
    """

    heads: ClassVar[tuple[str, ...]] = ("fc",)

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        block: Callable[..., Residual],
        expansion: int,
        blocks: tuple[int, ...],
        inside: tuple[int, ...],
        *,
        form: Form,
        shortcuts: bool,
        small: bool,
    ) -> None:
        super().__init__()
        if small:
            self.conv1 = nn.Conv2d(in_channels, inside[0], 3, padding=1, bias=False)
        else:
            self.conv1 = nn.Conv2d(in_channels, inside[0], 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(inside[0])
        self.relu = nn.ReLU()
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, 2, padding=1)
        before = inside[0]
        self.stages = tuple(f"layer{i + 1}" for i in range(len(blocks)))
        for i, stage in enumerate(self.stages):
            made = []
            for j in range(blocks[i]):
                stride = 2 if i and not j else 1
                after = inside[i] * expansion
                pass_by = _downsample(before, after, stride, small) if shortcuts else None
                made.append(block(before, inside[i], stride, form, pass_by, shortcuts))
                before = after
            self.add_module(stage, nn.Sequential(*made))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(before, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Images to logits."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x_BCHW))))
        for stage in self.stages:
            x = getattr(self, stage)(x)
        return self.fc(self.avgpool(x).flatten(1))  # type: ignore[no-any-return]

    def residual_blocks(self) -> dict[str, Residual]:
        """The blocks by name, "layer1.0" first, with those whose branch has been dropped."""
        return {name: module for name, module in self.named_modules() if isinstance(module, Residual)}


def _downsample(before: int, after: int, stride: int, small: bool) -> nn.Module | None:
    """The shortcut where it is not the identity."""
    if stride == 1 and before == after:
        return None
    if small:
        return PaddedShortcut(after - before, stride)
    return nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))


def build_resnet(
    builder: Callable[..., nn.Module],
    given: Mapping[str, Any],
    block: Callable[..., Residual],
    expansion: int,
    blocks: tuple[int, ...],
    *,
    small: bool = False,
) -> ResNet:
    """What the builders of residual nets share: the check of their arguments, the net, and the branches taken out.

    builder, given: the registered function and its arguments by name. The rest: as ResNet's.

    Raises ConfigError on an argument out of bounds, and where `drop` names what is no block with a shortcut.
    """
    name = builder.__name__
    check_size(name, builder, given, SMALLEST, "each halving leaves at least 1 x 1")
    channels = (16, 32, 64) if small else (64, 128, 256, 512)
    net = ResNet(
        given["in_channels"],
        given["num_classes"],
        block,
        expansion,
        blocks,
        tuple(thin(c, given["width"]) for c in channels),
        form=given.get("form", "paper"),
        shortcuts=given["shortcuts"],
        small=small,
    )
    known = net.residual_blocks()
    for dropped in given["drop"]:
        if dropped not in known:
            raise ConfigError(f"net {name!r}: drop must name blocks, got {dropped!r}; {nearest(dropped, known)}")
        if not given["shortcuts"]:
            raise ConfigError(f"net {name!r}: drop={given['drop']!r} needs shortcuts=True: nothing else passes a block")
        known[dropped].drop()
    return net
