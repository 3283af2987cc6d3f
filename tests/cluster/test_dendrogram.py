import numpy as np
import pytest
from matplotlib.colors import to_hex
from scipy.cluster.hierarchy import cophenet, fcluster
from scipy.spatial.distance import squareform
from sklearn.exceptions import NotFittedError
from sklearn.metrics import adjusted_rand_score

import konspekt
from konspekt.cluster import AgglomerativeClustering, DivisiveClustering
from konspekt.cluster.dendrogram import check_tree
from konspekt.cluster.panels import COLOURS
from konspekt.core.errors import ConfigError, DataError

MONOTONE = [
    AgglomerativeClustering(linkage="ward"),
    AgglomerativeClustering(linkage="average"),
    AgglomerativeClustering(linkage="single"),
    AgglomerativeClustering(linkage="complete"),
    DivisiveClustering(method="diana"),
    DivisiveClustering(n_leaves=40, random_state=0),
]
ALL = [*MONOTONE, AgglomerativeClustering(linkage="centroid")]
TRIANGLE = np.array([[0, 0], [1, 0], [0.5, 0.87]])  # merged at 1, then at 0.87: an inversion


def points(n=80, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 2)) + 3 * rng.integers(0, 3, size=(n, 1))


def nested(fine, coarse):
    return all(len(np.unique(coarse[fine == c])) == 1 for c in np.unique(fine))


@pytest.mark.parametrize("model", ALL, ids=str)
def test_cuts_give_k_nested_clusters(model):
    found = model.fit(points())
    before, coarser = found.labels_.copy(), None
    for k in (1, 2, 3, 7, 20, found.n_leaves_):
        labels = found.cut(k)
        assert labels.shape == (80,)
        assert labels.dtype == np.int64
        assert np.array_equal(np.unique(labels), np.arange(k))
        assert (np.diff(np.unique(labels, return_index=True)[1]) > 0).all()  # numbered by their first points
        assert coarser is None or nested(labels, coarser)
        coarser = labels
    np.testing.assert_array_equal(found.labels_, before)
    np.testing.assert_array_equal(found.cut(2), before)


@pytest.mark.parametrize("model", ALL, ids=str)
def test_cuts_by_height_are_nested_and_those_of_scipy(model):
    found = model.fit(points())
    finer = found.cut(height=0)
    assert len(np.unique(finer)) == found.n_leaves_
    for height in np.quantile(found.distances_, [0.1, 0.4, 0.7, 0.9, 0.97]) * 1.0001:
        labels = found.cut(height=height)
        theirs = fcluster(found.dendrogram_, height, "distance")
        if found.leaves_ is not None:
            theirs = theirs[found.leaves_]
        assert adjusted_rand_score(theirs, labels) == 1
        assert nested(finer, labels)
        finer = labels


@pytest.mark.parametrize("model", MONOTONE, ids=str)
def test_points_are_together_below_the_height_at_which_they_meet(model):
    found = model.fit(points(50))
    assert (np.diff(found.distances_) >= 0).all()
    meet = squareform(cophenet(found.dendrogram_))
    leaves = np.arange(50) if found.leaves_ is None else found.leaves_
    for height in (0.3, 1.0, found.distances_[-3], 1e9):
        labels = found.cut(height=height)
        np.testing.assert_array_equal(labels[:, None] == labels, (meet < height)[np.ix_(leaves, leaves)])


def test_a_merge_at_the_height_is_not_made():
    found = AgglomerativeClustering(linkage="single").fit(np.array([[0.0], [1.0], [3.0]]))
    assert found.cut(height=1.0).tolist() == [0, 1, 2]
    assert found.cut(height=2.0).tolist() == [0, 0, 1]
    assert found.cut(height=2.5).tolist() == [0, 0, 0]


def test_where_heights_invert_a_merge_waits_for_those_under_it():
    found = AgglomerativeClustering(linkage="centroid").fit(TRIANGLE)
    assert found.distances_[1] < found.distances_[0]
    assert found.cut(height=0.99).tolist() == [0, 1, 2]
    assert found.cut(height=1.01).tolist() == [0, 0, 0]
    assert len(np.unique(found.cut(2))) == 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "give either k, the number of clusters, or height; got k=None, height=None"),
        ({"k": 2, "height": 1.0}, "give either k"),
        ({"k": 0}, "k must be an integer at least 1, got 0"),
        ({"k": 2.0}, "k must be an integer at least 1, got 2.0"),
        ({"k": True}, "k must be an integer"),
        ({"k": 81}, "k=81, but the tree has 80 leaves"),
        ({"height": -1}, "height must be a number at least 0, got -1"),
        ({"height": float("nan")}, "height must be a number at least 0, got nan"),
        ({"height": "2"}, "height must be a number at least 0, got '2'"),
    ],
)
def test_cuts_that_there_are_none(given, said):
    with pytest.raises(ConfigError, match=said):
        AgglomerativeClustering().fit(points()).cut(**given)


def test_no_cut_before_fit():
    with pytest.raises(NotFittedError):
        AgglomerativeClustering().cut(2)
    with pytest.raises(NotFittedError):
        DivisiveClustering().plot_dendrogram()


