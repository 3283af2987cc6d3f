import math

import numpy as np
import pytest
from sklearn.datasets import load_iris

from konspekt.core import ConfigError, DataError
from konspekt.metrics.clustering.dunns import dunn, generalized_dunn


def apart(x, y):
    return math.sqrt(sum((a - b) ** 2 for a, b in zip(x, y, strict=True)))


def delta(kind, S, T):
    """Between two clusters, as Bezdek & Pal 1998 write it."""
    s, t = sum(S) / len(S), sum(T) / len(T)
    if kind == 1:
        return min(apart(x, y) for x in S for y in T)
    if kind == 2:
        return max(apart(x, y) for x in S for y in T)
    if kind == 3:
        return sum(apart(x, y) for x in S for y in T) / (len(S) * len(T))
    if kind == 4:
        return apart(s, t)
    if kind == 5:
        return (sum(apart(x, t) for x in S) + sum(apart(y, s) for y in T)) / (len(S) + len(T))
    return max(max(min(apart(x, y) for y in T) for x in S), max(min(apart(x, y) for x in S) for y in T))


def width(kind, S):
    if kind == 1:
        return max(apart(x, y) for x in S for y in S)
    if kind == 2:
        return sum(apart(x, y) for x in S for y in S) / (len(S) * (len(S) - 1)) if len(S) > 1 else 0.0
    return 2 * sum(apart(x, sum(S) / len(S)) for x in S) / len(S)


def plain(X, labels, between, within):
    C = [list(X[labels == k]) for k in np.unique(labels)]
    least = min(delta(between, S, T) for i, S in enumerate(C) for T in C[i + 1 :])
    return least / max(width(within, S) for S in C)


def clustering(seed):
    rng = np.random.default_rng(seed)
    count, features = (2, 5, 9)[seed % 3], (1, 2, 6)[seed % 3]
    labels = rng.permutation(np.r_[np.arange(count), rng.integers(0, count, 60 - count)])
    return 3 * rng.standard_normal((count, features))[labels] + rng.standard_normal((60, features)), labels


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("between", range(1, 7))
def test_each_variant_is_what_the_definition_gives_pair_by_pair(seed, between):
    X, labels = clustering(seed)
    for within in (1, 2, 3):
        expected = plain(X, labels, between, within)
        assert generalized_dunn(X, labels, between, within) == pytest.approx(expected, rel=1e-7)
    assert dunn(X, labels) == pytest.approx(plain(X, labels, 1, 1), rel=1e-12)


# genieclust 1.3.0, cluster_validity.generalised_dunn_index(iris.data, iris.target, d, D). Its D2 counts each pair once over
# n (n - 1), half the mean, so it is doubled here; its d5 is another definition (to the own mean), so it is not here.
GENIECLUST = {
    1: (0.05848053214719304, 0.38003134916871445 / 2, 0.1364555370255189),
    2: (1.2656678808749642, 8.224847734931346 / 2, 2.953245875842007),
    3: (0.48185143685613296, 3.13127539924599 / 2, 1.1243279458748476),
    4: (0.42381112381938535, 2.7541047809278663 / 2, 0.988899594015386),
}


def test_values_of_published_packages_on_iris():
    X, labels = load_iris(return_X_y=True)
    for between, row in GENIECLUST.items():
        for within, expected in enumerate(row, 1):
            assert generalized_dunn(X, labels, between, within) == pytest.approx(expected, rel=1e-9)
    # permetrics 2.1.0, ClusteringMetric.dunn_index(use_modified=False); validclust 0.1.1 has the same
    assert dunn(X, labels) == pytest.approx(0.05848053214719304, rel=1e-12)


def test_a_case_by_hand():
    X, labels = [[0.0], [2.0], [5.0], [6.0], [10.0]], ["a", "a", "b", "b", "b"]  # means 1 and 7
    assert dunn(X, labels) == pytest.approx(3 / 5)
    assert generalized_dunn(X, labels, 5, 2) == pytest.approx((7 + 5 + 4 + 5 + 9) / 5 / (10 / 3))
    assert generalized_dunn(X, labels, 6, 3) == pytest.approx(8 / (2 * 2))


def test_noise_is_left_out_and_neither_order_nor_place_matters():
    X, labels = clustering(1)
    far, noise = np.r_[X, [[1e3, 1e3]]], np.r_[labels, -1]
    order = np.random.default_rng(0).permutation(len(X))
    for between in range(1, 7):
        value = generalized_dunn(X, labels, between, 2)
        assert generalized_dunn(far, noise, between, 2) == pytest.approx(value, rel=1e-12)
        assert generalized_dunn(X[order] + 1e6, labels[order], between, 2) == pytest.approx(value, rel=1e-6)
        assert generalized_dunn(7 * X, labels, between, 2) == pytest.approx(value, rel=1e-9)


def test_clusters_without_width_are_infinitely_good_and_one_place_is_refused():
    assert dunn([[0.0], [0.0], [1.0]], [0, 0, 1]) == math.inf
    assert generalized_dunn([[0.1], [0.1], [0.1], [1.0]], [0, 0, 0, 1]) == math.inf
    for within in (1, 2, 3):
        with pytest.raises(DataError, match="0 divided by 0"):
            generalized_dunn(np.full((6, 2), 0.1), [0, 0, 0, 1, 1, 1], 1, within)
    with pytest.raises(DataError, match="needs at least 2, and the labels name 1"):
        dunn([[0.0], [1.0]], [0, 0])
    with pytest.raises(DataError, match="all points are noise"):
        dunn([[0.0], [1.0]], [-1, -1])


def test_other_numbers_of_variants_are_refused():
    with pytest.raises(ConfigError, match="set_distance is 1, 2, 3, 4, 5 or 6, not 7"):
        generalized_dunn([[0.0], [1.0]], [0, 1], 7)
    with pytest.raises(ConfigError, match="diameter is 1, 2 or 3, not 0"):
        generalized_dunn([[0.0], [1.0]], [0, 1], 1, 0)
