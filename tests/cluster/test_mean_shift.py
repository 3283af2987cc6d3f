"""Mean shift: scikit-learn's modes to the bit, the bandwidth rule, noise, history, bad input."""

import numpy as np
import pytest
from sklearn.cluster import MeanShift as Peer
from sklearn.cluster import estimate_bandwidth
from sklearn.datasets import make_blobs
from sklearn.utils.estimator_checks import parametrize_with_checks

from konspekt import load
from konspekt.cluster import MeanShift, bandwidth_of
from konspekt.cluster import mean_shift as module
from konspekt.core.errors import ConfigError, DataError
from konspekt.core.runs import Run


@parametrize_with_checks([MeanShift(), MeanShift(seeding="grid", bandwidth=1.0)])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("columns", [2, 18])  # a tree, and no tree
@pytest.mark.parametrize("grid", [False, True])
def test_modes_and_labels_are_scikit_learns(grid, columns, dtype, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 2000)  # several pieces
    X = make_blobs(150, centers=4, n_features=columns, random_state=3)[0].astype(dtype)
    width = 1.2 * columns**0.5
    peer = Peer(bandwidth=width, bin_seeding=grid).fit(X)
    ours = MeanShift(bandwidth=width, seeding="grid" if grid else "sample").fit(X)
    assert ours.n_clusters_ > 2
    np.testing.assert_allclose(
        ours.cluster_centers_, peer.cluster_centers_, rtol=1e-12 if dtype == np.float64 else 1e-5
    )
    np.testing.assert_array_equal(ours.labels_, peer.labels_)
    assert ours.n_iter_ == peer.n_iter_
    within = (np.linalg.norm(X[None] - ours.cluster_centers_[:, None], axis=2) <= width).sum(1)
    assert (np.diff(ours.points_within_) <= 0).all()
    np.testing.assert_allclose(ours.points_within_, within, atol=3)  # counted before the last, short move


def test_min_bin_freq_max_iter_and_noise():
    X = np.r_[make_blobs(200, random_state=0)[0], [[40.0, 40.0]]]
    for change in ({"min_bin_freq": 3}, {"max_iter": 1}, {"max_iter": 0}):
        peer = Peer(bandwidth=1.5, bin_seeding=True, cluster_all=False, **change).fit(X)
        ours = MeanShift(bandwidth=1.5, seeding="grid", cluster_all=False, **change).fit(X)
        np.testing.assert_array_equal(ours.labels_, peer.labels_)
    ours = MeanShift(bandwidth=1.5, seeding="grid", min_bin_freq=3, cluster_all=False).fit(X)
    assert ours.labels_[-1] == -1
    np.testing.assert_array_equal(ours.predict(X), ours.labels_)  # scikit-learn's predict knows no noise
    assert MeanShift(bandwidth=1.5, seeding="grid", min_bin_freq=3).fit(X).labels_.min() == 0


def test_bandwidth_rule():
    X = make_blobs(300, random_state=0)[0]
    assert bandwidth_of(X) == pytest.approx(estimate_bandwidth(X), rel=1e-12)
    assert bandwidth_of(X, quantile=0.1) == pytest.approx(estimate_bandwidth(X, quantile=0.1), rel=1e-12)
    assert bandwidth_of([[0.0], [1.0], [3.0]]) == pytest.approx((1 + 1 + 2) / 3)  # the nearest other one at least
    model = MeanShift(quantile=0.2).fit(X)
    assert model.bandwidth_ == pytest.approx(estimate_bandwidth(X, quantile=0.2), rel=1e-12)


def test_bandwidth_of_a_sample(monkeypatch):
    monkeypatch.setattr(module, "SAMPLE", 200)
    X = make_blobs(400, random_state=0)[0]
    one, other, third = (MeanShift(random_state=s).fit(X).bandwidth_ for s in (0, 0, 1))
    assert one == other != third
    assert one == pytest.approx(estimate_bandwidth(X), rel=0.2)


def test_predict_and_save(tmp_path):
    X, y = make_blobs(200, centers=[[0, 0], [8, 0], [0, 8]], random_state=0)
    model = MeanShift(bandwidth=3.0, run_dir=str(tmp_path / "run")).fit(X, y)
    assert model.n_clusters_ == 3
    assert model.facts_["scores"]["adjusted_rand"] == 1
    back = load(tmp_path / "run")
    new = [[0.5, 0.5], [7.0, 1.0], [100.0, 0.0]]
    assert back.predict(new).tolist() == model.predict(new).tolist()
    assert back.bandwidth_ == 3.0


