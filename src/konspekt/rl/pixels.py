"""Pictures as the agents of Atari games get them.

Mnih et al. 2015, "Human-level control through deep reinforcement learning", https://doi.org/10.1038/nature14236, Methods, "Preprocessing":
an action is held for `skip` frames, their rewards are added up, and what is seen is the brighter of the last two at
each pixel (sprites of the console are shown in every other frame only), in grey, as 84 x 84. A small pixel is the mean of its area, as in
gymnasium's AtariPreprocessing; Pillow's box filter counts a pixel wholly or not at all, and 210 x 160 pixels do not go into 84 x 84.
Stacking frames is left to who keeps them, so that a frame is stored once.
"""

from __future__ import annotations

import numbers
from functools import lru_cache
from typing import Annotated, Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from PIL import Image

from konspekt.core.errors import ConfigError, DataError, nearest
from konspekt.core.params import AtLeast, check_arguments, split_call
from konspekt.rl.spaces import is_pixels, words

__all__ = ["Drawn", "Pixels", "preprocessed"]


class Pixels(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment whose observations become small pictures, uint8: (size, size) in grey, (size, size, 3) in colour.

    size: pixels of a side. skip: frames that an action is held for. max_of_two: the brighter of the last two frames. rendered: the
    pictures are what the environment draws (render_mode "rgb_array"), not what it gives as observations; then only the last two
    frames of an action are drawn. Raises DataError where there are no pictures.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        rendered: bool = False,
        *,
        size: Annotated[int, AtLeast(1)] = 84,
        skip: Annotated[int, AtLeast(1)] = 4,
        grey: bool = True,
        max_of_two: bool = True,
    ) -> None:
        super().__init__(env)
        self._size, self._skip, self._grey, self._max_of_two = size, skip, grey, max_of_two
        self._rendered = rendered
        if not rendered and not _is_picture(env.observation_space):
            raise DataError(
                f"preprocess='pixels' needs observations that are pictures, uint8 of (H, W) or (H, W, 3), and these are "
                f"{words(env.observation_space)}; render=True takes what the environment draws"
            )
        if rendered:
            _check_drawn(env)
        self.observation_space = spaces.Box(0, 255, (size, size) if grey else (size, size, 3), np.uint8)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Begin an episode: the picture of its first frame."""
        result = self.env.reset(seed=seed, options=options)
        if not (isinstance(result, tuple) and len(result) == 2):
            return result  # what checks the environment says what is wrong
        return self._small(self._frame(result[0])), result[1]

    def step(self, action: Any) -> Any:
        """Hold the action for `skip` frames, or to the end of the episode."""
        total, before = 0.0, None
        for k in range(1, self._skip + 1):
            result = self.env.step(action)
            if not (isinstance(result, tuple) and len(result) == 5) or not isinstance(result[1], numbers.Real):
                return result  # what checks the environment says what is wrong
            observation, reward, terminated, truncated, info = result
            total += float(reward)
            if terminated or truncated or k == self._skip:
                break
            # Of frames that have to be drawn, only the last but one is wanted.
            wanted = self._max_of_two and (k == self._skip - 1 or not self._rendered)
            before = self._frame(observation) if wanted else None
        frame = self._frame(observation)
        return self._small(frame if before is None else np.maximum(frame, before)), total, terminated, truncated, info

    def _frame(self, observation: Any) -> NDArray[np.uint8]:
        frame = self.env.render() if self._rendered else observation
        if not (isinstance(frame, np.ndarray) and frame.dtype == np.uint8 and frame.ndim in (2, 3)):
            raise DataError(f"a frame must be an array of uint8, (H, W) or (H, W, 3); it is {type(frame).__name__}")
        return frame.copy() if self._max_of_two else frame  # an environment may draw into the same array again

    def _small(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if frame.ndim == 3 and frame.shape[2] == 1:
            frame = frame[:, :, 0]
        return area_means(np.array(Image.fromarray(frame).convert("L" if self._grey else "RGB")), self._size)


class Drawn(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment whose observations are what it draws (render_mode "rgb_array"), in full size."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        _check_drawn(env)
        env.reset(seed=0)  # nothing is drawn before
        frame = env.render()
        if not isinstance(frame, np.ndarray):
            raise DataError(f"render=True needs frames that are arrays, and render gives {type(frame).__name__}")
        self.observation_space = spaces.Box(0, 255, frame.shape, np.uint8)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Begin an episode: its first frame."""
        result = self.env.reset(seed=seed, options=options)
        return (self.env.render(), result[1]) if isinstance(result, tuple) and len(result) == 2 else result

    def step(self, action: Any) -> Any:
        """A step, and the frame after it."""
        result = self.env.step(action)
        return (self.env.render(), *result[1:]) if isinstance(result, tuple) else result


def preprocessed(
    env: gymnasium.Env[Any, Any], preprocess: str | None, *, render: bool = False
) -> gymnasium.Env[Any, Any]:
    """An environment with what `preprocess` names around it: None, "pixels" or "pixels(size=84, skip=4, grey=True, max_of_two=True)".

    render: the observation is what the environment draws. Raises ConfigError for another name or other arguments.
    """
    if preprocess is None:
        return Drawn(env) if render else env
    name, arguments = split_call(preprocess, "preprocess")
    if name != "pixels":
        raise ConfigError(f"preprocess {name!r} is not known; {nearest(name, ['pixels'])}")
    check_arguments("preprocess 'pixels'", Pixels, arguments)
    return Pixels(env, render, **arguments)


def area_means(picture: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The mean of each of size x size equal areas: (H, W) or (H, W, 3) -> (size, size, ...). Where a pixel lies in several, its parts count.

    In whole numbers, so exact; a half is rounded up.
    """
    height, width = picture.shape[:2]
    if (height, width) == (size, size):
        return picture
    down, across = _overlaps(height, size), _overlaps(width, size)
    planes = [picture] if picture.ndim == 2 else [picture[:, :, k] for k in range(3)]
    sums = [(across @ (down @ plane.astype(np.int64)).T).T for plane in planes]
    total = sums[0] if picture.ndim == 2 else np.stack(sums, axis=2)
    return ((2 * total + height * width) // (2 * height * width)).astype(np.uint8)


@lru_cache(maxsize=8)
def _overlaps(length: int, size: int) -> Any:
    """How much of each of `length` pixels lies in each of `size` equal parts, in 1 / size of a pixel: a sparse (size, length)."""
    from scipy.sparse import csr_array

    pixel, part = np.arange(length) * size, np.arange(size)[:, None] * length
    both = np.minimum(pixel + size, part + length) - np.maximum(pixel, part)
    return csr_array(both.clip(min=0))


def _is_picture(space: gymnasium.Space[Any]) -> bool:
    return is_pixels(space) and (len(space.shape or ()) == 2 or (space.shape or ())[2] in (1, 3))


def _check_drawn(env: gymnasium.Env[Any, Any]) -> None:
    if env.render_mode != "rgb_array":
        raise DataError(
            f"render=True needs an environment that is made with render_mode='rgb_array', and this one has {env.render_mode!r}"
        )
