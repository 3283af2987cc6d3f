"""What a clusterer takes as points, and how it says what it does not."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_matrix

import konspekt
from konspekt.cluster import KMeans
from konspekt.cluster.points import read_points
from konspekt.core import DataError
from konspekt.data.sets import load

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 2)) + 10 * (np.arange(12) % 2)[:, None]
FRAME = pd.DataFrame(X, columns=["width", "height"])
DISTANCES = np.abs(X[:, None] - X[None]).sum(2)


class Precomputed(KMeans):
    """Takes distances, to be looked at by the reader only."""

    metric = "precomputed"


def clusterer(**more):
    return KMeans(n_clusters=2, random_state=0, **more)


@pytest.mark.parametrize(
    "given", [X, X.tolist(), FRAME, torch.tensor(X), X.astype(np.float32), np.asfortranarray(X)],
    ids=["array", "lists", "frame", "tensor", "float32", "columns first"],
)  # fmt: skip
def test_points_in_any_form_give_the_same_clusters(given):
    fitted = clusterer().fit(given)
    assert np.array_equal(fitted.labels_ == fitted.labels_[0], np.arange(12) % 2 == 0)
    assert fitted.n_features_in_ == 2
    assert hasattr(fitted, "feature_names_in_") == isinstance(given, pd.DataFrame)


def test_numbers_keep_their_width():
    assert read_points(clusterer(), X.astype(np.float32), None, reset=True)[0].dtype == np.float32
    assert read_points(clusterer(), X.astype(np.int64), None, reset=True)[0].dtype == np.float64


class TestFiles:
    @pytest.fixture
    def table(self, tmp_path):
        path = tmp_path / "points.csv"
        FRAME.assign(kind=np.where(np.arange(12) % 2, "large", "small")).to_csv(path, index=False)
        return path

    def test_a_column_of_labels_is_the_truth_and_no_feature(self, table):
        points, truth, names = read_points(clusterer(), table, "kind", reset=True)
        np.testing.assert_allclose(points, X, rtol=1e-12)
        assert names == ["width", "height"]
        assert truth.tolist() == ["small", "large"] * 6

    def test_text_that_is_no_target_is_refused_by_name(self, table):
        with pytest.raises(DataError, match=r"1 of 3 columns hold something else: 'kind'; leave them out, encode them"):
            clusterer().fit(table)

    def test_a_file_for_prediction_may_have_columns_besides(self, table):
        fitted = clusterer().fit(FRAME)
        assert np.array_equal(fitted.predict(table), fitted.labels_)
        pd.read_csv(table)[["width", "kind"]].to_csv(table, index=False)
        with pytest.raises(DataError, match="lacks the columns height"):
            fitted.predict(table)

    def test_a_set_by_name_brings_its_labels(self):
        points, truth, names = read_points(clusterer(), load("iris"), None, reset=True)
        assert points.shape == (150, 4)
        assert set(truth) == {"setosa", "versicolor", "virginica"}
        assert names[0] == "sepal length (cm)"
        assert read_points(clusterer(), load("digits"), None, reset=True)[0].shape == (1797, 64)
        assert read_points(clusterer(), load("diabetes"), None, reset=True)[1] is None  # numbers are no labels


BAD = {
    "a gap": (FRAME.mask(FRAME > 10.5), r"missing values, the first in row \d+, column 'width'; fill them"),
    "NaN": (np.where(X > 10, np.nan, X), "contains NaN: fill missing values"),
    "inf": (np.where(X > 11, np.inf, X), "infinity.*mend or leave out these rows"),
    "text": (np.full((4, 2), "a"), "clusters are found among numbers"),
    "dates": (pd.DataFrame({"day": pd.date_range("2020-01-01", periods=4)}), "hold something else: 'day'"),
    "one point": (X[:1], "minimum of 2 is required by KMeans; give more points"),
    "one dimension": (
        X[:, 0],
        r"Expected 2D array, got 1D array instead: Reshape your data either using array.reshape",
    ),
    "no such file": ("nowhere.csv", "nowhere.csv"),
    "an image": ("photo.png", "not a table"),
    "complex": (X + 1j, "Complex data not supported: give real and imaginary parts as columns of their own$"),
    "a sparse matrix": (csr_matrix(X), r"a sparse matrix of the shape \(12, 2\); .* give X.toarray\(\)"),
    "a dict": ({"width": [1.0, 2.0]}, r"X is a dict; make a table of it by pandas.DataFrame"),
    "no columns": (FRAME[[]], "the table has no columns besides the target"),
    "no columns of an array": (X[:, :0], "give at least one column of numbers$"),
}


@pytest.mark.parametrize(("given", "message"), BAD.values(), ids=BAD)
def test_bad_points(given, message):
    with pytest.raises(DataError, match=message):
        clusterer().fit(given)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.arange(5), r"12 points and y the shape \(5,\)"),
        (np.ones((12, 2)), r"y the shape \(12, 2\)"),
        ("kind", "names a column"),
    ],
)
def test_bad_labels(y, message):
    with pytest.raises(DataError, match=message):
        clusterer().fit(X, y)


def spoiled(place, value):
    D = DISTANCES.copy()
    D[place] = value
    return D


NO_DISTANCES = {
    "points": (X, r"the matrix of distances \(N, N\), but its shape is \(12, 2\)"),
    "negative": (spoiled((2, 3), -1.0), "the entry at 2, 3 is -1: distances are not negative"),
    "diagonal": (spoiled((4, 4), 0.5), "the one from point 4 to itself is 0.5, not 0"),
    "not symmetric": (spoiled((1, 0), 99.0), "symmetric, but .* at .* stands against"),
}


@pytest.mark.parametrize(("given", "message"), NO_DISTANCES.values(), ids=NO_DISTANCES)
def test_a_matrix_that_holds_no_distances(given, message):
    with pytest.raises(DataError, match=message):
        read_points(Precomputed(), given, None, reset=True)


def test_a_matrix_of_distances_may_be_rounded():
    D = DISTANCES.copy()
    D[3, 4] *= 1 + 1e-12
    assert read_points(Precomputed(), D, None, reset=True)[0].shape == (12, 12)
    assert read_points(Precomputed(), DISTANCES.astype(np.float32), None, reset=True)[0].dtype == np.float32


def test_the_old_clusters_stay_when_a_fit_fails():
    fitted = clusterer().fit(X)
    labels = fitted.labels_
    with pytest.raises(DataError):
        fitted.fit(X[:1])
    assert fitted.labels_ is labels


@pytest.mark.parametrize(("name", "value"), [("validation", 0.2), ("resume", "run"), ("callbacks", [print])])
def test_what_a_clustering_has_no_use_for(name, value):
    with pytest.raises(konspekt.core.ConfigError, match=f"{name} is not for a clustering"):
        clusterer().fit(X, **{name: value})


class TestAsItIs:
    """Plain arrays take a shorter way: what scikit-learn's checks would say of them must still be said."""

    def test_it_is_the_array_itself_and_no_copy(self):
        model = clusterer()
        assert read_points(model, X, None, reset=True)[0] is X
        assert model.n_features_in_ == 2

    def test_names_of_a_fit_before_are_forgotten(self):
        model = clusterer().fit(FRAME)
        assert not hasattr(model.fit(X), "feature_names_in_")

    def test_an_array_in_the_place_of_named_columns_is_warned_of(self):
        with pytest.warns(UserWarning, match="does not have valid feature names"):
            clusterer().fit(FRAME).predict(X)

    def test_other_columns_than_the_fit_had(self):
        with pytest.raises(DataError, match="3 features, but KMeans is expecting 2 features"):
            clusterer().fit(X).predict(np.ones((2, 3)))

    def test_a_sum_that_overflows_is_no_gap(self):
        large = np.full((4, 2), 1e308)
        assert read_points(clusterer(), large, None, reset=True)[0] is large

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_a_gap_is_found(self, value):
        spoiled = X.copy()
        spoiled[3, 1] = value
        with pytest.raises(DataError, match=r"NaN|infinity"):
            clusterer().fit(spoiled)
        with pytest.raises(DataError, match=r"NaN|infinity"):
            clusterer().fit(X).predict(spoiled)
