"""Spectral clustering: shapes that k-means fails at, scikit-learn's labels up to names, graphs in pieces, the eigengap."""

import re
import warnings

import numpy as np
import pytest
import scipy.sparse.linalg
from scipy.sparse.linalg import ArpackNoConvergence
from sklearn.cluster import SpectralClustering as Peer
from sklearn.datasets import make_blobs, make_circles, make_moons
from sklearn.metrics import adjusted_rand_score, silhouette_score
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.utils.estimator_checks import parametrize_with_checks

import konspekt
from konspekt.cluster.kmeans import KMeans
from konspekt.cluster.spectral import SpectralClustering
from konspekt.core.errors import ConfigError, DataError, ResourceError


@parametrize_with_checks(
    [SpectralClustering(), SpectralClustering(n_clusters=None, affinity="nearest_neighbors", n_neighbors=5)]
)
def test_estimator(estimator, check):
    check(estimator)


SHAPES = {
    "moons": make_moons(300, noise=0.05, random_state=0),
    "rings": make_circles(300, noise=0.04, factor=0.4, random_state=0),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("settings", [{"affinity": "rbf", "gamma": 30.0}, {"affinity": "nearest_neighbors"}])
@pytest.mark.parametrize("n_clusters", [2, None])
def test_shapes_that_k_means_fails_at(shape, settings, n_clusters):
    X, truth = SHAPES[shape]
    model = SpectralClustering(n_clusters=n_clusters, random_state=0, **settings).fit(X)
    assert adjusted_rand_score(truth, model.labels_) == 1.0
    assert adjusted_rand_score(truth, KMeans(n_clusters=2, random_state=0).fit_predict(X)) < 0.5


@pytest.mark.parametrize("settings", [{"affinity": "rbf", "gamma": 0.5}, {"affinity": "nearest_neighbors"}])
@pytest.mark.parametrize("solver", ["arpack", "lobpcg"])
def test_scikit_learns_labels_up_to_names(settings, solver):
    X, truth = make_blobs(200, centers=4, cluster_std=0.8, random_state=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a graph in pieces
        peer = Peer(4, random_state=0, **settings).fit(X)
    model = SpectralClustering(n_clusters=4, random_state=0, eigen_solver=solver, **settings).fit(X)
    assert adjusted_rand_score(peer.labels_, model.labels_) == 1.0
    assert adjusted_rand_score(truth, model.labels_) > 0.9


def test_affinities_that_are_given_do_what_the_kernel_does():
    X, _ = SHAPES["moons"]
    W = rbf_kernel(X, gamma=30.0)
    given = SpectralClustering(n_clusters=2, affinity="precomputed", random_state=0).fit(W)
    made = SpectralClustering(n_clusters=2, gamma=30.0, random_state=0).fit(X)
    assert np.array_equal(given.labels_, made.labels_)
    assert np.array_equal(given.eigenvalues_, made.eigenvalues_)
    assert np.array_equal(W, rbf_kernel(X, gamma=30.0))  # it is left alone


def test_the_gap_is_behind_the_clusters():
    X, _ = make_blobs(200, centers=[[0, 0], [12, 0], [0, 12]], cluster_std=1.0, random_state=0)
    model = SpectralClustering(n_clusters=None, gamma=0.1, max_clusters=8, random_state=0).fit(X)
    assert model.n_clusters_ == 3
    assert len(model.eigenvalues_) == 9
    assert model.eigengap_ == model.eigenvalues_[3] - model.eigenvalues_[2]
    assert model.eigengap_ == np.diff(model.eigenvalues_).max()
    told = SpectralClustering(n_clusters=3, gamma=0.1, random_state=0).fit(X)
    np.testing.assert_allclose(told.eigenvalues_, model.eigenvalues_[:4], atol=1e-12)
    blob = np.random.default_rng(0).normal(size=(100, 2))
    assert SpectralClustering(n_clusters=None, eigengap="difference", gamma=0.1).fit(blob).n_clusters_ == 1


def apart():
    """Three groups far from each other, of 30, 20 and 10 points, and two points near the second."""
    rng = np.random.default_rng(0)
    centres = np.repeat([[0.0, 0.0], [100.0, 0.0], [0.0, 100.0], [100.0, 30.0]], [30, 20, 10, 2], axis=0)
    return centres + rng.normal(size=(62, 2)), np.repeat([0, 1, 2, 1], [30, 20, 10, 2])


def test_pieces_are_the_clusters_and_what_is_left_over_joins_the_nearest():
    X, truth = apart()
    model = SpectralClustering(n_clusters=3, random_state=0).fit(X)
    assert adjusted_rand_score(truth, model.labels_) == 1.0
    assert model.n_pieces_ == 4
    assert "falls into 4 pieces, more than the 3 clusters" in model.run_.warnings[0]
    assert "the other 1, of 2 nodes, join the nearest" in model.run_.warnings[0]
    assert "lower gamma (now 1)" in model.run_.warnings[0]
    exact = SpectralClustering(n_clusters=4, random_state=0).fit(X)
    assert exact.run_.warnings == []
    assert np.bincount(exact.labels_).tolist() == [30, 20, 10, 2]
    given = SpectralClustering(n_clusters=3, affinity="precomputed", random_state=0).fit(rbf_kernel(X))
    assert (given.labels_[60:] == given.labels_[0]).all()  # the largest
    assert "give affinities between them" in given.run_.warnings[0]


def test_fewer_pieces_than_clusters_are_divided_further():
    X = apart()[0]
    model = SpectralClustering(n_clusters=5, random_state=0).fit(X)
    assert model.n_clusters_ == 5
    pairs = {(a, b) for a, b in zip(np.repeat(range(4), [30, 20, 10, 2]), model.labels_, strict=True)}
    assert len(pairs) == 5  # no cluster has points of two pieces
    np.testing.assert_array_equal(model.eigenvalues_[:4], 0)
    assert model.eigenvalues_[4] > 0.01


def test_the_same_seed_gives_the_same_labels():
    X = np.random.default_rng(0).normal(size=(150, 3))  # no clusters at all
    for settings in ({}, {"affinity": "nearest_neighbors"}, {"eigen_solver": "lobpcg"}):
        one = SpectralClustering(n_clusters=5, random_state=7, **settings).fit(X)
        two = SpectralClustering(n_clusters=5, random_state=7, **settings).fit(X)
        assert np.array_equal(one.labels_, two.labels_)
        assert np.array_equal(one.eigenvalues_, two.eigenvalues_)


def test_a_run_changes_nothing_and_keeps_the_curve(tmp_path):
    X, _ = SHAPES["moons"]
    model = SpectralClustering(
        n_clusters=2, affinity="nearest_neighbors", run_dir=str(tmp_path / "run"), random_state=0
    ).fit(X)
    bare = SpectralClustering(n_clusters=2, affinity="nearest_neighbors", random_state=0).fit(X)
    assert np.array_equal(model.labels_, bare.labels_)
    assert not hasattr(model, "_curve")
    curve = model.run_.kept["eigenvalues of the Laplacian"][1]
    assert len(curve["eigenvalue"][1]) == 20
    assert curve["clusters"][0] == [2, 2]
    np.testing.assert_allclose(curve["eigenvalue"][1][:3], model.eigenvalues_, atol=1e-12)
    W = rbf_kernel(X, gamma=30.0)
    given = SpectralClustering(
        n_clusters=2, affinity="precomputed", run_dir=str(tmp_path / "given"), random_state=0
    ).fit(W)
    distances = W.max() - W
    np.fill_diagonal(distances, 0)
    wanted = silhouette_score(distances, given.labels_, metric="precomputed")
    assert given.facts_["scores"]["silhouette"] == pytest.approx(wanted)
    assert "calinski_harabasz" not in given.facts_["scores"]


def test_saved_and_loaded(tmp_path):
    X, _ = SHAPES["rings"]
    model = SpectralClustering(n_clusters=2, gamma=30.0, random_state=0).fit(X)
    back = konspekt.load(model.save(tmp_path / "model"))
    assert np.array_equal(back.labels_, model.labels_)
    assert np.array_equal(back.eigenvalues_, model.eigenvalues_)
    assert (back.eigengap_, back.n_pieces_) == (model.eigengap_, 1)
    assert not hasattr(back, "predict")
    with pytest.raises(ConfigError, match="has no clusters for new points"):
        back.predict_frame(X)
    config, tensors = model.learned()
    config["values"]["eigengap_"] = "wide"
    with pytest.raises(DataError, match="eigengap_"):
        SpectralClustering().restore(config, tensors)


def test_equal_points_are_said():
    model = SpectralClustering(n_clusters=2, random_state=0).fit(np.ones((10, 2)))
    assert "all points are equal" in model.run_.warnings[0]


def negative():
    W = np.ones((4, 4))
    W[1, 2] = W[2, 1] = -0.5
    return W


def skew():
    W = np.ones((4, 4))
    W[0, 3] = 0.25
    return W


@pytest.mark.parametrize(
    ("settings", "X", "said"),
    [
        ({"n_clusters": 9}, np.eye(5), "n_clusters=9 is more than the 5 points"),
        ({"affinity": "nearest_neighbors", "n_clusters": 2}, np.eye(5), "n_neighbors=10 is more than the 5 points"),
        ({"affinity": "precomputed", "n_clusters": 2}, np.ones((4, 3)), r"its shape is \(4, 3\)"),
        (
            {"affinity": "precomputed", "n_clusters": 2},
            negative(),
            "-0.5 at 1, 2 is negative; distances are no affinities",
        ),
        ({"affinity": "precomputed", "n_clusters": 2}, skew(), "0.25 at 0, 3 stands against 1 at 3, 0"),
        (
            {"n_clusters": None, "max_clusters": 3, "gamma": 1e6},
            np.arange(12.0).reshape(6, 2),
            r"6 pieces, more than max_clusters=3.*lower gamma \(now 1e\+06\), or give n_clusters",
        ),
    ],
)
def test_bad_input(settings, X, said):
    with pytest.raises(DataError, match=said):
        SpectralClustering(random_state=0, **settings).fit(X)


def test_the_kernels_memory_is_foreseen(monkeypatch):
    monkeypatch.setattr("konspekt.core.memory.available_memory", lambda: 2**20)
    with pytest.raises(ResourceError, match=re.escape("affinity='nearest_neighbors' takes little")):
        SpectralClustering(n_clusters=2).fit(np.random.default_rng(0).normal(size=(400, 2)))


def test_a_solver_that_does_not_converge_is_logged(monkeypatch):
    def poor(graph, k, generator, solver):
        warnings.warn("Exited at iteration 20 with accuracies \n[1.]", UserWarning, stacklevel=2)
        return found(graph, k, generator, "arpack")

    from konspekt.cluster import spectral

    found = spectral.spectrum
    monkeypatch.setattr(spectral, "spectrum", poor)
    model = SpectralClustering(n_clusters=2, eigen_solver="lobpcg", gamma=30.0, random_state=0).fit(SHAPES["moons"][0])
    assert (
        "lobpcg did not converge (Exited at iteration 20 with accuracies); take eigen_solver='arpack'"
        in model.run_.warnings[0]
    )


def test_a_failing_solver_is_a_data_error_and_costs_only_the_curve_of_a_report(monkeypatch, tmp_path):
    def fails(*given, **more):
        if more["k"] >= least:
            raise ArpackNoConvergence("no convergence (%s)", np.zeros(0), np.zeros((0, 0)))
        return solve(*given, **more)

    solve, least = scipy.sparse.linalg.eigsh, 3
    monkeypatch.setattr(scipy.sparse.linalg, "eigsh", fails)
    X = SHAPES["moons"][0]
    with pytest.raises(DataError, match="the 3 least eigenvalues of a graph of 300 nodes were not found"):
        SpectralClustering(n_clusters=2, gamma=30.0, random_state=0).fit(X)
    least = 20
    model = SpectralClustering(n_clusters=2, gamma=30.0, random_state=0, run_dir=str(tmp_path / "run")).fit(X)
    assert "the report shows only the 3 eigenvalues of the fit" in model.run_.warnings[0]
    assert len(model.run_.kept["eigenvalues of the Laplacian"][1]["eigenvalue"][1]) == 3


def test_points_far_from_zero_are_those_near_it():
    X = np.concatenate([np.arange(8.0), np.arange(20.0, 28.0)])[:, None]
    near, far = (SpectralClustering(n_clusters=2, random_state=0).fit(X + shift) for shift in (0.0, 2.0**30))
    assert np.array_equal(near.labels_, far.labels_)
    np.testing.assert_allclose(near.eigenvalues_, far.eigenvalues_, atol=1e-9)
    for affinity in ("rbf", "nearest_neighbors"):
        with pytest.raises(DataError, match=r"numbers as large as 2.7e\+301, whose squares overflow; scale X down"):
            SpectralClustering(n_clusters=2, affinity=affinity).fit(X * 1e300)
