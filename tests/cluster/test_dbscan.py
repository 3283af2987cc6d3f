"""DBSCAN: scikit-learn's very labels by every way, prediction, the k-distance curve, bad input."""

import numpy as np
import pytest
from sklearn.cluster import DBSCAN as Peer
from sklearn.datasets import make_blobs, make_moons
from sklearn.metrics import pairwise_distances
from sklearn.utils.estimator_checks import parametrize_with_checks

from konspekt import load
from konspekt.cluster import DBSCAN, k_distances
from konspekt.cluster import near as ways
from konspekt.core.errors import ConfigError, DataError
from konspekt.core.runs import Run


@parametrize_with_checks([DBSCAN()])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def _sets():
    rng = np.random.default_rng(0)
    return {
        "moons": (make_moons(1500, noise=0.08, random_state=0)[0], 0.1, 8),
        "uniform": (rng.random((2000, 2)), 0.03, 5),
        "lattice": (
            rng.integers(0, 40, (1500, 2)).astype(float),
            1.0,
            5,
        ),  # distances of exactly eps, points in one place
        "one place": (rng.integers(0, 6, (1500, 2)).astype(float), 0.5, 30),
        "line": (rng.random((1000, 1)), 0.001, 3),
        "space": (make_blobs(1500, n_features=3, random_state=0)[0], 0.6, 12),
        "crowds": (make_blobs(3000, cluster_std=[0.01, 0.02, 1.0], random_state=0)[0], 0.3, 6),
        "large min_samples": (make_blobs(1500, random_state=0)[0], 0.5, 40),
    }


@pytest.mark.parametrize("way", ["auto", "pairs", "grid"])
@pytest.mark.parametrize("name", list(_sets()))
def test_labels_are_scikit_learns(name, way, monkeypatch):
    X, eps, least = _sets()[name]
    peer = Peer(eps=eps, min_samples=least).fit(X)
    if way == "pairs":
        monkeypatch.setattr(ways, "_CROWD", np.inf)
        monkeypatch.setattr(ways, "_MANY", np.inf)
    for threshold in ("_PAIRS", "_LARGE", "_BLOCK"):  # so that small data go through in several pieces
        monkeypatch.setattr(ways, threshold, 100)
    ours = DBSCAN(eps=eps, min_samples=least, algorithm="grid" if way == "grid" else "auto").fit(X)
    np.testing.assert_array_equal(ours.labels_, peer.labels_)
    np.testing.assert_array_equal(ours.core_sample_indices_, peer.core_sample_indices_)
    np.testing.assert_array_equal(ours.components_, peer.components_)


@pytest.mark.parametrize("metric", ["manhattan", "chebyshev", "cosine", "precomputed"])
def test_other_metrics(metric):
    X = make_blobs(300, n_features=4, random_state=1)[0]
    given = pairwise_distances(X) if metric == "precomputed" else X
    eps = {"cosine": 0.01, "manhattan": 2.5}.get(metric, 1.2)
    ours = DBSCAN(eps=eps, metric=metric).fit(given)
    peer = Peer(eps=eps, metric=metric).fit(given)
    assert ours.n_clusters_ > 1
    np.testing.assert_array_equal(ours.labels_, peer.labels_)


@pytest.mark.parametrize("columns", [5, 13])
def test_many_columns_and_single_precision(columns):
    X = make_blobs(400, n_features=columns, random_state=1)[0].astype(np.float32)
    ours, peer = DBSCAN(eps=3.0).fit(X), Peer(eps=3.0).fit(X)
    assert ours.n_clusters_ >= 2
    np.testing.assert_array_equal(ours.labels_, peer.labels_)


@pytest.mark.parametrize("large", [100, 1 << 16])
def test_crowded_cells_that_one_pair_of_points_joins(large, monkeypatch):
    monkeypatch.setattr(ways, "_LARGE", large)  # with and without a tree for the pair of cells
    X = np.r_[np.linspace(0, 0.05, 150), 0.95, np.linspace(1.9, 1.95, 150)][:, None]
    assert set(DBSCAN(eps=1.0, algorithm="grid").fit(X).labels_) == {0}
    assert set(DBSCAN(eps=0.94, algorithm="grid").fit(X).labels_) == {0, 1}


def test_a_point_counts_itself():
    X = np.array([[0.0], [1.0], [10.0]])
    assert DBSCAN(eps=1.0, min_samples=2).fit(X).labels_.tolist() == [0, 0, -1]
    assert DBSCAN(eps=1.0, min_samples=3).fit(X).labels_.tolist() == [-1, -1, -1]
    assert DBSCAN(eps=1.0, min_samples=1).fit(X).labels_.tolist() == [0, 0, 1]


def test_predict_gives_the_nearest_core_points_label_within_eps(tmp_path):
    X = np.array([[0.0], [1.0], [2.0], [3.5], [20.0], [21.0], [22.0]])
    model = DBSCAN(eps=1.5, min_samples=3).fit(X)
    assert model.labels_.tolist() == [0, 0, 0, 0, 1, 1, 1]
    new = np.array([[-0.4], [-0.6], [3.4], [19.6], [10.0], [-0.5]])  # the core points are 1, 2 and 21
    assert model.core_sample_indices_.tolist() == [1, 2, 5]
    assert model.predict(new).tolist() == [0, -1, 0, 1, -1, 0]
    assert load(model.save(tmp_path / "m")).predict(new).tolist() == [0, -1, 0, 1, -1, 0]
    far = DBSCAN(eps=1.5, min_samples=3, metric="precomputed").fit(np.abs(X - X.T))
    assert far.predict(np.abs(new - X.T)).tolist() == [0, -1, 0, 1, -1, 0]


