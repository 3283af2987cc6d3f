"""Every kernel against gymnasium's own environment, to the bit, and NumPy's generator in compiled code against NumPy."""

import json

import gymnasium
import numba
import numpy as np
import pytest

from konspekt.core.errors import ConfigError, DataError
from konspekt.rl import compiled_draws
from konspekt.rl.compiled import Compiled, kernels_for, kernels_of
from konspekt.rl.compiled_draws import WORDS
from konspekt.rl.seeding import episode_seed
from konspekt.rl.vector import Looped, environments

KINDS = [
    ("CartPole-v1", {}),
    ("Acrobot-v1", {}),
    ("MountainCar-v0", {}),
    ("MountainCarContinuous-v0", {}),
    ("Pendulum-v1", {}),
    ("FrozenLake-v1", {}),
    ("FrozenLake-v1", {"is_slippery": False}),
    ("FrozenLake-v1", {"desc": ["SFF", "FHF", "FSG"], "success_rate": 0.7, "reward_schedule": (5, -1, 0)}),
    ("FrozenLake8x8-v1", {}),
    ("CliffWalking-v1", {}),
    ("CliffWalkingSlippery-v1", {}),
    ("Taxi-v4", {}),
    ("Taxi-v4", {"is_rainy": True}),
    ("Blackjack-v1", {}),
    ("Blackjack-v1", {"natural": True, "sab": False}),
    ("Blackjack-v1", {"natural": False, "sab": False}),
]
PARTS = ("observation", "reward", "terminated", "truncated", "final")


@numba.njit
def uniform(rng):  # what only compiled code calls is called from there
    return compiled_draws.uniform(rng)


@numba.njit
def below(rng, count):
    return compiled_draws.below(rng, count)


@numba.njit
def seed_draws(rng, seed):
    compiled_draws.seed_draws(rng, seed)


@numba.njit
def compiled_episode_seed(seed, env, number):
    return compiled_draws.compiled_episode_seed(seed, env, number)


def pair(name, options, num, seed, limit=None):
    """The compiled form and gymnasium's, each of `num` environments."""

    def make():
        return gymnasium.make(
            name, disable_env_checker=True, **({"max_episode_steps": limit} if limit else {}), **options
        )

    return Compiled(kernels_for(make()), num, name, seed), Looped([make() for _ in range(num)], name, seed)


def drawn(space, num, rng):
    """Random actions, of a box also some outside."""
    if isinstance(space, gymnasium.spaces.Discrete):
        return rng.integers(0, space.n, num)
    return (rng.normal(size=(num, 1)) * 1.5 * space.high).astype(np.float32)


def assert_same(one, other):
    assert one.dtype == other.dtype
    assert one.shape == other.shape
    assert np.array_equal(one, other), (one, other)


