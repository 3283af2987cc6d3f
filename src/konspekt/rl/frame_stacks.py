"""The last frames of several environments, stacked, as who acts on pictures sees them.

Shape letters in this file: n environments, C colours, H, W sides of a picture, S frames in a stack.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

__all__ = ["FrameStack", "channels_first"]


def channels_first(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(n, H, W) or (n, H, W, C) -> (n, C, H, W)."""
    return pictures[:, None] if pictures.ndim == 3 else np.moveaxis(pictures, 3, 1)


class FrameStack:
    """Pictures (n, H, W) or (n, H, W, C) in, (n, S * C, H, W) out, the newest frame last.

    At the begin of an episode the frames before it are zeros.
    """

    def __init__(self, space: gymnasium.Space[Any], num: int, stack: int) -> None:
        height, width, *colours = (int(n) for n in space.shape or ())
        self.colours = (colours or [1])[0]
        self.frames = np.zeros((num, stack * self.colours, height, width), np.uint8)

    def push(self, pictures: NDArray[np.uint8], fresh: NDArray[np.bool_] | None = None) -> NDArray[np.uint8]:
        """Take in the next pictures. fresh (n,): which of them begin an episode. What was given out stays as it was."""
        self.frames = self.after(pictures, fresh)
        return self.frames

    def after(self, pictures: NDArray[np.uint8], fresh: NDArray[np.bool_] | None = None) -> NDArray[np.uint8]:
        """What `push` would give, without taking the pictures in."""
        stacked = np.concatenate([self.frames[:, self.colours :], channels_first(pictures)], axis=1)
        if fresh is not None and fresh.any():
            stacked[fresh, : -self.colours] = 0
        return stacked
