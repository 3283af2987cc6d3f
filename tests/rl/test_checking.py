"""An environment for each rule that it can break, and the message of each."""

from fractions import Fraction

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from konspekt.core.errors import DataError
from konspekt.rl.checking import LONGEST, Place, check_env, refuse_endless
from konspekt.rl.seeding import episode_seed
from konspekt.rl.vector import environments

ZEROS = np.zeros(2, np.float32)


class Odd(gymnasium.Env):
    """What it returns of `reset`, and of its third step, is given."""

    def __init__(self, reset=(ZEROS, {}), third=None, space=None):
        self.observation_space = space or spaces.Box(-1, 1, (2,), np.float32)
        self.action_space = spaces.Discrete(2)
        self._begin, self._third = reset, third

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = 0
        return self._begin

    def step(self, action):
        self.at += 1
        if self.at < 3:
            return self._begin[0], 0.0, False, False, {}
        if isinstance(self._third, BaseException):
            raise self._third
        return self._third


def message(env, steps=3, num=2):
    def play():
        envs = environments(env, num, seed=5)
        envs.reset()
        for _ in range(steps):
            envs.step(np.ones(num, int))

    with pytest.raises(DataError) as caught:
        play()
    return str(caught.value)


WHERE = f"environment 0, episode 0, seed {episode_seed(5, 0, 0)}"
BOX = spaces.Box(-1, 1, (2,), np.float32)


@pytest.mark.parametrize(
    ("result", "says"),
    [
        (ZEROS, "reset must return (observation, info); it returned an array of shape (2,) and type float32"),
        ((ZEROS, {}, 1), "reset must return (observation, info); it returned a tuple of 3"),
        (None, "reset must return (observation, info); it returned None"),
        ((ZEROS, None), "reset must return (observation, info), info a dict; info is None"),
        (([0.0, 0.0], {}), "an observation of a Box must be an array; it is a list of 2"),
        ((np.zeros(3, np.float32), {}), "the observation must have the shape (2,) of its space; it has (3,)"),
        (
            (np.zeros(2), {}),
            "the observation must have the type float32 of its space; it has float64; return observation.astype(np.float32)",
        ),
        ((np.array([0, 3], np.float32), {}), "it is 3.0 at 1, where the space has -1.0 to 1.0"),
    ],
)
def test_a_reset_that_breaks_a_rule(result, says):
    text = message(lambda: Odd(reset=result), 0)
    assert says in text
    assert text.endswith(f"{WHERE}, in reset)")


@pytest.mark.parametrize(
    ("result", "says"),
    [
        (
            (ZEROS, 0.0, False, {}),
            "step must return (observation, reward, terminated, truncated, info); it returned a tuple of 4; four are the old API",
        ),
        (ZEROS, "it returned an array of shape (2,)"),
        (None, "it returned None"),
        ((ZEROS, float("nan"), False, False, {}), "reward must be a finite number; it is nan"),
        ((ZEROS, np.float32("inf"), False, False, {}), "reward must be a finite number; it is inf"),
        ((ZEROS, None, False, False, {}), "reward must be a finite number; it is None"),
        ((ZEROS, "1", False, False, {}), "reward must be a finite number; it is 1 (str)"),
        ((ZEROS, True, False, False, {}), "reward must be a finite number; it is True (bool)"),
        ((ZEROS, np.ones(1), False, False, {}), "reward must be a finite number; it is an array of shape (1,)"),
        ((ZEROS, 10**400, False, False, {}), "reward must be a finite number; it is a number that no float holds"),
        ((ZEROS, -1e39, False, False, {}), "reward must fit into 32 bits; it is -1e+39: scale the rewards"),
        ((ZEROS, np.array(1e300), False, False, {}), "reward must fit into 32 bits; it is 1e+300: scale the rewards"),
        (
            (np.array(["a", "b"]), 0.0, False, False, {}),
            "the type float32 of its space; it has <U1; return numbers (the function",
        ),
        (
            (np.array([0, None]), 0.0, False, False, {}),
            "the type float32 of its space; it has object; return numbers (the function",
        ),
        ((ZEROS, 0.0, 0, False, {}), "terminated must be a bool; it is 0 (int)"),
        ((ZEROS, 0.0, False, None, {}), "truncated must be a bool; it is None"),
        ((ZEROS, 0.0, False, False, []), "info must be a dict; it is a list of 0"),
        ((np.zeros((1, 2), np.float32), 0.0, False, False, {}), "the shape (2,) of its space; it has (1, 2)"),
        ((np.array([0, np.nan], np.float32), 0.0, False, False, {}), "it is nan at 1, where the space has -1.0 to 1.0"),
        (RuntimeError("the wheel came off"), "the environment raised RuntimeError: the wheel came off"),
        (KeyError(), "the environment raised KeyError"),
    ],
)
def test_a_step_that_breaks_a_rule(result, says):
    text = message(lambda: Odd(third=result))
    assert says in text
    assert text.endswith(f"{WHERE}, step 3, action 1)")


@pytest.mark.parametrize("value", [1, np.int64(1), np.float32(1), 1.0, np.array(1.0), Fraction(1)])
def test_rewards_of_any_type_of_number_are_taken(value):
    envs = environments(lambda: Odd(third=(ZEROS, value, np.bool_(True), False, {})), 2, seed=0)
    envs.reset()
    for _ in range(3):
        step = envs.step(np.zeros(2, int))
    assert step.reward.tolist() == [1, 1]
    assert step.terminated.all()


