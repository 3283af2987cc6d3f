"""Augmentation: a batch of images is changed a little, in other ways in each epoch, so that a net cannot learn it by heart.

Simard, Steinkraus and Platt 2003, "Best practices for convolutional neural networks applied to visual document
analysis", https://doi.org/10.1109/ICDAR.2003.1227801; each augmentation names its own source. Course: row D2.

    augment(batch, names=("flip", "crop(padding=4)", "rotate(degrees=10)"), seed=0, epoch=3)

What happens to an image depends on (seed, epoch, index of the image), never on the batch that it is in; `mixup` alone, which
mixes the images of a batch, depends on the batch too. All is computed on the device of the images, without a round trip
to the CPU. Each augmentation is a function on `Images` (augment_images.py), registered as kind "augmentation".
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable
from typing import Any

from konspekt.core.errors import ConfigError
from konspekt.core.params import Registered, split_call
from konspekt.core.registry import lookup
from konspekt.core.seeds import mix
from konspekt.data.fields import Batch
from konspekt.vision.augment_images import Images

__all__ = ["augment"]


@functools.lru_cache(maxsize=64)
def _calls(names: tuple[str, ...]) -> tuple[tuple[str, Callable[..., None], dict[str, Any]], ...]:
    """What the texts name: (name, function, arguments) of each. Kept, because it is asked for each batch."""
    found = []
    for text in names:
        Registered("augmentation").check("augment", "names", text)
        name, arguments = split_call(text, "augment")
        found.append((name, lookup("augmentation", name).load(), arguments))
    return tuple(found)


def augment(
    batch: Batch,
    *,
    names: tuple[str, ...],
    seed: int,
    epoch: int,
    certain: bool = False,
    white: float | None = None,
) -> Batch:
    """Apply augmentations one after the other, each with draws of its own.

    batch: "x" (B, C, H, W) uint8 or float, "index" (B,) int64: which items these are. Where it has them, "boxes" (B, 4)
        or (B, K, 4) and "masks" (B, H, W) or (B, K, H, W) move with the image (see `Images`).
    names: registered augmentations, with arguments if need be, in the order in which they are applied.
    seed, epoch: the same of both give the same images.
    certain: what acts on an image with a probability `p` acts on every image; for views of an image at prediction.
    white: the value of white; None: 255 of uint8, 1 of floats. What adds to pixels or bends them measures by it.

    Returns a new batch with the same fields, and those that `mixup` adds; x keeps shape and dtype. Without names it is
    the batch itself. Moves by whole pixels copy values; all else is computed in float32. uint8 pixels are rounded once,
    at the end, and held in 0..255 after every change; floats are not held in any range.

    Raises ConfigError on an unknown name, on arguments that do not fit, and on a batch that an augmentation cannot take.
    """
    if isinstance(names, str):
        raise ConfigError(f"augment: names must be several texts, got {names!r}: write ({names!r},)")
    if not names:
        return batch
    images = Images(batch, epoch=epoch, certain=certain, white=white)
    for place, (name, change, arguments) in enumerate(_calls(tuple(names))):
        images.seed = mix(seed, place, zlib.crc32(name.encode()))
        try:
            change(images, **arguments)
        except ConfigError as error:
            raise ConfigError(f"augmentation {names[place]!r}: {error}") from None
    return images.done()
