import math

import numpy as np
import pytest

from konspekt.core import DataError
from konspekt.metrics.clustering import density
from konspekt.metrics.clustering.density import s_dbw


def apart(x, y):
    return math.sqrt(sum((a - b) ** 2 for a, b in zip(x, y, strict=True)))


def plain(X, labels):
    """Halkidi & Vazirgiannis 2001, formulas 1 to 5."""
    C = [list(X[labels == k]) for k in np.unique(labels)]
    K, v = len(C), [sum(S) / len(S) for S in C]

    def sigma(points):
        mean = sum(points) / len(points)
        return math.sqrt(sum((sum((x[p] - mean[p]) ** 2 for x in points) / len(points)) ** 2 for p in range(len(mean))))

    stdev = math.sqrt(sum(sigma(S) for S in C)) / K

    def density_at(points, u):
        return sum(0 if apart(x, u) > stdev else 1 for x in points)

    between = 0.0
    for i in range(K):
        for j in range(K):
            if i != j:
                below = max(density_at(C[i], v[i]), density_at(C[j], v[j]), 1)
                between += density_at(C[i] + C[j], (v[i] + v[j]) / 2) / below
    return sum(sigma(S) for S in C) / sigma(list(X)) / K + between / (K * (K - 1))


@pytest.mark.parametrize("seed", range(6))
def test_it_is_what_the_definition_gives_point_by_point(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    count, features, spread = ((2, 1, 1.0), (3, 2, 2.0), (8, 3, 1.0))[seed % 3]
    labels = rng.permutation(np.r_[np.arange(count), rng.integers(0, count, 150 - count)])
    X = rng.standard_normal((count, features))[labels] + spread * rng.standard_normal((150, features))
    monkeypatch.setattr(density, "CHUNK", 200 if seed < 3 else 1 << 20)
    assert s_dbw(X, labels) == pytest.approx(plain(X, labels), rel=1e-12)


def test_the_density_between_is_that_of_a_published_package():
    """s-dbw 0.4.0, Dens_bw(..., "Halkidi") with the means as centres: 1.2807... Its standard deviations are 1 here, as variances."""
    rng, parts = np.random.default_rng(3), []
    for k, n in enumerate((30, 40, 50)):
        z = np.round(rng.standard_normal(n), 3)
        parts.append((z - z.mean()) / z.std() + k)
    X = np.concatenate(parts)[:, None]
    scatter = 1 / X.var()
    assert s_dbw(X, np.repeat([0, 1, 2], (30, 40, 50))) - scatter == pytest.approx(1.2807017543859647, rel=1e-12)


def test_a_case_by_hand():
    # variances 1 and 1, r = sqrt(2) / 2; of all: 5. No point is within r of a mean or of the middle.
    assert s_dbw([[-3.0], [-1.0], [1.0], [3.0]], [0, 0, 1, 1]) == pytest.approx(1 / 5)
    # points at the means too: variances 2 / 3, r = 0.577...; of all 14 / 3; again nothing in the middle, 0
    assert s_dbw([[-3.0], [-2.0], [-1.0], [1.0], [2.0], [3.0]], [0, 0, 0, 1, 1, 1]) == pytest.approx(1 / 7)
    # means 0 and 2 with a point of the second at the middle, 1: 1 point there, 1 at each mean
    X = [[-1.0], [0.0], [1.1], [1.0], [2.0], [3.0]]
    first, second = np.var([-1, 0, 1.1]), 2 / 3
    assert math.sqrt(first + second) / 2 < 0.9
    expected = (first + second) / 2 / np.var(X) + (2 / 1)
    assert s_dbw(X, [0, 0, 0, 1, 1, 1]) == pytest.approx(expected)


def test_a_point_just_at_the_radius_is_within_it():
    # variances 8 and 8, r = sqrt(16) / 2 = 2: 3 points at each mean; 6 at the middle, 2, four of them at the distance 2
    first, second = np.array([-4.0, -2, 0, 2, 4]), np.array([0.0, 2, 4, 6, 8])
    X = np.r_[first, second][:, None]
    assert s_dbw(X, np.repeat([0, 1], 5)) == pytest.approx(8 / 12 + 6 / 3)


def test_degenerate_clusterings_have_a_value_or_are_refused():
    assert s_dbw([[0.0], [1.0], [3.0]], [0, 1, 2]) == 0
    with pytest.raises(DataError, match="all points lie in one place"):
        s_dbw(np.full((4, 2), 0.1), [0, 0, 1, 1])
    with pytest.raises(DataError, match="needs at least 2, and the labels name 1"):
        s_dbw([[0.0], [1.0]], [0, 0])
    # centres in one place: the middle is as dense as they are together
    assert s_dbw([[-1.0], [0.0], [1.0], [-1.0], [0.0], [1.0]], [0, 0, 0, 1, 1, 1]) == pytest.approx(1 + 2)
