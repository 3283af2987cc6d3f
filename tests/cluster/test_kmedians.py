"""k-medians: the best of all groupings, a sum that falls, medians, and points far out."""

import itertools

import numpy as np
import pytest
from sklearn.datasets import make_blobs
from sklearn.utils.estimator_checks import parametrize_with_checks

import konspekt
from konspekt.cluster import kmedians
from konspekt.cluster.kmeans import KMeans
from konspekt.cluster.kmedians import KMedians, medians_of, nearest_by_manhattan, spread_out
from konspekt.core.errors import ConfigError, DataError
from konspekt.metrics.clustering import adjusted_rand


@parametrize_with_checks([KMedians(n_clusters=2)])
def test_scikit_learn_accepts_it(estimator, check):
    check(estimator)


def objective(X, labels):
    """The sum of the Manhattan distances to the medians, as the definition has it."""
    return sum(np.abs(X[labels == c] - np.median(X[labels == c], axis=0)).sum() for c in set(labels.tolist()))


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_the_best_of_all_groupings_is_found(k, seed):
    X = np.random.default_rng(seed).normal(size=(7, 2))
    best = min(objective(X, np.array(labels)) for labels in itertools.product(range(k), repeat=7))
    found = KMedians(n_clusters=k, n_init=40, random_state=0).fit(X)
    assert found.inertia_ == pytest.approx(best)
    assert objective(X, found.labels_) == pytest.approx(best)


@pytest.mark.parametrize("init", ["k-means++", "random", "given"])
@pytest.mark.parametrize("seed", range(5))
def test_the_sum_falls_with_each_step_and_ends_where_it_stands_still(init, seed):
    rng = np.random.default_rng(seed)
    X = rng.standard_t(2, size=(150, 3)) * [1, 10, 100]
    start = X[:6] if init == "given" else init
    fitted = KMedians(n_clusters=6, init=start, random_state=seed, keep_history=True).fit(X)
    sums = [step["inertia"] for step in fitted.history_]
    assert len(sums) > 2
    assert all(a > b for a, b in itertools.pairwise(sums))
    assert fitted.n_iter_ == len(sums) - 1
    for step in fitted.history_:  # what a step says of itself, by the definition
        apart = np.abs(X[:, None] - step["cluster_centers"]).sum(2)
        assert step["inertia"] == pytest.approx(apart.min(1).sum())
        assert np.array_equal(step["labels"], apart.argmin(1))
    assert np.array_equal(fitted.history_[-1]["labels"], fitted.labels_)
    medians = np.stack([np.median(X[fitted.labels_ == c], axis=0) for c in range(fitted.n_clusters_)])
    again = np.abs(X[:, None] - medians).sum(2).min(1).sum()
    assert again == pytest.approx(fitted.inertia_)  # another step would not help


def test_medians_are_those_of_numpy():
    rng = np.random.default_rng(0)
    X, labels = rng.normal(size=(41, 3)), rng.integers(5, size=41)
    labels[labels == 3] = 2  # a cluster without points keeps its centre
    old = rng.normal(size=(5, 3))
    new = medians_of(X, labels, old)
    for c in (0, 1, 2, 4):
        assert np.allclose(new[c], np.median(X[labels == c], axis=0))
    assert np.array_equal(new[3], old[3])
    before, after = labels, labels.copy()
    after[np.flatnonzero(labels == 0)[0]] = 1
    again = medians_of(X, after, new, before)
    assert np.allclose(again[0], np.median(X[after == 0], axis=0))
    assert np.allclose(again[1], np.median(X[after == 1], axis=0))
    assert np.array_equal(again[2:], new[2:])


def test_the_middle_of_two_large_numbers_is_finite():
    X = np.array([[1.5e308], [1.7e308]])
    assert medians_of(X, np.zeros(2, np.int64), X[:1])[0, 0] == pytest.approx(1.6e308)


def test_blocks_do_not_change_what_is_nearest(monkeypatch):
    rng = np.random.default_rng(0)
    X, C = rng.normal(size=(100, 4)), rng.normal(size=(7, 4))
    monkeypatch.setattr(kmedians, "ENTRIES", 7 * 9)
    labels, apart = nearest_by_manhattan(X, C)
    every = np.abs(X[:, None] - C).sum(2)
    assert np.array_equal(labels, every.argmin(1))
    assert np.allclose(apart, every.min(1))


