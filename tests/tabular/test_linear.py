"""Linear, polynomial and logistic regression against closed forms and scikit-learn."""

import time

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, PolynomialFeatures

import konspekt
from konspekt import LinearRegressor, LogisticClassifier
from konspekt.core.errors import ConfigError, ResourceError
from konspekt.data.tables import TableSchema
from konspekt.tabular.linear import MAX_TERMS, PolynomialNet, draw_weights


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def blobs(rng):
    """Three classes that overlap, so that the likeliest weights are finite."""
    y = rng.integers(0, 3, size=150)
    X = rng.normal(size=(150, 2)) + np.array([[0, 0], [1.5, 0], [0, 1.5]])[y]
    return X, np.array(["low", "mid", "top"])[y]


EXACT = {"optimizer": "descent(tolerance=0)", "batch_size": None, "random_state": 0}


# ------------------------------------------------------------------------------------------------ against closed forms


@pytest.mark.parametrize("targets", [1, 2])
def test_descent_reaches_the_least_squares_solution(rng, targets):
    X = rng.normal(size=(80, 3)) * [1, 10, 0.1] + [5, -3, 0]
    Y = X @ rng.normal(size=(3, targets)) * 100 + rng.normal(size=(80, targets)) - 1e4
    y = Y[:, 0] if targets == 1 else Y
    model = LinearRegressor(lr=0.3, epochs=250, **EXACT).fit(X, y)
    closed = np.linalg.lstsq(np.c_[X, np.ones(80)], y, rcond=None)[0]
    expected = np.c_[X, np.ones(80)] @ closed
    assert model.predict(X).shape == y.shape
    np.testing.assert_allclose(model.predict(X), expected, atol=1e-3 * Y.std())
    # The weights are those of standardised features and targets.
    weights = model.weights()
    np.testing.assert_allclose(
        weights.iloc[:3].to_numpy(), (closed[:3].reshape(3, -1) * X.std(0)[:, None] / Y.std(0)), atol=1e-3
    )
    np.testing.assert_allclose(weights.loc["(constant)"], 0, atol=1e-3)


def test_the_two_dimensional_polynomial_is_fitted_exactly(rng):
    X = rng.uniform(-1, 1, size=(60, 2))
    y = 3 + X[:, 0] - 2 * X[:, 0] * X[:, 1] + X[:, 1] ** 2
    model = LinearRegressor(degree=2, lr=0.2, epochs=1500, **EXACT).fit(X, y)
    np.testing.assert_allclose(model.predict(X), y, atol=1e-3)
    assert model.score(X, y) > 0.99999
    assert LinearRegressor(lr=0.2, epochs=300, **EXACT).fit(X, y).score(X, y) < 0.9


def test_l2_is_ridge(rng):
    X, y = rng.normal(size=(50, 3)), rng.normal(size=50)
    penalty = 0.1
    model = LinearRegressor(lr=0.2, epochs=300, l2=penalty, **EXACT).fit(X, y)
    Z, t = (X - X.mean(0)) / X.std(0), (y - y.mean()) / y.std()
    closed = np.linalg.solve(Z.T @ Z / 50 + penalty * np.eye(3), Z.T @ t / 50)
    np.testing.assert_allclose(model.weights()["y"][:3], closed, atol=1e-4)


def test_logistic_probabilities_are_scikit_learns(blobs):
    X, y = blobs
    model = LogisticClassifier(lr=0.7, epochs=600, **EXACT).fit(X, y)
    peer = LogisticRegression(C=1e6, tol=1e-10, max_iter=1000).fit((X - X.mean(0)) / X.std(0), y)
    assert list(model.classes_) == list(peer.classes_)
    expected = peer.predict_proba((X - X.mean(0)) / X.std(0))
    np.testing.assert_allclose(model.predict_proba(X), expected, atol=2e-3)
    # Softmax weights are unique up to a constant a row.
    ours = model.weights().to_numpy()
    theirs = np.c_[peer.coef_, peer.intercept_].T
    np.testing.assert_allclose(
        ours - ours.mean(1, keepdims=True), theirs - theirs.mean(1, keepdims=True), atol=2e-2 * np.abs(theirs).max()
    )


def test_class_weight_is_scikit_learns(rng):
    X = rng.normal(size=(200, 2))
    y = (X[:, 0] + rng.normal(size=200) > 1.2).astype(int)
    Z = (X - X.mean(0)) / X.std(0)
    for class_weight in ("balanced", {0: 1.0, 1: 5.0}):
        model = LogisticClassifier(lr=0.7, epochs=300, class_weight=class_weight, **EXACT).fit(X, y)
        peer = LogisticRegression(C=1e6, class_weight=class_weight).fit(Z, y)
        np.testing.assert_allclose(model.predict_proba(X), peer.predict_proba(Z), atol=5e-3)


