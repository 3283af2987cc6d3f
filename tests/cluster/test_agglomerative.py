import itertools

import numpy as np
import pytest
from scipy.cluster.hierarchy import ward
from scipy.spatial.distance import cdist
from sklearn.cluster import AgglomerativeClustering as Peer
from sklearn.metrics import adjusted_rand_score
from sklearn.utils.estimator_checks import parametrize_with_checks

import konspekt.cluster.agglomerative as module
from konspekt.cluster import AgglomerativeClustering
from konspekt.cluster.dendrogram import check_tree
from konspekt.cluster.ward import ward_tree
from konspekt.core.errors import ConfigError, DataError, ResourceError

LINKAGES = ("ward", "average", "single", "complete", "centroid")


@parametrize_with_checks([AgglomerativeClustering(), AgglomerativeClustering(linkage="single")])
def test_scikit_learns_contract(estimator, check):
    check(estimator)


def groups(n=90, columns=3, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, columns)) + 4 * rng.integers(0, 3, size=(n, 1))).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("linkage", ["ward", "average", "single", "complete"])
def test_tree_and_labels_are_those_of_scikit_learn(linkage, dtype):
    X = groups(dtype=dtype)
    ours = AgglomerativeClustering(n_clusters=5, linkage=linkage).fit(X)
    peer = Peer(5, linkage=linkage, compute_distances=True).fit(X)
    assert adjusted_rand_score(peer.labels_, ours.labels_) == 1
    np.testing.assert_array_equal(ours.children_, peer.children_)
    np.testing.assert_allclose(ours.distances_, peer.distances_, rtol=1e-12)
    assert ours.n_leaves_ == peer.n_leaves_
    assert ours.n_clusters_ == 5


@pytest.mark.parametrize("metric", ["l1", "manhattan", "cosine", "chebyshev", "canberra", "l2"])
@pytest.mark.parametrize("linkage", ["average", "single"])
def test_other_metrics_are_those_of_scikit_learn(linkage, metric):
    X = groups(60)
    ours = AgglomerativeClustering(n_clusters=4, linkage=linkage, metric=metric).fit(X)
    peer = Peer(4, linkage=linkage, metric=metric, compute_distances=True).fit(X)
    assert adjusted_rand_score(peer.labels_, ours.labels_) == 1
    np.testing.assert_allclose(ours.distances_, peer.distances_, rtol=1e-10)


@pytest.mark.parametrize("linkage", ["average", "single", "complete"])
def test_a_matrix_of_distances_gives_the_tree_of_its_points(linkage):
    X = groups(50)
    by_points = AgglomerativeClustering(linkage=linkage).fit(X)
    by_matrix = AgglomerativeClustering(linkage=linkage, metric="precomputed").fit(cdist(X, X))
    np.testing.assert_array_equal(np.sort(by_matrix.children_), np.sort(by_points.children_))
    np.testing.assert_allclose(by_matrix.dendrogram_[:, 2:], by_points.dendrogram_[:, 2:], rtol=1e-12)


def test_a_matrix_needs_no_triangle_inequality():
    D = np.array([[0, 1, 9], [1, 0, 1], [9, 1, 0]], float)
    found = AgglomerativeClustering(linkage="complete", metric="precomputed").fit(D)
    assert found.distances_.tolist() == [1, 9]


def by_definition(X, linkage):
    """The heights of merges, each found among all pairs of clusters by the linkage's definition."""
    D, clusters, heights = cdist(X, X), [[i] for i in range(len(X))], []
    mean = {"average": np.mean, "single": np.min, "complete": np.max}

    def apart(a, b):
        if linkage in mean:
            return mean[linkage](D[np.ix_(a, b)])
        gap = np.linalg.norm(X[a].mean(0) - X[b].mean(0))
        return gap if linkage == "centroid" else gap * np.sqrt(2 * len(a) * len(b) / (len(a) + len(b)))

    while len(clusters) > 1:
        a, b = min(itertools.combinations(clusters, 2), key=lambda pair: apart(*pair))
        heights.append(apart(a, b))
        clusters = [c for c in clusters if c is not a and c is not b] + [a + b]
    return heights


@pytest.mark.parametrize("linkage", LINKAGES)
def test_heights_are_those_of_the_definition(linkage):
    X = groups(18)
    np.testing.assert_allclose(
        AgglomerativeClustering(linkage=linkage).fit(X).distances_, by_definition(X, linkage), rtol=1e-10
    )


def test_distance_threshold_cuts_as_scikit_learn_does():
    X = groups()
    for threshold in (0.5, 2.0, 7.5, 1e3):
        ours = AgglomerativeClustering(n_clusters=None, distance_threshold=threshold).fit(X)
        peer = Peer(n_clusters=None, distance_threshold=threshold).fit(X)
        assert ours.n_clusters_ == peer.n_clusters_
        assert adjusted_rand_score(peer.labels_, ours.labels_) == 1


# --- Ward's tree from centres -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "columns", "seed"), [(2, 1, 0), (3, 4, 1), (200, 1, 2), (300, 6, 3), (150, 40, 4)])
def test_wards_tree_from_centres_is_that_of_scipy(n, columns, seed):
    X = groups(n, columns, seed) + 1e3  # far from 0, where products lose digits
    mine, theirs = ward_tree(X), ward(X)
    np.testing.assert_array_equal(mine[:, [0, 1, 3]], theirs[:, [0, 1, 3]])
    np.testing.assert_allclose(mine[:, 2], theirs[:, 2], rtol=1e-9)


