"""Targets: what a classifier or a regressor may predict, and the way back to the user's own labels and units."""

import json
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import torch

from konspekt.core.errors import ConfigError, DataError
from konspekt.data.targets import ClassTargets, NumberTargets, as_target

HERE = "here"
ALL = np.arange(4)


def through_json(targets):
    return type(targets).from_json(json.loads(json.dumps(targets.to_json(), allow_nan=False)))


# ------------------------------------------------------------------------------------------------------------- classes

LABELS = {
    "str": np.array(["b", "a", "b", "c"]),
    "wide str": np.array(["b", "a", "b", "c"], dtype="U40"),
    "int": np.array([3, -1, 3, 0]),
    "int8": np.array([3, -1, 3, 0], dtype=np.int8),
    "large int": np.array([2**62, 2**62 + 1] * 2),
    "unsigned": np.array([2**63, 2**63 + 1] * 2, dtype=np.uint64),
    "bool": np.array([True, False, True, True]),
    "float": np.array([1.0, 2.0, 1.0, 2.0]),
    "object": np.array(["b", "a", "b", "c"], dtype=object),
    "unicode": np.array(["да", "нет", "да", "\u202e"]),
}


@pytest.mark.parametrize("y", LABELS.values(), ids=LABELS)
def test_labels_come_back_as_they_went_in(y):
    targets, codes = ClassTargets.learn(y, HERE)
    assert codes.dtype == torch.int64
    for known in (targets, through_json(targets)):
        back = known.decode(codes)
        np.testing.assert_array_equal(back, y)
        assert back.dtype == y.dtype
        assert torch.equal(known.encode(y, HERE), codes)
    assert list(targets.classes) == sorted(set(y.tolist()))
    assert targets.num_classes == len(set(y.tolist()))


@pytest.mark.parametrize(
    ("y", "dtype"),
    [
        (["b", "a"] * 2, "<U1"),
        (pd.Series(["b", "a"] * 2), object),
        (pd.Series(["b", "a"] * 2, dtype="category"), object),
        (pd.Series(["b", "a"] * 2, dtype="string"), object),
        (pd.Series([1, 2] * 2, dtype="Int64"), np.int64),
        (pd.Series([True, False] * 2, dtype="boolean"), bool),
        (np.array([True, False] * 2, dtype=object), bool),  # a column that once had gaps
        (np.array([1, 2] * 2, dtype=object), np.int64),
        (torch.tensor([1, 2] * 2), np.int64),
        (range(4), np.int64),
        (np.array(["b", "a"] * 2, dtype=np.dtypes.StringDType()), object),
    ],
    ids=lambda v: f"{type(v).__name__} {getattr(v, 'dtype', '')}" if not isinstance(v, (str, type)) else "",
)
def test_what_people_have_is_taken(y, dtype):
    targets, codes = ClassTargets.learn(as_target(y, HERE), HERE)
    assert targets.classes.dtype == dtype
    assert through_json(targets).decode(codes).tolist() == list(np.asarray(y).tolist())


def test_a_column_of_one_is_taken_with_scikit_learns_warning():
    with pytest.warns(UserWarning, match="A column-vector y was passed"):
        targets, _ = ClassTargets.learn(np.array([["a"], ["b"]]), HERE)
    assert targets.encode(np.array([["b"], ["a"]]), HERE).tolist() == [1, 0]


