"""Spaces as arrays, as JSON and in words."""

import json

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from konspekt.core.errors import ConfigError, DataError
from konspekt.rl.spaces import arrays_of, same_space, space_from_json, space_to_json, to_array, words

NESTED = spaces.Tuple(
    (
        spaces.Discrete(3, start=2),
        spaces.Dict({"b": spaces.MultiDiscrete([2, 4], start=[1, 0]), "a": spaces.Discrete(2)}),
    )
)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(0, 1, ()),
        spaces.Box(-np.inf, 3, (), np.float64),
        spaces.Box(0, 1, (1,)),
        spaces.Box(np.array([0, -np.inf], np.float32), np.array([1, 2], np.float32)),
        spaces.Box(0, 255, (2, 3), np.uint8),
        spaces.Box(-1, 1, (2,), np.float16),
        spaces.Discrete(3, start=-1),
        spaces.MultiDiscrete([[2, 3], [4, 5]], start=[[0, 1], [2, 3]]),
        spaces.MultiBinary((2, 2)),
        NESTED,
    ],
)
def test_a_space_comes_back_from_json(space):
    back = space_from_json(json.loads(json.dumps(space_to_json(space))))
    assert back == space
    assert same_space(back, space)
    back.seed(0)
    assert space.contains(back.sample())


@pytest.mark.parametrize(
    "change", [{"low": [0.0, 1.0]}, {"shape": [0]}, {"shape": [10**9]}, {"dtype": "object"}, {"low": "none"}]
)
def test_a_damaged_box_is_refused(change):
    with pytest.raises(DataError, match=r"a space in config\.json is damaged"):
        space_from_json(space_to_json(spaces.Box(0, 1, ())) | change)


def test_parts_that_are_numbered_become_numbers():
    assert arrays_of(NESTED) == spaces.MultiDiscrete([3, 2, 2, 4], start=[2, 0, 1, 0])  # keys of a Dict are sorted
    given = (np.int64(4), {"a": np.int64(1), "b": np.array([2, 3])})
    assert NESTED.contains(given)
    array = to_array(NESTED, given)
    assert array.tolist() == [4, 1, 2, 3]
    assert arrays_of(NESTED).contains(array)
    assert arrays_of(gymnasium.make("Blackjack-v1").observation_space) == spaces.MultiDiscrete([32, 11, 2])


def test_other_parts_are_flattened():
    space = spaces.Dict({"a": spaces.Discrete(2), "b": spaces.Box(0, 1, (2,), np.float32)})
    assert arrays_of(space).shape == (4,)
    assert to_array(space, {"a": 1, "b": np.array([0.25, 0.5], np.float32)}).tolist() == [0, 1, 0.25, 0.5]


def test_half_and_long_floats_become_float32():
    for kind in (np.float16, np.longdouble):
        space = spaces.Box(-2, np.inf, (2,), kind)
        assert arrays_of(space) == spaces.Box(-2, np.inf, (2,), np.float32)
        assert to_array(space, np.array([1, 2], kind)).dtype == np.float32


def test_what_cannot_be_saved_is_no_array_either():
    for space in (spaces.Text(3), spaces.Graph(spaces.Discrete(2), None), spaces.Sequence(spaces.Discrete(2))):
        with pytest.raises(ConfigError, match=f"observations of {words(space)} are taken by no agent here"):
            arrays_of(space)
        with pytest.raises(ConfigError, match="cannot be saved"):
            space_to_json(space)


@pytest.mark.parametrize(
    ("space", "said"),
    [
        (spaces.Discrete(3), "Discrete(3)"),
        (spaces.Discrete(3, start=1), "Discrete(3) from 1"),
        (spaces.MultiDiscrete([2, 3]), "MultiDiscrete([2, 3])"),
        (spaces.MultiDiscrete([2, 3], start=[0, 1]), "MultiDiscrete([2, 3]) from [0, 1]"),
        (spaces.MultiBinary((2, 2)), "MultiBinary(2, 2)"),
        (spaces.Text(3), "Text"),
        (spaces.Tuple((spaces.Discrete(2), spaces.Text(3))), "Tuple(Discrete(2), Text)"),
        (spaces.Dict({"a": spaces.Box(0, 1, (2,))}), "Dict(a: Box(2,) of float32)"),
    ],
)
def test_words(space, said):
    assert words(space) == said


def test_what_would_fill_the_memory_is_refused_before_it_does():
    pixel, state = space_to_json(spaces.Box(0, 1, ())), space_to_json(spaces.Discrete(10**8))
    assert space_from_json(state).n == 10**8  # a number, however many there are
    for data, count in (
        ({"type": "multi-binary", "shape": [10**6, 10**6]}, "1,000,000,000,000 numbers"),
        ({"type": "dict", "parts": [["a", pixel], ["b", state]]}, "100,000,001 numbers"),  # it is flattened
        ({"type": "tuple", "parts": [["0", pixel | {"shape": [10**7]}]] * 9}, "90,000,000 numbers"),
    ):
        with pytest.raises(DataError, match=f"a space in config.json is damaged .*{count}"):
            space_from_json(data)
    for _ in range(2000):
        pixel = {"type": "tuple", "parts": [["0", pixel]]}
    with pytest.raises(DataError, match="too many parts stand in each other"):
        space_from_json(pixel)
