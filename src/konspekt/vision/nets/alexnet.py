"""AlexNet: five convolutions and three full layers that won ILSVRC 2012.

Krizhevsky, Sutskever and Hinton 2012, "ImageNet classification with deep convolutional neural networks",
https://papers.nips.cc/paper/4824-imagenet-classification-with-deep-convolutional-neural-networks; the single tower is that of
Krizhevsky 2014, "One weird trick for parallelizing convolutional neural networks", https://arxiv.org/abs/1404.5997.
Course: row D4.

The layers with their parameters for 3 channels, 224 x 224 pixels and 1000 classes. "in 2 groups": each column sees its own
half of the maps before.

    layer   what it does                                columns=2      parameters   columns=1     parameters
    conv1   11x11, stride 4, padding 2                   96@55x55          34,944    64@55x55         23,296
    pool1   maximum of 3x3, stride 2                     96@27x27                    64@27x27
    conv2   5x5, padding 2, in 2 groups                 256@27x27         307,456   192@27x27        307,392
    pool2   maximum of 3x3, stride 2                    256@13x13                   192@13x13
    conv3   3x3, padding 1                              384@13x13         885,120   384@13x13        663,936
    conv4   3x3, padding 1, in 2 groups                 384@13x13         663,936   256@13x13        884,992
    conv5   3x3, padding 1, in 2 groups                 256@13x13         442,624   256@13x13        590,080
    pool3   maximum of 3x3, stride 2                    256@6x6                     256@6x6
    fc6     full                                        4096           37,752,832   4096          37,752,832
    fc7     full                                        4096           16,781,312   4096          16,781,312
    fc8     full                                        1000            4,097,000   1000           4,097,000
                                                                       60,965,224                 61,100,840

ReLU follows each layer but the last. Dropout of 1/2 acts on what enters fc6 and fc7 (columns=1), or on what they give
(columns=2), each as published. 96 % of the parameters are in the full layers.

columns=1, the default, is the net of torchvision, with its names, so that its weights load. Maps of another size than 6 x 6
are averaged, or repeated, to 6 x 6 before fc6.

columns=2 is the net as printed in 2012: local response normalisation behind the ReLU of conv1 and conv2, weights that start
from N(0, 0.01^2), biases from 1 in conv2, conv4, conv5, fc6 and fc7. It differs from the print in two things. The paper's 224 x 224
pixels make 55 x 55 maps only with two pixels of padding, of which it says nothing; others take 227 x 227 without padding, which
has the same parameters. The normalisation runs over all maps, as in the copies that were published, where the two GPUs may
have had each its own half.

Shape letters in this file: B images, C channels, H height, W width, M maps, K classes.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from torch import Tensor, nn

from konspekt.core.params import AtLeast, MoreThan
from konspekt.core.registry import system
from konspekt.vision.nets.shared import check_size, thin

__all__ = ["AlexNet", "alexnet"]

SMALLEST = 63  # 63 -> 15 -> 7 -> 3 -> 1; one pixel less leaves 2 for the last maximum, which needs 3


def _normalisation() -> nn.Module:
    # k + alpha * (the SUM of 5 squares), where torch takes their mean: 5 times the paper's alpha
    return nn.LocalResponseNorm(5, alpha=5 * 1e-4, beta=0.75, k=2.0)


class AlexNet(nn.Module):
    """AlexNet, in one column or in two.

    x (B, C, H, W) float -> logits (B, K)

    heads: the modules that give one number a class.
    """

    heads: ClassVar[tuple[str, ...]] = ("classifier.6",)

    def __init__(self, in_channels: int, num_classes: int, width: float, columns: int) -> None:
        super().__init__()
        m1, m2, m3, m4, m5 = (
            thin(maps, width, columns)
            for maps in ((64, 192, 384, 256, 256) if columns == 1 else (96, 256, 384, 384, 256))
        )
        units = thin(4096, width)
        normal = _normalisation if columns == 2 else None
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, m1, 11, stride=4, padding=2),
            nn.ReLU(inplace=True),
            *([normal()] if normal else []),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(m1, m2, 5, padding=2, groups=columns),
            nn.ReLU(inplace=True),
            *([normal()] if normal else []),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(m2, m3, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(m3, m4, 3, padding=1, groups=columns),
            nn.ReLU(inplace=True),
            nn.Conv2d(m4, m5, 3, padding=1, groups=columns),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d((6, 6))
        fc6, fc7, fc8 = nn.Linear(m5 * 6 * 6, units), nn.Linear(units, units), nn.Linear(units, num_classes)
        drop, relu = nn.Dropout, nn.ReLU
        if columns == 1:
            self.classifier = nn.Sequential(drop(), fc6, relu(inplace=True), drop(), fc7, relu(inplace=True), fc8)
        else:
            self.classifier = nn.Sequential(fc6, relu(inplace=True), drop(), fc7, relu(inplace=True), drop(), fc8)
            self._start_as_printed()

    def _start_as_printed(self) -> None:
        """Section 5: the positive biases give the ReLUs something to learn from in the first steps."""
        weighted = [layer for layer in self.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
        for layer, bias in zip(weighted, (0, 1, 0, 1, 1, 1, 1, 0), strict=True):
            nn.init.normal_(layer.weight, 0, 0.01)
            nn.init.constant_(layer.bias, bias)  # type: ignore[arg-type]

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Images to logits."""
        x_BMHW = self.avgpool(self.features(x_BCHW))
        return self.classifier(x_BMHW.flatten(1))  # type: ignore[no-any-return]


@system(name="alexnet", kind="net", rows=("D4",), paper="Krizhevsky, Sutskever and Hinton 2012")
def alexnet(
    in_channels: Annotated[int, AtLeast(1)] = 3,
    num_classes: Annotated[int, AtLeast(1)] = 1000,
    image_size: tuple[Annotated[int, AtLeast(1)], Annotated[int, AtLeast(1)]] = (224, 224),
    *,
    width: Annotated[float, MoreThan(0)] = 1.0,
    columns: Literal[1, 2] = 1,
) -> nn.Module:
    """AlexNet: five convolutions and three full layers, 61 million weights.

    x (B, in_channels, height, width) float -> logits (B, num_classes)

    in_channels: channels of the images.
    num_classes: outputs.
    image_size: (height, width) in pixels, each at least 63; made for 224 x 224.
    width: multiplies the maps of the convolutions and the units of the full layers.
    columns: 1 is the single tower of the published weights; 2 is the net of 2012, in two halves that meet in conv3 and in the
        full layers, with local response normalisation.

    Raises ConfigError on a size below 63 x 63 pixels.
    """
    check_size("alexnet", alexnet, locals(), SMALLEST, "its stride of 4 and its three halvings leave 1 x 1")
    return AlexNet(in_channels, num_classes, width, columns)
