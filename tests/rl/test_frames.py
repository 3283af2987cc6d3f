"""Pictures of a played episode."""

import io
import json
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from PIL import Image

from konspekt.core.errors import ConfigError, DataError
from konspekt.rl import frames
from konspekt.rl.agent import Agent
from konspekt.testing.two_states import TwoStates


class Still(Agent):
    """Takes action 0 everywhere, or leans with the pole; it has learned nothing."""

    def greedy(self, observations):
        if observations.ndim == 1:
            return np.zeros(len(observations), np.int64)
        return (observations[:, 2] + observations[:, 3] > 0).astype(np.int64)


def agent_of(env):
    agent = Still()
    agent.observation_space_, agent.action_space_, agent.env_ = env.observation_space, env.action_space, None
    return agent


class Fickle(TwoStates):
    """Draws its rewards from nowhere that a seed reaches."""

    calls = 0

    def step(self, action):
        Fickle.calls += 1
        observation, _, *rest = super().step(action)
        return observation, float(Fickle.calls), *rest


@pytest.fixture
def two_states():
    return agent_of(TwoStates())


def light(frame):
    """The state that a picture of TwoStates shows."""
    return int(frame[0, 63, 0] > frame[0, 0, 0])


def test_frames_are_those_of_the_episode(two_states):
    one, other, third = two_states.play(TwoStates, 3, frames=12)
    assert [len(p.frames) for p in (one, other, third)] == [9, 3, 0]  # 8 steps and the beginning, then what is left
    assert one.frames[0].shape == (32, 64, 3)
    states = [light(f) for f in one.frames]
    assert len(set(states)) == 1  # it stays
    assert one.total == 8.0 * states[0]
    assert {light(p.frames[0]) for p in two_states.play(TwoStates, 9, frames=81)} == {0, 1}


def test_frames_of_a_compiled_episode():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make("CartPole-v1")
    agent = agent_of(env)
    (played,) = agent.play("CartPole-v1", 1, 3, frames=1_000)  # DataError if a reward or the length were another
    assert len(played.frames) == played.length + 1 > 20
    assert played.frames[0].shape == (400, 600, 3)
    env.reset(seed=played.seed)
    done = [env.step(int(a))[2:4] for a in played.actions]
    assert [any(d) for d in done] == [False] * (played.length - 1) + [True]


def test_every_so_manieth_picture_and_the_last(two_states):
    (played,) = two_states.play(TwoStates)
    assert len(list(frames.drawn(two_states, TwoStates, played, 3))) == 4  # of 0, 3, 6 and the end, 8


def test_an_instance_is_drawn_and_stays_open(two_states):
    env = TwoStates(render_mode="rgb_array")
    (played,) = two_states.play(env, 1, frames=9)
    assert len(played.frames) == 9
    assert env.render() is not None


def test_an_environment_that_draws_from_elsewhere_is_refused():
    with pytest.raises(
        DataError, match=r"Fickle: the episode of seed \d+ came out otherwise when it was repeated, at step 1 of 8"
    ):
        agent_of(TwoStates()).play(Fickle, frames=1_000)


def test_what_cannot_be_drawn_says_so(two_states):
    with pytest.raises(ConfigError, match=r"let the function take render_mode='rgb_array' and give it on"):
        two_states.play(lambda: TwoStates(), frames=1)
    with pytest.raises(ConfigError, match=r"TwoStates was made with render_mode=None and cannot be made again"):
        two_states.play(TwoStates(), frames=1)
    (played,) = two_states.play(TwoStates)
    with pytest.raises(ConfigError, match=r"cannot be drawn in the mode 'human'; its modes are: rgb_array"):
        list(frames._again(two_states, TwoStates, played, "human"))


def test_a_picture_must_be_one(two_states):
    class Wrong(TwoStates):
        def render(self):
            return np.zeros(3)

    (played,) = two_states.play(Wrong)
    with pytest.raises(DataError, match=r"must give an array \(H, W, 3\); it gave float64 of shape \(3,\)"):
        next(frames.drawn(two_states, Wrong, played))


def test_no_display_no_window(monkeypatch, two_states):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    (played,) = two_states.play(TwoStates)
    with pytest.raises(ConfigError, match="there is no display for a window"):
        frames.shown(two_states, TwoStates, played)


def test_a_window_shows_the_whole_episode(monkeypatch):
    shown = []

    class Windowed(TwoStates):
        metadata = {"render_modes": ["human", "rgb_array"], "render_fps": 4}  # noqa: RUF012

        def render(self):
            shown.append(self.state)

    monkeypatch.setenv("DISPLAY", ":0")
    agent = agent_of(TwoStates())
    (played,) = agent.play(Windowed)
    frames.shown(agent, Windowed, played)
    assert len(shown) == 9


# --- files ----------------------------------------------------------------------------------------------------------


def coloured(count, width=40):
    return [np.full((20, width, 3), 10 * i, np.uint8) for i in range(count)]