BAD = {
    "missing None": (
        ["a", None, "b", None],
        r"here: the target is missing \(NaN\) in 2 of 4 rows: 1, 3 \(counted from 0\)",
    ),
    "missing NaN": ([0.0, np.nan, 1.0, 1.0], "missing .* in 1 of 4 rows: 1 "),
    "missing NA": (pd.array([1, 0, pd.NA, 1], dtype="Int64"), "missing .* in 1 of 4 rows: 2 "),
    "missing NaT": (np.array([pd.NaT, 1, 0, 1], dtype=object), "missing .* in 1 of 4 rows: 0 "),
    "infinite": ([0.0, np.inf, 1.0, 1.0], r"the target is infinite \(inf\) in rows \[1\]"),
    "one class": (["a"] * 4, r"here: y holds only one class \('a' in all 4 rows\); a classifier needs at least 2"),
    "continuous": ([0.5, 1.5, 2.5, 3.0], "Unknown label type: continuous"),
    "mixed": (
        np.array([1, "a", 2.0, "b"], dtype=object),
        "labels are of several types: float, int, str; make them one",
    ),
    "two columns": (np.zeros((4, 2)), r"y should be a 1d array, got an array of shape \(4, 2\)"),
    "bytes": (np.array([b"a", b"b"] * 2), "represented as bytes"),
    "dates": (np.array(["2020-01-01", "2020-01-02"] * 2, dtype="M8[D]"), "the target holds dates or times"),
    "missing dates": (np.array(["2020-01-01", "NaT"] * 2, dtype="M8[D]"), "the target holds dates or times"),
    "complex": (np.array([1j, 2.0] * 2), "Complex data not supported"),
    "numbers of money": (np.array([Decimal(1), Decimal(2)] * 2, dtype=object), "here: "),
    "sequences": (pd.Series([(1, 2), (3, 4)] * 2), "here: "),
}


@pytest.mark.parametrize(("y", "message"), BAD.values(), ids=BAD)
def test_bad_classes(y, message):
    with pytest.raises(DataError, match=message):
        ClassTargets.learn(y if hasattr(y, "dtype") else as_target(y, HERE), HERE)


def test_many_missing_rows_are_cut_short():
    with pytest.raises(DataError, match=r"in 50 of 50 rows: 0, 1, .*, 19, \.\.\. \(counted"):
        ClassTargets.learn(np.full(50, np.nan), HERE)


def test_labels_that_the_training_did_not_have():
    targets, _ = ClassTargets.learn(np.array([0, 1]), HERE)
    with pytest.raises(DataError, match=r"here: labels that the training did not have: '1', 7; its classes are 0, 1"):
        targets.encode(np.array([0, "1", 7], dtype=object), HERE)
    with pytest.raises(DataError, match=r"here: y should be a 1d array, got an array of shape \(2, 2\)"):
        targets.encode(pd.DataFrame({"a": [0, 1], "b": [0, 1]}), HERE)
    with pytest.raises(DataError, match="missing"):
        targets.encode(np.array([0.0, np.nan]), HERE)
    assert targets.encode([1.0, 0.0], HERE).tolist() == [1, 0]  # 1.0 is 1
    assert targets.encode(np.array([], dtype=int), HERE).tolist() == []


@pytest.mark.parametrize(
    "damage",
    [
        {"dtype": "datetime64[ns]"},
        {"dtype": "V8"},
        {"dtype": "S5"},
        {"dtype": "U1000000000"},
        {"dtype": "nonsense"},
        {"dtype": "int64, float64"},
        {"classes": "ab"},
        {"classes": ["a"]},
        {"classes": ["a", "a"]},
        {"classes": [["a"], ["b"]]},
        {"classes": {"a": 1}},
        {"classes": [float("nan"), 1.0], "dtype": "float64"},
        {"classes": [10**400, 1], "dtype": "int64"},
        {"classes": ["abc", "b"], "dtype": "<U1"},
        {"classes": [1, 2]},
    ],
    ids=str,
)
def test_damaged_classes_are_refused(damage):
    value = ClassTargets.learn(np.array(["a", "b"]), HERE)[0].to_json() | damage
    with pytest.raises((DataError, TypeError, ValueError, OverflowError)):  # `load` makes one DataError of them
        ClassTargets.from_json(value)


# ------------------------------------------------------------------------------------------------------- class weights


def weights(class_weight, y=("a", "b", "b", "b")):
    targets, codes = ClassTargets.learn(np.array(y), HERE)
    return targets.weights(class_weight, codes, HERE)


def test_balanced_weights_are_scikit_learns():
    from sklearn.utils.class_weight import compute_class_weight

    assert weights(None) is None
    y = np.array(["a", "b", "b", "b"])
    np.testing.assert_allclose(weights("balanced"), compute_class_weight("balanced", classes=np.unique(y), y=y))