def test_history():
    X = make_blobs(60, centers=3, random_state=0)[0]
    model = MeanShift(bandwidth=2.0, keep_history=True).fit(X)
    marks = [frame["marks"] for frame in model.history_]
    np.testing.assert_array_equal(marks[0], X)
    assert len(marks) == model.n_iter_ + 2  # where they began, and the last move that none is followed by
    assert [frame["title"] for frame in model.history_[:2]] == ["after 0 moves", "after 1 moves"]
    first = [X[np.linalg.norm(X - x, axis=1) <= 2.0].mean(0) for x in X]
    np.testing.assert_allclose(marks[1], first)
    assert {tuple(c) for c in model.cluster_centers_} <= {tuple(m) for m in marks[-1]}
    plain = MeanShift(bandwidth=2.0).fit(X)
    np.testing.assert_array_equal(plain.cluster_centers_, model.cluster_centers_)
    assert not hasattr(plain, "history_")
    model.set_params(keep_history=False).fit(X)
    with pytest.raises(ConfigError, match="no history was kept; fit with keep_history=True"):
        model.plot_history()


def test_what_is_odd_is_said():
    X = np.arange(30.0)[:, None] ** 2
    model = MeanShift(bandwidth=0.5).fit(X)
    assert model.n_clusters_ == 30
    assert model.run_.warnings == [
        "each of the 30 points is a cluster by itself: within bandwidth=0.5 no point has another; raise bandwidth"
    ]
    model = MeanShift(bandwidth=2.0, max_iter=0).fit(make_blobs(60, random_state=0)[0])
    assert "windows were still moving after max_iter=0 moves; raise it" in model.run_.warnings[0]
    run = Run()
    model.exhibit(np.zeros((1, 2)), run)
    assert run.kept["bandwidth"][1] == "bandwidth 2, as given; the windows stood after 0 moves"
    assert [r["points in its window"] for r in run.kept["modes"][1]] == model.points_within_[:50].tolist()


def test_bad_input():
    with pytest.raises(
        DataError, match="the bandwidth rule gives 0, as every one of the 20 points has 5 others at its place"
    ):
        MeanShift().fit(np.ones((20, 2)))
    far = np.full((4, 40), 0.49) * np.array([[1], [-1], [1], [-1]]) + np.eye(4, 40)  # the corners of a cell of 40 sides
    with pytest.raises(DataError, match=r"no point is within bandwidth=1 of any of the .* seeds; raise bandwidth"):
        MeanShift(bandwidth=1.0, seeding="grid").fit(far)
    with pytest.raises(DataError, match="no cell of the grid holds 9 points, at most 1; lower min_bin_freq"):
        MeanShift(bandwidth=0.1, seeding="grid", min_bin_freq=9).fit(np.arange(20.0)[:, None])
    with pytest.raises(DataError, match="squares overflow"):
        MeanShift().fit([[0.0], [1e200], [3.0]])
    with pytest.raises(ConfigError, match="bandwidth must be more than 0"):
        MeanShift(bandwidth=0).fit(np.eye(4))
    with pytest.raises(ConfigError, match="quantile must be"):
        MeanShift(quantile=0.0).fit(np.eye(4))


def test_some_lost_seeds_are_said():
    rng = np.random.default_rng(0)
    X = np.r_[rng.normal(size=(50, 12)) * 0.1, np.full((2, 12), 0.49) + 10]
    model = MeanShift(bandwidth=1.0, seeding="grid").fit(X)
    lost = [w for w in model.run_.warnings if "have no point within bandwidth=1 and were left out" in w]
    assert len(lost) == 1
    assert lost[0].startswith("1 of 2 seeds")


def test_a_damaged_model_is_refused():
    model = MeanShift(bandwidth=2.0).fit(make_blobs(60, random_state=0)[0])
    for name, value in (
        ("cluster_centers_", model.cluster_centers_[:, :1]),
        ("cluster_centers_", model.cluster_centers_[:1]),
        ("points_within_", model.points_within_[:1]),
    ):
        config, tensors = model.learned()
        tensors[name] = tensors[name].new_tensor(value)
        with pytest.raises(DataError, match=r"modes|fit together|each mode"):
            MeanShift(bandwidth=2.0).restore(config, tensors)


def test_points_far_from_the_origin_get_the_mode_that_is_nearest():
    X = np.array([[0.0], [1.0], [10.0], [11.0]])
    near, far = (MeanShift(bandwidth=3.0).fit(X + shift) for shift in (0.0, 2.0**30))
    assert near.labels_[0] == near.labels_[1] != near.labels_[2] == near.labels_[3]
    assert np.array_equal(near.labels_, far.labels_)
    assert np.array_equal(near.predict(X + 1.5), far.predict(X + 1.5 + 2.0**30))
