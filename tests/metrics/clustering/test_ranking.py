"""The C index and gamma: against their definitions over all pairs, and scikit-learn's and SciPy's rank statistics."""

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform
from scipy.stats import somersd
from sklearn.metrics import roc_auc_score

from konspekt.core.errors import ConfigError, DataError
from konspekt.metrics.clustering import c_index, gamma, ranking

R = np.random.default_rng(0)
BLOBS = R.normal(size=(100, 3)) + 2 * (np.arange(100) % 4)[:, None], np.arange(100) % 4
CASES = {
    "blobs": BLOBS,
    "ties": (R.integers(0, 4, (90, 2)).astype(float), R.integers(0, 3, 90)),
    "few distances": (R.integers(0, 2, (90, 1)).astype(float), R.integers(0, 3, 90)),
    "many clusters": (R.normal(size=(80, 30)), R.permutation(80) % 50),
    "uneven": (R.normal(size=(80, 2)), np.r_[np.zeros(75), np.arange(1, 6)]),
    "large numbers": (1e200 * BLOBS[0], BLOBS[1]),
    "small numbers": (1e-200 * BLOBS[0], BLOBS[1]),
}


def split(X, labels):
    """All distances, and which are within clusters. A power of two that they are divided by parts no ties."""
    distances = pdist(X / 2.0 ** np.round(np.log2(np.abs(X).max())))
    i, j = np.triu_indices(len(X), 1)
    own = np.asarray(labels)[i] == np.asarray(labels)[j]
    return distances, own


def gamma_by_definition(X, labels):
    distances, own = split(X, labels)
    smaller = (distances[own][:, None] < distances[~own]).sum()
    larger = (distances[own][:, None] > distances[~own]).sum()
    return (smaller - larger) / (smaller + larger)


def c_by_definition(X, labels):
    distances, own = split(X, labels)
    n, ranked = own.sum(), np.sort(distances)
    least, most = ranked[:n].sum(), ranked[-n:].sum()
    return (distances[own].sum() - least) / (most - least)


@pytest.fixture(params=["at once", "passes", "many passes"])
def held(request, monkeypatch):
    """How much is held at a time: all, or so little that bins are refined."""
    monkeypatch.setattr(ranking, "BATCH", 2**18)
    if request.param != "at once":
        held = {"passes": 500, "many passes": 40}[request.param]
        monkeypatch.setattr(ranking, "HELD", held)
        monkeypatch.setattr(ranking, "FEW", held)
        monkeypatch.setattr(ranking, "BINS", 64)


@pytest.mark.parametrize("case", CASES)
def test_gamma_by_its_definition(held, case):
    X, labels = CASES[case]
    assert gamma(X, labels, tolerance=0) == pytest.approx(gamma_by_definition(X, labels), abs=1e-14)


@pytest.mark.parametrize("case", CASES)
def test_c_by_its_definition(held, case):
    X, labels = CASES[case]
    assert c_index(X, labels) == pytest.approx(c_by_definition(X, labels), abs=1e-11)


def test_of_a_matrix_of_distances(held):
    X, labels = BLOBS
    matrix = squareform(pdist(X, "cityblock"))
    order = R.permutation(100)  # not in the order of the clusters
    matrix, labels = matrix[np.ix_(order, order)], labels[order]
    distances = squareform(matrix)
    i, j = np.triu_indices(100, 1)
    own = labels[i] == labels[j]
    auc = roc_auc_score(~own, distances)
    assert gamma(matrix, labels, metric="precomputed", tolerance=0) == pytest.approx(2 * auc - 1, abs=1e-12)
    n, ranked = own.sum(), np.sort(distances)
    expected = (distances[own].sum() - ranked[:n].sum()) / (ranked[-n:].sum() - ranked[:n].sum())
    assert c_index(matrix, labels, metric="precomputed") == pytest.approx(expected, abs=1e-12)


def test_gamma_without_ties_is_somers_d():
    X, labels = BLOBS[0][:30], BLOBS[1][:30]
    distances, own = split(X, labels)
    assert gamma(X, labels) == pytest.approx(somersd(1 - own, distances).statistic, abs=1e-12)


@pytest.mark.parametrize("bins", [2**6, 2**10, 2**14])
def test_gamma_is_within_its_tolerance(monkeypatch, bins):
    monkeypatch.setattr(ranking, "HELD", 100)
    monkeypatch.setattr(ranking, "BINS", bins)
    monkeypatch.setattr(ranking, "BATCH", 2**18)
    exact = gamma_by_definition(*BLOBS)
    for tolerance in (0.5, 0.1, 0.01, 1e-4):
        assert abs(gamma(*BLOBS, tolerance=tolerance) - exact) <= tolerance
    if bins == 2**6:
        assert gamma(*BLOBS, tolerance=0.5) != pytest.approx(exact, abs=1e-6)  # one pass, and no more


def test_products_beyond_64_bits_are_exact():
    a, b = (np.random.default_rng(s).integers(0, 2**40, 1000) for s in (1, 2))
    assert ranking._dot(a, b) == sum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True))


def test_clusters_wholly_apart_are_the_best_there_is():
    X, labels = np.r_[R.normal(size=(20, 2)), R.normal(size=(20, 2)) + 100], np.repeat([0, 1], 20)
    assert gamma(X, labels) == 1.0
    assert c_index(X, labels) == pytest.approx(0, abs=1e-12)


def test_the_worst_there_is():
    """The one pair within is the farthest of all."""
    X, labels = [[0.0], [10], [5], [4]], [0, 0, 1, 2]
    assert gamma(X, labels) == -1.0
    assert c_index(X, labels) == 1.0


@pytest.mark.parametrize(("index", "name"), [(c_index, "the C index"), (gamma, "gamma")])
def test_what_is_refused(index, name):
    X = np.arange(6.0).reshape(3, 2)
    with pytest.raises(DataError, match=f"{name} compares clusters"):
        index(X, [0, 0, 0])
    with pytest.raises(DataError, match=f"{name} is not defined where each of the 3 points is a cluster by itself"):
        index(X, [0, 1, 2])
    with pytest.raises(DataError, match=f"{name} is not defined where all distances are equal"):
        index(np.ones((4, 2)), [0, 0, 1, 1])
    with pytest.raises(ConfigError, match=f"{name}: metric is 'euclidean' or 'precomputed' .*, not 'cosine'"):
        index(X, [0, 0, 1], metric="cosine")
    with pytest.raises(DataError, match=f"{name}: the matrix of distances is not symmetric"):
        index([[0, 1, 2], [1, 0, 3], [2, 4, 0]], [0, 0, 1], metric="precomputed")


def test_a_tolerance_below_zero_is_refused():
    with pytest.raises(ConfigError, match="gamma: tolerance is a number from 0 on, not -1"):
        gamma(*BLOBS, tolerance=-1)


def test_a_tolerance_that_is_no_number_is_refused():
    with pytest.raises(ConfigError, match="tolerance is a number from 0 on, not 'a'"):
        gamma(np.eye(3), [0, 0, 1], tolerance="a")
