import math

import numpy as np
import pytest

from konspekt.core import DataError
from konspekt.metrics.clustering import overlap
from konspekt.metrics.clustering.overlap import os_index, sv


def apart(x, y):
    return math.sqrt(sum((a - b) ** 2 for a, b in zip(x, y, strict=True)))


def clusters(X, labels):
    return [list(X[labels == k]) for k in np.unique(labels)]


def separation(C):
    centres = [sum(S) / len(S) for S in C]
    return sum(min(apart(c, o) for j, o in enumerate(centres) if j != k) for k, c in enumerate(centres))


def plain_sv(X, labels):
    C, variation = clusters(X, labels), 0.0
    for S in C:
        many = -(-len(S) // 10)
        variation += sum(sorted(apart(x, sum(S) / len(S)) for x in S)[-many:]) / many
    return separation(C) / variation


def plain_os(X, labels):
    C, total = clusters(X, labels), 0.0
    for k, S in enumerate(C):
        for x in S:
            a = sum(apart(x, y) for y in S) / len(S)
            nearest = sorted(apart(x, y) for j, T in enumerate(C) if j != k for y in T)[: len(S)]
            b = sum(nearest) / len(nearest)
            total += a / b if (b - a) / (b + a) < 0.4 else 0
    return total / separation(C)


def clustering(seed):
    rng = np.random.default_rng(seed)
    count, features, spread = ((2, 1, 1.0), (4, 2, 0.4), (9, 6, 3.0), (3, 3, 0.9))[seed % 4]
    labels = rng.permutation(np.r_[np.arange(count), rng.integers(0, count, 90 - count)])
    return 2 * rng.standard_normal((count, features))[labels] + spread * rng.standard_normal((90, features)), labels


@pytest.mark.parametrize("seed", range(8))
def test_both_are_what_the_definition_gives_point_by_point(seed, monkeypatch):
    X, labels = clustering(seed)
    monkeypatch.setattr(overlap, "BLOCK", 500 if seed < 4 else 1 << 21)
    assert sv(X, labels) == pytest.approx(plain_sv(X, labels), rel=1e-12)
    expected = plain_os(X, labels)
    assert expected > 0
    assert os_index(X, labels) == pytest.approx(expected, rel=1e-9)
    far = np.r_[X, np.full((1, X.shape[1]), 1e3)], np.r_[labels, -1]
    assert os_index(*far) == pytest.approx(expected, rel=1e-9)


def test_one_cluster_may_have_more_points_than_all_others_together():
    rng = np.random.default_rng(0)
    X, labels = rng.standard_normal((60, 2)), np.r_[np.zeros(50, int), np.full(10, 1)]
    assert os_index(X, labels) == pytest.approx(plain_os(X, labels), rel=1e-9)


@pytest.mark.parametrize("seed", range(30))
def test_the_bound_leaves_out_no_point_that_overlaps(seed):
    rng = np.random.default_rng(seed)
    X = np.r_[rng.random(12), 1.0 + rng.random() + 3 * rng.random(25)][:, None]
    labels = np.repeat([0, 1], (12, 25))
    assert os_index(X, labels) == pytest.approx(plain_os(X, labels), rel=1e-9)


def test_the_nearest_are_chosen_from_many():
    rng = np.random.default_rng(5)
    X, labels = rng.standard_normal((400, 3)), rng.integers(0, 3, 400)
    from scipy.spatial.distance import cdist

    matrix, total = cdist(X, X), 0.0
    for i in range(400):
        own = labels == labels[i]
        a, b = matrix[i, own].mean(), np.sort(matrix[i, ~own])[: own.sum()].mean()
        total += a / b if (b - a) / (b + a) < 0.4 else 0
    expected = total / separation(clusters(X, labels))
    assert os_index(X, labels) == pytest.approx(expected, rel=1e-9)


def test_cases_by_hand():
    X, labels = [[0.0], [2.0], [5.0], [6.0], [10.0]], [0, 0, 1, 1, 1]  # means 1 and 7
    assert sv(X, labels) == pytest.approx((6 + 6) / (1 + 3))
    # a, b of each: 0: 1, 5.5; 2: 1, 3.5; 5: 2, 4; 6: 5 / 3, 5; 10: 3, 9. Only 5 has (b - a) / (b + a) = 1 / 3 < 0.4
    assert os_index(X, labels) == pytest.approx(0.5 / 12)


def test_a_tenth_is_rounded_up_to_whole_points():
    X = np.r_[np.arange(30.0), 1000.0, 1001.0][:, None]  # the tenth of 30 is 3, of 2 it is 1
    expected = 2 * (1000.5 - 14.5) / ((14.5 + 14.5 + 13.5) / 3 + 0.5)
    assert sv(X, np.repeat([0, 1], (30, 2))) == pytest.approx(expected)


def test_degenerate_clusterings_have_a_value_or_are_refused():
    singles = [[0.0], [1.0], [3.0]], [0, 1, 2]
    assert sv(*singles) == math.inf
    assert os_index(*singles) == 0
    # every point has a twin in the other cluster: a = b = 0 there counts 1, but the centres lie in one place
    assert os_index([[0.0], [0.0], [4.0]], [0, 1, 2]) == pytest.approx(2 / 4)
    assert os_index([[-1.0], [1.0], [-1.0], [1.0]], [0, 0, 1, 1]) == math.inf
    assert os_index([[0.0], [2.0], [2.0], [2.0]], [0, 0, 1, 1]) == math.inf
    for index in (sv, os_index):
        with pytest.raises(DataError, match="needs at least 2, and the labels name 1"):
            index([[0.0], [1.0]], [0, 0])
    with pytest.raises(DataError, match="SV is not defined here: it would be 0 divided by 0"):
        sv(np.full((4, 2), 0.1), [0, 0, 1, 1])


def test_os_keeps_its_digits_beside_one_far_point():
    rng = np.random.default_rng(3)
    X, labels = rng.normal(size=(60, 4)), np.arange(60) % 3
    X[0] = 1e9
    total = 0.0
    for x, own in zip(X, labels, strict=True):
        apart = np.linalg.norm(X - x, axis=1)
        a, b = apart[labels == own].mean(), np.sort(apart[labels != own])[:20].mean()
        total += a / b if (b - a) / (b + a) < 0.4 else 0.0
    centres = np.stack([X[labels == k].mean(0) for k in range(3)])
    between = np.linalg.norm(centres[:, None] - centres, axis=2) + np.diag([np.inf] * 3)
    assert os_index(X, labels) == pytest.approx(total / between.min(1).sum(), rel=1e-6)
