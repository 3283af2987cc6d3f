"""The silhouette, against scikit-learn's and by hand."""

import numpy as np
import pytest
from sklearn.metrics import pairwise_distances, silhouette_score
from sklearn.metrics import silhouette_samples as theirs

from konspekt.core.errors import ConfigError, DataError
from konspekt.metrics.clustering import silhouette, silhouette_samples, silhouettes


@pytest.fixture(params=[(120, 3, 4), (120, 40, 4), (100, 2, 60)], ids=str)
def clustering(request, monkeypatch):
    monkeypatch.setattr(silhouettes, "HELD", 1000)  # a few rows at a time
    n, f, k = request.param
    r = np.random.default_rng(n)
    labels = r.permutation(n) % k
    return r.normal(size=(n, f)) + 0.5 * labels[:, None], labels


@pytest.mark.parametrize("metric", ["euclidean", "manhattan", "cosine", "precomputed"])
def test_against_scikit_learn(clustering, metric):
    X, labels = clustering
    if metric == "precomputed":
        X = pairwise_distances(X, metric="chebyshev")
    assert silhouette_samples(X, labels, metric=metric) == pytest.approx(theirs(X, labels, metric=metric), abs=1e-9)
    assert silhouette(X, labels, metric=metric) == pytest.approx(silhouette_score(X, labels, metric=metric), abs=1e-10)


def test_a_function_as_metric():
    X, labels = np.random.default_rng(0).normal(size=(20, 2)), np.arange(20) % 3

    def largest(x, y):
        return np.abs(x - y).max()

    assert silhouette(X, labels, metric=largest) == pytest.approx(silhouette(X, labels, metric="chebyshev"), abs=1e-12)


def test_a_worked_example():
    """Point 0: a = 1, b = 4.5. Point 5 is alone."""
    found = silhouette_samples([[0.0], [1], [4], [5], [12]], ["a", "a", "b", "b", "c"])
    assert found.tolist() == pytest.approx([3.5 / 4.5, 2.5 / 3.5, 2.5 / 3.5, 3.5 / 4.5, 0])


def test_noise_has_none():
    X = np.array([[0.0], [1], [4], [5], [4.5]])
    found = silhouette_samples(X, [0, 0, 1, 1, -1])
    assert np.isnan(found[4])
    assert found[:4] == pytest.approx(silhouette_samples(X[:4], [0, 0, 1, 1]))
    assert silhouette(X, [0, 0, 1, 1, -1]) == pytest.approx(found[:4].mean())


def test_where_nothing_tells_the_clusters_apart():
    assert silhouette(np.ones((6, 2)), [0, 0, 0, 1, 1, 1]) == 0.0
    assert silhouette([[0.0], [1], [2]], [0, 1, 2]) == 0.0


def test_units_do_not_matter():
    X, labels = np.random.default_rng(0).normal(size=(30, 2)), np.arange(30) % 3
    for scale in (2.0**-900, 1e200):
        assert silhouette(scale * X, labels) == pytest.approx(silhouette(X, labels), rel=1e-12)


def test_what_is_refused():
    X = np.arange(6.0).reshape(3, 2)
    with pytest.raises(DataError, match="the silhouette compares clusters: it needs at least 2, and the labels name 1"):
        silhouette(X, [0, 0, 0])
    with pytest.raises(ConfigError, match=r"the silhouette: metric 'nearness': .* must be a str among"):
        silhouette(X, [0, 0, 1], metric="nearness")
    with pytest.raises(DataError, match="the silhouette: a matrix of distances is square"):
        silhouette(X, [0, 0, 1], metric="precomputed")


def test_distances_that_are_not_finite_are_refused():
    with pytest.raises(DataError, match="gives distances that are NaN or infinite"):
        silhouette(np.eye(4), [0, 0, 1, 1], metric=lambda x, y: float("nan"))


def test_a_metric_of_truth_values_says_nothing_else():
    from scipy.spatial.distance import cdist

    X, labels = np.array([[1.0, 0, 0], [1, 1, 0], [0, 1, 1], [0, 0, 1]]), [0, 0, 1, 1]
    expected = silhouette(cdist(X > 0, X > 0, "jaccard"), labels, metric="precomputed")
    assert silhouette(X, labels, metric="jaccard") == pytest.approx(expected)
