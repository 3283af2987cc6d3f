"""VGG: 3x3 convolutions only, 11 to 19 layers deep.

Simonyan and Zisserman 2015, "Very deep convolutional networks for large-scale image recognition",
https://arxiv.org/abs/1409.1556. Course: row D5.

The paper's table 1: the convolutions of each block, 3x3 with padding 1, "1x1" where it says so. A maximum of 2x2 ends each
block and halves height and width; two full layers of 4096 units and the output follow. ReLU stands behind each layer but the
last, dropout of 1/2 behind the two full ones.

    column        A            A-LRN         B            C               D            E
    block 1       64           64, LRN       64 64        64 64           64 64        64 64
    block 2       128          128           128 128      128 128         128 128      128 128
    block 3       256 256      256 256       256 256      256 256 1x1     256 256 256  256 256 256 256
    block 4, 5    512 512      512 512       512 512      512 512 1x1     512 512 512  512 512 512 512
    layers        11           11            13           16              16           19
    name          vgg11        vgg11_lrn     vgg13        vgg16_c         vgg16        vgg19
    parameters    132,863,336  132,863,336   133,047,848  133,638,952     138,357,544  143,667,240
    the paper's   133 M        133 M         133 M        134 M           138 M        144 M

Names with `_bn` have batch normalisation behind each convolution, which is younger than the paper. Names and shapes of the
weights, and how they start, are torchvision's, where it has the net: kernels from N(0, 2 / fan-out), matrices from N(0, 0.01^2),
biases from 0. A-LRN takes AlexNet's normalisation: n = 5, alpha = 1e-4, beta = 0.75, k = 2. Maps of another size than 7 x 7 are
averaged, or repeated, to 7 x 7 before the full layers.

Section 3.1's initialisation, in which a deep net takes over what a less deep one has learned, is `VGG.progression`.

Shape letters in this file: B images, C channels, H height, W width, M maps, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, ClassVar

from torch import Tensor, nn

from konspekt.core.params import AtLeast, MoreThan
from konspekt.core.registry import system
from konspekt.vision.nets.shared import check_size, thin

__all__ = [
    "VGG",
    "vgg11",
    "vgg11_bn",
    "vgg11_lrn",
    "vgg13",
    "vgg13_bn",
    "vgg16",
    "vgg16_bn",
    "vgg16_c",
    "vgg16_c_bn",
    "vgg19",
    "vgg19_bn",
]

Count = Annotated[int, AtLeast(1)]
Size = tuple[Annotated[int, AtLeast(1)], Annotated[int, AtLeast(1)]]
Width = Annotated[float, MoreThan(0)]
# Column -> the kernels of each block's convolutions.
COLUMNS: dict[str, tuple[tuple[int, ...], ...]] = {
    "A": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "B": ((3, 3), (3, 3), (3, 3), (3, 3), (3, 3)),
    "C": ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)),
    "D": ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
    "E": ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3)),
}
MAPS = (64, 128, 256, 512, 512)  # of each block
# Column -> those that are trained before it. A is shallow enough to start from random weights.
SHALLOWER = {"A": "", "B": "A", "C": "AB", "D": "AB", "E": "ABD"}
NAMES = {"A": "vgg11", "B": "vgg13", "D": "vgg16"}
SMALLEST = 32  # 32 -> 16 -> 8 -> 4 -> 2 -> 1


class VGG(nn.Module):
    """One column of the paper's table 1.

    column: "A" to "E". batch_norm: behind each convolution. response_norm: local response normalisation behind the first
    convolution, which makes A to A-LRN.

    x (B, C, H, W) float -> logits (B, K)

    heads: the modules that give one number a class.
    """

    heads: ClassVar[tuple[str, ...]] = ("classifier.6",)

    def __init__(
        self,
        column: str,
        in_channels: int,
        num_classes: int,
        width: float = 1.0,
        *,
        batch_norm: bool = False,
        response_norm: bool = False,
    ) -> None:
        super().__init__()
        self.column, self.batch_norm = column, batch_norm
        self.given = (in_channels, num_classes, width)
        self.blocks: list[list[int]] = []  # where each block's convolutions are in `features`
        layers: list[nn.Module] = []
        before = in_channels
        for maps, kernels in zip((thin(m, width) for m in MAPS), COLUMNS[column], strict=True):
            self.blocks.append([])
            for kernel in kernels:
                self.blocks[-1].append(len(layers))
                layers.append(nn.Conv2d(before, maps, kernel, padding=kernel // 2))
                if batch_norm:
                    layers.append(nn.BatchNorm2d(maps))
                layers.append(nn.ReLU(inplace=True))
                if response_norm and len(self.blocks) == 1:
                    # torch takes the mean of the 5 squares, AlexNet's paper their sum: 5 times its alpha
                    layers.append(nn.LocalResponseNorm(5, alpha=5 * 1e-4, beta=0.75, k=2.0))
                before = maps
            layers.append(nn.MaxPool2d(2, stride=2))
        units = thin(4096, width)
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((7, 7))
        self.classifier = nn.Sequential(
            nn.Linear(before * 7 * 7, units),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(units, units),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(units, num_classes),
        )
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
            elif isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, 0, 0.01)
                nn.init.zeros_(layer.bias)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Images to logits."""
        x_BMHW = self.avgpool(self.features(x_BCHW))
        return self.classifier(x_BMHW.flatten(1))  # type: ignore[no-any-return]

    def progression(self) -> Iterator[tuple[str, VGG]]:
        """The less deep nets to be trained before this one, each with its name: A, B and D before E.

        Each takes over what the one before has learned, when it is asked for, and this net what the last has learned, when the
        iterator ends: the full layers and, in each of the five blocks, the convolutions that both have (the first of the
        block, the second, and so on) with their normalisation. What only the deeper net has starts at random. Section 3.1 of
        the paper goes from A to each of the others in one step and takes over the first four convolutions and the full layers.

        C, whose third convolutions are 1x1, stands behind A and B; A has none before it, and neither has A-LRN.
        """
        like = next(self.parameters())
        before: VGG | None = None
        for column in SHALLOWER[self.column]:
            net = VGG(column, *self.given, batch_norm=self.batch_norm).to(like.device, like.dtype)
            if before is not None:
                net.take_over(before)
            yield NAMES[column] + ("_bn" if self.batch_norm else ""), net
            before = net
        if before is not None:
            self.take_over(before)

    def take_over(self, other: VGG) -> None:
        """Copy from a net of another column, of the same width, what has the same place in both (see `progression`)."""
        self.classifier.load_state_dict(other.classifier.state_dict())
        for mine, theirs in zip(self.blocks, other.blocks, strict=True):
            for to, source in zip(mine, theirs, strict=False):  # what only one of the blocks has is left as it is
                for beside in (0, 1) if self.batch_norm else (0,):
                    self.features[to + beside].load_state_dict(other.features[source + beside].state_dict())