# ------------------------------------------------------------------------------------------------------------- terms


@pytest.mark.parametrize("interactions", [False, True], ids=["powers", "interactions"])
@pytest.mark.parametrize("degree", [1, 2, 3, 5])
def test_terms_are_scikit_learns_by_name_and_value(rng, degree, interactions):
    X = rng.normal(size=(7, 4))
    names = ["a", "b", "c", "d"]
    peer = PolynomialFeatures(degree, interaction_only=interactions, include_bias=False).fit(
        pd.DataFrame(X, columns=names)
    )
    net = PolynomialNet(4, 1, degree=degree, interactions=interactions)
    ours = net.terms(torch.from_numpy(X)).numpy()
    expected = peer.transform(pd.DataFrame(X, columns=names))
    schema = TableSchema.learn(pd.DataFrame(X, columns=names), None, "here")
    assert [n.replace(" * ", " ") for n in net.names(schema)] == list(peer.get_feature_names_out())
    np.testing.assert_allclose(ours, expected, rtol=1e-12)
    assert net.linear.in_features == expected.shape[1]


def test_terms_of_categories_and_indicators_have_readable_names():
    frame = pd.DataFrame({"age": [20.0, None, 40, 60], "sex": ["m", "f", "m", None]})
    model = LinearRegressor(degree=2, epochs=1).fit(frame, [1.0, 2.0, 3.0, 5.0])
    names = list(model.weights().index)
    single = ["age", "age is missing", "sex = (missing)", "sex = f", "sex = m"]
    assert names[:5] == single
    assert "age * sex = m" in names
    assert "age^2" in names
    assert names[-1] == "(constant)"
    assert len(names) == 5 + 15 + 1


def test_an_unseen_category_counts_for_nothing():
    frame = pd.DataFrame({"sex": ["m", "f"] * 5})
    model = LinearRegressor(epochs=200, lr=0.05).fit(frame, [1.0, 3.0] * 5)
    constant = model.weights().loc["(constant)", "y"]
    assert model.predict(pd.DataFrame({"sex": ["x"]}))[0] == pytest.approx(constant * 1.0 + 2.0, abs=1e-6)


@pytest.mark.parametrize("make", [LinearRegressor, LogisticClassifier])
def test_too_many_terms_are_a_resource_error(rng, make):
    X = rng.normal(size=(20, 200))
    with pytest.raises(ResourceError, match=rf"degree=3 over 200 features .* {MAX_TERMS:,} terms .*interactions=True"):
        make(degree=3).fit(X, [0, 1] * 10)
    with pytest.raises(ResourceError, match=r"lower degree$"):
        make(degree=4, interactions=True).fit(X, [0, 1] * 10)


def test_an_absurd_degree_is_refused_at_once():
    start = time.perf_counter()
    for degree in (1000, 10**12):
        with pytest.raises(ResourceError, match="lower degree"):
            PolynomialNet(1, 1, degree=degree + 1000)
    assert PolynomialNet(3, 1, degree=10**12, interactions=True).linear.in_features == 7
    assert time.perf_counter() - start < 1


def test_degree_is_at_least_one():
    with pytest.raises(ConfigError, match="LinearRegressor: degree must be an integer at least 1, got 0"):
        LinearRegressor(degree=0).fit([[1.0], [2.0]], [1.0, 2.0])


# ---------------------------------------------------------------------------------------------------- what is drawn


def test_plot_has_a_bar_for_each_weight(blobs):
    X, y = blobs
    model = LogisticClassifier(epochs=2, degree=2).fit(pd.DataFrame(X, columns=["a", "b"]), y)
    figure = model.plot()
    assert [ax.get_title() for ax in figure.axes] == ["low", "mid", "top"]
    table = model.weights().drop(index="(constant)")
    for ax in figure.axes:
        assert len(ax.patches) == 5
        labels = [t.get_text() for t in figure.axes[0].get_yticklabels()]
        drawn = dict(zip(labels, (p.get_width() for p in ax.patches), strict=True))
        assert drawn == pytest.approx(table[ax.get_title()].to_dict())