def test_an_observation_that_is_not_finite_is_found_at_any_step():
    class Late(Odd):
        def step(self, action):
            self.at += 1
            value = np.nan if self.at == 30 else 0.0
            return np.array([0, value], np.float32), 0.0, False, False, {}

    text = message(Late, 30)
    assert "the observation must be finite; number 1 of 2 is nan" in text
    assert "step 30" in text


def test_an_observation_that_overflows_in_32_bits_is_found_at_any_step():
    class Late(Odd):
        def step(self, action):
            self.at += 1
            return np.array([0, -1e300 if self.at == 30 else 3e38]), 0.0, False, False, {}

    text = message(lambda: Late((np.zeros(2), {}), space=spaces.Box(-np.inf, np.inf, (2,), np.float64)), 30)
    assert "the observation must fit into 32 bits; number 1 of 2 is -1e+300; scale the observations" in text
    assert "step 30" in text


@pytest.mark.parametrize(
    ("space", "late", "says"),
    [
        (spaces.MultiDiscrete([2, 3], start=[0, 5]), np.array([0, 8]), "it is [0, 8] of int64"),
        (spaces.MultiDiscrete([2, 3]), np.array([np.nan, 1.0]), "it is [nan, 1.0] of float64"),
        (spaces.MultiBinary(2), np.array([0.5, 0.5]), "it is [0.5, 0.5] of float64"),
        (spaces.MultiBinary(2), np.array([0, 2], np.int8), "it is [0, 2] of int8"),
        (spaces.Tuple((spaces.Discrete(2), spaces.Discrete(3))), (1, 3), "it is (1, 3)"),
    ],
)
def test_numbered_observations_are_looked_at_in_each_step(space, late, says):
    class Late(Odd):
        def step(self, action):
            self.at += 1
            return late if self.at == 30 else self._begin[0], 0.0, False, False, {}

    text = message(lambda: Late((space.sample(), {}), space=space), 30)
    assert "the observation must lie in its space" in text
    assert says in text
    assert text.endswith(f"{WHERE}, step 30, action 1)")


def test_bounds_are_asked_for_at_the_first_steps_and_shapes_at_all():
    class Far(Odd):
        def step(self, action):
            self.at += 1
            wide = np.full(3 if self.at == 21 else 2, 5.0 if self.at == 20 else 0.0, np.float32)
            return wide, 0.0, False, False, {}

    text = message(Far, 21)
    assert "it has (3,)" in text
    assert "step 21" in text


@pytest.mark.parametrize(
    ("space", "begun", "says"),
    [
        (spaces.Discrete(3), 3, "the observation must lie in Discrete(3); it is 3"),
        (spaces.Discrete(3, start=1), 0, "the observation must lie in Discrete(3, start=1); it is 0"),
        (spaces.Discrete(3), 1.0, "an observation of a Discrete space must be an integer; it is 1.0 (float)"),
        (spaces.Discrete(3), True, "must be an integer; it is True (bool)"),
        (
            spaces.MultiDiscrete([2, 2]),
            np.array([0, 2]),
            "the observation must lie in its space, MultiDiscrete([2 2]); it is [0, 2] of int64",
        ),
        (spaces.MultiDiscrete([2, 2]), [0, 1], "must have the shape (2,) of its space; it is a list of 2"),
        (spaces.MultiBinary(2), np.array([0, 3], np.int8), "the observation must lie in its space"),
        (
            spaces.Dict({"a": spaces.Discrete(2)}),
            {"b": 1},
            "the observation must lie in its space, Dict('a': Discrete(2)); it is {'b': 1}",
        ),
        (spaces.Box(0, 255, (2, 2), np.uint8), np.zeros((2, 2), np.int64), "the type uint8 of its space; it has int64"),
    ],
)
def test_observations_outside_their_spaces(space, begun, says):
    assert says in message(lambda: Odd(reset=(begun, {}), space=space), 0)


def test_an_environment_without_spaces():
    class Bare(gymnasium.Env):
        pass

    with pytest.raises(
        DataError, match=r"Bare: observation_space is None, where a space of gymnasium\.spaces is needed"
    ):
        environments(Bare(), seed=0)
    halfway = Odd()
    halfway.action_space = 4
    with pytest.raises(DataError, match=r"Odd: action_space is 4 \(int\), where a space"):
        environments(halfway, seed=0)


def test_the_old_package_is_named():
    class Old:
        __module__ = "gym.envs.thing"

    with pytest.raises(DataError, match="It is one of the old package gym"):
        check_env(Old(), "Old")


def test_a_raising_reset_of_a_later_episode_names_its_seed():
    class Once(Odd):
        begun = 0

        def reset(self, *, seed=None, options=None):
            self.begun += 1
            if self.begun == 2:
                raise OSError("port taken")
            return super().reset(seed=seed)

    text = message(lambda: Once(third=(ZEROS, 0.0, True, False, {})))
    assert "the environment raised OSError: port taken" in text
    assert text.endswith(f"environment 0, episode 1, seed {episode_seed(5, 0, 1)}, in reset)")


def test_ctrl_c_passes():
    envs = environments(Odd(third=KeyboardInterrupt()), seed=0)
    envs.reset()
    for _ in range(2):
        envs.step(np.zeros(1, int))
    with pytest.raises(KeyboardInterrupt):
        envs.step(np.zeros(1, int))


def test_an_episode_without_end():
    with pytest.raises(
        DataError,
        match=r"the episode goes on after 1,000,000 steps, where whole .*; give max_episode_steps \(Maze, .*seed 4",
    ):
        refuse_endless(Place("Maze", 1, 2, 4, LONGEST, 0))


def test_long_texts_are_cut():
    text = message(lambda: Odd(third=RuntimeError("x " * 5000)))
    assert len(text) < 700
