"""Finished episodes as rows of an array behave as the list of tuples that they stand for."""

import numpy as np
import pytest

from konspekt.rl.episodes import Episode, Episodes

LISTED = [Episode(i % 2, i, 100 + i, float(i) / 2, 3 + i, i % 3 == 0) for i in range(7)]


@pytest.fixture
def episodes():
    made = Episodes()
    for one in LISTED[:3]:
        made.append(one)
    made += LISTED[3:]
    return made


def test_they_are_the_list(episodes):
    assert list(episodes) == LISTED
    assert episodes == LISTED
    assert len(episodes) == 7
    assert bool(episodes)
    assert not Episodes()


def test_places_and_slices(episodes):
    assert episodes[-1] == LISTED[-1]
    assert list(episodes[2:5]) == LISTED[2:5]
    assert list(episodes[-100:]) == LISTED[-100:]
    with pytest.raises(IndexError):
        episodes[7]


def test_types_are_those_of_an_episode(episodes):
    for name, kind in zip(Episode._fields, (int, int, int, float, int, bool), strict=True):
        assert type(getattr(episodes[3], name)) is kind, name


def test_seeds_of_31_bits_survive_the_array():
    made = Episodes()
    made.append(Episode(0, 0, 2**31 - 1, 1.0, 1, False))
    assert made[0].seed == 2**31 - 1
    assert np.float64(2**31 - 1) == 2**31 - 1
