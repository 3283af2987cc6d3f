import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.cluster import BisectingKMeans
from sklearn.metrics import adjusted_rand_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from konspekt.cluster import DivisiveClustering
from konspekt.cluster.dendrogram import check_tree
from konspekt.cluster.diana import diana
from konspekt.core.errors import ConfigError, DataError, ResourceError


@parametrize_with_checks([DivisiveClustering(), DivisiveClustering(method="diana")])
def test_scikit_learns_contract(estimator, check):
    check(estimator)


def groups(n=90, columns=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, columns)) + 9 * (np.arange(n) % 3)[:, None]


def leaves_under(tree):
    under = [[i] for i in range(len(tree) + 1)]
    for left, right in tree[:, :2].astype(int):
        under.append(under[left] + under[right])
    return [sorted(u) for u in under[len(tree) + 1 :]]


# --- DIANA ------------------------------------------------------------------------------------------------------------


def test_the_five_objects_of_kaufman_and_rousseeuw():
    D = np.zeros((5, 5))
    D[np.tril_indices(5, -1)] = [2, 6, 5, 10, 9, 4, 9, 8, 5, 3]
    D += D.T
    found = DivisiveClustering(method="diana", metric="precomputed", n_clusters=3).fit(D)
    assert leaves_under(found.dendrogram_) == [[0, 1], [3, 4], [2, 3, 4], [0, 1, 2, 3, 4]]
    assert found.distances_.tolist() == [2, 3, 5, 10]
    assert found.labels_.tolist() == [0, 0, 1, 2, 2]
    assert found.cut(2).tolist() == [0, 0, 1, 1, 1]


def by_the_book(D):
    """The clusters that are divided and their diameters, from the first to the last, by averages taken anew each time."""
    clusters, divided = [list(range(len(D)))], []
    while any(len(c) > 1 for c in clusters):
        own = max((c for c in clusters if len(c) > 1), key=lambda c: D[np.ix_(c, c)].max())
        divided.append((sorted(own), D[np.ix_(own, own)].max()))
        rest, splinter = list(own), []
        first = max(rest, key=lambda i: D[i, rest].sum() / (len(rest) - 1))
        while True:
            splinter.append(first)
            rest.remove(first)
            if len(rest) == 1:
                break
            gains = [D[i, rest].sum() / (len(rest) - 1) - D[i, splinter].mean() for i in rest]
            if max(gains) <= 0:
                break
            first = rest[int(np.argmax(gains))]
        clusters = [c for c in clusters if c is not own] + [rest, splinter]
    return divided


@pytest.mark.parametrize(("n", "columns", "seed"), [(2, 1, 0), (30, 1, 1), (60, 2, 2), (80, 8, 3), (150, 3, 4)])
def test_diana_divides_by_the_book(n, columns, seed):
    X = np.random.default_rng(seed).normal(size=(n, columns)) * 3
    D = cdist(X, X)
    tree, book = diana(D), by_the_book(D)
    check_tree(tree)
    assert leaves_under(tree)[::-1] == [own for own, _ in book]
    np.testing.assert_array_equal(tree[::-1, 2], [height for _, height in book])


def test_diana_keeps_its_digits_in_clusters_that_are_tight_and_far_apart():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 2)) * 1e-6 + 1e3 * (np.arange(40) % 2)[:, None]
    D = cdist(X, X)
    assert leaves_under(diana(D))[::-1] == [own for own, _ in by_the_book(D)]


def test_diana_takes_a_matrix_of_single_precision_that_is_no_metric():
    D = np.random.default_rng(0).uniform(1, 9, size=(25, 25)).astype(np.float32)
    D = np.tril(D, -1) + np.tril(D, -1).T
    found = DivisiveClustering(method="diana", metric="precomputed").fit(D)
    assert leaves_under(found.dendrogram_)[::-1] == [own for own, _ in by_the_book(D.astype(float))]


@pytest.mark.parametrize("metric", ["manhattan", "cosine", "l2"])
def test_diana_by_a_metric_is_diana_of_its_matrix(metric):
    X = groups(40)
    D = cdist(X, X, {"manhattan": "cityblock", "l2": "euclidean"}.get(metric, metric))
    np.fill_diagonal(D, 0)
    found = DivisiveClustering(method="diana", metric=metric).fit(X)
    np.testing.assert_array_equal(found.dendrogram_, diana(D))


def test_diana_of_identical_points():
    X = np.repeat([[0.0, 0.1], [7.0, 0.3]], 5, axis=0)
    found = DivisiveClustering(method="diana", n_clusters=2).fit(X)
    assert found.labels_.tolist() == [0] * 5 + [1] * 5
    assert (found.distances_[:-1] == 0).all()
    assert found.distances_[-1] > 7
    check_tree(found.dendrogram_)
    assert len(np.unique(found.cut(10))) == 10


def test_diana_foresees_its_memory(monkeypatch):
    monkeypatch.setattr("konspekt.core.memory.available_memory", lambda: 2**10)
    with pytest.raises(ResourceError, match="DIANA of 90 points by the distances of all pairs needs"):
        DivisiveClustering(method="diana").fit(groups())


