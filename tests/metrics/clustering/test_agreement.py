"""Counts of pairs: against scikit-learn, all pairs one by one, published examples, and properties."""

import itertools
import math

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, fowlkes_mallows_score, matthews_corrcoef, rand_score
from sklearn.metrics.cluster import pair_confusion_matrix

from konspekt.core.errors import ConfigError, DataError
from konspekt.metrics.clustering import (
    adjusted_rand,
    fowlkes_mallows,
    hubert_gamma,
    jaccard,
    minkowski_score,
    pair_counts,
    phi,
    rand,
)

# Manning, Raghavan & Schuetze, Introduction to information retrieval, 2008, figure 16.4 and its worked Rand index
BOOK = (
    ["x"] * 5 + ["o"] + ["x"] + ["o"] * 4 + ["d"] + ["x"] * 2 + ["d"] * 3,
    [1] * 6 + [2] * 6 + [3] * 5,
)  # fmt: skip
# Yeung & Ruzzo, Details of the adjusted Rand index and clustering algorithms, 2001: the table of its example
TABLE = np.array([[1, 1, 0], [1, 2, 1], [0, 0, 4]])
PAPER = np.repeat(np.repeat(range(3), 3), TABLE.ravel()), np.repeat(np.tile(range(3), 3), TABLE.ravel())
INDICES = [rand, adjusted_rand, jaccard, fowlkes_mallows, hubert_gamma, phi]


def random_labels(seed, n=60):
    r = np.random.default_rng(seed)
    return r.integers(0, 5, n), r.integers(-1, 3, n)


def indicators(truth, labels):
    pairs = list(itertools.combinations(range(len(truth)), 2))
    return [truth[i] == truth[j] for i, j in pairs], [labels[i] == labels[j] for i, j in pairs]


@pytest.mark.parametrize("seed", range(5))
def test_counts_are_those_of_all_pairs_and_of_scikit_learn(seed):
    truth, labels = random_labels(seed)
    p, q = (np.array(a) for a in indicators(truth, labels))
    counts = pair_counts(truth, labels)
    assert counts == ((p & q).sum(), (~p & q).sum(), (p & ~q).sum(), (~p & ~q).sum())
    (tn, fp), (fn, tp) = pair_confusion_matrix(truth, labels) // 2
    assert counts == (tp, fp, fn, tn)
    assert counts.total == len(p)


@pytest.mark.parametrize("seed", range(5))
def test_against_scikit_learn_and_numpy(seed):
    truth, labels = random_labels(seed)
    p, q = (np.array(a, float) for a in indicators(truth, labels))
    assert rand(truth, labels) == pytest.approx(rand_score(truth, labels), abs=1e-14)
    assert adjusted_rand(truth, labels) == pytest.approx(adjusted_rand_score(truth, labels), abs=1e-14)
    assert fowlkes_mallows(truth, labels) == pytest.approx(fowlkes_mallows_score(truth, labels), abs=1e-14)
    assert jaccard(truth, labels) == pytest.approx((p * q).sum() / np.maximum(p, q).sum(), abs=1e-14)
    assert phi(truth, labels) == pytest.approx(matthews_corrcoef(p, q), abs=1e-12)
    assert hubert_gamma(truth, labels) == pytest.approx(np.corrcoef(p, q)[0, 1], abs=1e-12)
    assert hubert_gamma(truth, labels, form="raw") == pytest.approx((p * q).mean(), abs=1e-14)
    assert minkowski_score(truth, labels) == pytest.approx(np.linalg.norm(p - q) / np.linalg.norm(p), abs=1e-14)


def test_published_examples():
    assert pair_counts(*BOOK) == (20, 20, 24, 72)
    assert round(rand(*BOOK), 2) == 0.68
    assert round(rand(*PAPER), 3) == 0.711
    assert round(adjusted_rand(*PAPER), 3) == 0.313


@pytest.mark.parametrize("index", INDICES)
def test_symmetric_and_blind_to_names(index):
    truth, labels = random_labels(7)
    value = index(truth, labels)
    assert index(labels, truth) == pytest.approx(value, abs=1e-15)
    assert index(np.array(list("edcba"))[truth], 10**15 * (3 - labels)) == value


@pytest.mark.parametrize("index", INDICES)
@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 2, 3], [4]], ids=["one cluster", "single points", "one point"])
def test_labellings_alike_agree_wholly(index, labels):
    assert index(labels, labels) == 1.0
    assert minkowski_score(labels, labels) == 0.0


def test_one_cluster_against_single_points():
    one, single, some = [0] * 4, list(range(4)), [0, 0, 1, 1]
    for index in INDICES:
        assert index(one, single) == index(single, one) == 0.0
    assert adjusted_rand(some, one) == phi(some, one) == adjusted_rand(some, single) == phi(some, single) == 0.0
    assert minkowski_score(single, some) == math.inf
    assert minkowski_score(one, single) == 1.0


def test_least_adjusted_rand():
    """The minimum -1/2, of N = 4 and two clusters crossed by two classes (Chacon & Rastrojo 2023)."""
    assert adjusted_rand([0, 0, 1, 1], [0, 1, 0, 1]) == -0.5


def test_counts_are_whole_numbers_of_any_size():
    n = 300_000
    counts = pair_counts(np.zeros(n), np.arange(n) % 2)
    assert counts.tp == 2 * math.comb(n // 2, 2)
    assert counts.fn == (n // 2) ** 2
    assert all(type(c) is int for c in counts)
    assert phi(np.arange(n) % 3, np.arange(n) % 2) == pytest.approx(0, abs=1e-5)


def test_many_classes_and_clusters_need_no_table_of_them():
    n = 100_000
    assert adjusted_rand(np.arange(n), np.arange(n)[::-1]) == 1.0  # a table would have 1e10 cells


def test_labels_that_cannot_be_compared():
    with pytest.raises(DataError, match="adjusted_rand: 3 true labels, but 2 of clusters"):
        adjusted_rand([0, 1, 1], [0, 1])
    with pytest.raises(DataError, match=r"phi: labels are one for each point, of shape \(N,\); got the shape \(1, 2\)"):
        phi([[0, 1]], [0, 1])
    with pytest.raises(DataError, match="rand: 1 labels are NaN or infinite"):
        rand([0, 1], [0, np.nan])


def test_an_unknown_form_of_hubert_gamma_is_refused():
    with pytest.raises(ConfigError, match="form is 'normalised' or 'raw', not 'x'"):
        hubert_gamma([0, 0, 1], [0, 1, 1], form="x")
