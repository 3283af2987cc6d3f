"""What the builders of all nets share: the check of their arguments, thinner layers, and the names of heads.

A builder is called as `builder(in_channels, num_classes, image_size, *, width=1.0, ...)`. The net that it returns has

    heads: the names of the modules that give one number a class, the net's own output first. Where a net is given to
        another task, these are made anew.

and, if it has auxiliary heads, in training returns (logits, auxiliary logits, ...), and has `aux_weight`, the weight of each
auxiliary loss. `width` is the width multiplier of Howard et al. 2017, https://arxiv.org/abs/1704.04861, section 3.3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from konspekt.core.errors import ConfigError
from konspekt.core.params import check_arguments

__all__ = ["check_size", "thin"]


def thin(channels: int, width: float, multiple: int = 1) -> int:
    """So many channels times `width`, rounded to a multiple, at least one multiple."""
    return max(1, round(channels * width / multiple)) * multiple


def check_size(
    name: str, builder: Callable[..., Any], given: Mapping[str, Any], smallest: int | tuple[int, int], why: str
) -> None:
    """Check a builder's arguments against its annotations, and the size of the images against the smallest.

    given: all arguments by name, "image_size" among them. smallest: side, or (height, width), in pixels. why: what becomes
    of an image of that size in the net, as words that follow "of which": "its three halvings leave 1 x 1".

    Raises ConfigError: "net 'alexnet': image_size must be (height, width) of at least 63 x 63 pixels, of which ...".
    """
    check_arguments(f"net {name!r}", builder, given, inputs=True)
    low = (smallest, smallest) if isinstance(smallest, int) else smallest
    size = given["image_size"]
    if len(size) != 2 or size[0] < low[0] or size[1] < low[1]:
        raise ConfigError(
            f"net {name!r}: image_size must be (height, width) of at least {low[0]} x {low[1]} pixels, of which {why}, "
            f"got {size!r}: enlarge the images, with image_size="
        )
