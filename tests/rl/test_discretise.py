from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces

from konspekt.core.errors import ConfigError, DataError
from konspekt.rl.discretise import Discretiser, needs_sample, numbered, quantile, tiles, uniform

SQUARE = spaces.Box(np.array([0.0, -1.0]), np.array([4.0, 1.0]), dtype=np.float64)


def test_whole_numbers_are_numbered_in_reading_order():
    assert numbered(spaces.Discrete(5, start=3)).rows(np.array([3, 7])).tolist() == [[0], [4]]
    many = numbered(spaces.MultiDiscrete([2, 3], start=np.array([0, 1])))
    assert many.size == 6
    assert many.rows(np.array([[0, 1], [0, 3], [1, 2]])).ravel().tolist() == [0, 2, 4]
    assert numbered(spaces.MultiBinary(3)).rows(np.array([[1, 0, 1]], np.int8)).tolist() == [[5]]


def test_uniform_bins_are_of_equal_width_and_hold_what_lies_outside():
    cells = uniform(SQUARE, (4, 2))
    assert (cells.size, cells.tilings) == (8, 1)
    seen = np.array([[0.0, -1.0], [0.99, -0.01], [1.0, 0.0], [3.9, 0.5], [-7.0, -9.0], [99.0, 99.0]])
    assert cells.rows(seen).ravel().tolist() == [0, 0, 3, 7, 0, 7]


def test_a_bound_that_is_none_comes_from_what_was_seen():
    space = spaces.Box(np.array([-1.0, -np.inf]), np.array([1.0, np.inf]), dtype=np.float64)
    huge = spaces.Box(-3.4e38, 3.4e38, (1,), np.float32)
    assert needs_sample(space, "uniform")
    assert needs_sample(huge, "tiles")
    assert not needs_sample(SQUARE, "uniform")
    assert needs_sample(SQUARE, "quantile")
    cells = uniform(space, (2,), np.array([[0.3, 10.0], [0.4, 30.0]]))
    assert cells.edges[0].tolist() == [[0.0], [20.0]]


def test_quantile_bins_hold_equal_shares():
    sample = np.random.default_rng(0).exponential(size=(1000, 1))
    cells = quantile(spaces.Box(0, np.inf, (1,)), (8,), sample)
    assert np.bincount(cells.rows(sample).ravel()).tolist() == [125] * 8


def test_quantiles_of_values_that_repeat_are_fewer():
    sample = np.array([[0.0]] * 60 + [[1.0]] * 40)
    assert quantile(spaces.Box(0, 1, (1,)), (2,), sample).size == 1
    assert quantile(spaces.Box(0, 1, (1,)), (4,), sample).edges.ravel().tolist() == [1.0]


def test_tiles_are_shifted_by_odd_shares_of_a_width():
    cells = tiles(SQUARE, (4, 4), 4)
    assert cells.edges.shape == (4, 2, 4)
    assert cells.size == 4 * 5 * 5
    # widths 1 and 1/2; the second tiling is shifted by 1/4 and 3/4 of them
    assert cells.edges[1, 0].tolist() == [0.75, 1.75, 2.75, 3.75]
    np.testing.assert_allclose(cells.edges[1, 1], np.array([-1, -0.5, 0, 0.5]) + 0.5 - 0.375)
    rows = cells.rows(np.array([[2.0, 0.0]]))[0]
    assert [row // 25 for row in rows] == [0, 1, 2, 3]


def test_neighbours_share_more_tiles_than_those_far_off():
    cells = tiles(SQUARE, (4, 4), 8)
    near, next_to, far = cells.rows(np.array([[2.0, 0.1], [2.2, 0.1], [3.9, -0.9]]))
    assert 4 <= (near == next_to).sum() < 8
    assert (near == far).sum() == 0


def test_bins_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match=r"bins=\(2, 3, 4\) are for observations of 3 numbers; these are of 2"):
        uniform(SQUARE, (2, 3, 4))
    with pytest.raises(ConfigError, match=r"would have 1e\+47 rows; take fewer bins"):
        uniform(spaces.Box(0, 1, (47,)), (10,))


def test_it_is_brought_back_and_damage_is_seen():
    cells = tiles(SQUARE, (3,), 2)
    back = Discretiser.from_json(cells.to_json(), cells.edges)
    seen = np.random.default_rng(1).uniform(-1, 5, (50, 2))
    assert np.array_equal(back.rows(seen), cells.rows(seen))
    with pytest.raises(DataError, match="lie outside"):
        Discretiser.from_json(cells.to_json() | {"tiling": 9}, cells.edges)
    with pytest.raises(DataError, match="damaged"):
        Discretiser.from_json(cells.to_json() | {"strides": [1]}, cells.edges)