def test_a_gif_holds_the_pictures_and_their_times():
    picture = Image.open(io.BytesIO(frames.gif(coloured(5), fps=10)))
    assert (picture.format, picture.n_frames, picture.size, picture.info["loop"]) == ("GIF", 5, (40, 20), 0)
    times, seen = [], []
    for i in range(5):
        picture.seek(i)
        times.append(picture.info["duration"])
        seen.append(np.asarray(picture.convert("RGB"))[0, 0, 0])
    assert times == [100, 100, 100, 100, 1000]
    assert np.abs(np.array(seen, int) - 10 * np.arange(5)).max() <= 2  # a palette of 256


def test_a_gif_is_never_faster_than_browsers_show():
    picture = Image.open(io.BytesIO(frames.gif(coloured(3), fps=1000)))
    assert picture.info["duration"] == 20


def test_a_strip_spreads_evenly():
    strip = frames.strip(coloured(9), count=3)
    assert strip.shape == (20, 3 * 40 + 2 * frames.RULE, 3)
    assert [strip[0, x, 0] for x in (0, 40 + frames.RULE, 2 * (40 + frames.RULE))] == [0, 40, 80]
    assert frames.strip(coloured(2), count=8).shape == (20, 2 * 40 + frames.RULE, 3)
    with pytest.raises(DataError, match="there is no picture to make a strip of"):
        frames.strip([])
    with pytest.raises(DataError, match="there is no picture to make a gif of"):
        frames.gif([])


def test_small_keeps_the_shape_and_what_is_small():
    large = np.zeros((300, 600, 3), np.uint8)
    assert frames.small(large, 100).shape == (50, 100, 3)
    assert frames.small(large, 600) is large


def test_film_keeps_pictures_in_the_folder(tmp_path, two_states):
    played = frames.film(two_states, TwoStates, folder=tmp_path)
    told = json.loads((tmp_path / "frames" / "episode.json").read_text())
    assert told == {
        "env": "TwoStates", "seed": played.seed, "return": played.total, "length": 8, "truncated": True, "every": 1,
        "pictures": 9,
    }  # fmt: skip
    with Image.open(tmp_path / "frames" / "strip.png") as strip:
        assert strip.size == (8 * 64 + 7 * frames.RULE, 32)
    with Image.open(tmp_path / "frames" / "episode.gif") as gif:
        assert gif.info["duration"] >= 250  # 4 steps a second, as the environment says; alike pictures are one


def test_a_long_episode_is_thinned(tmp_path, two_states):
    def long(render_mode=None):
        return TwoStates(length=1_000, render_mode=render_mode)

    frames.film(two_states, long, folder=tmp_path)
    told = json.loads((tmp_path / "frames" / "episode.json").read_text())
    assert (told["every"], told["pictures"]) == (9, 113)  # 0, 9, ..., 999 and the end


def test_a_gif_too_large_loses_every_second_picture(tmp_path, monkeypatch):
    class Noise(TwoStates):
        def render(self):
            return np.random.default_rng(self.steps).integers(0, 256, (32, 64, 3), np.uint8)

    monkeypatch.setattr(frames, "LARGEST", 150_000)
    agent = agent_of(TwoStates())
    frames.film(agent, lambda render_mode=None: Noise(length=99, render_mode=render_mode), folder=tmp_path)
    told = json.loads((tmp_path / "frames" / "episode.json").read_text())
    assert told["every"] > 1
    assert (tmp_path / "frames" / "episode.gif").stat().st_size <= 150_000


def test_film_needs_a_run_folder(two_states):
    with pytest.raises(
        ConfigError, match="the fit kept no run folder to keep pictures in; give run_dir, then fit again"
    ):
        frames.film(two_states, TwoStates)


def test_actions_of_a_box_are_repeated():
    agent = agent_of(TwoStates(actions="box"))
    agent.greedy = lambda observations: np.full((len(observations), 1), 0.5, np.float32)
    assert isinstance(agent.action_space_, spaces.Box)
    (played,) = agent.play(lambda render_mode=None: TwoStates(actions="box", render_mode=render_mode), frames=9)
    assert [light(f) for f in played.frames[:3]] in ([0, 1, 0], [1, 0, 1])


def test_an_episode_that_goes_on_is_left_and_that_is_kept(tmp_path, two_states, monkeypatch):
    class Endless(TwoStates):
        def step(self, action):
            return *super().step(action)[:3], False, {}

    monkeypatch.setattr(frames, "LONGEST_FILM", 700)
    played = frames.film(two_states, lambda render_mode=None: Endless(render_mode=render_mode), folder=tmp_path)
    told = json.loads((tmp_path / "frames" / "episode.json").read_text())
    assert (played.cut, told["cut"], told["length"], told["truncated"]) == (True, True, 700, False)
    with Image.open(tmp_path / "frames" / "episode.gif") as gif:  # all pictures are alike and become one
        assert gif.n_frames == 1


def test_alike_pictures_last_no_longer_than_a_gif_can_say():
    picture = np.zeros((4, 4, 3), np.uint8)
    with Image.open(io.BytesIO(frames.gif([picture] * 101, 0.05))) as gif:
        assert (gif.n_frames, gif.info["duration"]) == (1, 101 * 5_940)
