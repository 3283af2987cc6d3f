import sys
import types

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from konspekt.core.errors import ConfigError, DataError
from konspekt.rl.pixels import Pixels, preprocessed
from konspekt.rl.vector import environments


class Film(gymnasium.Env):
    """Frames that are given, one a step; the reward of frame k is k. It draws into one array, as some games do."""

    def __init__(self, frames, last=None, space=None):
        self.frames, self.last = frames, last or len(frames) - 1
        shape = frames[0].shape
        self.observation_space = space or spaces.Box(0, 255, shape, np.uint8)
        self.action_space = spaces.Discrete(2)
        self.screen, self.drawn = np.zeros(shape, np.uint8), 0
        self.render_mode = "rgb_array"

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = 0
        return self.show(), {}

    def show(self):
        self.screen[:] = self.frames[self.at]
        return self.screen

    def step(self, action):
        self.at += 1
        return self.show(), float(self.at), self.at == self.last, False, {}

    def render(self):
        self.drawn += 1
        return self.frames[self.at]


def noise(count, shape=(168, 168, 3), seed=0):
    return list(np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8))


def grey_mean(frame, by):
    """BT.601's grey, then the mean of squares of by x by: by NumPy, in 64 bits."""
    grey = frame @ np.array([0.299, 0.587, 0.114])
    side = frame.shape[0] // by
    return grey.reshape(side, by, side, by).mean((1, 3))


def test_a_picture_is_grey_and_the_mean_of_its_area():
    frames = noise(1)
    seen, _ = Pixels(Film(frames)).reset()
    assert seen.shape == (84, 84)
    assert seen.dtype == np.uint8
    np.testing.assert_allclose(seen, grey_mean(frames[0], 2), atol=1.01)  # rounded in grey and in the mean


def test_four_frames_are_one_step_and_the_brighter_of_the_last_two_is_seen():
    frames = noise(9)
    env = Pixels(Film(frames))
    env.reset()
    seen, reward, terminated, truncated, _ = env.step(0)
    assert (reward, terminated, truncated) == (1 + 2 + 3 + 4, False, False)
    np.testing.assert_allclose(seen, grey_mean(np.maximum(frames[3], frames[4]), 2), atol=1.01)
    seen, reward, terminated, _, _ = env.step(0)
    assert (reward, terminated) == (5 + 6 + 7 + 8, True)
    np.testing.assert_allclose(seen, grey_mean(np.maximum(frames[7], frames[8]), 2), atol=1.01)


@pytest.mark.parametrize(("last", "total"), [(1, 1), (2, 3), (3, 6)])
def test_an_episode_that_ends_among_the_frames(last, total):
    frames = noise(9)
    env = Pixels(Film(frames, last=last))
    env.reset()
    seen, reward, terminated, _, _ = env.step(0)
    assert (reward, terminated) == (total, True)
    expected = frames[1] if last == 1 else np.maximum(frames[last - 1], frames[last])
    np.testing.assert_allclose(seen, grey_mean(expected, 2), atol=1.01)


def blown_up(picture, size):
    """The mean of equal areas: each pixel becomes so many that whole ones fall into each area."""
    height, width = picture.shape[:2]
    large = picture.repeat(size, axis=0).repeat(size, axis=1).astype(float)
    return large.reshape(size, height, size, width, *picture.shape[2:]).mean((1, 3))


@pytest.mark.parametrize("shape", [(30, 20), (21, 16, 3), (12, 12), (7, 40)])
def test_pixels_that_lie_in_two_areas_count_in_both(shape):
    (frame,) = noise(1, shape)
    seen, _ = Pixels(Film([frame] * 2), size=12, grey=len(shape) == 2).reset()
    np.testing.assert_array_equal(seen, np.floor(blown_up(frame, 12) + 0.5))


class Console(Film):
    """What gymnasium's AtariPreprocessing asks of an Atari game."""

    _frameskip = 1

    @property
    def ale(self):
        return self

    def lives(self):
        return 0

    def getScreenGrayscale(self, out):
        out[:] = self.screen[:, :, 0]


def test_it_is_what_gymnasium_makes_of_an_atari_game(monkeypatch):
    # OpenCV, of which it takes the resizing, is not needed for the rest of it: holding, summing, the brighter of two, ends.
    def resize(picture, size, interpolation):
        assert (size, interpolation) == ((12, 12), "area")
        return np.floor(blown_up(picture, 12) + 0.5)

    monkeypatch.setitem(sys.modules, "cv2", types.SimpleNamespace(resize=resize, INTER_AREA="area"))
    frames = [np.repeat(frame[:, :, None], 3, axis=2) for frame in noise(20, (30, 20))]  # grey in colours
    ours = Pixels(Console(frames, last=18), size=12)
    theirs = gymnasium.wrappers.AtariPreprocessing(Console(frames, last=18), noop_max=0, screen_size=12)
    np.testing.assert_array_equal(ours.reset()[0], theirs.reset()[0])
    for _ in range(4):
        one, other = ours.step(0), theirs.step(0)
        np.testing.assert_array_equal(one[0], other[0])
        assert one[1:4] == other[1:4]
    one, other = ours.step(0), theirs.step(0)  # the episode ends within: theirs shows the frames of the step before
    assert one[1:4] == other[1:4] == (17 + 18, True, False)