def test_points_far_out_move_means_and_not_medians():
    X, y = make_blobs(200, centers=[[0, 0], [10, 0]], cluster_std=1.0, random_state=0)
    far = np.concatenate([X, np.random.default_rng(0).uniform(300, 500, (4, 2))])
    given = np.array([[0.0, 0], [10, 0]])
    medians, means = KMedians(n_clusters=2, init=given).fit(far), KMeans(n_clusters=2, init=given).fit(far)
    assert adjusted_rand(y, medians.labels_[:200]) > 0.95
    assert adjusted_rand(y, means.labels_[:200]) < 0.1  # one mean goes to the four, the other takes all the rest
    assert np.abs(medians.cluster_centers_ - given).max() < 0.5
    assert np.abs(means.cluster_centers_ - given).max() > 100


def test_careful_seeding_takes_a_point_of_each_distant_group():
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.random((50, 2)) + 100 * c for c in range(4)])
    for seed in range(20):
        chosen = spread_out(X, 4, np.random.default_rng(seed))
        assert sorted((chosen[:, 0] // 100).astype(int).tolist()) == [0, 1, 2, 3]


def test_a_cluster_without_points_takes_the_furthest():
    X = np.array([[0.0], [1.0], [2.0], [30.0], [31.0], [60.0]])
    fitted = KMedians(n_clusters=3, init=np.array([[1.0], [33.0], [900.0]])).fit(X)
    assert sorted(fitted.cluster_centers_[:, 0].tolist()) == [1, 30.5, 60]
    assert fitted.inertia_ == pytest.approx(3.0)


def test_fewer_places_than_clusters_are_said(tmp_path):
    X = np.repeat([[0.0, 0], [1, 1], [5, 5]], 10, axis=0)
    fitted = KMedians(n_clusters=5, random_state=0, run_dir=str(tmp_path / "run")).fit(X)
    assert fitted.n_clusters_ == 3 == len(fitted.cluster_centers_)
    assert fitted.inertia_ == 0
    assert (
        "n_clusters=5 were asked for and 3 found: the points stand in only 3 distinct places; lower n_clusters"
        in fitted.run_.warnings
    )
    assert np.array_equal(konspekt.load(tmp_path / "run").predict(X), fitted.labels_)
    assert KMedians(n_clusters=2, random_state=0).fit(np.ones((6, 2))).n_clusters_ == 1


def test_32_bits_stay_and_the_seed_decides():
    X = make_blobs(200, centers=4, random_state=0)[0].astype(np.float32)
    a, b = (KMedians(n_clusters=4, random_state=5).fit(X) for _ in range(2))
    assert a.cluster_centers_.dtype == np.float32
    assert np.array_equal(a.labels_, b.labels_)
    assert a.inertia_ == b.inertia_
    assert np.array_equal(a.predict(X), a.labels_)
    best = KMedians(n_clusters=4, init="random", random_state=5).fit(X)
    assert best.inertia_ <= KMedians(n_clusters=4, init="random", n_init=1, random_state=5).fit(X).inertia_


def test_a_history_changes_nothing_and_is_drawn():
    X = make_blobs(200, centers=4, random_state=0)[0]
    plain = KMedians(n_clusters=4, n_init=3, random_state=1).fit(X)
    kept = KMedians(n_clusters=4, n_init=3, random_state=1, keep_history=True).fit(X)
    assert np.array_equal(plain.labels_, kept.labels_)
    assert plain.inertia_ == kept.inertia_
    assert not hasattr(plain, "history_")
    figure = kept.plot_history()
    assert any("sum of distances" in text.get_text() for text in figure.findobj(lambda a: hasattr(a, "get_text")))


def test_bad_input_is_refused():
    X = np.arange(12.0).reshape(6, 2)
    with pytest.raises(DataError, match=r"KMedians: n_clusters=7 is more than the 6 points; lower n_clusters"):
        KMedians(n_clusters=7).fit(X)
    with pytest.raises(ConfigError, match=r"KMedians: init must be 'k-means\+\+', 'random' or centres"):
        KMedians(n_clusters=2, init="far").fit(X)
    with pytest.raises(ConfigError, match=r"n_init=3 makes no sense"):
        KMedians(n_clusters=2, init=X[:2], n_init=3).fit(X)
