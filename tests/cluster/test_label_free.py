"""Parameters that are chosen without labels."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest

from konspekt.cluster import KMeans, shapes
from konspekt.cluster.clusterer import Clusterer
from konspekt.cluster.label_free import clusterers, silhouette_of, suit
from konspekt.core.errors import DataError
from konspekt.core.params import check_params
from konspekt.core.registry import lookup
from konspekt.metrics.clustering import adjusted_rand


def of(name):
    return lookup("estimator", name).load()


def test_every_registered_clusterer_gets_parameters_that_hold():
    X, _ = shapes("separate", n_samples=60, random_state=0)
    found = dict(clusterers())
    assert {"kmeans", "dbscan", "gaussian-mixture", "agglomerative"} <= set(found)
    for name, cls in found.items():
        made = suit(cls, X, 3)
        check_params(made.estimator)
        assert made.rule, name
        assert getattr(made.estimator, "random_state", 3) == 3


@pytest.mark.parametrize("name", ["kmeans", "dbscan", "agglomerative", "gaussian-mixture", "graph-clustering"])
def test_separate_groups_are_found(name):
    X, y = shapes("separate", n_samples=160, random_state=1)
    estimator = suit(of(name), X, 0).estimator
    assert adjusted_rand(y, estimator.fit(X).labels_) > 0.8


def test_number_of_clusters_is_that_of_the_largest_silhouette():
    X, _ = shapes("noisy", n_samples=120, noise=0.0, random_state=0)
    made = suit(KMeans, X, 0)
    scores = {k: silhouette_of(X, KMeans(n_clusters=k, random_state=0).fit(X).labels_) for k in range(2, 11)}
    assert made.estimator.n_clusters == max(scores, key=scores.get) == 3
    assert made.rule == f"n_clusters=3 of 2 to 10, by the silhouette ({scores[3]:.2f})"


def test_components_are_those_of_the_least_bic():
    X, _ = shapes("separate", n_samples=120, random_state=0)
    cls = of("gaussian-mixture")
    made = suit(cls, X, 0).estimator
    found = {k: cls(n_components=k, random_state=0).fit(X).bic(X) for k in range(1, 11)}
    assert made.n_components == min(found, key=found.get) == 4


def test_eps_is_the_knee():
    """Nine of ten points lie on a fine grid, one of ten on a coarse one: the knee is the step of the fine one."""
    fine = np.stack(np.meshgrid(np.arange(15.0), np.arange(15.0)), -1).reshape(-1, 2)
    coarse = 100 + 10 * np.stack(np.meshgrid(np.arange(5.0), np.arange(5.0)), -1).reshape(-1, 2)
    made = suit(of("dbscan"), np.r_[fine, coarse], 0)
    assert made.estimator.min_samples == 4
    assert 1 <= made.estimator.eps < 2
    assert made.rule == f"eps={made.estimator.eps:.4g}, the knee of the distances to the neighbour 4; min_samples=4"


def test_silhouette_without_two_clusters():
    X = np.arange(6.0)[:, None]
    assert silhouette_of(X, np.array([0, 0, 0, -1, -1, -1])) == -1
    assert silhouette_of(X, np.arange(6)) == -1
    assert silhouette_of(X, np.array([0, 0, 1, 1, -1, -1])) == silhouette_of(X[:4], np.array([0, 0, 1, 1]))


@dataclass(kw_only=True, eq=False, repr=False)
class Foreign(Clusterer):
    """A clusterer of somebody else's, that refuses odd numbers of clusters."""

    n_clusters: int = 8
    affinity: Literal["rbf", "nearest_neighbors"] = "rbf"

    def cluster(self, X):
        if self.n_clusters % 2:
            raise DataError("Foreign: odd")
        self.labels_ = np.minimum(np.arange(len(X)) * self.n_clusters // len(X), self.n_clusters - 1)


def test_rules_go_by_the_names_of_parameters_and_pass_over_what_fails():
    X = np.arange(12.0)[:, None] + np.repeat([0.0, 50, 100, 150], 3)[:, None]
    made = suit(Foreign, X, 0)
    assert (made.estimator.n_clusters, made.estimator.affinity) == (4, "nearest_neighbors")


def test_points_that_are_alike():
    X = np.zeros((20, 2))
    with pytest.raises(DataError, match="DBSCAN: most points have 4 others at no distance"):
        suit(of("dbscan"), X, 0)
    with pytest.raises(DataError, match="KMeans: 2 points are too few to choose n_clusters"):
        suit(KMeans, X[:2], 0)