def test_options():
    frames = noise(9, (60, 60, 3))
    env = preprocessed(Film(frames), "pixels(size=20, skip=2, grey=False, max_of_two=False)")
    first, _ = env.reset()
    assert env.observation_space == spaces.Box(0, 255, (20, 20, 3), np.uint8)
    np.testing.assert_allclose(first, frames[0].reshape(20, 3, 20, 3, 3).mean((1, 3)), atol=1.01)
    seen, reward, *_ = env.step(0)
    assert reward == 3
    np.testing.assert_allclose(seen, frames[2].reshape(20, 3, 20, 3, 3).mean((1, 3)), atol=1.01)
    assert preprocessed(env, None) is env


@pytest.mark.parametrize("shape", [(40, 30), (40, 30, 1)])
def test_grey_frames_and_frames_that_are_not_square(shape):
    env = Pixels(Film([np.full(shape, 77, np.uint8)] * 9))
    assert (env.reset()[0] == 77).all()
    assert (env.step(0)[0] == 77).all()


def test_only_the_last_two_frames_are_drawn():
    frames = noise(9)
    film = Film(frames, space=spaces.Box(-1, 1, (168, 168, 3), np.float32))
    film.observation_space = spaces.Discrete(3)
    env = Pixels(film, True)
    env.reset()
    film.drawn = 0
    seen, *_ = env.step(0)
    assert film.drawn == 2
    np.testing.assert_allclose(seen, grey_mean(np.maximum(frames[3], frames[4]), 2), atol=1.01)


def test_cartpole_from_its_pictures():
    pytest.importorskip("pygame", reason="draws classic control")
    with environments("CartPole-v1", 2, seed=0, preprocess="pixels(skip=1)", render=True) as envs:
        first = envs.reset()
        for _ in range(12):
            step = envs.step(np.ones(2, int))
        assert envs.observation_space == spaces.Box(0, 255, (84, 84), np.uint8)
        assert first.shape == step.observation.shape == (2, 84, 84)
        assert first.std() > 5  # a cart can be seen, and it has moved
        assert not np.array_equal(first, step.final)
        state = envs.state()
        with environments("CartPole-v1", 2, seed=0, preprocess="pixels(skip=1)", render=True) as again:
            assert again.load_state(state) == []
            assert np.array_equal(again.reset(), step.observation)
    with environments("CartPole-v1", seed=0, render=True) as envs:
        assert envs.reset().shape == (1, 400, 600, 3)
        assert envs.step(np.array([1])).final.dtype == np.uint8


def test_a_time_limit_counts_the_environments_own_steps():
    envs = environments(lambda: Film(noise(50, (8, 8))), 1, seed=0, preprocess="pixels(size=4)", max_episode_steps=10)
    envs.reset()
    steps = [envs.step(np.zeros(1, int)) for _ in range(3)]
    assert [step.truncated.tolist() for step in steps] == [[False], [False], [True]]
    (episode,) = envs.take_finished()
    assert (episode.length, episode.total) == (3, sum(range(1, 11)))


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        (
            {"preprocess": "pixels"},
            DataError,
            r"needs observations that are pictures.* these are Box\(4,\) of float32; render=True",
        ),
        (
            {"preprocess": "pixel", "render": True},
            ConfigError,
            "preprocess 'pixel' is not known; did you mean 'pixels'?",
        ),
        (
            {"preprocess": "pixels(sise=4)", "render": True},
            ConfigError,
            "preprocess 'pixels' has no argument 'sise'; did you mean 'size'",
        ),
        ({"preprocess": "pixels(skip=0)", "render": True}, ConfigError, "skip"),
        ({"preprocess": "pixels(84)", "render": True}, ConfigError, "preprocess must be a name or a call"),
    ],
)
def test_what_cannot_be_made_small_pictures(options, kind, message):
    with pytest.raises(kind, match=message):
        environments("CartPole-v1", seed=0, **options)


def test_what_cannot_be_drawn():
    with pytest.raises(
        DataError, match=r"needs an environment that is made with render_mode='rgb_array', and this one has None"
    ):
        environments(lambda: gymnasium.make("CartPole-v1"), seed=0, render=True)
    film = Film(noise(3))
    film.render = lambda: None
    with pytest.raises(DataError, match="needs frames that are arrays, and render gives NoneType"):
        environments(film, seed=0, render=True)
    envs = environments(film, seed=0, render=True, preprocess="pixels")
    with pytest.raises(
        DataError,
        match=r"a frame must be an array of uint8, \(H, W\) or \(H, W, 3\); it is NoneType \(Film, .*in reset",
    ):
        envs.reset()


def test_rules_that_are_broken_inside_are_named_as_outside():
    film = Film(noise(9, (8, 8)))
    film.step = lambda action: (film.screen, 1.0, False, {})
    envs = environments(film, seed=0, preprocess="pixels")
    envs.reset()
    with pytest.raises(DataError, match=r"step must return .*; it returned a tuple of 4"):
        envs.step(np.zeros(1, int))
    film.step = lambda action: (film.screen, None, False, False, {})
    with pytest.raises(DataError, match="reward must be a finite number; it is None"):
        envs.step(np.zeros(1, int))
    film.reset = lambda **given: film.screen
    with pytest.raises(DataError, match=r"reset must return \(observation, info\)"):
        envs.reset()