def _vgg(builder: Callable[..., nn.Module], given: Mapping[str, Any], column: str, **norms: bool) -> VGG:
    check_size(builder.__name__, builder, given, SMALLEST, "its five halvings leave 1 x 1")
    return VGG(column, given["in_channels"], given["num_classes"], given["width"], **norms)


@system(name="vgg11", kind="net", rows=("D5",), paper="https://arxiv.org/abs/1409.1556")
def vgg11(
    in_channels: Count = 3, num_classes: Count = 1000, image_size: Size = (224, 224), *, width: Width = 1.0
) -> nn.Module:
    """VGG A: 8 convolutions and 3 full layers, 133 million weights.

    x (B, in_channels, height, width) float -> logits (B, num_classes)

    in_channels: channels of the images.
    num_classes: outputs.
    image_size: (height, width) in pixels, each at least 32; made for 224 x 224.
    width: multiplies the maps of the convolutions and the units of the full layers.

    Raises ConfigError on a size below 32 x 32 pixels.
    """
    return _vgg(vgg11, locals(), "A")


@system(name="vgg11_bn", kind="net", rows=("D5",), paper="https://arxiv.org/abs/1409.1556")
def vgg11_bn(
    in_channels: Count = 3, num_classes: Count = 1000, image_size: Size = (224, 224), *, width: Width = 1.0
) -> nn.Module:
    """VGG A with batch normalisation.

    x (B, in_channels, height, width) float -> logits (B, num_classes)

    in_channels: channels of the images.
    num_classes: outputs.
    image_size: (height, width) in pixels, each at least 32; made for 224 x 224.
    width: multiplies the maps of the convolutions and the units of the full layers.

    Raises ConfigError on a size below 32 x 32 pixels.
    """
    return _vgg(vgg11_bn, locals(), "A", batch_norm=True)


