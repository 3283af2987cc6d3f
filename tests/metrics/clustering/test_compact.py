import math

import numpy as np
import pytest

from konspekt.core import DataError
from konspekt.metrics.clustering import compact
from konspekt.metrics.clustering.compact import cop, cs, score_function


def apart(x, y):
    return math.sqrt(sum((a - b) ** 2 for a, b in zip(x, y, strict=True)))


def clusters(X, labels):
    return [list(X[labels == k]) for k in np.unique(labels)]


def plain_score(X, labels):
    """Saitta, Raphael & Smith 2007."""
    C = clusters(X, labels)
    bcd = sum(len(S) * apart(sum(S) / len(S), sum(X) / len(X)) for S in C) / (len(X) * len(C))
    wcd = sum(sum(apart(x, sum(S) / len(S)) for x in S) / len(S) for S in C)
    return 1 - 1 / math.exp(math.exp(bcd - wcd))


def plain_cop(X, labels):
    """Gurrutxaga et al. 2010."""
    C, total = clusters(X, labels), 0.0
    for k, S in enumerate(C):
        intra = sum(apart(x, sum(S) / len(S)) for x in S) / len(S)
        inter = min(max(apart(x, y) for y in S) for j, T in enumerate(C) if j != k for x in T)
        total += len(S) * intra / inter
    return total / len(X)


def plain_cs(X, labels):
    """Chou, Su & Lai 2004."""
    C = clusters(X, labels)
    centres = [sum(S) / len(S) for S in C]
    above = sum(sum(max(apart(x, y) for y in S) for x in S) / len(S) for S in C)
    return above / sum(min(apart(c, o) for j, o in enumerate(centres) if j != k) for k, c in enumerate(centres))


def clustering(seed):
    rng = np.random.default_rng(seed)
    count, features, spread = ((2, 1, 1.0), (4, 2, 0.3), (9, 6, 3.0), (3, 3, 0.1))[seed % 4]
    labels = rng.permutation(np.r_[np.arange(count), rng.integers(0, count, 90 - count)])
    return 2 * rng.standard_normal((count, features))[labels] + spread * rng.standard_normal((90, features)), labels


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("index", "plain"), [(score_function, plain_score), (cop, plain_cop), (cs, plain_cs)])
def test_each_is_what_the_definition_gives_point_by_point(index, plain, seed):
    X, labels = clustering(seed)
    assert index(X, labels) == pytest.approx(plain(X, labels), rel=1e-9)


def test_the_bound_of_cop_loses_nothing_on_more_points_than_a_batch():
    rng = np.random.default_rng(0)
    X, labels = rng.standard_normal((6_000, 2)), np.r_[np.zeros(50, int), np.ones(5_950, int)]
    from scipy.spatial.distance import cdist

    first, second = X[:50], X[50:]
    matrix = cdist(first, second)
    intra = [np.linalg.norm(S - S.mean(0), axis=1).mean() for S in (first, second)]
    expected = (50 * intra[0] / matrix.max(0).min() + 5_950 * intra[1] / matrix.max(1).min()) / 6_000
    assert cop(X, labels) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("seed", range(40))
def test_the_bound_of_cop_stops_no_point_too_early(seed, monkeypatch):
    monkeypatch.setattr(compact, "FIRST", 1)
    rng = np.random.default_rng(seed)
    X, labels = rng.standard_normal((40, 2)), np.r_[np.zeros(3, int), rng.integers(1, 3, 37)]
    assert cop(X, labels) == pytest.approx(plain_cop(X, labels), rel=1e-9)


def test_cases_by_hand():
    X, labels = [[0.0], [2.0], [5.0], [6.0], [10.0]], [0, 0, 1, 1, 1]  # means 1 and 7, of all 4.6
    # COP: 2 * 1 / 5 (from 5 the farthest of 0, 2 is at 5) and 3 * 2 / 8 (from 2 the farthest of 5, 6, 10 is at 8)
    assert cop(X, labels) == pytest.approx((2 * 1 / 5 + 3 * 2 / 8) / 5)
    # CS: mean farthest 2 and (5 + 4 + 5) / 3 over 6 + 6
    assert cs(X, labels) == pytest.approx((2 + 14 / 3) / 12)
    # Score: (2 * 3.6 + 3 * 2.4) / (5 * 2) - (1 + 2) = -1.56
    assert score_function(X, labels) == pytest.approx(1 - math.exp(-math.exp(-1.56)), rel=1e-12)


def test_the_score_function_takes_one_cluster_and_neither_overflows_nor_loses_small_values():
    X = np.array([[0.0], [4.0]])
    assert score_function(X, [0, 0]) == pytest.approx(1 - math.exp(-math.exp(-2)))
    assert score_function([[0.0], [1e6]], [0, 1]) == 1
    assert score_function([[-60.0], [60.0]], [0, 0]) == pytest.approx(math.exp(-60), rel=1e-9)
    assert score_function(np.full((4, 2), 0.1), [0, 0, 1, 1]) == pytest.approx(1 - math.exp(-1))


def test_scale_and_place_do_not_matter_to_cop_and_cs_and_noise_to_none():
    X, labels = clustering(1)
    for index in (cop, cs):
        assert index(5 * X - 1e5, labels) == pytest.approx(index(X, labels), rel=1e-6)
    for index in (cop, cs, score_function):
        assert index(np.r_[X, [[99.0, 99.0]]], np.r_[labels, -1]) == pytest.approx(index(X, labels), rel=1e-12)


def test_degenerate_clusterings_have_a_value_or_are_refused():
    assert cop([[0.0], [1.0], [3.0]], [0, 1, 2]) == 0
    assert cs([[0.0], [1.0], [3.0]], [0, 1, 2]) == 0
    assert cs([[-1.0], [1.0], [-2.0], [2.0]], [0, 0, 1, 1]) == math.inf
    with pytest.raises(DataError, match="COP is not defined here: it would be 0 divided by 0"):
        cop([[0.1], [0.1], [0.1], [5.0]], [0, 0, 1, 1])
    with pytest.raises(DataError, match="CS is not defined here: it would be 0 divided by 0"):
        cs(np.full((4, 1), 0.1), [0, 0, 1, 1])
    for index in (cop, cs):
        with pytest.raises(DataError, match="needs at least 2, and the labels name 1"):
            index([[0.0], [1.0]], [3, 3])