@pytest.mark.parametrize(("name", "options"), KINDS)
@pytest.mark.parametrize("num", [1, 6])
def test_equal_to_gymnasium_step_for_step(name, options, num):
    ours, theirs = pair(name, options, num, seed=7)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    rng = np.random.default_rng(0)
    assert_same(ours.reset(), theirs.reset())
    for _ in range(2400 // num):
        actions = drawn(ours.action_space, num, rng)
        one, other = ours.step(actions), theirs.step(actions)
        for part in PARTS:
            assert_same(getattr(one, part), getattr(other, part))
        assert (one.final is one.observation) == (other.final is other.observation)
    assert ours.take_finished() == theirs.take_finished()


@pytest.mark.parametrize(
    "name", ["CartPole-v1", "Acrobot-v1", "MountainCarContinuous-v0", "CliffWalking-v1", "FrozenLake-v1"]
)
def test_equal_where_a_time_limit_cuts(name):
    ours, theirs = pair(name, {}, 3, seed=1, limit=9)
    rng = np.random.default_rng(1)
    assert_same(ours.reset(), theirs.reset())
    for _ in range(200):
        actions = drawn(ours.action_space, 3, rng)
        one, other = ours.step(actions), theirs.step(actions)
        for part in PARTS:
            assert_same(getattr(one, part), getattr(other, part))
    finished = ours.take_finished()
    assert finished == theirs.take_finished()
    assert any(episode.truncated for episode in finished)
    assert {episode.length for episode in finished if episode.truncated} == {9}


def test_mountain_cars_that_reach_the_goal_and_the_wall():
    """Random actions do neither; pushing the way it goes does both."""
    for name, goal in (("MountainCar-v0", 0.5), ("MountainCarContinuous-v0", 0.45)):
        ours, theirs = pair(name, {}, 4, seed=3)
        seen = ours.reset()
        assert_same(seen, theirs.reset())
        top, wall = -9.0, False
        for _ in range(600):
            right = seen[:, 1] >= 0
            actions = (
                np.where(right, 2, 0)
                if name == "MountainCar-v0"
                else np.where(right, 1, -1)[:, None].astype(np.float32)
            )
            one, other = ours.step(actions), theirs.step(actions)
            for part in PARTS:
                assert_same(getattr(one, part), getattr(other, part))
            seen = one.observation
            top, wall = max(top, one.final[:, 0].max()), wall or bool((one.final[:, 0] == np.float32(-1.2)).any())
        assert top >= goal
        assert wall or name == "MountainCar-v0"
        assert any(not episode.truncated for episode in ours.take_finished())


def test_a_state_goes_on_exactly_after_json():
    for name in ("Acrobot-v1", "FrozenLake-v1", "Blackjack-v1"):
        ours, again = (pair(name, {}, 3, seed=5)[0] for _ in range(2))
        rng = np.random.default_rng(2)
        ours.reset()
        for steps in (0, 1, 37):
            for _ in range(steps):
                ours.step(drawn(ours.action_space, 3, rng))
            state = ours.state()
            numbers = {key: state[key] for key in ("generators", "finished")}
            assert again.load_state({**state, **json.loads(json.dumps(numbers))}) == []
            assert again.finished == ours.finished
            current = again.reset()  # after a load nothing begins
            assert_same(current, state["observation"].numpy())
            for _ in range(30):
                actions = drawn(ours.action_space, 3, rng)
                one, other = ours.step(actions), again.step(actions)
                for part in PARTS:
                    assert_same(getattr(one, part), getattr(other, part))


def test_a_second_reset_begins_the_same_episodes():
    ours, _ = pair("CartPole-v1", {}, 2, seed=5)
    first = ours.reset()
    ours.step(np.zeros(2, int))
    assert np.array_equal(ours.reset(), first)


def test_what_is_returned_is_not_written_again():
    ours, _ = pair("CartPole-v1", {}, 2, seed=5)
    kept = [ours.reset()]
    copies = [kept[0].copy()]
    for _ in range(60):
        step = ours.step(np.zeros(2, int))
        kept += [getattr(step, part) for part in PARTS]
        copies += [getattr(step, part).copy() for part in PARTS]
    assert all(np.array_equal(a, b) for a, b in zip(kept, copies, strict=True))


def test_ids_instances_and_functions_are_compiled():
    assert isinstance(environments("CartPole-v1", 2, seed=0), Compiled)
    assert isinstance(environments(gymnasium.make("Taxi-v4"), 2, seed=0), Compiled)
    assert isinstance(environments(lambda: gymnasium.make("Pendulum-v1"), 2, seed=0), Compiled)
    limited = environments("CartPole-v1", 1, seed=0, max_episode_steps=3)
    limited.reset()
    for _ in range(3):
        step = limited.step(np.array([0]))
    assert step.truncated.tolist() == [True]


def test_the_users_own_variants_are_not_compiled():
    heavy = gymnasium.make("CartPole-v1")
    heavy.unwrapped.gravity = 20.0
    wrapped = (
        gymnasium.wrappers.ScaleReward(gymnasium.make("CartPole-v1"), 2.0)
        if hasattr(gymnasium.wrappers, "ScaleReward")
        else (gymnasium.wrappers.TransformReward(gymnasium.make("CartPole-v1"), lambda reward: 2 * reward))
    )
    for env in (
        heavy,
        wrapped,
        gymnasium.make("CartPole-v1", sutton_barto_reward=True),
        gymnasium.make("Pendulum-v1", g=9.81),
        gymnasium.make("MountainCar-v0", goal_velocity=0.02),
        gymnasium.make("Taxi-v4", fickle_passenger=True),
    ):
        assert kernels_for(env) is None
    acrobot = gymnasium.make("Acrobot-v1")
    acrobot.unwrapped.book_or_nips = "nips"
    assert kernels_for(acrobot) is None
    assert kernels_for(gymnasium.make("Acrobot-v1")) is not None


def test_a_function_that_makes_different_maps_is_stepped_by_itself():
    maps = iter([["SFG"], ["SFG"], ["SHG"], ["SFG"]])
    same = [gymnasium.make("FrozenLake-v1", desc=next(maps)) for _ in range(2)]
    assert kernels_of(same) is not None
    assert kernels_of([*same, gymnasium.make("FrozenLake-v1", desc=next(maps))]) is None
    assert kernels_of([gymnasium.make("CartPole-v1"), gymnasium.make("CartPole-v1", max_episode_steps=3)]) is None


def test_compiled_can_be_insisted_on_and_refused():
    assert isinstance(environments("CartPole-v1", seed=0, compiled=False), Looped)
    with pytest.raises(ConfigError, match="no compiled kernel for konspekt/Arm-v0; compiled='auto'"):
        environments("konspekt/Arm-v0", seed=0, compiled=True)
    with pytest.raises(ConfigError, match="compiled=True goes with processes=0"):
        environments("CartPole-v1", seed=0, compiled=True, processes=2)
    with pytest.raises(ConfigError, match="compiled must be 'auto', True or False, not 'yes'"):
        environments("CartPole-v1", seed=0, compiled="yes")


def test_actions_that_cannot_be_taken():
    cart, swing = environments("CartPole-v1", 2, seed=0), environments("Pendulum-v1", 2, seed=0)
    cart.reset()
    swing.reset()
    with pytest.raises(DataError, match="CartPole-v1: action 2 of environment 1 is not one of 2, counted from 0"):
        cart.step(np.array([0, 2]))
    with pytest.raises(DataError, match="action -1 of environment 0"):
        cart.step(np.array([-1, 0]))
    with pytest.raises(DataError, match=r"actions have the shape \(3,\), where \(2,\) is needed"):
        cart.step(np.zeros(3, int))
    with pytest.raises(DataError, match="Pendulum-v1: the action of environment 1 is not finite"):
        swing.step(np.array([[0.0], [np.nan]], np.float32))
    with pytest.raises(DataError, match=r"actions have the shape \(2, 2\), where \(2, 1\) is needed"):
        swing.step(np.zeros((2, 2), np.float32))


def test_states_of_another_form_are_refused():
    ours, theirs = pair("CartPole-v1", {}, 2, seed=5)
    ours.reset()
    theirs.reset()
    with pytest.raises(ConfigError, match="not one of CartPole-v1 in compiled code: go on with compiled=False"):
        ours.load_state(theirs.state())
    with pytest.raises(ConfigError, match="is one of CartPole-v1 in compiled code: go on with compiled='auto'"):
        theirs.load_state(ours.state())
    with pytest.raises(ConfigError, match="one of 2 environments, and there are 3"):
        pair("CartPole-v1", {}, 3, seed=5)[0].load_state(ours.state())


# -- draws ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 12345678, 2**31 - 1, 2**32 - 1])
def test_draws_are_those_of_numpy(seed):
    rng, theirs = np.zeros(WORDS, np.uint64), np.random.default_rng(seed)
    seed_draws(rng, np.uint64(seed))
    for count in (2, 3, 4, 13, 1000, 2**31 + 5, 2**32 - 1):
        for _ in range(40):
            assert uniform(rng) == theirs.random()
            assert below(rng, np.uint64(count)) == theirs.integers(count)
    inner = theirs.bit_generator.state
    assert inner["state"]["state"] == (int(rng[0]) << 64 | int(rng[1]))
    assert inner["state"]["inc"] == (int(rng[2]) << 64 | int(rng[3]))
    assert inner["has_uint32"] == rng[4]


def test_a_half_draw_is_kept_between_calls():
    rng, theirs = np.zeros(WORDS, np.uint64), np.random.default_rng(9)
    seed_draws(rng, np.uint64(9))
    got = [int(below(rng, np.uint64(13))) for _ in range(5)]
    assert got == [int(theirs.choice(13)) for _ in range(5)]
    assert rng[4] == 1


@pytest.mark.parametrize("numbers", [(0, 0, 0), (1, 2, 3), (2**62 + 5, 63, 10**9), (-1, 0, 5)])
def test_the_seed_of_an_episode_is_the_same_in_compiled_code(numbers):
    assert compiled_episode_seed(*(np.uint64(n % 2**64) for n in numbers)) == episode_seed(*numbers)
