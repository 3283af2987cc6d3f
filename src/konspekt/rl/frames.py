"""Pictures of a played episode: the episode again in an environment that draws, as a strip, a gif, or in a window.

An episode follows from its seed and its actions. So it is played first, at the speed of the compiled kernels, and repeated here in
gymnasium's own environment; each reward is compared, so that the pictures are those of the episode and not of one like it.
"""

from __future__ import annotations

import inspect
import io
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from konspekt.core.errors import ConfigError, DataError
from konspekt.core.folders import json_bytes, refusal, write_file
from konspekt.rl.action_forms import action_form
from konspekt.rl.evaluation import Played, play_episodes
from konspekt.rl.making import name_of, single, spec_of
from konspekt.rl.pixels import preprocessed

if TYPE_CHECKING:
    from konspekt.rl.agent import Agent

__all__ = ["FOLDER", "check_display", "drawn", "film", "fps_of", "gif", "png", "shown", "small", "strip"]

FOLDER = "frames"  # of the run folder
LONGEST_FILM = 5_000  # steps of the episode in the run folder
MOST = 120  # pictures of a gif in the run folder
WIDTH = 320  # pixels of them, at most
LARGEST = 1_500_000  # bytes of a gif in the run folder
STRIP = 8  # pictures of a strip
RULE = 6  # pixels between two of them
LASTS = 600_000  # milliseconds of a gif, at most
SHORTEST = 20  # milliseconds of a picture: browsers slow down what is shorter
USUAL_FPS = 30
FILM_SECONDS = 60  # of the gif in the run folder, at most


# --- the episode again ----------------------------------------------------------------------------------------------


def drawn(agent: Agent, env: Any, played: Played, every: int = 1) -> Iterator[NDArray[np.uint8]]:
    """The pictures of an episode, (H, W, 3) each: what it began in, then one after each action.

    env: as in `fit`. every: only each so manieth of them, and the last.

    Raises ConfigError where the environment cannot draw, DataError where the episode comes out otherwise.
    """
    for picture in _again(agent, env, played, "rgb_array", every):
        if not isinstance(picture, np.ndarray) or picture.ndim != 3 or picture.shape[2] != 3:
            got = f"{picture.dtype} of shape {picture.shape}" if isinstance(picture, np.ndarray) else repr(picture)[:60]
            raise DataError(
                f"{name_of(env)}: render() in the mode rgb_array must give an array (H, W, 3); it gave {got}"
            )
        yield picture.astype(np.uint8, copy=False)


def shown(agent: Agent, env: Any, played: Played) -> None:
    """Play an episode again in a window, at the environment's own speed.

    Raises ConfigError where there is no display, or the environment has no window.
    """
    check_display()
    for _ in _again(agent, env, played, "human"):
        pass


def check_display() -> None:
    """Raise ConfigError where no window can be opened."""
    known = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")
    if sys.platform.startswith("linux") and not any(os.environ.get(name) for name in known):
        raise ConfigError(
            "there is no display for a window (neither DISPLAY nor WAYLAND_DISPLAY is set); without a window the episode is "
            "written as a gif"
        )


def _again(agent: Agent, env: Any, played: Played, mode: str, every: int = 1) -> Iterator[Any]:
    name = name_of(env)
    one = _drawing(agent, env, mode)
    try:
        form = action_form(one.action_space, name)
        one.reset(seed=played.seed)
        yield _rendered(one, name)
        for step, (action, reward) in enumerate(zip(played.actions, played.rewards, strict=True), 1):
            _, got, terminated, truncated, _ = one.step(form(action))
            over = step == played.length and not played.cut
            if float(got) != reward or (terminated or truncated) != over:
                raise DataError(
                    f"{name}: the episode of seed {played.seed} came out otherwise when it was repeated, at step {step} of "
                    f"{played.length} (reward {float(got):g}, was {reward:g}), so these would be pictures of another one: the "
                    "environment draws from elsewhere than its seed"
                )
            if step % every == 0 or step == played.length:
                yield _rendered(one, name)
    finally:
        if one.unwrapped is not getattr(env, "unwrapped", None):  # an instance is the user's
            one.close()


def _rendered(env: gymnasium.Env[Any, Any], name: str) -> Any:
    try:
        return env.render()
    except gymnasium.error.DependencyNotInstalled as error:
        raise ConfigError(f"{name} needs a package to be drawn: {' '.join(str(error).split())[:200]}") from None


def _drawing(agent: Agent, env: Any, mode: str) -> gymnasium.Env[Any, Any]:
    """An environment like that of the agent which draws. Raises ConfigError where there is none."""
    name = name_of(env)
    if isinstance(env, gymnasium.Env):
        spec = spec_of(env)
        if env.render_mode == mode:
            made = env
        elif spec is None:
            raise ConfigError(
                f"{name} was made with render_mode={env.render_mode!r} and cannot be made again: make it with render_mode={mode!r}"
            )
        else:
            made = _made(lambda: gymnasium.make(spec, render_mode=mode), name, mode)
    elif isinstance(env, str):
        made = _made(lambda: gymnasium.make(env, render_mode=mode), name, mode)
    else:
        takes = inspect.signature(env).parameters
        given = {"render_mode": mode} if "render_mode" in takes else {}
        made = _made(lambda: env(**given), name, mode)
    if made.render_mode != mode:
        made.close()
        raise ConfigError(
            f"{name} makes an environment with render_mode={made.render_mode!r}, which cannot be drawn: let the function take "
            f"render_mode={mode!r} and give it on"
        )
    limited = single(made, max_episode_steps=agent.max_episode_steps)
    return preprocessed(limited, getattr(agent, "preprocess", None))


