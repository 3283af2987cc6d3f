import math

import numpy as np
import pytest

from konspekt.core import DataError
from konspekt.metrics.clustering import symmetry
from konspekt.metrics.clustering.symmetry import sym, sym_33, sym_d, sym_db


def apart(x, y):
    return math.sqrt(sum((a - b) ** 2 for a, b in zip(x, y, strict=True)))


def distances(S, weighted):
    """d_ps of each point of a cluster, Bandyopadhyay & Saha 2008, formula 4, with neighbours of the cluster alone."""
    c, found = sum(S) / len(S), []
    for x in S:
        nearest = sorted(apart(2 * c - x, y) for y in S)[:2]
        found.append(sum(nearest) / len(nearest) * (apart(x, c) if weighted else 1))
    return found


def plain(name, X, labels, weighted):
    C = [list(X[labels == k]) for k in np.unique(labels)]
    K, c, d = len(C), [sum(S) / len(S) for S in C], [distances(S, weighted) for S in C]
    pairs = [(i, j) for i in range(K) for j in range(K) if i != j]
    if name == "sym":
        return max(apart(c[i], c[j]) for i, j in pairs) / sum(map(sum, d)) / K
    if name == "sym_db":
        s = [sum(part) / len(part) for part in d]
        return sum(max((s[i] + s[j]) / apart(c[i], c[j]) for i, j in pairs if i == k) for k in range(K)) / K
    if name == "sym_d":
        return min(apart(x, y) for i, j in pairs for x in C[i] for y in C[j]) / max(map(max, d))
    means = [sum(apart(x, y) for x in C[i] for y in C[j]) / len(C[i]) / len(C[j]) for i, j in pairs]
    return min(means) / max(2 * sum(part) / len(part) for part in d)


INDICES = {"sym": sym, "sym_db": sym_db, "sym_d": sym_d, "sym_33": sym_33}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("name", INDICES)
def test_each_is_what_the_definition_gives_point_by_point(name, weighted, seed):
    rng = np.random.default_rng(seed)
    count, features = ((2, 1), (4, 2), (7, 10), (9, 3))[seed]  # 10 columns: by tiles, fewer: by a tree
    labels = rng.permutation(np.r_[np.arange(count), rng.integers(0, count, 70 - count)])
    X = 2 * rng.standard_normal((count, features))[labels] + rng.standard_normal((70, features))
    expected = plain(name, X, labels, weighted)
    assert INDICES[name](X, labels, weighted) == pytest.approx(expected, rel=1e-7)
    noisy = np.r_[X, np.full((1, features), 50.0)], np.r_[labels, -1]
    assert INDICES[name](*noisy, weighted) == pytest.approx(expected, rel=1e-7)


def test_a_case_by_hand():
    X, labels = [[0.0], [2.0], [5.0], [6.0], [10.0]], [0, 0, 1, 1, 1]  # means 1 and 7
    # images 2, 0: nearest at 0 and 2, mean 1, times 1. Images 9, 8, 4 of 5, 6, 10: at (1, 3), (2, 2), (1, 2), times 2, 1, 3
    d = [[1, 1], [4, 2, 4.5]]
    assert sym(X, labels) == pytest.approx(6 / (2 * (2 + 10.5)))
    assert sym_db(X, labels) == pytest.approx((1 + 3.5) / 6)
    assert sym_d(X, labels) == pytest.approx(3 / max(d[1]))
    assert sym_33(X, labels) == pytest.approx((5 + 6 + 10 + 3 + 4 + 8) / 6 / 7)
    assert sym(X, labels, weighted=False) == pytest.approx(6 / (2 * (2 + 2 + 2 + 1.5)))


def test_degenerate_clusterings_have_a_value_or_are_refused():
    apart_singles = [[0.0, 0.0], [1.0, 0.0], [5.0, 5.0]]
    assert (
        sym(apart_singles, [0, 1, 2]) == sym_d(apart_singles, [0, 1, 2]) == sym_33(apart_singles, [0, 1, 2]) == math.inf
    )
    assert sym_db(apart_singles, [0, 1, 2]) == 0
    crossed = [[-1.0, 0.0], [1.0, 0.0], [0.0, -1.0], [0.0, 1.0]]
    assert sym_db(crossed, [0, 0, 1, 1]) == math.inf
    assert sym(crossed, [0, 0, 1, 1]) == 0
    for index in INDICES.values():
        with pytest.raises(DataError, match="0 divided by 0"):
            index(np.full((6, 2), 0.1), [0, 0, 0, 1, 1, 1])
        with pytest.raises(DataError, match="needs at least 2, and the labels name 1"):
            index([[0.0], [1.0]], [0, 0])


def test_a_cluster_of_many_columns_in_several_tiles(monkeypatch):
    rng = np.random.default_rng(1)
    X, labels = rng.standard_normal((60, 8)), np.r_[np.zeros(40, int), np.ones(20, int)]
    whole = sym(X, labels)
    monkeypatch.setattr(symmetry, "BLOCK", 100)
    assert sym(X, labels) == pytest.approx(whole, rel=1e-12) == pytest.approx(plain("sym", X, labels, True), rel=1e-7)
    monkeypatch.setattr(symmetry, "TREE", 8)
    assert sym(X, labels) == pytest.approx(whole, rel=1e-7)
