"""Stacks of frames."""

import numpy as np
import pytest
from gymnasium import spaces

from konspekt.rl.frame_stacks import FrameStack, channels_first


@pytest.mark.parametrize("colours", [0, 3])
def test_the_last_frames_are_seen_and_none_of_the_episode_before(colours: int) -> None:
    shape = (4, 5, colours) if colours else (4, 5)
    stack = FrameStack(spaces.Box(0, 255, shape, np.uint8), num=2, stack=3)
    each = max(colours, 1)

    def frame(one: int, two: int) -> np.ndarray:
        return np.stack([np.full(shape, one, np.uint8), np.full(shape, two, np.uint8)])

    def newest(stacked: np.ndarray) -> list[list[int]]:
        return stacked[:, ::each, 0, 0].tolist()

    first = stack.push(frame(1, 10))
    assert first.shape == (2, 3 * each, 4, 5)
    assert newest(first) == [[0, 0, 1], [0, 0, 10]]
    stack.push(frame(2, 20))
    assert newest(stack.push(frame(3, 30))) == [[1, 2, 3], [10, 20, 30]]
    assert newest(stack.after(frame(4, 40))) == [[2, 3, 4], [20, 30, 40]]
    begun = np.array([False, True])
    assert newest(stack.push(frame(4, 99), begun)) == [[2, 3, 4], [0, 0, 99]]
    assert newest(first) == [[0, 0, 1], [0, 0, 10]]  # what was given out is never written again


def test_channels_come_first() -> None:
    coloured = np.arange(2 * 4 * 5 * 3).reshape(2, 4, 5, 3).astype(np.uint8)
    assert channels_first(coloured)[1, 2, 3, 4] == coloured[1, 3, 4, 2]
    assert channels_first(coloured[..., 0]).shape == (2, 1, 4, 5)
