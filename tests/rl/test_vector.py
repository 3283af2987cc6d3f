import re
import warnings

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from konspekt.core.errors import ConfigError, DataError
from konspekt.rl.making import name_of, single, spec_of
from konspekt.rl.seeding import episode_seed
from konspekt.rl.vector import Episode, Looped, environments


class Walk(gymnasium.Env):
    """A walk of `length` steps; what it shows is drawn from its seed. It keeps the actions that it was given."""

    def __init__(self, length=5, observation_space=None, action_space=None, late=False):
        self.observation_space = observation_space or spaces.Box(-10, 10, (2,), np.float32)
        self.action_space = spaces.Discrete(2) if action_space is None else action_space
        self.length, self.late = length, late
        self.given, self.closed = [], False

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.at = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self.at += 1
        self.given.append(action)
        over = self.at >= self.length
        return self.observation_space.sample(), float(self.at), over, over and self.late, {}

    def close(self):
        self.closed = True


class Forgetful(Walk):
    """It draws from elsewhere than its seed."""

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(np.random.SeedSequence().entropy % 2**31)
        return np.zeros(2, np.float32), {}


def played(env, actions, seed, index, episodes):
    """What gymnasium gives, step by step, with the seeds of a run: (observation, reward, terminated, truncated)."""
    rows, number = [], 0
    first, _ = env.reset(seed=episode_seed(seed, index, 0))
    for action in actions:
        observation, reward, terminated, truncated, _ = env.step(action)
        after = observation
        if terminated or truncated:
            number += 1
            after, _ = env.reset(seed=episode_seed(seed, index, number))
        rows.append((observation, after, reward, terminated, truncated))
    assert number >= episodes
    return first, rows


def test_a_run_is_that_of_each_environment_alone():
    actions = np.random.default_rng(0).integers(0, 2, (120, 3))
    with environments("CartPole-v1", 3, seed=4, compiled=False) as ours:
        first = ours.reset()
        steps = [ours.step(row) for row in actions]
        assert first.shape == (3, 4)
        assert first.dtype == np.float32
    for i in range(3):
        begun, rows = played(gymnasium.make("CartPole-v1"), actions[:, i], 4, i, 3)
        assert np.array_equal(first[i], begun)
        for step, (observation, after, reward, terminated, truncated) in zip(steps, rows, strict=True):
            assert np.array_equal(step.final[i], observation)
            assert np.array_equal(step.observation[i], after)
            assert (step.reward[i], step.terminated[i], step.truncated[i]) == (reward, terminated, truncated)


def test_where_an_episode_ends_the_next_begins_in_the_same_step():
    envs = environments(lambda: Walk(2), 1, seed=0)
    envs.reset()
    one, two = envs.step(np.array([0])), envs.step(np.array([1]))
    assert one.final is one.observation
    assert two.final is not two.observation
    assert two.terminated.tolist() == [True]
    again = spaces.Box(-10, 10, (2,), np.float32)
    again.seed(episode_seed(0, 0, 1))
    assert np.array_equal(two.observation[0], again.sample())
    assert envs.take_finished() == [Episode(0, 0, episode_seed(0, 0, 0), 3.0, 2, False)]
    assert envs.take_finished() == []


def test_dtypes_of_a_step():
    envs = environments(lambda: Walk(2), 2, seed=0)
    envs.reset()
    step = envs.step(np.array([0, 1]))
    assert (step.reward.dtype, step.terminated.dtype, step.truncated.dtype) == (np.float64, np.bool_, np.bool_)
    assert step.observation.dtype == np.float32


def test_an_episode_that_ends_by_itself_at_its_limit_has_both_flags_and_counts_as_terminated():
    envs = environments(lambda: Walk(3, late=True), 1, seed=0)
    envs.reset()
    for _ in range(3):
        step = envs.step(np.array([0]))
    assert step.terminated.tolist() == step.truncated.tolist() == [True]
    assert envs.take_finished()[0].truncated is False


def test_a_time_limit_is_added_replaced_and_lengthened():
    def lengths(env, **options):
        envs = environments(env, 1, seed=0, compiled=False, **options)
        envs.reset()
        for _ in range(60):
            envs.step(np.array([0]))
        return {episode.length for episode in envs.take_finished()}

    car = "MountainCar-v0"
    gymnasium.register("Stroll-v0", lambda: Walk(1000), max_episode_steps=20)
    try:
        assert lengths(lambda: Walk(1000), max_episode_steps=7) == {7}
        assert lengths(car, max_episode_steps=11) == {11}
        assert lengths("Stroll-v0") == {20}
        assert lengths("Stroll-v0", max_episode_steps=25) == {25}
        assert lengths(lambda: gymnasium.make("Stroll-v0"), max_episode_steps=30) == {30}
        own = gymnasium.make("Stroll-v0")
        assert lengths(own, max_episode_steps=9) == {9}
        assert lengths(own) == {20}  # the user's instance is as it was
        assert lengths(own, max_episode_steps=29) == {29}
    finally:
        del gymnasium.registry["Stroll-v0"]


