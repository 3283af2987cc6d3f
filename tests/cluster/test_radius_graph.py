"""Components of the radius graph: trees against SciPy, cuts against single linkage and DBSCAN, prediction, bad input."""

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist, squareform
from sklearn.cluster import DBSCAN as PeerDBSCAN
from sklearn.datasets import make_blobs, make_moons
from sklearn.metrics import adjusted_rand_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from konspekt import load
from konspekt.cluster import GraphClustering
from konspekt.cluster import spanning as module
from konspekt.cluster.spanning import by_prim, by_tree, spanning_tree
from konspekt.core.errors import ConfigError, DataError
from konspekt.core.runs import Run


@parametrize_with_checks([GraphClustering()])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def _sets():
    rng = np.random.default_rng(0)
    return {
        "moons": make_moons(700, noise=0.08, random_state=0)[0],
        "lattice": rng.integers(0, 20, (600, 2)).astype(float),  # many equal lengths, and 0
        "one place": np.ones((100, 2)),
        "line": rng.random((300, 1)),
        "two crowds": np.r_[rng.random((300, 3)), rng.random((200, 3)) + 5],
        "scales": rng.normal(size=(500, 2)) * 10.0 ** rng.uniform(-6, 3, (500, 1)),
        "six columns": make_blobs(400, n_features=6, random_state=0)[0],
        "two points": np.array([[0.0, 0.0], [3.0, 4.0]]),
        "three points": np.array([[0.0], [5.0], [1.0]]),
    }


def _is_tree(edges, count):
    return len(edges) == count - 1 and len({*map(tuple, edges)}) == count - 1 and (edges[:, 0] < edges[:, 1]).all()