@system(name="vgg11_lrn", kind="net", rows=("D5",), paper="https://arxiv.org/abs/1409.1556")
def vgg11_lrn(
    in_channels: Count = 3, num_classes: Count = 1000, image_size: Size = (224, 224), *, width: Width = 1.0
) -> nn.Module:
    """VGG A-LRN: A with local response normalisation, which the paper found of no use.

    x (B, in_channels, height, width) float -> logits (B, num_classes)

    in_channels: channels of the images.
    num_classes: outputs.
    image_size: (height, width) in pixels, each at least 32; made for 224 x 224.
    width: multiplies the maps of the convolutions and the units of the full layers.

    Raises ConfigError on a size below 32 x 32 pixels.
    """
    return _vgg(vgg11_lrn, locals(), "A", response_norm=True)


@system(name="vgg13", kind="net", rows=("D5",), paper="https://arxiv.org/abs/1409.1556")
def vgg13(
    in_channels: Count = 3, num_classes: Count = 1000, image_size: Size = (224, 224), *, width: Width = 1.0
) -> nn.Module:
    """VGG B: 10 convolutions and 3 full layers, 133 million weights.

    x (B, in_channels, height, width) float -> logits (B, num_classes)

    in_channels: channels of the images.
    num_classes: outputs.
    image_size: (height, width) in pixels, each at least 32; made for 224 x 224.
    width: multiplies the maps of the convolutions and the units of the full layers.

    Raises ConfigError on a size below 32 x 32 pixels.
    """
    return _vgg(vgg13, locals(), "B")


@system(name="vgg13_bn", kind="net", rows=("D5",), paper="https://arxiv.org/abs/1409.1556")
def vgg13_bn(
    in_channels: Count = 3, num_classes: Count = 1000, image_size: Size = (224, 224), *, width: Width = 1.0
) -> nn.Module:
    """VGG B with batch normalisation.

    x (B, in_channels, height, width) float -> logits (B, num_classes)

    in_channels: channels of the images.
    num_classes: outputs.
    image_size: (height, width) in pixels, each at least 32; made for 224 x 224.
    width: multiplies the maps of the convolutions and the units of the full layers.

    Raises ConfigError on a size below 32 x 32 pixels.
    """
    return _vgg(vgg13_bn, locals(), "B", batch_norm=True)


@system(name="vgg16", kind="net", rows=("D5",), paper="https://arxiv.org/abs/1409.1556")
def vgg16(
    in_channels: Count = 3, num_classes: Count = 1000, image_size: Size = (224, 224), *, width: Width = 1.0
) -> nn.Module:
    """VGG D: 13 convolutions and 3 full layers, 138 million weights.

    x (B, in_channels, height, width) float -> logits (B, num_classes)

    in_channels: channels of the images.
    num_classes: outputs.
    image_size: (height, width) in pixels, each at least 32; made for 224 x 224.
    width: multiplies the maps of the convolutions and the units of the full layers.

    Raises ConfigError on a size below 32 x 32 pixels.
    """
    return _vgg(vgg16, locals(), "D")