@pytest.mark.parametrize(
    ("space", "row", "expected"),
    [
        (spaces.Discrete(3, start=5), 2, 7),
        (spaces.MultiDiscrete([2, 3], start=[1, 10]), [1, 2], [2, 12]),
        (spaces.MultiDiscrete([[2, 3], [4, 5]]), [1, 2, 3, 4], [[1, 2], [3, 4]]),
        (spaces.MultiBinary(3), [1, 0, 1], [1, 0, 1]),
        (spaces.Box(-1, 2, (2, 2), np.float32), [-3, 0.5, 1, 9], [[-1, 0.5], [1, 2]]),
        (spaces.Box(-1, 1, (1,), np.float64), [0.25], [0.25]),
        (spaces.Box(0, 255, (2,), np.uint8), [3.6, 300], [4, 255]),
    ],
)
def test_actions_arrive_as_their_space_has_them(space, row, expected):
    walk = Walk(action_space=space)
    envs = environments(walk, 1, seed=0)
    envs.reset()
    dtype = np.float32 if isinstance(space, spaces.Box) else np.int64
    envs.step(np.array([row], dtype))
    (given,) = walk.given
    assert space.contains(given)
    assert np.array_equal(given, expected)


@pytest.mark.parametrize(
    ("space", "shape", "kind"),
    [
        (spaces.Discrete(4, start=2), (), np.int64),
        (spaces.MultiDiscrete([3, 4]), (2,), np.int64),
        (spaces.MultiBinary(5), (5,), np.int8),
        (spaces.Box(0, 255, (4, 3, 3), np.uint8), (4, 3, 3), np.uint8),
        (spaces.Dict({"a": spaces.Discrete(3), "b": spaces.Box(0, 1, (2,), np.float32)}), (5,), np.float64),
        (spaces.Tuple((spaces.Discrete(3), spaces.Discrete(2))), (2,), np.int64),
        (spaces.Box(-1, 1, (2,), np.float16), (2,), np.float32),
        (spaces.Box(0, 1, ()), (), np.float32),
    ],
)
def test_observations_are_arrays_of_the_space_that_is_said(space, shape, kind):
    envs = environments(lambda: Walk(observation_space=space), 2, seed=0)
    first = envs.reset()
    step = envs.step(np.zeros(2, int))
    for array in (first, step.observation):
        assert array.shape == (2, *shape)
        assert array.dtype == kind
        one = np.asarray(array[1])
        assert envs.observation_space.contains(int(one) if isinstance(space, spaces.Discrete) else one)
    assert envs.given_space is not None
    assert envs.given_space == space


def test_spaces_without_a_size_and_actions_of_parts_are_refused():
    with pytest.raises(ConfigError, match=r"observations of Sequence are taken by no agent here"):
        environments(lambda: Walk(observation_space=spaces.Sequence(spaces.Discrete(2))), seed=0)
    with pytest.raises(
        DataError, match=r"Walk: no agent takes actions of Dict\(a: Discrete\(2\)\); taken are"
    ) as caught:
        environments(Walk(action_space=spaces.Dict({"a": spaces.Discrete(2)})), seed=0)
    text = str(caught.value)
    assert re.search(r"Discrete \(.*dqn.*\); MultiDiscrete \(a2c.*\); MultiBinary \(a2c.*\); Box \(a2c", text)
    assert "dqn" not in text.split("MultiDiscrete", 1)[1]


def test_text_is_refused_before_training_also_as_a_part():
    for space, told in (
        (spaces.Text(4), "observations of Text are taken by no agent here; make them an array of numbers"),
        (spaces.OneOf((spaces.Discrete(2), spaces.Box(0, 1, (2,)))), "observations of OneOf are taken by no agent"),
        (
            spaces.Dict({"a": spaces.Tuple((spaces.Discrete(2), spaces.Text(4)))}),
            "observations of Text, a part of Dict(a: Tuple(Discrete(2), Text)), are taken by no agent here",
        ),
    ):
        with pytest.raises(ConfigError) as caught:
            environments(Walk(observation_space=space), seed=0)
        assert told in str(caught.value)


def test_an_id_without_a_version_is_the_newest_and_nothing_warns():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        made = single("CartPole")
        envs = environments("konspekt/Track", seed=0)
    assert made.spec.id == "CartPole-v1"
    assert envs.observation_space is not None
    assert seen == []