def _made(make: Any, name: str, mode: str) -> gymnasium.Env[Any, Any]:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # gymnasium warns of a mode that is not there, which is said below
        try:
            made: gymnasium.Env[Any, Any] = make()
        except Exception as error:
            text = " ".join(str(error).split())[:200]
            raise ConfigError(
                f"{name} cannot be made with render_mode={mode!r}: {type(error).__name__}: {text}"
            ) from error
    modes = made.metadata.get("render_modes") or []
    if mode not in modes:
        made.close()
        known = ", ".join(map(str, modes)) or "none"
        raise ConfigError(f"{name} cannot be drawn in the mode {mode!r}; its modes are: {known}")
    return made


# --- pictures -------------------------------------------------------------------------------------------------------


def small(frame: NDArray[np.uint8], width: int = WIDTH) -> NDArray[np.uint8]:
    """A picture of at most `width` pixels."""
    height, wide = frame.shape[:2]
    if wide <= width:
        return frame
    size = (width, max(1, round(height * width / wide)))
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BOX))


def strip(frames: Iterable[NDArray[np.uint8]], count: int = STRIP) -> NDArray[np.uint8]:
    """`count` of the pictures, evenly spread, beside each other with a grey rule between them: (H, W, 3)."""
    every = list(frames)
    if not every:
        raise DataError("there is no picture to make a strip of")
    chosen = [every[i] for i in np.unique(np.linspace(0, len(every) - 1, min(count, len(every))).round().astype(int))]
    rule = np.full((chosen[0].shape[0], RULE, 3), 128, np.uint8)
    parts = [part for frame in chosen for part in (rule, frame)][1:]
    return np.concatenate(parts, axis=1)


def gif(frames: Iterable[NDArray[np.uint8]], fps: float = USUAL_FPS, *, pause: int = 1000) -> bytes:
    """The pictures as a gif that repeats; the last one stays `pause` milliseconds."""
    pictures = [Image.fromarray(frame) for frame in frames]
    if not pictures:
        raise DataError("there is no picture to make a gif of")
    # One palette for all, so that what stands still does not flicker: of up to 16 pictures below each other.
    some = pictures[:: max(1, len(pictures) // 16)]
    sheet = Image.fromarray(np.concatenate([np.asarray(p) for p in some]))
    palette = sheet.quantize(256, method=Image.Quantize.MAXCOVERAGE)
    plain = [p.quantize(palette=palette, dither=Image.Dither.NONE) for p in pictures]
    # Alike pictures become one, whose time a gif writes in 16 bits of hundredths of a second.
    each = max(SHORTEST, min(round(100 / fps) * 10, LASTS // len(plain) // 10 * 10))
    target = io.BytesIO()
    times = [each] * (len(plain) - 1) + [max(pause, each)]
    plain[0].save(target, "GIF", save_all=True, append_images=plain[1:], duration=times, loop=0, optimize=False)
    return target.getvalue()


def png(frame: NDArray[np.uint8]) -> bytes:
    """A picture as a PNG file."""
    target = io.BytesIO()
    Image.fromarray(frame).save(target, "PNG", optimize=True)
    return target.getvalue()


def fps_of(env: Any) -> float:
    """How many steps of the environment a second shows, as it says itself."""
    one = single(env)
    said = (one.metadata or {}).get("render_fps")
    if one is not env:
        one.close()
    return float(said) if isinstance(said, (int, float)) and said > 0 else float(USUAL_FPS)


# --- the run folder -------------------------------------------------------------------------------------------------


def film(agent: Agent, env: Any = None, *, random_state: int = 0, folder: str | Path | None = None) -> Played:
    """Play one greedy episode and keep its pictures in the run folder, for the report: a gif, its first picture, a strip.

    env: as in `fit`; None: that of the fit, where it was an id. folder: of the run; None: that of the agent's fit.
    Of a long episode every second, third, ... picture is kept; one that goes on after 5,000 steps is left there (`Played.cut`).

    Raises ConfigError where there is no run folder or the environment cannot draw, DataError where the episode cannot be repeated.
    """
    place = Path(folder) if folder is not None else getattr(getattr(agent, "run_", None), "path", None)
    if place is None:
        raise ConfigError(
            f"{type(agent).__name__}: the fit kept no run folder to keep pictures in; give run_dir, then fit again"
        )
    env = agent.env_of(env)
    played = play_episodes(agent, env, 1, random_state, most=LONGEST_FILM)[0]
    every = -(-(played.length + 1) // MOST)
    frames = [small(f) for f in drawn(agent, env, played, every)]
    fps = fps_of(env)
    moving = gif(frames, max(fps / every, len(frames) / FILM_SECONDS))
    while len(moving) > LARGEST and len(frames) > 2 * STRIP:  # as a page should not weigh tens of megabytes
        frames, every = [*frames[:-1:2], frames[-1]], 2 * every
        moving = gif(frames, max(fps / every, len(frames) / FILM_SECONDS))
    told = {
        "env": name_of(env),
        "seed": played.seed,
        "return": played.total,
        "length": played.length,
        "truncated": played.truncated,
        "every": every,
        "pictures": len(frames),
    } | ({"cut": True} if played.cut else {})
    try:
        (place / FOLDER).mkdir(exist_ok=True)
    except OSError as error:
        raise refusal(error, place / FOLDER) from None
    write_file(place / FOLDER / "episode.gif", moving)
    write_file(place / FOLDER / "first.png", png(frames[0]))
    write_file(place / FOLDER / "strip.png", png(strip([small(f, 160) for f in frames])))
    write_file(place / FOLDER / "episode.json", json_bytes(told))
    return played
