"""Where groups' names stand, what colours they take, and which groups are alike."""

import numpy as np
import pytest

from konspekt.core.grouped import alike, colours, middles


def small(code):
    return 0.1, 0.1


def test_a_name_stands_on_a_point_of_its_group():
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    middle = 0.01 * ring
    plane, codes = np.concatenate([ring, middle]), np.repeat([4, 9], 60)
    places = middles(plane, codes, 5, small)
    assert list(places) == [4, 9]
    assert np.hypot(*places[4]) == pytest.approx(1)  # the median of a ring lies outside of it
    assert np.hypot(*places[9]) == pytest.approx(0.01)


def test_the_largest_groups_and_no_noise():
    plane = np.arange(20.0).reshape(10, 2)
    codes = np.array([-1, -1, -1, -1, 2, 2, 2, 0, 0, 7])
    assert list(middles(plane, codes, 2, small)) == [2, 0]
    assert middles(plane, np.full(10, -1), 2, small) == {}


def test_names_keep_apart():
    plane = np.stack([np.tile(np.linspace(0, 1, 101), 2), np.zeros(202)], axis=1)
    codes = np.repeat([0, 1], 101)
    places = middles(plane, codes, 2, lambda code: (0.3, 0.1))
    assert places[0] == (0.5, 0)
    assert abs(places[1][0] - 0.5) == pytest.approx(0.3)
    aside = middles(plane, codes, 1, lambda code: (0.3, 0.1), taken=np.array([[0.5, 0.0]]))
    assert abs(aside[0][0] - 0.5) == pytest.approx(0.15)


def test_a_name_without_room_is_dropped_where_it_may_be():
    plane, codes = np.zeros((6, 2)), np.repeat([0, 1], 3)
    assert len(middles(plane, codes, 2, small)) == 2
    assert list(middles(plane, codes, 2, small, drop=True)) == [0]


def test_colours_in_turn_then_the_farthest():
    plane = np.array([[0.0, 0], [10, 0], [20, 0], [1, 0], [19, 0]])
    found = colours(plane, np.arange(5), 3)
    assert found == {0: 0, 1: 1, 2: 2, 3: 2, 4: 0}  # 3 is far from 2, 4 is far from 0
    assert colours(plane, np.array([0, 1, 5, -1, -1]), 3)[5] == 2  # a colour that nobody has
    assert colours(plane, np.arange(5), 3, {4: 1})[4] == 1
    many = colours(np.zeros((900, 2)), np.arange(900), 7)
    assert many[899] == 899 % 7


def test_groups_that_are_alike():
    codes = np.array([5, 5, 5, 8, 8, -1, 8])
    other = np.array([1, 1, 0, 0, 0, 0, -1])
    assert alike(codes, other).tolist() == [5, 5, 8, 8, 8, 8, -1]


def test_a_number_is_given_once():
    codes = np.zeros(6, dtype=int)
    other = np.array([3, 3, 3, 4, 4, 9])
    assert alike(codes, other).tolist() == [0, 0, 0, 1, 1, 2]


@pytest.mark.parametrize(("codes", "other"), [([-1, -1], [0, 1]), ([0, 0], [-1, -1])])
def test_nothing_is_alike(codes, other):
    assert (alike(np.array(codes), np.array(other)) >= 0).tolist() == [c >= 0 for c in other]
