"""Mixtures of Gaussians: against closed forms, SciPy's densities, one step of EM by hand, and scikit-learn's class."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture as Peer
from sklearn.utils.estimator_checks import parametrize_with_checks

import konspekt
from konspekt.cluster.gaussian_mixture import GaussianMixture
from konspekt.cluster.kmeans import KMeans
from konspekt.core.errors import ConfigError, DataError, ResourceError

TYPES = ("full", "tied", "diag", "spherical")


@parametrize_with_checks(
    [GaussianMixture(), GaussianMixture(n_components=3, covariance_type="diag", keep_history=True)]
)
def test_estimator(estimator, check):
    check(estimator)


def groups(items=60, spread=0.5, dtype=np.float64):
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0, 0.0], [6.0, 0.0, 1.0], [0.0, 6.0, 2.0]])
    return (centres[np.arange(items) % 3] + spread * rng.normal(size=(items, 3))).astype(dtype)


def test_one_component_is_the_mean_and_the_covariance():
    X = groups()
    means = X.mean(0)
    S = np.cov(X.T, bias=True)
    wanted = {"full": S[None], "tied": S, "diag": np.diag(S)[None], "spherical": np.diag(S).mean(keepdims=True)}
    for kind, covariance in wanted.items():
        model = GaussianMixture(n_components=1, covariance_type=kind, reg_covar=0.0, random_state=0).fit(X)
        np.testing.assert_allclose(model.means_, means[None], rtol=1e-12)
        np.testing.assert_allclose(model.covariances_, covariance, rtol=1e-10, atol=1e-12)
        assert model.weights_.tolist() == [1.0]


def by_scipy(model, X):
    """log(weight_k N(x; mean_k, covariance_k)), (N, K)."""
    k, f = model.means_.shape
    shaped = {
        "full": lambda c: c,
        "tied": lambda c: np.tile(c, (k, 1, 1)),
        "diag": lambda c: np.array([np.diag(row) for row in c]),
        "spherical": lambda c: np.array([v * np.eye(f) for v in c]),
    }[model.covariance_type](model.covariances_)
    logs = [multivariate_normal(m, c).logpdf(X) for m, c in zip(model.means_, shaped, strict=True)]
    return np.array(logs).T + np.log(model.weights_)


@pytest.mark.parametrize("kind", TYPES)
def test_densities_memberships_and_criteria_follow_from_scipys_normal_density(kind):
    X = groups(spread=2.0)
    model = GaussianMixture(n_components=3, covariance_type=kind, random_state=0).fit(X)
    logs = by_scipy(model, X)
    np.testing.assert_allclose(model.score_samples(X), logsumexp(logs, axis=1), rtol=1e-10)
    np.testing.assert_allclose(model.predict_proba(X), np.exp(logs - logsumexp(logs, axis=1)[:, None]), atol=1e-12)
    assert (model.predict(X) == logs.argmax(1)).all()
    assert (model.labels_ == model.predict(X)).all()
    free = {"full": 2 + 9 + 3 * 6, "tied": 2 + 9 + 6, "diag": 2 + 9 + 9, "spherical": 2 + 9 + 3}[kind]
    likelihood = logsumexp(logs, axis=1).sum()
    assert model.n_parameters() == free
    assert model.bic(X) == pytest.approx(-2 * likelihood + free * np.log(60), rel=1e-12)
    assert model.aic(X) == pytest.approx(-2 * likelihood + 2 * free, rel=1e-12)
    assert model.score(X) == pytest.approx(likelihood / 60, rel=1e-12)


def test_a_step_of_em_is_the_papers():
    X = groups(spread=2.0)
    model = GaussianMixture(n_components=3, reg_covar=0.0, keep_history=True, random_state=0).fit(X)
    before, after = model.history_[1:3]
    logs = np.array(
        [multivariate_normal(m, c).logpdf(X) for m, c in zip(before["means"], before["covariances"], strict=True)]
    )
    joint = logs.T + np.log(before["weights"])
    share = np.exp(joint - logsumexp(joint, axis=1)[:, None])
    means = share.T @ X / share.sum(0)[:, None]
    covariances = [(s[:, None] * (X - m)).T @ (X - m) / s.sum() for s, m in zip(share.T, means, strict=True)]
    np.testing.assert_allclose(after["weights"], share.mean(0), rtol=1e-10)
    np.testing.assert_allclose(after["means"], means, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(after["covariances"], covariances, rtol=1e-8, atol=1e-10)
    assert after["lower_bound"] == pytest.approx(logsumexp(joint, axis=1).mean(), rel=1e-10)


@pytest.mark.parametrize("kind", TYPES)
def test_the_likelihood_never_falls(kind):
    model = GaussianMixture(
        n_components=4, covariance_type=kind, init_params="random", reg_covar=0.0, tol=0.0, max_iter=40, random_state=1
    ).fit(groups(90, spread=2.0))
    bounds = np.array(model.lower_bounds_)
    assert len(bounds) > 5
    assert bounds[-1] > bounds[0] + 1e-4
    assert (np.diff(bounds) > -1e-12).all()


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_same_seed_gives_scikit_learns_numbers(kind, dtype):
    X = groups(spread=1.5, dtype=dtype)
    settings = {
        "n_components": 4,
        "covariance_type": kind,
        "n_init": 3,
        "init_params": "random_from_data",
        "random_state": 3,
    }
    ours, peer = GaussianMixture(**settings).fit(X), Peer(**settings).fit(X)
    for name in ("weights_", "means_", "covariances_", "precisions_cholesky_", "lower_bounds_", "n_iter_"):
        assert np.array_equal(getattr(ours, name), getattr(peer, name)), name
    assert (ours.labels_ == peer.predict(X)).all()
    assert ours.means_.dtype == dtype


@pytest.mark.parametrize(
    "settings", [{"n_init": 3}, {"max_iter": 2, "tol": 0.0}, {"init_params": "random", "n_init": 2}]
)
def test_history_ends_where_the_fit_without_it_ends(settings):
    X = groups(spread=2.0)
    plain = GaussianMixture(n_components=3, random_state=5, **settings).fit(X)
    kept = GaussianMixture(n_components=3, random_state=5, keep_history=True, **settings).fit(X)
    assert not hasattr(plain, "history_")
    for name in ("labels_", "weights_", "means_", "covariances_", "lower_bounds_", "n_iter_", "converged_"):
        assert np.array_equal(getattr(plain, name), getattr(kept, name)), name
    assert len(kept.history_) == kept.n_iter_ + 1
    last = kept.history_[-1]
    assert np.array_equal(last["means"], kept.means_)
    assert np.array_equal(last["labels"], kept.labels_)
    assert not np.array_equal(kept.history_[0]["means"], kept.means_)
    assert not hasattr(kept.set_params(keep_history=False).fit(X), "history_")


def test_history_is_drawn_and_missed():
    model = GaussianMixture(n_components=3, random_state=0, keep_history=True).fit(groups())
    assert len(model.plot_history().axes) > 1
    with pytest.raises(ConfigError, match="keep_history=True"):
        GaussianMixture(n_components=2, random_state=0).fit(groups()).plot_history()


def test_stretched_clusters_are_found_where_k_means_fails():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 2)) * [10.0, 0.5] + np.array([[0.0, 0.0], [0.0, 4.0]])[np.arange(300) % 2]
    truth = np.arange(300) % 2
    found = GaussianMixture(n_components=2, n_init=5, init_params="random_from_data", random_state=0).fit_predict(X)
    assert adjusted_rand_score(truth, found) == 1.0
    assert adjusted_rand_score(truth, KMeans(n_clusters=2, random_state=0).fit_predict(X)) < 0.1


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_saved_and_loaded_to_the_bit(kind, dtype, tmp_path):
    X = groups(spread=2.0, dtype=dtype)
    model = GaussianMixture(n_components=3, covariance_type=kind, random_state=0).fit(X)
    back = konspekt.load(model.save(tmp_path / "model"))
    for answer in ("predict", "predict_proba", "score_samples", "bic", "aic"):
        assert np.array_equal(getattr(back, answer)(X), getattr(model, answer)(X)), answer
    assert (back.converged_, back.n_iter_, back.lower_bounds_) == (model.converged_, model.n_iter_, model.lower_bounds_)
    assert np.array_equal(back.labels_, model.labels_)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("means_", lambda t: t[:, :2], "for 3 columns"),
        ("covariances_", lambda t: t[:2], "covariances_ has the shape"),
        ("precisions_cholesky_", lambda t: -t, "not positive"),
        ("weights_", lambda t: 2 * t, "no probabilities"),
        ("labels_", lambda t: t + 1, "other components"),
    ],
)
def test_numbers_that_do_not_fit_together_are_refused(name, change, said):
    model = GaussianMixture(n_components=3, random_state=0).fit(groups())
    config, tensors = model.learned()
    with pytest.raises(DataError, match=said):
        GaussianMixture(n_components=3).restore(config, tensors | {name: change(tensors[name])})


def test_what_did_not_converge_is_logged_without_a_warning():
    model = GaussianMixture(n_components=4, init_params="random", tol=0.0, max_iter=3, random_state=0).fit(
        groups(spread=2.0)
    )
    assert not model.converged_
    assert "did not converge within max_iter=3" in model.run_.warnings[0]
    model = GaussianMixture(n_components=3, random_state=0).fit(groups())
    assert model.converged_
    assert model.run_.warnings == []


def test_overlap_is_logged_where_there_is_a_page_and_only_then(tmp_path):
    X = groups(300, spread=4.0)
    mixed = GaussianMixture(n_components=3, random_state=0, covariance_type="tied", run_dir=str(tmp_path / "a")).fit(X)
    share = (mixed.predict_proba(X).max(1) < 0.7).mean()
    assert share > 0.1
    assert [f"{share:.0%} of the points have less than 0.7" in w for w in mixed.run_.warnings].count(True) == 1
    criteria = mixed.run_.kept["criteria"][1][0]
    assert criteria["BIC"] == mixed.bic(X)
    assert criteria["share of points below 0.7"] == share
    clear = GaussianMixture(n_components=3, random_state=0, run_dir=str(tmp_path / "b")).fit(groups(300))
    assert clear.run_.warnings == []
    assert [row["std column 0"] for row in clear.run_.kept["components"][1]] == pytest.approx([0.5] * 3, rel=0.25)


@pytest.mark.parametrize("kind", TYPES)
def test_the_page_knows_every_kind_of_covariance(kind, tmp_path):
    X = groups()
    model = GaussianMixture(n_components=3, covariance_type=kind, random_state=0, run_dir=str(tmp_path / "run")).fit(X)
    assert len(model.run_.kept["components"][1]) == 3
    assert model.run_.kept["components"][1][0]["std column 2"] < 1.5


def test_a_collapsed_component_and_an_empty_one_are_logged():
    X = np.concatenate([groups(), np.full((20, 3), 30.0)])
    said = GaussianMixture(n_components=4, random_state=0).fit(X).run_.warnings
    assert any("reg_covar=1e-06 made of it" in text for text in said)
    said = (
        GaussianMixture(n_components=3, random_state=0)
        .fit(np.repeat([[0.0, 0.0], [1.0, 5.0]], 10, axis=0))
        .run_.warnings
    )
    assert any("1 of 3 components are the likeliest of no point" in text for text in said)


def test_bad_input():
    with pytest.raises(DataError, match="n_components=5 is more than the 4 points"):
        GaussianMixture(n_components=5).fit(np.arange(8.0).reshape(4, 2))
    with pytest.raises(DataError, match=r"raise reg_covar \(now 0\), lower n_components \(now 2\)"):
        GaussianMixture(reg_covar=0.0, random_state=0).fit(np.repeat([[0.0, 0.0], [1.0, 5.0]], 10, axis=0))
    with pytest.raises(DataError, match="scale the columns"):
        GaussianMixture(random_state=0).fit(1e200 * groups())
    model = GaussianMixture(n_components=3, random_state=0).fit(groups())
    far = groups(4)
    far[2, 1] = 1e300
    for answer in (model.predict, model.predict_proba, model.score_samples):
        with pytest.raises(DataError, match="row 2 holds 1e\\+300"):
            answer(far)
    with pytest.raises(ConfigError, match="covariance_type must be one of"):
        GaussianMixture(covariance_type="round").fit(groups())


def test_a_row_for_each_point_has_its_probability():
    X = groups(spread=2.0)
    model = GaussianMixture(n_components=3, random_state=0).fit(X)
    frame = model.predict_frame(X)
    assert list(frame.columns) == ["item", "cluster", "probability"]
    assert np.array_equal(frame["probability"], model.predict_proba(X)[np.arange(60), frame["cluster"]])


def test_a_run_on_named_columns_says_nothing_of_names(tmp_path):  # warnings are errors here
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 2)), columns=["a", "b"])
    fitted = GaussianMixture(n_components=2, random_state=0, run_dir=str(tmp_path / "run")).fit(frame)
    kept = json.loads((tmp_path / "run" / "kept" / "criteria.json").read_text())["value"][0]
    assert kept["BIC"] == pytest.approx(fitted.bic(frame), rel=1e-12)


@pytest.mark.parametrize(("kind", "gib"), [("full", "17.8"), ("tied", "7.6")])
def test_the_memory_of_covariances_is_foreseen(monkeypatch, kind, gib):
    monkeypatch.setattr("konspekt.core.memory.available_memory", lambda: 2**30)
    X = np.zeros((3, 18_500))
    with pytest.raises(ResourceError, match=rf"{kind!r} of 18,500 columns .* needs {gib} GiB of memory"):
        GaussianMixture(n_components=3 if kind == "full" else 1, covariance_type=kind).fit(X)
