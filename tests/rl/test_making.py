"""Environments by id: what is suggested in the place of one that is not there, and why one cannot be made."""

import gymnasium
import pytest

from konspekt.core.errors import ConfigError, DataError
from konspekt.rl.making import single
from konspekt.testing.two_states import TwoStates


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("CartPole-v9", "there is CartPole-v0, CartPole-v1; did you mean 'CartPole-v1'?"),
        ("konspekt/Game-v7", "there is konspekt/Game-v0; did you mean 'konspekt/Game-v0'?"),
        ("cartpole", "did you mean 'CartPole-v1'?"),
        ("CARTPOLE_V0", "did you mean 'CartPole-v1'?"),
        ("CartPol-v1", "did you mean 'CartPole-v1'?"),
        ("Cart Pole ", "did you mean 'CartPole-v1'?"),
        ("lunarlander", "did you mean 'LunarLander-v3'?"),
        ("konspekt/Nope", "there is konspekt/Arm-v0, konspekt/Game-v0, konspekt/Recommender-v0"),
        ("Pendulum-v0", "Environment version v0 for `Pendulum` is deprecated. Please use `Pendulum-v1` instead."),
        ("LunarLander-v2", "Please use `LunarLander-v3` instead."),
    ],
)
def test_what_is_near_is_suggested(name, said):
    with pytest.raises(ConfigError) as error:
        single(name)
    assert str(error.value).startswith(f"no environment {name!r}: ")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["Nope-v0", "FetchReach-v1", "", "-v1", "../x", "grid", "x" * 300])
def test_nothing_far_off_is_suggested(name):
    with pytest.raises(ConfigError) as error:
        single(name)
    text = str(error.value)
    assert "did you mean" not in text
    assert "gymnasium.pprint_registry() in Python lists the ids" in text
    assert "a function that makes one" in text
    assert len(text) < 320


def test_what_was_moved_is_not_said_to_be_missing():
    with pytest.raises(ConfigError) as error:
        single("Hopper-v2")
    assert "Hopper-v2 cannot be made: The mujoco v2 and v3 based environments have been moved" in str(error.value)
    assert "pip install" not in str(error.value)


def test_an_id_whose_environment_raises():
    def broken(**given):
        raise ZeroDivisionError("no\nwheels")

    gymnasium.register("konspekt-tests/Broken-v0", entry_point=broken)
    try:
        with pytest.raises(
            DataError, match=r"Broken-v0 cannot be made: it raised ZeroDivisionError: no wheels; mend the env"
        ):
            single("konspekt-tests/Broken-v0")
    finally:
        del gymnasium.registry["konspekt-tests/Broken-v0"]


def test_an_id_without_a_version_is_the_newest():
    gymnasium.register("konspekt-tests/Two-v1", entry_point=TwoStates)
    gymnasium.register("konspekt-tests/Two-v10", entry_point=TwoStates)
    try:
        assert single("konspekt-tests/Two").spec.id == "konspekt-tests/Two-v10"
    finally:
        del gymnasium.registry["konspekt-tests/Two-v1"], gymnasium.registry["konspekt-tests/Two-v10"]