def test_given_weights_have_mean_one_over_the_items():
    given = weights({"a": 6.0})  # b: 1
    torch.testing.assert_close(given, torch.tensor([6.0, 1.0]) * 4 / 9)
    assert weights({"b": 0, "a": np.float32(2)}).tolist() == [4.0, 0.0]


def test_weights_by_text_or_by_value():
    expected = weights({1: 3.0}, (0, 1, 1, 1))
    for name in ("1", 1.0, np.int64(1), True):
        torch.testing.assert_close(weights({name: 3.0}, (0, 1, 1, 1)), expected)
    torch.testing.assert_close(weights({"True": 3.0}, (False, True, True, True)), expected)
    torch.testing.assert_close(weights({"1.0": 3.0}, (0.0, 1.0, 1.0, 1.0)), expected)
    torch.testing.assert_close(weights({1: 3.0}, (0.0, 1.0, 1.0, 1.0)), expected)


@pytest.mark.parametrize(
    ("class_weight", "message"),
    [
        ({"c": 1}, r"here: class_weight names no class 'c'; the classes are \['a', 'b'\]"),
        ({"a": -1}, r"here: class_weight\['a'\] must be a number at least 0, got -1"),
        ({"a": float("nan")}, "got nan"),
        ({"a": float("inf")}, "got inf"),
        ({"a": "heavy"}, "got 'heavy'"),
        ({"a": None}, "got None"),
        ({"a": 1j}, "got 1j"),
        ({"a": 0, "b": 0}, "class_weight is 0 for every class that the training items have"),
    ],
    ids=str,
)
def test_bad_weights(class_weight, message):
    with pytest.raises(ConfigError, match=message):
        weights(class_weight)


def test_a_class_that_only_held_out_items_have_weighs_nothing_special():
    targets, _ = ClassTargets.learn(np.array(["a", "b", "c"]), HERE)
    given = targets.weights("balanced", torch.tensor([0, 0, 1]), HERE)
    assert torch.isfinite(given).all()


# ------------------------------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize("targets_in", [1, 3])
def test_numbers_come_back_in_their_units(targets_in):
    rng = np.random.default_rng(0)
    y = rng.normal(size=(50, targets_in)) * 10.0 ** np.arange(targets_in) * 1e4 + 1e5
    y = y[:, 0] if targets_in == 1 else y
    targets, standardised = NumberTargets.learn(y, np.arange(50), HERE)
    assert (standardised.dtype, standardised.shape) == (torch.float32, (50, targets_in))
    np.testing.assert_allclose(standardised.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(standardised.std(0, unbiased=False), 1, atol=1e-6)
    for known in (targets, through_json(targets)):
        assert known.decode(standardised).shape == y.shape
        np.testing.assert_allclose(known.decode(standardised), y, rtol=1e-6)
        assert torch.equal(known.encode(y, HERE), standardised)


def test_statistics_come_from_the_training_rows_only():
    targets, standardised = NumberTargets.learn(np.array([1.0, 3.0, 1e9, -1e9]), np.array([0, 1]), HERE)
    assert (targets.mean.tolist(), targets.scale.tolist()) == ([2.0], [1.0])
    assert standardised[:2, 0].tolist() == [-1.0, 1.0]


@pytest.mark.parametrize("value", [0.0, 7.0, 0.1, 1e15])
def test_a_constant_target_is_not_scaled(value):
    targets, standardised = NumberTargets.learn(np.full(3, value), np.arange(3), HERE)
    assert targets.scale.tolist() == [1.0]
    np.testing.assert_allclose(targets.decode(standardised), value)


def test_names_come_from_the_data():
    assert NumberTargets.learn(np.zeros(4), ALL, HERE)[0].names == ["y"]
    assert NumberTargets.learn(np.zeros((4, 2)), ALL, HERE)[0].names == ["y0", "y1"]
    assert NumberTargets.learn(pd.Series(np.zeros(4), name="price"), ALL, HERE)[0].names == ["price"]
    assert NumberTargets.learn(pd.DataFrame(np.zeros((4, 2)), columns=["p", "q"]), ALL, HERE)[0].names == ["p", "q"]


@pytest.mark.parametrize(
    "y",
    [
        [1, 2, 3, 4],
        [True, False, True, True],
        pd.Series([1, 2, 3, 4], dtype="Int64"),
        np.array([Decimal(1), Decimal(2), Decimal(3), Decimal(4)]),
        np.array(["1", "2", "3", "4"]),
        torch.tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True),
    ],
    ids=lambda v: f"{type(v).__name__} {getattr(v, 'dtype', type(v[0]).__name__)}",
)
def test_numbers_of_any_kind_are_taken(y):
    targets, _ = NumberTargets.learn(as_target(y, HERE), ALL, HERE)
    assert targets.mean[0] == 2.5 if len(set(y)) == 4 else 0.75


