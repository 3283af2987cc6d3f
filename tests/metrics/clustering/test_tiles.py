import numpy as np
import pytest
from scipy.spatial.distance import cdist

from konspekt.metrics.clustering.tiles import farthest_pair, nearest_pair, reached, tiles


def clouds(n=700, m=5000, features=4, seed=0):
    rng = np.random.default_rng(seed)
    first = rng.standard_normal((n, features))
    return first - first.mean(0), rng.standard_normal((m, features)) + 1


@pytest.mark.parametrize(("rows", "columns"), [(256, 2048), (700, 5000), (1, 999), (10_000, 10_000)])
def test_tiles_are_the_matrix_of_squared_distances(rows, columns):
    first, second = clouds()
    found = np.full((700, 5000), np.nan)
    for down, across, tile in tiles(first, second, rows=rows, columns=columns):
        found[down, across] = tile
    np.testing.assert_allclose(found, cdist(first, second, "sqeuclidean"), rtol=1e-9, atol=1e-12)


def test_what_is_reached_from_each_point():
    first, second = clouds()
    matrix = cdist(first, second)
    np.testing.assert_allclose(reached(first, second, "least"), matrix.min(0), rtol=1e-9)
    np.testing.assert_allclose(reached(first, second, "greatest"), matrix.max(0), rtol=1e-12)
    np.testing.assert_allclose(reached(first, second, "total"), matrix.sum(0), rtol=1e-12)
    np.testing.assert_allclose(reached(first, first, "total"), cdist(first, first).sum(0), rtol=1e-12)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("shift", [0.0, 3.0, 100.0])
def test_the_bounds_leave_out_no_nearest_or_farthest_pair(seed, shift):
    first, second = clouds(60, 200, 1 + seed % 4, seed)
    second = second + shift
    least, greatest = cdist(first, second).min(), cdist(first, first).max()
    assert nearest_pair(first, second) == pytest.approx(least, rel=1e-12)
    assert nearest_pair(first, second, least / 2) == least / 2
    assert farthest_pair(first) == pytest.approx(greatest, rel=1e-12)
    assert farthest_pair(first, 2 * greatest) == 2 * greatest


def test_a_point_in_both_sets_is_at_no_distance_and_one_place_has_no_width():
    first, second = clouds()
    assert nearest_pair(first, np.r_[second, first[5:6]]) == 0
    assert farthest_pair(np.zeros((5, 3))) == 0


def test_no_pair_is_lost_where_two_sweeps_do_not_find_the_farthest():
    missed = 0
    for seed in range(150):
        group, _ = clouds(40, 1, 8, seed)
        matrix = cdist(group, group)
        away = matrix[matrix[np.linalg.norm(group, axis=1).argmax()].argmax()]
        missed += away.max() < matrix.max() * (1 - 1e-9)
        assert farthest_pair(group) == pytest.approx(matrix.max(), rel=1e-12)
    assert missed > 10