# --- bisecting --------------------------------------------------------------------------------------------------------


def test_bisecting_finds_groups_as_scikit_learn_does():
    X = groups()
    found = DivisiveClustering(n_clusters=3, random_state=0).fit(X)
    assert adjusted_rand_score(np.arange(90) % 3, found.labels_) == 1
    assert adjusted_rand_score(BisectingKMeans(3, random_state=0, n_init=5).fit(X).labels_, found.labels_) == 1
    assert found.n_leaves_ == 3
    assert found.leaves_.tolist() == found.labels_.tolist()


def test_bisecting_divides_the_greatest_sum_of_squares_and_its_heights_are_their_roots():
    X = groups(60)
    found = DivisiveClustering(n_clusters=2, n_leaves=12, random_state=0).fit(X)
    check_tree(found.dendrogram_)
    for under, height in zip(leaves_under(found.dendrogram_), found.distances_, strict=True):
        own = X[np.isin(found.leaves_, under)]
        assert height**2 == pytest.approx(((own - own.mean(0)) ** 2).sum(), rel=1e-12)
    assert (np.diff(found.distances_) >= 0).all()
    left = [X[found.leaves_ == leaf] for leaf in range(12)]
    assert max(((own - own.mean(0)) ** 2).sum() for own in left) <= found.distances_[0] ** 2


def test_bisecting_as_far_as_a_threshold():
    X = groups()
    found = DivisiveClustering(n_clusters=None, distance_threshold=20.0, random_state=0).fit(X)
    assert adjusted_rand_score(np.arange(90) % 3, found.labels_) == 1
    assert (found.distances_ >= 20).all()
    finer = DivisiveClustering(n_clusters=None, distance_threshold=20.0, n_leaves=9, random_state=0).fit(X)
    assert finer.n_leaves_ == 9
    assert finer.labels_.tolist() == found.labels_.tolist()


def test_a_seed_gives_the_same_tree():
    X = np.random.default_rng(0).normal(size=(200, 4))
    one, two, other = (DivisiveClustering(n_clusters=20, random_state=s).fit(X) for s in (3, 3, 4))
    np.testing.assert_array_equal(one.dendrogram_, two.dendrogram_)
    np.testing.assert_array_equal(one.leaves_, two.leaves_)
    assert not np.array_equal(one.leaves_, other.leaves_)


def test_equal_points_are_not_divided_and_the_log_says_so(tmp_path):
    X = np.repeat([[0.0], [1.0], [5.0]], 4, axis=0)
    found = DivisiveClustering(n_clusters=7, run_dir=str(tmp_path / "run")).fit(X)
    assert found.n_clusters_ == 3
    assert found.labels_.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert found.run_.warnings == [
        "DivisiveClustering: 3 clusters instead of n_clusters=7: the others are of equal points, which k-means does not divide"
    ]
    with pytest.raises(
        ConfigError, match="k=4, but the tree has 3 leaves; ask for at most as many, or fit with more n_l"
    ):
        found.cut(4)
    one = DivisiveClustering().fit(np.full((5, 2), 0.1))
    assert one.n_clusters_ == 1
    assert one.dendrogram_.shape == (0, 4)
    assert one.cut(height=3).tolist() == [0] * 5


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"metric": "cosine"}, "divides by means, so it is of Euclidean points, not of metric='cosine'"),
        ({"method": "diana", "n_leaves": 4}, "divides down to single points; leave n_leaves out"),
        ({"n_clusters": 5, "n_leaves": 4}, "n_leaves=4 is less than n_clusters=5"),
        ({"n_clusters": None}, "one of the two says where the tree is cut"),
        ({"distance_threshold": 1.0}, "one of the two says where the tree is cut"),
        ({"method": "agnes"}, "method must be one of 'bisecting', 'diana'"),
    ],
)
def test_parameters_that_do_not_go_together(parameters, said):
    with pytest.raises(ConfigError, match=said):
        DivisiveClustering(**parameters).fit(groups())


@pytest.mark.parametrize("parameters", [{"n_clusters": 6}, {"n_clusters": 2, "n_leaves": 6}])
def test_more_clusters_than_points(parameters):
    with pytest.raises(DataError, match="n_clusters=6 is more than the 5 points"):
        DivisiveClustering(**parameters).fit(groups(5))


def test_a_distance_that_is_not_finite():
    with pytest.raises(DataError, match="not finite: a row of zeros"):
        DivisiveClustering(method="diana", metric="cosine").fit([[0.0, 0.0], [1.0, 2.0], [2.0, 1.0]])
    for method in ("diana", "bisecting"):
        with pytest.raises(DataError, match="not finite: numbers are too large"):
            DivisiveClustering(method=method).fit([[1e200], [-1e200], [0.0]])
    with pytest.raises(DataError, match="not finite: numbers are too large"):  # k-means would take squares of 32 bits
        DivisiveClustering().fit(np.array([[1e30], [-1e30], [0.0]], dtype=np.float32))
