"""Purity, Goodman-Kruskal and variation of information: published values, scikit-learn's entropies, properties."""

import math

import numpy as np
import pytest
from scipy.stats import entropy
from sklearn.metrics import mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

from konspekt.metrics.clustering import goodman_kruskal, purity, variation_of_information

BOOK = (
    ["x"] * 5 + ["o"] + ["x"] + ["o"] * 4 + ["d"] + ["x"] * 2 + ["d"] * 3,
    [1] * 6 + [2] * 6 + [3] * 5,
)  # fmt: skip


def drawn(seed, n=80):
    r = np.random.default_rng(seed)
    return r.integers(0, 5, n), r.integers(-1, 3, n), r.integers(0, 7, n)


def test_purity_of_the_published_example():
    """Manning, Raghavan & Schuetze 2008, figure 16.4: (5 + 4 + 3) / 17."""
    assert purity(*BOOK) == 12 / 17
    assert goodman_kruskal(*BOOK) == 5 / 17


@pytest.mark.parametrize("seed", range(4))
def test_against_the_table_of_scikit_learn(seed):
    truth, labels, _ = drawn(seed)
    table = contingency_matrix(truth, labels)
    assert purity(truth, labels) == pytest.approx(table.max(0).sum() / 80, abs=1e-15)
    p = table / 80
    errors = sum(c.sum() * (1 - c.max() / c.sum()) for c in p.T)
    assert goodman_kruskal(truth, labels) == pytest.approx(errors, abs=1e-14)
    # their lambda: by how much knowing the cluster lessens the errors of guessing the class
    lessened = ((1 - p.sum(1).max()) - errors) / (1 - p.sum(1).max())
    assert 1 - goodman_kruskal(truth, labels) / (1 - p.sum(1).max()) == pytest.approx(lessened, abs=1e-14)


@pytest.mark.parametrize("seed", range(4))
def test_variation_of_information_by_entropies(seed):
    truth, labels, _ = drawn(seed)
    apart = sum(entropy(np.unique(a, return_counts=True)[1]) for a in (truth, labels))
    expected = apart - 2 * mutual_info_score(truth, labels)
    assert variation_of_information(truth, labels) == pytest.approx(expected, abs=1e-13)


def test_variation_of_information_is_a_metric():
    for seed in range(10):
        a, b, c = drawn(seed)
        ab, bc, ac = variation_of_information(a, b), variation_of_information(b, c), variation_of_information(a, c)
        assert ab == pytest.approx(variation_of_information(b, a), abs=1e-14)
        assert 0 < ac <= ab + bc
        assert variation_of_information(a, 9 - a) == 0.0


def test_one_cluster_and_single_points():
    truth = [0, 0, 0, 1]
    assert purity(truth, [0] * 4) == 0.75
    assert goodman_kruskal(truth, [0] * 4) == 0.25
    assert purity(truth, range(4)) == 1.0
    assert goodman_kruskal(truth, range(4)) == 0.0
    assert variation_of_information([0] * 4, range(4)) == pytest.approx(math.log(4), abs=1e-15)
    for index, best in ((purity, 1.0), (goodman_kruskal, 0.0), (variation_of_information, 0.0)):
        assert index([7], ["a"]) == best