@system(name="vgg16_bn", kind="net", rows=("D5",), paper="https://arxiv.org/abs/1409.1556")
def vgg16_bn(
    in_channels: Count = 3, num_classes: Count = 1000, image_size: Size = (224, 224), *, width: Width = 1.0
) -> nn.Module:
    """VGG D with batch normalisation.

    x (B, in_channels, height, width) float -> logits (B, num_classes)

    in_channels: channels of the images.
    num_classes: outputs.
    image_size: (height, width) in pixels, each at least 32; made for 224 x 224.
    width: multiplies the maps of the convolutions and the units of the full layers.

    Raises ConfigError on a size below 32 x 32 pixels.
    """
    return _vgg(vgg16_bn, locals(), "D", batch_norm=True)


@system(name="vgg16_c", kind="net", rows=("D5",), paper="https://arxiv.org/abs/1409.1556")
def vgg16_c(
    in_channels: Count = 3, num_classes: Count = 1000, image_size: Size = (224, 224), *, width: Width = 1.0
) -> nn.Module:
    """VGG C: B with a 1x1 convolution more in blocks 3 to 5, 134 million weights.

    x (B, in_channels, height, width) float -> logits (B, num_classes)

    in_channels: channels of the images.
    num_classes: outputs.
    image_size: (height, width) in pixels, each at least 32; made for 224 x 224.
    width: multiplies the maps of the convolutions and the units of the full layers.

    Raises ConfigError on a size below 32 x 32 pixels.
    """
    return _vgg(vgg16_c, locals(), "C")


@system(name="vgg16_c_bn", kind="net", rows=("D5",), paper="https://arxiv.org/abs/1409.1556")
def vgg16_c_bn(
    in_channels: Count = 3, num_classes: Count = 1000, image_size: Size = (224, 224), *, width: Width = 1.0
) -> nn.Module:
    """VGG C with batch normalisation.

    x (B, in_channels, height, width) float -> logits (B, num_classes)

    in_channels: channels of the images.
    num_classes: outputs.
    image_size: (height, width) in pixels, each at least 32; made for 224 x 224.
    width: multiplies the maps of the convolutions and the units of the full layers.

    Raises ConfigError on a size below 32 x 32 pixels.
    """
    return _vgg(vgg16_c_bn, locals(), "C", batch_norm=True)


@system(name="vgg19", kind="net", rows=("D5",), paper="https://arxiv.org/abs/1409.1556")
def vgg19(
    in_channels: Count = 3, num_classes: Count = 1000, image_size: Size = (224, 224), *, width: Width = 1.0
) -> nn.Module:
    """VGG E: 16 convolutions and 3 full layers, 144 million weights.

    x (B, in_channels, height, width) float -> logits (B, num_classes)

    in_channels: channels of the images.
    num_classes: outputs.
    image_size: (height, width) in pixels, each at least 32; made for 224 x 224.
    width: multiplies the maps of the convolutions and the units of the full layers.

    Raises ConfigError on a size below 32 x 32 pixels.
    """
    return _vgg(vgg19, locals(), "E")


@system(name="vgg19_bn", kind="net", rows=("D5",), paper="https://arxiv.org/abs/1409.1556")
def vgg19_bn(
    in_channels: Count = 3, num_classes: Count = 1000, image_size: Size = (224, 224), *, width: Width = 1.0
) -> nn.Module:
    """VGG E with batch normalisation.

    x (B, in_channels, height, width) float -> logits (B, num_classes)

    in_channels: channels of the images.
    num_classes: outputs.
    image_size: (height, width) in pixels, each at least 32; made for 224 x 224.
    width: multiplies the maps of the convolutions and the units of the full layers.

    Raises ConfigError on a size below 32 x 32 pixels.
    """
    return _vgg(vgg19_bn, locals(), "E", batch_norm=True)