def test_plot_shows_the_largest_weights_only():
    table = pd.DataFrame({"y": np.r_[np.arange(50.0), 1e9]}, index=[f"f{i}" for i in range(50)] + ["(constant)"])
    (ax,) = draw_weights(table).axes
    assert len(ax.patches) == 20
    assert {p.get_width() for p in ax.patches} == set(np.arange(30.0, 50.0))


def test_the_run_keeps_the_weights(tmp_path, rng):
    import json

    X = rng.normal(size=(20, 3))
    model = LinearRegressor(epochs=2, run_dir=str(tmp_path / "run")).fit(pd.DataFrame(X, columns=list("abc")), X[:, 0])
    kept = json.loads((tmp_path / "run/kept/weights.json").read_text())
    assert kept["kind"] == "matrix"
    weights = model.weights()
    assert set(kept["value"]["rows"]) == set(weights.index)
    np.testing.assert_array_equal(kept["value"]["values"], weights.loc[kept["value"]["rows"]].to_numpy())


# ------------------------------------------------------------------------------------------------------- the contract


def test_pipeline_cross_validation_and_search(rng):
    X = rng.normal(size=(60, 3))
    y = X @ [1.0, 2.0, 3.0]
    model = LinearRegressor(epochs=30, lr=0.05)
    assert make_pipeline(MinMaxScaler(), model).fit(X, y).score(X, y) > 0.95
    assert cross_val_score(model, X, y, cv=3).min() > 0.9
    search = GridSearchCV(LinearRegressor(epochs=5), {"lr": np.array([1e-4, 0.1]), "degree": np.array([1])}, cv=2)
    search.fit(X, y)
    assert search.best_params_["lr"] == 0.1


def test_a_search_over_numpy_numbers_can_be_saved(rng, tmp_path):
    X = rng.normal(size=(20, 2))
    search = GridSearchCV(LinearRegressor(epochs=1), {"degree": np.array([1, 2]), "lr": np.float32([0.5])}, cv=2)
    best = search.fit(X, X[:, 0]).best_estimator_
    again = konspekt.load(best.save(tmp_path / "model"))
    assert again.get_params() == {k: getattr(v, "item", lambda v=v: v)() for k, v in best.get_params().items()}
    np.testing.assert_array_equal(again.predict(X), best.predict(X))


@pytest.mark.parametrize("make", [LinearRegressor, LogisticClassifier])
def test_a_model_comes_back_to_the_bit(make, tmp_path):
    frame = pd.DataFrame({"a": [1.0, 2, None, 4] * 5, "k": ["u", None, "v", "w"] * 5, "b": [True, False] * 10})
    y = [0, 1, 1, 0] * 5
    model = make(degree=2, epochs=3).fit(frame, y)
    again = konspekt.load(model.save(tmp_path / "model"))
    other = frame.assign(k=["x", "u", None, "v"] * 5, a=frame["a"].to_numpy()[::-1])
    for table in (frame, other):
        np.testing.assert_array_equal(again.predict(table), model.predict(table))
        assert again.predict(table).dtype == model.predict(table).dtype
    pd.testing.assert_frame_equal(again.weights(), model.weights())
    assert again.get_params() == model.get_params()


@pytest.mark.parametrize("make", [LinearRegressor, LogisticClassifier])
def test_points_of_the_space_are_parameters(make):
    draws = [make.space().draw(np.random.default_rng(seed)) for seed in range(20)]
    for point in draws:
        make(**point).check_params()
        make.space().check(point)
    assert {p["degree"] for p in draws} == {1, 2, 3}
    assert {p["interactions"] for p in draws} == {True, False}


def test_a_fit_leaves_the_callers_generators_alone(rng):
    X, y = rng.normal(size=(20, 2)), [0, 1] * 10
    before, numpys = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    clone(LogisticClassifier(epochs=1)).fit(X, y)
    assert torch.equal(before, torch.random.get_rng_state())
    np.testing.assert_array_equal(numpys, np.random.get_state()[1])


def test_one_thing_is_linear_regression(rng):
    """scikit-learn's own least squares, on a table with a category."""
    frame = pd.DataFrame({"x": rng.normal(size=40), "k": ["u", "v"] * 20})
    y = 2 * frame["x"] + (frame["k"] == "u") + 0.1 * rng.normal(size=40)
    peer = LinearRegression().fit(np.c_[frame["x"], frame["k"] == "u"], y)
    model = LinearRegressor(lr=0.3, epochs=400, **EXACT).fit(frame, y)
    np.testing.assert_allclose(model.predict(frame), peer.predict(np.c_[frame["x"], frame["k"] == "u"]), atol=1e-3)
