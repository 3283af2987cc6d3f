"""Indices of the distances to centres: scikit-learn's values, worked examples, decomposition of the sum of squares."""

import math

import numpy as np
import pytest
from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score

from konspekt.core.errors import DataError
from konspekt.metrics.clustering import (
    calinski_harabasz,
    cohesion,
    davies_bouldin,
    davies_bouldin_star,
    dispersion,
    separation,
)


@pytest.fixture(params=[(200, 3, 4), (150, 1, 2), (90, 30, 40), (1000, 5, 7)], ids=str)
def clustering(request, monkeypatch):
    monkeypatch.setattr(dispersion, "HELD", 200)  # several blocks
    n, f, k = request.param
    r = np.random.default_rng(n)
    labels = np.r_[np.arange(k), r.integers(0, k, n - k)]
    return 5 + 3 * r.normal(size=(n, f)) + labels[:, None], labels


def test_against_scikit_learn(clustering):
    X, labels = clustering
    assert calinski_harabasz(X, labels) == pytest.approx(calinski_harabasz_score(X, labels), rel=1e-12)
    assert davies_bouldin(X, labels) == pytest.approx(davies_bouldin_score(X, labels), rel=1e-7)  # theirs rounds


def test_cohesion_and_separation_make_up_the_sum_of_squares(clustering):
    X, labels = clustering
    total = ((X - X.mean(0)) ** 2).sum()
    assert cohesion(X, labels) + separation(X, labels) == pytest.approx(total, rel=1e-12)
    parts = [X[labels == k] for k in np.unique(labels)]
    assert cohesion(X, labels) == pytest.approx(sum(((p - p.mean(0)) ** 2).sum() for p in parts), rel=1e-12)


def test_the_star_form_by_its_definition(clustering):
    X, labels = clustering
    parts = [X[labels == k] for k in np.unique(labels)]
    centres = [p.mean(0) for p in parts]
    wide = [np.linalg.norm(p - c, axis=1).mean() for p, c in zip(parts, centres, strict=True)]
    terms = []
    for i in range(len(parts)):
        others = [j for j in range(len(parts)) if j != i]
        terms.append(
            max(wide[i] + wide[j] for j in others) / min(np.linalg.norm(centres[i] - centres[j]) for j in others)
        )
    assert davies_bouldin_star(X, labels) == pytest.approx(np.mean(terms), rel=1e-10)
    assert davies_bouldin_star(X, labels) >= davies_bouldin(X, labels) * (1 - 1e-12)


def test_worked_examples():
    X = np.array([[0.0], [1], [10], [11]])
    assert (cohesion(X, [0, 0, 1, 1]), separation(X, [0, 0, 1, 1])) == (1.0, 100.0)
    assert calinski_harabasz(X, [0, 0, 1, 1]) == pytest.approx(200, rel=1e-15)
    assert davies_bouldin(X, [0, 0, 1, 1]) == davies_bouldin_star(X, [0, 0, 1, 1]) == pytest.approx(0.1, rel=1e-15)
    # centres 1, 10, 16; widths 1, 0, 4
    X, labels = np.array([[0.0], [2], [10], [10], [12], [20]]), [0, 0, 1, 1, 2, 2]
    assert davies_bouldin(X, labels) == pytest.approx((5 / 15 + 4 / 6 + 4 / 6) / 3, rel=1e-15)
    assert davies_bouldin_star(X, labels) == pytest.approx((5 / 9 + 4 / 6 + 5 / 6) / 3, rel=1e-15)


def test_one_cluster():
    X = np.array([[0.0], [1], [2]])
    assert (cohesion(X, [3, 3, 3]), separation(X, [3, 3, 3])) == (2.0, 0.0)
    for index in (calinski_harabasz, davies_bouldin, davies_bouldin_star):
        with pytest.raises(DataError, match="compares clusters: it needs at least 2, and the labels name 1"):
            index(X, [3, 3, 3])


def test_clusters_of_one_place_each():
    X, labels = np.repeat([[0.1, 0.7], [5.3, 0.1]], 7, axis=0), np.repeat([0, 1], 7)
    assert cohesion(X, labels) == 0.0
    assert calinski_harabasz(X, labels) == math.inf
    assert davies_bouldin(X, labels) == davies_bouldin_star(X, labels) == 0.0


def test_centres_in_one_place():
    X, labels = np.array([[-1.0], [1], [-2], [2]]), [0, 0, 1, 1]
    assert calinski_harabasz(X, labels) == 0.0
    assert davies_bouldin(X, labels) == davies_bouldin_star(X, labels) == math.inf
    assert calinski_harabasz(np.ones((4, 2)), labels) == 0.0


def test_single_points():
    X = np.array([[0.0], [1], [3]])
    assert cohesion(X, [0, 1, 2]) == davies_bouldin(X, [0, 1, 2]) == 0.0
    with pytest.raises(DataError, match="not defined where each of the 3 points is a cluster by itself"):
        calinski_harabasz(X, [0, 1, 2])