BAD_NUMBERS = {
    "missing": (
        [1.0, np.nan, 3.0, np.nan],
        r"here: the target is missing \(NaN\) in 2 of 4 rows: 1, 3 \(counted from 0\)",
    ),
    "missing in one of two": (np.array([[1, 2], [1, np.nan], [1, 2], [1, 2]]), "in 1 of 4 rows: 1 "),
    "missing NA": (pd.Series([1.0, pd.NA, 2.0, 3.0], dtype="Float64"), "in 1 of 4 rows: 1 "),
    "infinite": ([1.0, np.inf, 3.0, -np.inf], r"here: the target is infinite \(inf\) in rows \[1, 3\]"),
    "infinite text": (np.array(["1", "inf", "2", "3"]), r"infinite \(inf\) in rows \[1\]"),
    "words": (["low", "high", "low", "high"], "the target of a regression must be numeric .*'low'"),
    "complex": (np.array([1j, 2, 3, 4]), "Complex data not supported; make it two targets"),
    "dates": (pd.Series(pd.to_datetime(["2020-01-01"] * 4)), "the target holds dates or times"),
    "too large": ([1e308, -1e308, 1e308, 1e308], "the values of the target are too large to be standardised"),
    "three axes": (np.zeros((4, 2, 2)), r"y must be \(N,\) or \(N, T\), got shape \(4, 2, 2\)"),
    "no target": (np.zeros((4, 0)), r"got shape \(4, 0\)"),
}


@pytest.mark.parametrize(("y", "message"), BAD_NUMBERS.values(), ids=BAD_NUMBERS)
def test_bad_numbers(y, message):
    with pytest.raises(DataError, match=message):
        NumberTargets.learn(as_target(y, HERE), ALL, HERE)


def test_numbers_at_evaluate():
    targets, _ = NumberTargets.learn(np.arange(8.0).reshape(4, 2), ALL, HERE)
    with pytest.raises(DataError, match="here: y has 1 column, the training had 2: y0, y1"):
        targets.encode(np.zeros(4), HERE)
    with pytest.raises(DataError, match="here: row 1: the target is too large beside those of the training"):
        targets.encode(np.array([[0.0, 1.0], [1e300, 1.0]]), HERE)


@pytest.mark.parametrize(
    "damage",
    [
        {"mean": [float("nan")]},
        {"scale": [0.0]},
        {"scale": [-1.0]},
        {"scale": [float("inf")]},
        {"mean": [1.0, 2.0]},
        {"mean": [[1.0]], "scale": [[1.0]]},
        {"mean": "x"},
        {"names": None},
    ],
    ids=str,
)
def test_damaged_numbers_are_refused(damage):
    value = NumberTargets.learn(np.arange(4.0), ALL, HERE)[0].to_json() | damage
    with pytest.raises((DataError, TypeError, ValueError)):
        NumberTargets.from_json(value)


# ---------------------------------------------------------------------------------------------------------- as_target


@pytest.mark.parametrize(
    "y", [3, "a", None, {"a": 1}, (v for v in [1, 2]), len, np.array(1), {1, 2}], ids=lambda v: type(v).__name__
)
def test_a_single_value_is_no_target(y):
    with pytest.raises(DataError, match="here: y must hold one value a row, got a single "):
        as_target(y, HERE)


def test_ragged_rows_are_no_target():
    with pytest.raises(DataError, match="here: the rows of y differ in length"):
        as_target([[1], [1, 2]], HERE)


def test_pandas_keeps_its_names():
    y = pd.Series([1, 2], name="price")
    assert as_target(y, HERE) is y