def test_of_ten_versions_the_newest_is_the_largest():
    for k in (9, 10):
        gymnasium.register(id=f"Walking-v{k}", entry_point=Walk)
    try:
        assert single("Walking").spec.id == "Walking-v10"
    finally:
        for k in (9, 10):
            del gymnasium.registry[f"Walking-v{k}"]


def test_a_limit_beyond_all_numbers_is_no_limit():
    for compiled in ("auto", False):
        envs = environments("CartPole-v1", 1, seed=0, compiled=compiled, max_episode_steps=10**400)
        envs.reset()
        assert not envs.step(np.array([0])).truncated.any()


def test_an_action_of_a_box_without_dimensions_is_an_array():
    for kind in (np.float32, np.int64):
        walk = Walk(action_space=spaces.Box(0, 1, (), kind))
        envs = environments(walk, seed=0)
        envs.reset()
        envs.step(np.array([[3.0]], np.float32))
        assert isinstance(walk.given[0], np.ndarray)
        assert walk.action_space.contains(walk.given[0])
        assert walk.given[0] == 1


# -- states -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [0, 1, 23])
def test_a_state_is_played_again(steps):
    def make():
        return environments("CartPole-v1", 2, seed=6, compiled=False)

    one, other, rng = make(), make(), np.random.default_rng(0)
    observation = one.reset()
    for _ in range(steps):
        observation = one.step(rng.integers(0, 2, 2)).observation
    state = one.state()
    assert all(isinstance(kept["actions"], torch.Tensor) for kept in state["environments"])
    assert other.load_state(state) == []
    assert other.finished == one.finished
    assert np.array_equal(other.reset(), observation)
    for _ in range(20):
        actions = rng.integers(0, 2, 2)
        a, b = one.step(actions), other.step(actions)
        assert np.array_equal(a.observation, b.observation)
    assert one.take_finished() == other.take_finished()


def test_actions_of_a_box_are_played_again():
    one, other = (environments("Pendulum-v1", 2, seed=6, compiled=False) for _ in range(2))
    one.reset()
    for _ in range(10):
        last = one.step(np.random.default_rng(1).normal(size=(2, 1)).astype(np.float32))
    assert other.load_state(one.state()) == []
    assert np.array_equal(other.reset(), last.observation)


def test_what_does_not_come_out_alike_is_said_and_the_next_episode_begins():
    def make():
        return environments(Forgetful, 1, seed=2)

    one, other = make(), make()
    one.reset()
    one.step(np.array([0]))
    (sentence,) = other.load_state(one.state())
    assert sentence == (
        "environment 0 (Forgetful): episode 0, at step 1, could not be restored, and episode 1 begins: played again from its seed "
        "and actions, it came out otherwise, so it draws from elsewhere than its seed"
    )
    assert np.array_equal(other.reset(), np.zeros((1, 2)))
    assert other.state()["environments"][0]["number"] == 1


def test_an_episode_that_ends_earlier_or_breaks_when_it_is_played_again():
    class Broken(Walk):
        def step(self, action):
            if self.at == 2:
                raise RuntimeError("no road")
            return super().step(action)

    one = environments(lambda: Walk(9), 1, seed=2)
    one.reset()
    for _ in range(4):
        one.step(np.array([0]))
    (sentence,) = environments(lambda: Walk(3), 1, seed=2).load_state(one.state())
    assert "it ended at step 3 of 4" in sentence
    (sentence,) = environments(lambda: Broken(9), 1, seed=2).load_state(one.state())
    assert "playing it again failed: the environment raised RuntimeError: no road (" in sentence
    (sentence,) = environments(lambda: Walk(9), 1, seed=3).load_state(one.state())
    assert f"it began with seed {episode_seed(2, 0, 0)}, and this run gives it {episode_seed(3, 0, 0)}" in sentence


def test_a_state_of_another_number_is_refused():
    one = environments(Walk, 2, seed=0)
    one.reset()
    with pytest.raises(ConfigError, match="one of 2 environments, and there are 3"):
        environments(Walk, 3, seed=0).load_state(one.state())


# -- making -----------------------------------------------------------------------------------------------------------------


def test_the_users_instance_is_not_closed_and_what_was_made_is():
    own, made = Walk(), []

    def make():
        made.append(Walk())
        return made[-1]

    environments(own, seed=0).close()
    assert not own.closed
    with environments(make, 3, seed=0) as envs:
        envs.reset()
    assert len(made) == 3
    assert all(walk.closed for walk in made)


def test_an_instance_made_by_gymnasium_is_made_again():
    gymnasium.register("Stroll-v0", Walk)
    try:
        env = gymnasium.make("Stroll-v0", length=3)
        envs = environments(env, 2, seed=0)
        envs.reset()
        for _ in range(3):
            step = envs.step(np.zeros(2, int))
        assert step.terminated.tolist() == [True, True]
        assert env.unwrapped.given == []
    finally:
        del gymnasium.registry["Stroll-v0"]


