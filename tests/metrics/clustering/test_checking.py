"""What the indices refuse, and what they leave out."""

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array

from konspekt.core.errors import DataError
from konspekt.metrics.clustering import INDICES
from konspekt.metrics.clustering.checking import codes_of, kept, matrix_and_codes, points_and_codes

X = np.arange(12.0).reshape(6, 2)
LABELS = [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("labels", "codes"),
    [
        ([5, -1, 5, 3], [2, 0, 2, 1]),
        ([-(2**63), 2**63 - 1, 0], [0, 2, 1]),
        ([True, False, True], [1, 0, 1]),
        (np.array([3, 1], np.uint64), [1, 0]),
        ([0.5, -1.0, 0.5], [1, 0, 1]),
        (["b", "a", "b"], [1, 0, 1]),
        (pd.Series(["b", "a"]), [1, 0]),
        (pd.Categorical(["x", "y", "x"]), [0, 1, 0]),
    ],
    ids=["whole", "far apart", "truth values", "unsigned", "floats", "text", "series", "categories"],
)
def test_labels_of_any_kind_become_codes(labels, codes):
    found, count = codes_of(labels, "an index")
    assert found.tolist() == codes
    assert found.dtype == np.int64
    assert count == len(set(codes))


@pytest.mark.parametrize("labels", [pd.Series(["a", None]), pd.Series([1, None], dtype="Int64")])
def test_missing_labels_are_refused(labels):
    with pytest.raises(DataError, match=r"an index: 1 labels are (missing|NaN)"):
        codes_of(labels, "an index")


def test_noise_is_left_out():
    points, codes, count = points_and_codes(X, [-1, 4, 4, -1, 9, 9], "an index")
    assert points.tolist() == X[[1, 2, 4, 5]].tolist()
    assert (codes.tolist(), count) == ([0, 0, 1, 1], 2)
    matrix = np.abs(X[:, :1] - X[:, 0])
    found, codes, count = matrix_and_codes(matrix, [-1, 4, 4, -1, 9, 9], "an index")
    assert found.tolist() == matrix[np.ix_([1, 2, 4, 5], [1, 2, 4, 5])].tolist()
    assert (codes.tolist(), count) == ([0, 0, 1, 1], 2)
    assert kept([-1, 0, 1]).tolist() == [False, True, True]
    assert kept(["a", "-1"]).tolist() == [True, True]


def test_float64_points_are_not_copied():
    assert points_and_codes(X, LABELS, "an index")[0] is X


@pytest.mark.parametrize(
    ("points", "labels", "says"),
    [
        (X[:, 0], LABELS, r"X is a table \(N, F\) of numbers; got the shape \(6,\), float64"),
        (np.array([["a", "b"]] * 6), LABELS, r"X is a table \(N, F\) of numbers; got the shape \(6, 2\), <U1"),
        (np.empty((6, 0)), LABELS, r"X is empty; its shape is \(6, 0\)"),
        (np.where(X == 3, np.nan, X), LABELS, "X holds NaN or infinite numbers; leave these rows out"),
        (np.where(X == 3, -np.inf, X), LABELS, "X holds NaN or infinite numbers"),
        (X, LABELS[1:], "6 points, but 5 labels; they must be as many"),
        (X, [-1] * 6, r"all points are noise \(label -1\), so there is no cluster to judge"),
        (X, [-1, 1, 1, 1, 1, 1], "compares clusters: it needs at least 2, and the labels name 1"),
        (X, range(6), "not defined where each of the 6 points is a cluster by itself"),
    ],
)
def test_what_is_no_clustering_is_refused(points, labels, says):
    with pytest.raises(DataError, match=says):
        points_and_codes(points, labels, "an index", singletons=False)


def test_numbers_whose_sum_overflows_are_finite():
    points, _, _ = points_and_codes(np.full((6, 2), 1.7e308), LABELS, "an index")
    assert np.isfinite(points).all()


@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        ((1, 4), 9.0, "not symmetric: row 1, column 4 holds 9, and the other way round it is 6"),
        ((4, 1), np.nan, "holds NaN or infinite numbers"),
        ((4, 1), np.inf, "holds NaN or infinite numbers"),
        ((2, 3), -1.0, "holds -1; distances are not negative"),
        ((2, 2), 0.5, "a point's distance to itself is 0, but the diagonal holds 0.5"),
    ],
)
def test_what_is_no_matrix_of_distances_is_refused(place, value, says):
    matrix = np.abs(X[:, :1] - X[:, 0])
    matrix[place] = value
    with pytest.raises(DataError, match=says):
        matrix_and_codes(matrix, LABELS, "an index")
    with pytest.raises(DataError, match=r"a matrix of distances is square; got the shape \(6, 2\)"):
        matrix_and_codes(X, LABELS, "an index")


@pytest.mark.parametrize("labels", [[-1, "a", "b"], np.array([-1, 0, 1], dtype=object), pd.Series([-1.0, "a", "b"])])
def test_noise_among_labels_of_several_types_is_left_out(labels):
    points, codes, count = points_and_codes(np.arange(6.0).reshape(3, 2), labels, "it")
    assert points.tolist() == [[2.0, 3.0], [4.0, 5.0]]
    assert codes.tolist() == [0, 1]
    assert count == 2
    assert kept(labels).tolist() == [False, True, True]


def test_columns_of_several_types_are_numbers():
    frame = pd.DataFrame({"a": [0.5, 1.5, 2.5], "b": [True, False, True], "c": pd.array([1, 2, 3], dtype="Int64")})
    points, *_ = points_and_codes(frame, [0, 0, 1], "it")
    assert points.tolist() == [[0.5, 1.0, 1.0], [1.5, 0.0, 2.0], [2.5, 1.0, 3.0]]


@pytest.mark.parametrize(
    ("points", "says"),
    [
        (np.ma.masked_array(np.ones((3, 2)), [[1, 0], [0, 0], [0, 0]]), "it: 1 numbers of X are masked"),
        (csr_array(np.ones((3, 2))), r"it: X is a sparse matrix of the shape \(3, 2\); give X.toarray\(\)"),
        (
            pd.DataFrame({"a": [1, 2, 3], "b": list("xyz")}),
            "holds something else: could not convert string to float: 'x'",
        ),
    ],
)
def test_what_holds_no_numbers_is_said(points, says):
    with pytest.raises(DataError, match=says):
        points_and_codes(points, [0, 0, 1], "it")


@pytest.mark.parametrize("name", [n for n, index in INDICES.items() if index.kind == "internal"])
@pytest.mark.parametrize("scale", [1e300, 1e-300, 1e149, 1e-149])
def test_numbers_whose_squares_overflow_are_said_or_of_no_matter(name, scale):
    X, labels = np.random.default_rng(0).normal(size=(12, 2)), np.arange(12) % 2
    X[labels == 1] += 4
    if name not in ("silhouette", "c_index", "gamma") and not 1e-150 < scale < 1e150:
        with pytest.raises(DataError, match="overflow; scale X down" if scale > 1 else "vanish; scale X up"):
            INDICES[name](X * scale, labels)
    elif name in (
        "silhouette",
        "c_index",
        "gamma",
        "s_dbw",
        "dunn",
        "cop",
        "cs",
        "davies_bouldin",
        "calinski_harabasz",
    ):
        assert INDICES[name](X * scale, labels) == pytest.approx(INDICES[name](X, labels), rel=1e-6)
    else:
        assert not np.isnan(INDICES[name](X * scale, labels))