@pytest.mark.parametrize("model", [*ALL[:1], *ALL[4:]], ids=str)
def test_a_saved_tree_can_be_cut(model, tmp_path):
    found = model.fit(points())
    again = konspekt.load(found.save(tmp_path / "model"))
    np.testing.assert_array_equal(again.cut(9), found.cut(9))
    np.testing.assert_array_equal(again.dendrogram_, found.dendrogram_)
    assert again.n_leaves_ == found.n_leaves_


def damage(row, column, value):
    def change(tree):
        tree[row, column] = value
        return tree

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t[:, :3], r"not a matrix \(L - 1, 4\)"),
        (lambda t: t.astype(np.float32), r"of float64"),
        (damage(3, 2, np.nan), "negative or not finite"),
        (damage(3, 2, -1.0), "negative or not finite"),
        (damage(3, 0, -1), "joins what is not there yet"),
        (damage(3, 0, 0.5), "joins what is not there yet"),
        (damage(3, 1, 500), "joins what is not there yet"),
        (damage(3, 1, 83), "joins what is not there yet"),  # itself
        (damage(3, 3, 50), "sizes of its clusters do not add up"),
    ],
)
def test_what_is_no_tree(change, said):
    tree = AgglomerativeClustering().fit(points()).dendrogram_
    check_tree(tree)
    with pytest.raises(DataError, match=said):
        check_tree(change(tree.copy()))


def test_a_node_is_merged_once():
    tree = AgglomerativeClustering().fit(points()).dendrogram_.copy()
    tree[5, 0] = tree[2, 0]
    with pytest.raises(DataError, match="a node is merged twice"):
        check_tree(tree)


@pytest.mark.parametrize("name", ["dendrogram_", "labels_", "leaves_"])
def test_a_tree_that_does_not_belong_to_the_labels_is_refused(name):
    found = DivisiveClustering(n_leaves=6, random_state=0).fit(points())
    config, tensors = found.learned()
    DivisiveClustering().restore(config, dict(tensors))
    with pytest.raises(DataError, match="does not belong to"):
        DivisiveClustering().restore(config, tensors | {name: _other(tensors[name], name)})


def _other(tensor, name):
    if name == "dendrogram_":
        import torch

        return torch.from_numpy(AgglomerativeClustering().fit(points(9)).dendrogram_)
    return tensor[:-1] if name == "labels_" else tensor * 0


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_every_leaf_of_a_small_tree_is_drawn_in_its_clusters_colour():
    X = points(20)
    found = AgglomerativeClustering(n_clusters=3).fit(X)
    axes = found.plot_dendrogram().axes[0]
    shown = [int(t.get_text()) for t in axes.get_xticklabels()]
    assert sorted(shown) == list(range(20))
    squares = [to_hex(c) for c in axes.collections[1].get_facecolors()]
    assert squares == [COLOURS[found.labels_[point]].lower() for point in shown]
    assert "3 clusters of 20 points" in axes.get_title()
    cut = axes.lines[0].get_ydata()[0]
    np.testing.assert_array_equal(found.cut(height=cut), found.labels_)
    grey = [to_hex(c) for c in axes.collections[0].get_colors()].count("#8a8a8a")
    assert grey == 2
    assert len(axes.collections[0].get_segments()) == 19


def test_a_large_tree_is_drawn_in_bundles():
    found = AgglomerativeClustering(linkage="single").fit(points(1500))  # deep enough for a recursion to fail
    axes = found.plot_dendrogram(5).axes[0]
    texts = [t.get_text() for t in axes.get_xticklabels()]
    assert len(texts) == 40
    assert sum(int(t[1:-1]) if t.startswith("(") else 1 for t in texts) == 1500
    assert "5 clusters of 1,500 points" in axes.get_title()


def test_a_cut_by_height_is_drawn_there():
    figure = AgglomerativeClustering().fit(points()).plot_dendrogram(height=4.5)
    assert figure.axes[0].lines[0].get_ydata()[0] == 4.5
    assert "(cut at 4.5)" in figure.axes[0].get_title()


def test_no_line_is_drawn_where_none_cuts():
    axes = AgglomerativeClustering(linkage="centroid").fit(TRIANGLE).plot_dendrogram().axes[0]
    assert not axes.lines
    assert "no height cuts it so" in axes.get_title()


def test_leaves_of_a_bisection_bear_their_points():
    found = DivisiveClustering(n_clusters=2, n_leaves=3, random_state=0).fit(np.array([[0.0], [0.1], [5.0], [9.0]]))
    texts = [t.get_text() for t in found.plot_dendrogram(names=list("abcd")).axes[0].get_xticklabels()]
    assert sorted(texts) == ["(2)", "c", "d"]
    with pytest.raises(ConfigError, match="3 names for 4 points"):
        found.plot_dendrogram(names=list("abc"))


def test_a_tree_of_one_leaf_cannot_be_drawn():
    with pytest.raises(DataError, match="one leaf"):
        DivisiveClustering().fit(np.ones((5, 2))).plot_dendrogram()
