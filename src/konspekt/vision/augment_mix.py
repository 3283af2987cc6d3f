"""Mixup: an image and its label become a mixture of two.

Zhang, Cisse, Dauphin and Lopez-Paz 2018, https://arxiv.org/abs/1710.09412. Row D2.

Shape letters in this file: B images, C channels, H height, W width.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from torch import Tensor

from konspekt.core.errors import ConfigError
from konspekt.core.params import MoreThan
from konspekt.core.registry import system
from konspekt.vision.augment_images import Images

__all__ = ["mixup", "symmetric_beta"]


def symmetric_beta(alpha: float, first: Tensor, second: Tensor) -> Tensor:
    """Draws from Beta(alpha, alpha) out of two draws from [0, 1), any shape.

    (1 + T / sqrt(2 alpha + T^2)) / 2 has that distribution where T is Student's t with 2 alpha degrees of freedom, and
    Bailey 1994, "Polar generation of random variates with the t-distribution", gives T of two draws, without rejection.
    """
    part = first.pow(1 / alpha)
    cos = (second * (2 * math.pi)).cos()
    rest = (1 - part) * cos.square()
    return (1 + cos.sign() * (rest / (part + rest).clamp_min(1e-30)).sqrt()) / 2


@system(
    name="mixup",
    kind="augmentation",
    rows=("D2",),
    paper="Zhang, Cisse, Dauphin and Lopez-Paz 2018",
    waive={"augment_item": "it mixes the images of a batch", "augment_boxes": "boxes and masks cannot be mixed"},
)
def mixup(images: Images, *, alpha: Annotated[float, MoreThan(0)] = 0.2) -> None:
    """Mix each image with another one of its batch, in shares drawn from Beta(alpha, alpha).

    The batch gets "y_other", the other image's y, and "mix" (B,) float32, the share of the own image; the loss is
    mix * loss(y) + (1 - mix) * loss(y_other). The share belongs to (seed, epoch, index); the other image depends on the
    batch: the images are put in an order drawn from (seed, epoch, index), and each is mixed with the one before it. An image
    that is alone in its batch is mixed with itself.

    alpha: towards 0, most images stay nearly as they are or are nearly replaced; 1: all shares are equally likely.

    Raises ConfigError where the batch has boxes or masks, which cannot be mixed, or no y.
    """
    for name in ("boxes", "masks"):
        if name in images.batch:
            raise ConfigError(f"{name} cannot be mixed: take mixup out of augment=")
    y = images.batch.get("y")
    if not isinstance(y, Tensor):
        raise ConfigError("the batch has no tensor 'y' to mix: mixup is for training on labels or values")
    if "mix" in images.batch:
        raise ConfigError("the batch has been mixed before: name mixup once in augment=")
    place, first, second = images.draws(3)
    share = symmetric_beta(alpha, first, second)
    order = place.argsort(stable=True)
    other = order.roll(1).index_select(0, order.argsort())
    x = images.floats()
    images.set(torch.lerp(x.index_select(0, other), x, share[:, None, None, None]))
    images.batch["y_other"] = y.index_select(0, other.to(y.device))
    images.batch["mix"] = share