def test_wards_tree_from_centres_sees_small_gaps_between_far_points():
    X = np.array([[-1e6], [-1e6 + 1e-3], [1e6], [1e6 + 3e-3], [1e6 + 4e-3]])
    np.testing.assert_allclose(ward_tree(X)[:, 2], ward(X)[:, 2], rtol=1e-6)


def test_wards_tree_from_centres_with_ties_is_a_tree():
    grid = np.stack(np.meshgrid(np.arange(9.0), np.arange(7.0)), -1).reshape(-1, 2)
    tree = ward_tree(np.concatenate([grid, grid]))
    check_tree(tree)
    assert (tree[:63, 2] == 0).all()
    assert (np.diff(tree[:, 2]) >= 0).all()
    assert tree[63, 2] > 0
    assert (ward_tree(np.full((40, 3), 0.1))[:, 2] == 0).all()


def test_many_points_take_wards_tree_from_centres(monkeypatch):
    monkeypatch.setattr(module, "_MANY", 50)
    monkeypatch.setattr(AgglomerativeClustering, "_by_distances", None)
    X = groups(dtype=np.float32)
    found = AgglomerativeClustering(n_clusters=6).fit(X)
    assert adjusted_rand_score(Peer(6).fit(X).labels_, found.labels_) == 1
    with pytest.raises(DataError, match="not finite: numbers are too large"):
        AgglomerativeClustering().fit(groups() * 1e200)


# --- memory -----------------------------------------------------------------------------------------------------------


def test_memory_is_said_before_it_is_taken(tmp_path):
    AgglomerativeClustering(linkage="average", run_dir=str(tmp_path / "run")).fit(groups(1000))
    text = (tmp_path / "run" / "log.txt").read_text()
    assert "average linkage of 1,000 points by the distances of all pairs takes 0.0074 GiB of memory" in text


def test_distances_that_do_not_fit_are_refused(monkeypatch):
    monkeypatch.setattr("konspekt.core.memory.available_memory", lambda: 2**16)
    monkeypatch.setattr(module, "available_memory", lambda: 2**16)
    X = groups(200)
    with pytest.raises(ResourceError, match="complete linkage of 200 points by the distances of all pairs needs"):
        AgglomerativeClustering(linkage="complete").fit(X)
    single = AgglomerativeClustering(linkage="single").fit(X)  # takes no matrix
    assert single.n_leaves_ == 200


def test_ward_goes_on_without_the_distances_and_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "available_memory", lambda: 2**16)
    X = groups(200)
    found = AgglomerativeClustering(run_dir=str(tmp_path / "run")).fit(X)
    assert "the distances of 200 points do not fit the memory; centres are used" in (
        tmp_path / "run" / "log.txt"
    ).read_text().replace("\n", " ")
    assert adjusted_rand_score(Peer(2).fit(X).labels_, found.labels_) == 1


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("linkage", ["ward", "centroid"])
@pytest.mark.parametrize("metric", ["cosine", "precomputed", "l1"])
def test_ward_and_centroid_linkage_are_of_euclidean_points(linkage, metric):
    D = cdist(groups(9), groups(9))
    with pytest.raises(ConfigError, match=f"linkage='{linkage}' is of Euclidean points, not of metric='{metric}'"):
        AgglomerativeClustering(linkage=linkage, metric=metric).fit(D)


@pytest.mark.parametrize(("k", "height"), [(None, None), (2, 1.0)])
def test_number_or_height_must_be_given(k, height):
    with pytest.raises(ConfigError, match="one of the two says where the tree is cut"):
        AgglomerativeClustering(n_clusters=k, distance_threshold=height).fit(groups())


def test_more_clusters_than_points():
    with pytest.raises(DataError, match="n_clusters=9 is more than the 5 points"):
        AgglomerativeClustering(n_clusters=9).fit(groups(5))


@pytest.mark.parametrize("linkage", LINKAGES)
def test_identical_points_are_still_cut(linkage):
    found = AgglomerativeClustering(n_clusters=3, linkage=linkage).fit(np.full((7, 2), 0.1))
    assert np.array_equal(np.unique(found.labels_), [0, 1, 2])
    assert (found.distances_ == 0).all()


@pytest.mark.parametrize(
    ("metric", "linkage", "X", "said"),
    [
        ("cosine", "average", [[0.0, 0.0], [1.0, 2.0], [2.0, 1.0]], "a row of zeros has no direction"),
        ("correlation", "single", [[1.0, 1.0], [1.0, 2.0], [2.0, 1.0]], "a row of equal numbers has no correlation"),
        ("braycurtis", "single", [[1.0, -1.0], [-1.0, 1.0], [2.0, 1.0]], "rows that sum to 0"),
        ("euclidean", "single", [[1e200], [-1e200], [0.0]], "numbers are too large"),
        ("euclidean", "centroid", [[1e200], [-1e200], [0.0]], "numbers are too large"),
    ],
)
def test_distances_that_are_not_finite(metric, linkage, X, said):
    with pytest.raises(DataError, match=f"metric='{metric}' is not finite: {said}"):
        AgglomerativeClustering(linkage=linkage, metric=metric).fit(np.array(X))


def test_a_matrix_that_is_not_symmetric():
    D = cdist(groups(6), groups(6))
    D[1, 2] += 1
    with pytest.raises(DataError, match="symmetric"):
        AgglomerativeClustering(linkage="average", metric="precomputed").fit(D)
