"""k-means: against scikit-learn, through torch, its history, and what becomes of odd data."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans as Peer
from sklearn.cluster import MiniBatchKMeans
from sklearn.datasets import make_blobs
from sklearn.utils.estimator_checks import parametrize_with_checks

import konspekt
from konspekt.cluster.kmeans import KMeans
from konspekt.cluster.lloyd import lloyd, nearest, spread_out, sums_of
from konspekt.core.errors import ConfigError, DataError
from konspekt.metrics.clustering import adjusted_rand


@parametrize_with_checks([KMeans(n_clusters=2)])
def test_scikit_learn_accepts_it(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def blobs():
    return make_blobs(600, centers=5, n_features=3, cluster_std=2.0, random_state=1)[0]


@pytest.fixture
def by_torch(monkeypatch):
    """Every fit goes through torch, on the CPU."""
    monkeypatch.setattr(KMeans, "_device", lambda self: torch.device("cpu"))


def same(labels, others):
    return adjusted_rand(labels, others) == 1


# -- beside scikit-learn --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["lloyd", "elkan"])
@pytest.mark.parametrize(("init", "n_init"), [("k-means++", "auto"), ("random", 3)])
def test_what_scikit_learn_finds_is_found_to_the_bit(blobs, init, n_init, algorithm):
    own = KMeans(n_clusters=5, init=init, n_init=n_init, algorithm=algorithm, random_state=3).fit(blobs)
    peer = Peer(5, init=init, n_init=n_init, algorithm=algorithm, random_state=3).fit(blobs)
    assert np.array_equal(own.labels_, peer.labels_)
    assert np.array_equal(own.cluster_centers_, peer.cluster_centers_)
    assert (own.inertia_, own.n_iter_) == (peer.inertia_, peer.n_iter_)
    assert np.allclose(own.transform(blobs[:20]), peer.transform(blobs[:20]))


def test_mini_batches_are_those_of_scikit_learn(blobs):
    own = KMeans(n_clusters=5, batch_size=100, random_state=3).fit(blobs)
    peer = MiniBatchKMeans(5, batch_size=100, max_iter=300, tol=1e-4, n_init=1, random_state=3).fit(blobs)
    assert np.array_equal(own.labels_, peer.labels_)
    assert np.array_equal(own.predict(blobs), peer.predict(blobs))


def test_the_data_stay_as_they_are_and_32_bits_stay_32(blobs):
    X = blobs.astype(np.float32)
    before = X.copy()
    fitted = KMeans(n_clusters=5, random_state=0).fit(X)
    assert np.array_equal(X, before)
    assert fitted.cluster_centers_.dtype == np.float32
    assert np.array_equal(fitted.predict(X.astype(np.float64)), fitted.labels_)


def test_points_far_from_the_origin_are_predicted_as_they_were_fitted():
    X = np.array([[0.0], [1.0], [10.0], [11.0]]) + 1e9  # 1e18 squared leaves no digits for a difference of 1
    fitted = KMeans(n_clusters=2, random_state=0).fit(X)
    assert fitted.labels_.tolist() == fitted.predict(X).tolist()
    assert fitted.labels_[0] == fitted.labels_[1] != fitted.labels_[2]
    assert fitted.predict([[5.0 + 1e9], [6.0 + 1e9]]).tolist() == [fitted.labels_[0], fitted.labels_[2]]


@pytest.mark.parametrize("init", ["k-means++", "given"])
def test_mini_batches_of_points_far_from_the_origin(blobs, init):
    settings = {"n_clusters": 4, "batch_size": 50, "random_state": 0}
    near, far = blobs - blobs[0], blobs - blobs[0] + 2.0**30
    here, there = (KMeans(init=X[::60][:4] if init == "given" else init, **settings).fit(X) for X in (near, far))
    assert adjusted_rand(here.labels_, there.labels_) == 1
    assert np.array_equal(there.predict(far), there.labels_)
    np.testing.assert_allclose(there.cluster_centers_ - 2.0**30, here.cluster_centers_, atol=1e-4)


@pytest.mark.parametrize("batch_size", [None, 50])
@pytest.mark.parametrize(("factor", "dtype"), [(1e300, np.float64), (1e30, np.float32)])
def test_numbers_whose_squares_overflow_are_refused(blobs, batch_size, factor, dtype):
    with pytest.raises(
        DataError, match=r"numbers as large as 1\.\d*e\+3\d+, whose squares overflow in float.*; scale X down"
    ):
        KMeans(n_clusters=3, batch_size=batch_size, random_state=0).fit((blobs * factor).astype(dtype))


def test_the_score_is_scikit_learns_so_that_searches_work(blobs):
    fitted, peer = KMeans(n_clusters=3, random_state=0).fit(blobs), Peer(3, random_state=0).fit(blobs)
    assert fitted.score(blobs[:20]) == pytest.approx(peer.score(blobs[:20]))
    assert fitted.score(blobs) == pytest.approx(-fitted.inertia_)


# -- through torch --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_from_the_same_start_torch_goes_the_same_way(blobs, by_torch, dtype):
    X = blobs.astype(dtype)
    own = KMeans(n_clusters=5, init=X[:5], random_state=0).fit(X)
    peer = Peer(5, init=X[:5], n_init=1).fit(X)
    assert np.array_equal(own.labels_, peer.labels_)
    assert np.allclose(own.cluster_centers_, peer.cluster_centers_, rtol=1e-5)
    assert own.cluster_centers_.dtype == dtype
    assert own.n_iter_ == peer.n_iter_
    assert own.inertia_ == pytest.approx(peer.inertia_, rel=1e-5)
    assert np.array_equal(own.predict(X), own.labels_)


@pytest.mark.parametrize("init", ["k-means++", "random"])
def test_torch_finds_clusters_that_stand_apart(by_torch, init):
    X, y = make_blobs(300, centers=[[0, 0], [20, 0], [0, 20], [20, 20]], cluster_std=1.0, random_state=0)
    fits = [KMeans(n_clusters=4, init=init, n_init=10, random_state=seed, keep_history=True).fit(X) for seed in (0, 0)]
    assert same(fits[0].labels_, y)
    assert np.array_equal(fits[0].labels_, fits[1].labels_)
    assert np.array_equal(fits[0].history_[-1]["labels"], fits[0].labels_)


def test_an_empty_cluster_takes_the_furthest_point_as_in_scikit_learn(by_torch):
    X = np.array([[0.0], [1.0], [2.0], [30.0], [31.0], [40.0]])
    start = np.array([[1.0], [33.0], [500.0]])  # no point is nearest to the last
    own, peer = KMeans(n_clusters=3, init=start).fit(X), Peer(3, init=start, n_init=1).fit(X)
    assert np.array_equal(own.labels_, peer.labels_)
    assert np.allclose(np.sort(own.cluster_centers_[:, 0]), [1, 30.5, 40])


def test_the_two_ways_of_adding_up_agree():
    g = torch.Generator().manual_seed(0)
    X, labels = torch.randn(50, 3, generator=g), torch.randint(4, (50,), generator=g)
    (sums, counts), (others, again) = (sums_of(X, labels, 4, product=p) for p in (False, True))
    assert torch.allclose(sums, others, atol=1e-6)
    assert counts.tolist() == again.tolist() == torch.bincount(labels, minlength=4).tolist()
    by_hand = torch.stack([X[labels == c].double().sum(0) for c in range(4)])
    assert torch.allclose(sums, by_hand)


def test_blocks_do_not_change_what_is_nearest(monkeypatch):
    g = torch.Generator().manual_seed(0)
    X, C = torch.randn(100, 3, generator=g, dtype=torch.float64), torch.randn(7, 3, generator=g, dtype=torch.float64)
    monkeypatch.setattr("konspekt.cluster.lloyd.ENTRIES", 7 * 9)
    assert torch.equal(nearest(X, C), torch.cdist(X, C).argmin(1))


def test_careful_seeding_takes_a_point_of_each_distant_group():
    X = torch.cat(
        [
            torch.full((50, 2), 100.0 * c) + torch.rand(50, 2, generator=torch.Generator().manual_seed(c))
            for c in range(4)
        ]
    )
    for seed in range(20):
        chosen = spread_out(X, 4, np.random.default_rng(seed))
        assert sorted((chosen[:, 0] // 100).int().tolist()) == [0, 1, 2, 3]


def test_a_device_that_is_not_here_is_refused(blobs):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ConfigError, match=r"device='cuda': this machine has 0 CUDA devices"):
        KMeans(device="cuda").fit(blobs)
    assert np.array_equal(
        KMeans(n_clusters=3, device="auto", random_state=0).fit(blobs).labels_,
        KMeans(n_clusters=3, random_state=0).fit(blobs).labels_,
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_finds_what_the_cpu_finds(blobs):
    own = KMeans(n_clusters=5, init=blobs[:5], device="cuda").fit(blobs)
    assert np.array_equal(own.labels_, KMeans(n_clusters=5, init=blobs[:5]).fit(blobs).labels_)


# -- history ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["lloyd", "elkan"])
@pytest.mark.parametrize(
    ("init", "n_init"), [("k-means++", "auto"), ("k-means++", 4), ("random", 4), ("given", "auto")]
)
def test_a_history_changes_nothing_and_ends_where_the_fit_does(blobs, init, n_init, algorithm):
    settings = {"n_clusters": 5, "init": blobs[:5] if init == "given" else init, "n_init": n_init, "random_state": 2}
    plain = KMeans(**settings, algorithm=algorithm).fit(blobs)
    kept = KMeans(**settings, algorithm=algorithm, keep_history=True).fit(blobs)
    assert np.array_equal(plain.labels_, kept.labels_)
    assert np.array_equal(plain.cluster_centers_, kept.cluster_centers_)
    assert not hasattr(plain, "history_")
    assert len(kept.history_) in (kept.n_iter_, kept.n_iter_ + 1)  # a last step that moves no label is not kept twice
    last = kept.history_[-1]
    assert np.array_equal(last["labels"], kept.labels_)
    assert np.allclose(last["cluster_centers"], kept.cluster_centers_)
    assert last["inertia"] == pytest.approx(kept.inertia_)
    sums = [step["inertia"] for step in kept.history_]
    assert all(a >= b for a, b in itertools.pairwise(sums))
    assert sums[0] > sums[-1]


def test_a_history_in_32_bits_and_one_cut_short(blobs):
    kept = KMeans(n_clusters=5, max_iter=2, init=blobs[:5], keep_history=True).fit(blobs.astype(np.float32))
    assert len(kept.history_) == 3
    assert kept.history_[-1]["cluster_centers"].dtype == np.float32
    assert np.array_equal(kept.history_[-1]["labels"], kept.labels_)
    assert not hasattr(kept.set_params(keep_history=False).fit(blobs), "history_")


def test_a_history_is_drawn_and_only_where_there_is_one(blobs):
    figure = KMeans(n_clusters=3, keep_history=True, random_state=0).fit(blobs).plot_history()
    assert any("sum of squares" in text.get_text() for text in figure.findobj(lambda a: hasattr(a, "get_text")))
    with pytest.raises(ConfigError, match=r"fit it with keep_history=True"):
        KMeans(n_clusters=3, random_state=0).fit(blobs).plot_history()


# -- odd data and parameters ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("through", ["scikit-learn", "torch"])
def test_fewer_places_than_clusters_are_said(monkeypatch, through, tmp_path):
    if through == "torch":
        monkeypatch.setattr(KMeans, "_device", lambda self: torch.device("cpu"))
    X = np.repeat([[0.0, 0], [1, 1], [5, 5]], 10, axis=0)
    fitted = KMeans(n_clusters=5, random_state=0, run_dir=str(tmp_path / "run")).fit(X)
    assert fitted.n_clusters_ == 3 == len(fitted.cluster_centers_)
    assert set(fitted.labels_) == {0, 1, 2}
    assert fitted.inertia_ == 0
    assert np.array_equal(fitted.cluster_centers_[fitted.labels_], X)
    assert np.array_equal(fitted.predict(X), fitted.labels_)
    said = "n_clusters=5 were asked for and 3 found: the points stand in only 3 distinct places; lower n_clusters"
    assert said in fitted.run_.warnings
    assert said in (tmp_path / "run" / "log.txt").read_text()
    back = konspekt.load(tmp_path / "run")
    assert np.array_equal(back.predict(X), fitted.labels_)


def test_identical_points_are_one_cluster():
    fitted = KMeans(n_clusters=2, random_state=0).fit(np.ones((6, 2)))
    assert fitted.n_clusters_ == 1
    assert "found: the points stand in only 1 distinct place;" in fitted.run_.warnings[0]


def test_bad_input_is_refused(blobs):
    with pytest.raises(DataError, match=r"KMeans: n_clusters=7 is more than the 6 points; lower n_clusters"):
        KMeans(n_clusters=7).fit(blobs[:6])
    with pytest.raises(DataError, match=r"1 sample\(s\)"):
        KMeans(n_clusters=1).fit(blobs[:1])
    with pytest.raises(DataError, match=r"KMeans: .*NaN"):
        KMeans().fit(np.where(blobs > 5, np.nan, blobs))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"init": "far"}, r"KMeans: init must be 'k-means\+\+', 'random' or centres \(K, F\), got 'far'"),
        ({"init": [["a"]]}, r"init must be .*, got \[\['a'\]\]"),
        (
            {"init": np.zeros((3, 2))},
            r"init has the shape \(3, 2\), but n_clusters=2 centres of 3 features are \(2, 3\)",
        ),
        ({"init": np.full((2, 3), np.nan)}, r"init holds NaN or infinite numbers"),
        ({"init": np.zeros((2, 3)), "n_init": 4}, r"init gives the centres of one start, so n_init=4 makes no sense"),
        ({"n_init": 0}, r"n_init must be an integer of at least 1, or 'auto', got 0|n_init must be .*got 0"),
        ({"algorithm": "full"}, r"algorithm must be one of 'lloyd', 'elkan', got 'full'"),
        (
            {"batch_size": 50, "algorithm": "elkan"},
            r"algorithm='elkan' is of steps over all points, not of mini-batches",
        ),
        ({"batch_size": 50, "keep_history": True}, r"keep_history=True is of steps over all points"),
        ({"batch_size": 50, "device": "cuda"}, r"mini-batches are computed on the CPU"),
    ],
)
def test_bad_parameters_are_refused(blobs, settings, message):
    with pytest.raises(ConfigError, match=message):
        KMeans(n_clusters=2, **settings).fit(blobs)


def test_given_centres_survive_a_folder(blobs, tmp_path):
    fitted = KMeans(n_clusters=2, init=blobs[:2], run_dir=str(tmp_path / "run")).fit(blobs)
    back = konspekt.load(tmp_path / "run")
    assert np.array_equal(np.array(back.init), blobs[:2])
    assert np.array_equal(back.predict(blobs), fitted.labels_)
    assert "init=" in (tmp_path / "run" / "model" / "card.md").read_text()


def test_restored_centres_must_fit(blobs):
    fitted = KMeans(n_clusters=3, random_state=0).fit(blobs)
    for spoil in (
        lambda f: f.cluster_centers_[:, :2],
        lambda f: f.cluster_centers_[:2],
        lambda f: f.cluster_centers_[0],
        lambda f: None,
    ):
        config, tensors = fitted.learned()
        bad = spoil(fitted)
        tensors.pop("cluster_centers_")
        if bad is not None:
            tensors["cluster_centers_"] = torch.from_numpy(np.ascontiguousarray(bad))
        with pytest.raises(DataError, match="cluster_centers_"):
            KMeans(n_clusters=3).restore(config, tensors)


# -- starts -----------------------------------------------------------------------------------------------------------------


def test_a_run_says_whether_starts_agree(tmp_path):
    apart = make_blobs(200, centers=[[0, 0], [30, 0], [0, 30]], random_state=0)[0]
    fitted = KMeans(n_clusters=3, random_state=0, run_dir=str(tmp_path / "a")).fit(apart)
    assert not fitted.run_.warnings
    kind, rows = fitted.run_.kept["starts"]
    assert kind == "table"
    assert [r["adjusted Rand index with the best"] for r in rows] == [1.0] * 5
    even = np.random.default_rng(0).random((300, 2))
    fitted = KMeans(n_clusters=9, init="random", random_state=0, run_dir=str(tmp_path / "b")).fit(even)
    assert any(
        "starts disagree: 5 single starts of 300 points agree by an adjusted Rand index of 0." in w
        for w in fitted.run_.warnings
    )


def test_lloyd_stops_at_the_tolerance():
    X = torch.tensor([[0.0], [1.0], [2.0], [9.0], [10.0], [11.0]]) - 5.5
    start = torch.tensor([[-5.5], [-4.5]])
    assert lloyd(X, start, max_iter=100, tol=0.0).n_iter > lloyd(X, start, max_iter=100, tol=1e6).n_iter == 1
    assert lloyd(X, start, max_iter=100, tol=0.0).inertia == pytest.approx(4.0)
