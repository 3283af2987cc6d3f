"""Points of many columns, and distances, in the plane."""

import numpy as np
import pytest
from scipy.spatial import procrustes
from scipy.spatial.distance import pdist, squareform
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA

from konspekt.cluster import plane as module
from konspekt.cluster.plane import by_distances, in_the_plane


def test_two_columns_stay():
    points = np.array([[1.0, 2], [3, 4]], dtype=np.float32)
    seen, names, place = in_the_plane(points, ["a", "b"])
    assert seen.dtype == np.float64
    assert seen.tolist() == points.tolist()
    assert names == ["a", "b"]
    assert place(points[:1]).tolist() == [[1, 2]]


def test_one_column_gets_zeros():
    seen, names, place = in_the_plane(np.array([[1.0], [3]]), ["a"])
    assert seen.tolist() == [[1, 0], [3, 0]]
    assert names == ["a", ""]
    assert place(np.array([[7.0]])).tolist() == [[7, 0]]


@pytest.mark.parametrize("wide", [False, True])
def test_principal_components_are_those_of_scikit_learn(wide, monkeypatch):
    points = load_iris().data
    if wide:
        monkeypatch.setattr(module, "WIDEST", 3)  # by Lanczos
    monkeypatch.setattr(module, "BLOCK", 40)  # ten rows at a time
    seen, names, place = in_the_plane(points, list("abcd"))
    peer = PCA(2).fit(points)
    expected = peer.transform(points)
    assert np.allclose(np.abs(seen), np.abs(expected), atol=1e-6)
    assert names == ["principal component 1 (92% of variance)", "principal component 2 (5% of variance)"]
    assert np.allclose(place(points[:5]), seen[:5])
    assert np.allclose(np.abs(place(peer.mean_[None])), 0, atol=1e-9)


def test_the_sign_is_fixed():
    points = load_iris().data
    _, _, place = in_the_plane(points, list("abcd"))
    axes = place(np.eye(4)) - place(np.zeros((4, 4)))
    assert (axes[np.abs(axes).argmax(0), [0, 1]] > 0).all()


@pytest.mark.parametrize("width", [3, 1200])
def test_identical_points(width):
    seen, names, _ = in_the_plane(np.ones((5, width)), [""] * width)
    assert (seen == 0).all()
    assert names[0] == "principal component 1 (0% of variance)"


def test_numbers_whose_squares_overflow():
    points = np.random.default_rng(0).normal(size=(50, 3))
    small, big = (in_the_plane(points * factor, list("abc"))[0] for factor in (1.0, 1e200))
    assert np.allclose(small, big / 1e200)


@pytest.mark.parametrize("limit", [1000, 10])
def test_distances_give_the_points_back(limit, monkeypatch):
    monkeypatch.setattr(module, "WIDEST", limit)
    points = np.random.default_rng(1).normal(size=(40, 2)) * [3, 1]
    seen, names = by_distances(squareform(pdist(points)))
    assert np.allclose(pdist(seen), pdist(points), atol=1e-6)
    assert procrustes(points, seen)[2] < 1e-9
    assert names[0].startswith("principal coordinate 1 (")
    shares = [int(name.partition("(")[2].partition("%")[0]) for name in names]
    assert sum(shares) in (99, 100, 101)


def test_distances_of_no_plane():
    seen, _ = by_distances(np.zeros((2, 2)))
    assert (seen == 0).all()
    broken = np.array([[0, 1, 5.0], [1, 0, 1], [5, 1, 0]])  # 5 > 1 + 1
    assert np.isfinite(by_distances(broken)[0]).all()
