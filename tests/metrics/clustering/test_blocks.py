"""Distances block by block, against all of them at once."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist

from konspekt.metrics.clustering import blocks
from konspekt.metrics.clustering.blocks import pairs_by_cluster, squared_distances


@pytest.mark.parametrize("columns", [2, 40])
@pytest.mark.parametrize("matrix", [False, True])
@pytest.mark.parametrize("clusters", [1, 3, 25, 60])
def test_each_pair_comes_once_and_on_its_side(monkeypatch, columns, matrix, clusters):
    monkeypatch.setattr(blocks, "ROWS", 7)
    monkeypatch.setattr(blocks, "COLUMNS", 10)
    r = np.random.default_rng(clusters)
    points, codes = r.normal(size=(60, columns)), np.sort(r.permutation(60) % clusters)
    given = cdist(points, points) if matrix else points
    found = ([], [])
    for values, within in pairs_by_cluster(given, codes, matrix=matrix):
        assert values.size
        found[within].extend(values.ravel().tolist())
    distances = pdist(points) if matrix else pdist(points, "sqeuclidean")
    i, j = np.triu_indices(60, 1)
    for kind in (0, 1):
        expected = np.sort(distances[(codes[i] == codes[j]) == kind])
        assert np.sort(found[kind]) == pytest.approx(expected, rel=1e-12)


def test_far_from_the_origin_the_digits_stay():
    r = np.random.default_rng(0)
    points = 1e8 + r.normal(size=(20, 40))
    found = squared_distances(points, points, np.empty(400))
    assert found == pytest.approx(cdist(points, points, "sqeuclidean"), rel=1e-12)


def test_whole_numbers_are_exact_by_either_way():
    for columns in (4, 40):
        points = np.random.default_rng(0).integers(-50, 50, (30, columns)).astype(float)
        found = squared_distances(points, points, np.empty(900))
        assert (found == ((points[:, None] - points) ** 2).sum(-1)).all()
