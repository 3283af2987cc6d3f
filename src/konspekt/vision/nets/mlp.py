"""A multilayer perceptron over pixels: the baseline that sees no neighbourhood.

Rumelhart, Hinton and Williams 1986, "Learning representations by back-propagating errors",
https://doi.org/10.1038/323533a0, with ReLU in the place of the sigmoid. Course: row B2.

Shape letters in this file: B images, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from typing import Annotated

from torch import Tensor, nn

from konspekt.core.errors import ConfigError
from konspekt.core.params import AtLeast, LessThan, check_arguments
from konspekt.core.registry import system

__all__ = ["PixelMLP", "mlp"]


class PixelMLP(nn.Module):
    """Flatten, then full layers with ReLU between them.

    x (B, C, H, W) float -> logits (B, K)

    heads: the modules that give one number a class.
    """

    heads: tuple[str, ...]

    def __init__(self, pixels: int, hidden: tuple[int, ...], num_classes: int, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip((pixels, *hidden), hidden, strict=False):
            layers += [nn.Linear(before, after), nn.ReLU()]
            if dropout:
                layers.append(nn.Dropout(dropout))
        self.heads = (f"layers.{len(layers)}",)
        self.layers = nn.Sequential(*layers, nn.Linear((pixels, *hidden)[-1], num_classes))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Images to logits."""
        return self.layers(x_BCHW.flatten(1))  # type: ignore[no-any-return]


@system(name="mlp", kind="net", rows=("B2",), paper="Rumelhart, Hinton and Williams 1986")
def mlp(
    in_channels: Annotated[int, AtLeast(1)] = 1,
    num_classes: Annotated[int, AtLeast(1)] = 10,
    image_size: tuple[Annotated[int, AtLeast(1)], Annotated[int, AtLeast(1)]] = (28, 28),
    *,
    hidden: tuple[Annotated[int, AtLeast(1)], ...] = (128,),
    dropout: Annotated[float, AtLeast(0), LessThan(1)] = 0.0,
) -> nn.Module:
    """A multilayer perceptron over the pixels of an image.

    x (B, in_channels, height, width) float -> logits (B, num_classes)

    in_channels: channels of the images.
    num_classes: outputs.
    image_size: (height, width) in pixels.
    hidden: units of each hidden layer; () is softmax regression.
    dropout: share of the hidden units that is set to 0 in training.

    Raises ConfigError on an argument out of bounds.
    """
    given = {
        "in_channels": in_channels,
        "num_classes": num_classes,
        "image_size": image_size,
        "hidden": hidden,
        "dropout": dropout,
    }
    check_arguments("net 'mlp'", mlp, given, inputs=True)
    if len(image_size) != 2:
        raise ConfigError(f"net 'mlp': image_size must be (height, width), got {image_size!r}")
    return PixelMLP(in_channels * image_size[0] * image_size[1], hidden, num_classes, dropout)