def test_all_noise_is_said(tmp_path):
    model = DBSCAN(eps=0.1, run_dir=str(tmp_path / "run")).fit(np.arange(20.0)[:, None])
    assert model.n_clusters_ == 0
    assert (model.labels_ == -1).all()
    assert model.components_.shape == (0, 1)
    assert model.predict([[3.0]]).tolist() == [-1]
    (said,) = model.run_.warnings
    assert said == (
        "all 20 points are noise: none has min_samples=5 points within eps=0.1; raise eps (cluster.k_distances shows how far), or "
        "lower min_samples"
    )
    assert load(tmp_path / "run").predict([[3.0]]).tolist() == [-1]


def test_identical_points_are_one_cluster():
    assert DBSCAN(eps=1e-9).fit(np.ones((4000, 2))).labels_.tolist() == [0] * 4000


def test_k_distances():
    X = np.random.default_rng(0).normal(size=(200, 2))
    expected = np.sort(np.sort(pairwise_distances(X), axis=1)[:, 4])[::-1]
    np.testing.assert_allclose(k_distances(X, 5), expected)
    np.testing.assert_allclose(k_distances(pairwise_distances(X), 5, metric="precomputed"), expected)
    some = k_distances(X, 5, sample=50)
    assert len(some) == 50
    assert np.isin(some.round(9), expected.round(9)).all()
    core = len(DBSCAN(eps=0.3).fit(X).core_sample_indices_)
    assert (k_distances(X, 5) <= 0.3).sum() == core > 0


def test_the_page_gets_the_curve():
    X = make_moons(300, noise=0.05, random_state=0)[0]
    model, run = DBSCAN(eps=0.2).fit(X), Run()
    model.exhibit(X, run)
    kind, curve = run.kept["k-distances"]
    far, share = curve["share of points with 5 points within this distance"]
    assert kind == "curve"
    assert (np.diff(far) >= 0).all()
    assert share[-1] == 1
    assert share[np.searchsorted(far, 0.2, side="right") - 1] == len(model.core_sample_indices_) / 300
    assert [row["points"] for row in run.kept["points"][1]] == [
        len(model.core_sample_indices_),
        300 - len(model.core_sample_indices_) - (model.labels_ == -1).sum(),
        (model.labels_ == -1).sum(),
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eps": 0}, "DBSCAN: eps must be more than 0, got 0"),
        ({"eps": float("nan")}, "eps must be"),
        ({"min_samples": 0}, "min_samples must be an integer at least 1, got 0"),
        ({"metric": "euklid"}, "metric must be one of"),
        ({"algorithm": "grid", "metric": "cosine"}, r"at most 3 columns, not metric='cosine' of 2"),
        ({"algorithm": "grid", "eps": 1e-12}, "eps=1e-12 makes too many cells of a grid over"),
        (
            {"algorithm": "kd_tree", "metric": "cosine"},
            "algorithm='kd_tree' has no metric='cosine'; take algorithm='auto'",
        ),
    ],
)
def test_bad_parameters(change, message):
    X = np.random.default_rng(0).normal(size=(30, 2))
    with pytest.raises(ConfigError, match=message):
        DBSCAN(**change).fit(X)


def test_tiny_eps_beside_a_far_point_goes_another_way(monkeypatch):
    monkeypatch.setattr(ways, "_CROWD", 0)  # not by pairs
    X = np.r_[make_blobs(1000, cluster_std=1e-6, random_state=0)[0], [[1e9, 1e9]]]
    ours, peer = DBSCAN(eps=1e-6).fit(X), Peer(eps=1e-6).fit(X)
    assert ours.n_clusters_ >= 3
    np.testing.assert_array_equal(ours.labels_, peer.labels_)


def test_bad_data():
    with pytest.raises(DataError, match=r"numbers as large as 1e\+200, whose squares overflow"):
        DBSCAN().fit([[0.0], [1e200]])
    with pytest.raises(DataError, match="k=9 of 3 points; give 1 to 3"):
        k_distances([[0.0], [1.0], [2.0]], 9)
    with pytest.raises(DataError, match=r"the matrix of distances \(N, N\), not \(2, 1\)"):
        k_distances([[0.0], [1.0]], 1, metric="precomputed")
    with pytest.raises(DataError, match="NaN"):
        k_distances([[0.0], [np.nan]], 1)


def test_a_damaged_model_is_refused():
    model = DBSCAN(eps=0.5).fit(make_moons(200, noise=0.05, random_state=0)[0])
    for name, value in (
        ("core_sample_indices_", model.core_sample_indices_ + 200),
        ("components_", model.components_[:, :1]),
        ("components_", model.components_[1:]),
        ("labels_", np.full(200, -1)),
    ):
        config, tensors = model.learned()
        tensors[name] = tensors[name].new_tensor(value)
        with pytest.raises(DataError, match="core"):
            DBSCAN(eps=0.5).restore(config, tensors)