@pytest.mark.parametrize("make", [by_tree, by_prim])
@pytest.mark.parametrize("name", list(_sets()))
def test_lengths_are_those_of_single_linkage(name, make, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", 50)  # several pieces
    X = _sets()[name]
    edges, lengths = make(X)
    assert _is_tree(edges, len(X))
    np.testing.assert_allclose(lengths, np.sort(linkage(X, "single")[:, 2]), rtol=1e-12)
    np.testing.assert_allclose(lengths, np.linalg.norm(X[edges[:, 0]] - X[edges[:, 1]], axis=1), rtol=1e-12)


@pytest.mark.parametrize("listed", [1, 8])
def test_ties_do_not_mislead_the_tree(listed, monkeypatch):
    monkeypatch.setattr(module, "_LISTED", listed)  # with one neighbour listed, nearly all is asked of the tree
    for seed in range(150):
        X = np.random.default_rng(seed).integers(0, 5, (20 + seed % 30, 2)).astype(float)
        np.testing.assert_allclose(by_tree(X)[1], by_prim(X)[1], err_msg=f"seed {seed}")
    lattice = np.random.default_rng(0).integers(0, 54, (3000, 2)).astype(float)
    np.testing.assert_allclose(by_tree(lattice)[1], by_prim(lattice)[1])


@pytest.mark.parametrize("metric", ["manhattan", "chebyshev", "cosine", "precomputed"])
def test_other_metrics(metric):
    X = make_blobs(120, n_features=4, random_state=1)[0]
    flat = pdist(X, {"manhattan": "cityblock", "precomputed": "euclidean"}.get(metric, metric))
    edges, lengths = spanning_tree(squareform(flat) if metric == "precomputed" else X, metric=metric)
    assert _is_tree(edges, 120)
    np.testing.assert_allclose(lengths, linkage(flat, "single")[:, 2], rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("name", ["moons", "lattice", "two crowds", "scales"])
def test_cuts_are_single_linkage_and_dbscan_of_one(name):
    X = _sets()[name]
    radius = {"moons": 0.12, "lattice": 1.0, "two crowds": 0.3, "scales": 0.5}[name]
    model = GraphClustering(radius=radius).fit(X)
    np.testing.assert_array_equal(model.labels_, PeerDBSCAN(eps=radius, min_samples=1).fit(X).labels_)
    tree = linkage(X, "single")
    kept = model.labels_.copy()
    for other in (radius / 2, radius * 2, 0):
        assert adjusted_rand_score(fcluster(tree, other, "distance"), model.cut(radius=other)) == 1
    np.testing.assert_array_equal(model.labels_, kept)


def test_cut_at_k():
    X = np.r_[make_moons(500, noise=0.05, random_state=0)[0], [[9.0, 9.0]]]
    model = GraphClustering(radius=0.2).fit(X)
    for k in (1, 2, 3, 7, 501):
        labels = model.cut(k=k)
        assert len(np.unique(labels)) == k
        assert adjusted_rand_score(fcluster(linkage(X, "single"), k, "maxclust"), labels) == 1
        assert (np.diff(np.unique(labels, return_index=True)[1]) > 0).all()  # numbered by their first points
    small = GraphClustering(radius=0.2, min_size=2).fit(X)
    assert small.labels_[-1] == -1
    assert small.n_clusters_ == model.n_clusters_ - (np.bincount(model.labels_) < 2).sum()
    assert set(small.cut(k=2)) == {0, -1}


def test_predict_save_and_plot_data(tmp_path):
    X = np.array([[0.0], [1.0], [5.0], [6.0], [20.0]])
    model = GraphClustering(radius=1.0, min_size=2).fit(X)
    assert model.labels_.tolist() == [0, 0, 1, 1, -1]
    new = np.array([[2.0], [2.1], [4.0], [20.5], [-1.0]])
    assert model.predict(new).tolist() == [0, -1, 1, -1, 0]
    back = load(model.save(tmp_path / "m"))
    assert back.predict(new).tolist() == [0, -1, 1, -1, 0]
    np.testing.assert_array_equal(back.cut(radius=4), [0, 0, 0, 0, -1])
    np.testing.assert_array_equal(back.points_of(), X)
    far = GraphClustering(radius=1.0, min_size=2, metric="precomputed").fit(np.abs(X - X.T))
    assert far.predict(np.abs(new - X.T)).tolist() == [0, -1, 1, -1, 0]
    assert load(far.save(tmp_path / "far")).cut(k=2).tolist() == model.cut(k=2).tolist()


def test_radius_zero_joins_what_is_identical():
    model = GraphClustering(radius=0).fit([[1.0], [2.0], [1.0], [2.0 + 1e-12]])
    assert model.labels_.tolist() == [0, 1, 0, 2]
    assert GraphClustering(radius=0).fit(np.ones((5000, 2))).n_clusters_ == 1


def test_the_page_gets_the_radii():
    X = _sets()["two crowds"]
    model, run = GraphClustering(radius=0.5).fit(X), Run()
    model.exhibit(X, run)
    lengths, share = run.kept["components"][1]["components, as a share of the points"]
    assert share[-1] == 1 / 500
    assert lengths[-1] == model.lengths_[-1]
    for row in run.kept["radii"][1]:
        assert len(np.unique(model.cut(radius=row["radius from"]))) == row["components"]
        assert len(np.unique(model.cut(radius=row["radius below"]))) == row["components"] - 1


def test_all_noise_is_said():
    model = GraphClustering(radius=0.1, min_size=3).fit(np.arange(10.0)[:, None])
    assert model.run_.warnings == [
        "all 10 points are noise: no component at radius=0.1 has min_size=3 points; raise radius, or lower min_size"
    ]
    assert model.predict([[1.0]]).tolist() == [-1]


def test_bad_input():
    X = np.random.default_rng(0).normal(size=(30, 2))
    model = GraphClustering().fit(X)
    with pytest.raises(ConfigError, match="cut takes radius or k, one of them"):
        model.cut()
    with pytest.raises(ConfigError, match="cut takes radius or k, one of them"):
        model.cut(radius=1.0, k=2)
    for k in (0, 31, 2.0, True):
        with pytest.raises(ConfigError, match=f"k from 1 to the 30 points, got {k}"):
            model.cut(k=k)
    for radius in (-1, float("nan"), "far"):
        with pytest.raises(ConfigError, match="a radius that is at least 0, got"):
            model.cut(radius=radius)
    with pytest.raises(ConfigError, match="radius must be at least 0"):
        GraphClustering(radius=-0.1).fit(X)
    with pytest.raises(DataError, match="metric='cosine' some distances are no finite numbers; leave out rows"):
        GraphClustering(metric="cosine").fit(np.r_[X, [[0.0, 0.0]]])
    with pytest.raises(DataError, match="squares overflow"):
        GraphClustering().fit(X * 1e200)


def test_a_damaged_model_is_refused():
    model = GraphClustering().fit(np.random.default_rng(0).normal(size=(30, 2)))
    for name, value in (
        ("edges_", model.edges_ + 30),
        ("edges_", model.edges_[1:]),
        ("lengths_", model.lengths_[::-1].copy()),
        ("points_", model.points_[1:]),
    ):
        config, tensors = model.learned()
        tensors[name] = tensors[name].new_tensor(value)
        with pytest.raises(DataError, match=r"edges_|lengths_|points_"):
            GraphClustering().restore(config, tensors)