def test_names():
    assert name_of("CartPole-v1") == name_of(gymnasium.make("CartPole-v1")) == "CartPole-v1"
    assert (name_of(Walk), name_of(Walk())) == ("Walk", "Walk")
    assert spec_of(gymnasium.make("CartPole-v1")).id == "CartPole-v1"
    assert spec_of(Walk()) is None
    assert spec_of(gymnasium.wrappers.TransformReward(gymnasium.make("CartPole-v1"), lambda r: r)) is not None
    assert isinstance(single("CartPole-v1"), gymnasium.Env)


@pytest.mark.parametrize(
    ("env", "options", "kind", "message"),
    [
        ("CartPol-v1", {}, ConfigError, "no environment 'CartPol-v1': did you mean 'CartPole-v1'?"),
        ("cartpole-v1", {}, ConfigError, "no environment 'cartpole-v1': did you mean 'CartPole-v1'?"),
        ("CartPole-v9", {}, ConfigError, "no environment 'CartPole-v9': there is CartPole-v0, CartPole-v1"),
        ("Xyzzy", {}, ConfigError, "no environment 'Xyzzy': gymnasium.pprint_registry() in Python lists the ids"),
        ("MiniGrid/Empty-v0", {}, ConfigError, "'MiniGrid/Empty-v0' is not registered: pip install minigrid first"),
        ("nowhere_at_all:Thing-v0", {}, ConfigError, "nowhere_at_all:Thing-v0 needs a package that is not installed"),
        (3, {}, ConfigError, "env is '3' (int), where an id such as 'CartPole-v1'"),
        (None, {}, ConfigError, "env is 'None' (NoneType)"),
        ("CartPole-v1", {"num": 0}, ConfigError, "num must be at least 1, not 0"),
        ("CartPole-v1", {"processes": -1}, ConfigError, "processes must be at least 0, not -1"),
        ("CartPole-v1", {"max_episode_steps": 0}, ConfigError, "max_episode_steps must be at least 1, not 0"),
        (
            Walk(),
            {"num": 2},
            ConfigError,
            (
                "n_envs=2 asks for environments stepped together, and an instance (Walk) cannot be copied: give a function that makes "
                "one, an id, or n_envs=1"
            ),
        ),
        (
            Walk(),
            {"processes": 2},
            ConfigError,
            (
                "processes=2 asks for environments in processes of their own, and an instance (Walk) cannot be copied: give a function "
                "that makes one, an id, or processes=0"
            ),
        ),
        (lambda: 3, {}, DataError, "the function gave 3 (int), which is no gymnasium.Env"),
        (lambda: None, {}, DataError, "the function gave None, which is no gymnasium.Env"),
        (lambda: 1 / 0, {}, DataError, "which is to make an environment, raised ZeroDivisionError: division by zero"),
    ],
)
def test_what_makes_no_environment(env, options, kind, message):
    with pytest.raises(kind) as caught:
        environments(env, seed=0, **options)
    assert message in str(caught.value)


def test_a_package_that_is_missing_is_named(monkeypatch):
    def missing(*args, **kwargs):
        raise gymnasium.error.DependencyNotInstalled(
            "Box2D is not installed, you can install it by run `pip install swig`"
        )

    monkeypatch.setattr(gymnasium, "make", missing)
    with pytest.raises(
        ConfigError, match=r"LunarLander-v3 needs a package that is not installed: pip install \"gymnasium\[box2d\]\""
    ):
        single("LunarLander-v3")


def test_a_vector_of_gymnasium_is_refused():
    many = gymnasium.make_vec("CartPole-v1", num_envs=3, vectorization_mode="sync")
    with pytest.raises(ConfigError, match="env is a vector of 3 environments: give an id"):
        environments(many, seed=0)


def test_functions_that_give_the_same_or_unlike_environments():
    walk = Walk()
    with pytest.raises(DataError, match="gives the same environment each time; it has to make a new one at each call"):
        environments(lambda: walk, 2, seed=0)
    sizes = iter([2, 2, 3])

    def make():
        return Walk(action_space=spaces.Discrete(next(sizes)))

    with pytest.raises(
        DataError, match=r"environment 2: its action_space is Discrete\(3\), and that of environment 0 is Discrete\(2\)"
    ):
        environments(make, 3, seed=0)


def test_the_number_of_actions_has_to_be_that_of_environments():
    envs = environments(Walk, 2, seed=0)
    envs.reset()
    with pytest.raises(DataError, match="there are 3 actions, where 2 are needed"):
        envs.step(np.zeros(3, int))
    assert isinstance(envs, Looped)
