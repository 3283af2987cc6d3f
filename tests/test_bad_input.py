"""The contract's bad inputs, one table: each gives the error that says what is wrong, where, and what to do, or works.

A case is a call and what must come of it: an exception type with parts of its message, or nothing, which means that
the call must work. Data first, then what a model folder may hold, then what the machine may do.
"""

import errno
import gzip
import hashlib
import json
import os
import pickle
import struct
import threading
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy import sparse
from sklearn.exceptions import NotFittedError

import konspekt
from konspekt import ImageClassifier, LinearRegressor, LogisticClassifier, MLPClassifier, MLPRegressor
from konspekt.core import folders
from konspekt.core.errors import ConfigError, DataError, DivergedError, KonspektError, ResourceError

RNG = np.random.default_rng(0)
N = 20
X = RNG.normal(size=(N, 3))
Y = np.array([0, 1] * (N // 2))
FRAME = pd.DataFrame(X, columns=list("abc")).assign(k=["u", "v"] * (N // 2))


def classify(X, y, **params):
    return MLPClassifier(**{"hidden": (4,), "epochs": 1} | params).fit(X, y)


def regress(X, y, **params):
    return MLPRegressor(**{"hidden": (4,), "epochs": 1} | params).fit(X, y)


def fails(call, error, *parts):
    with pytest.raises(error) as caught:
        call()
    text = str(caught.value)
    assert type(caught.value) is error
    missing = [p for p in parts if p not in text]
    assert not missing, f"{missing} not in {text!r}"
    assert len(text) < 1200  # a paragraph, not the data


def changed(**columns):
    return FRAME.assign(**columns)


def at(values, places, value):
    values = np.array(values, dtype=np.result_type(np.asarray(values), type(value)))
    values[places] = value
    return values


class Evil:
    """A pickle of it makes a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


# -------------------------------------------------------------------------------------------------- tables at training

MULTI = pd.MultiIndex.from_tuples([("a", "x"), ("a", "y"), ("b", "x")])


def a_matrix(values):
    with warnings.catch_warnings():  # whether NumPy says that it will go depends on who imported it before
        warnings.simplefilter("ignore")
        return np.matrix(values)


TRAINING = {
    # the contract's list
    "no rows": (np.empty((0, 3)), [], DataError, "0 sample(s)", "MLPClassifier"),
    "no rows in a table": (FRAME[:0], Y[:0], DataError, "0 sample(s)", "the table has no rows"),
    "one row": (X[:1], Y[:1], DataError, "1 sample", "minimum of 2"),
    "one row in a table": (FRAME[:1], Y[:1], DataError, "1 sample only; at least 2"),
    "one class": (X, Y * 0, DataError, "only one class (0 in all 20 rows)", "at least 2"),
    "NaN in an array": (at(X, 4, np.nan), Y, DataError, "contains NaN", "pass a DataFrame or a csv file"),
    "inf in an array": (at(X, 4, np.inf), Y, DataError, "infinity", "mend or remove"),
    "inf in a table": (changed(b=at(X[:, 1], 4, np.inf)), Y, DataError, "column 'b'", "infinite", "rows [4]"),
    "text in an array": (np.array([["1", "two"]] * N), Y, DataError, "'two'", "strings belong in a DataFrame"),
    "text where numbers belong": (
        changed(a=["1", "x"] * (N // 2)), Y, DataError, "column 'a'", "rows 1 ('x')", "types={'a': 'category'}",
        {"types": {"a": "number"}},
    ),
    "missing labels": (X, pd.Series([None, "p", "q", "p"] * 5), DataError, "in 5 of 20 rows: 0, 4, 8", "fill them in"),
    "labels longer": (X, np.r_[Y, 0], DataError, "X has 20 rows and y has 21", "as many"),
    "labels shorter": (FRAME, Y[:-1], DataError, "X has 20 rows and y has 19", "as many"),
    "no labels": (X, None, DataError, "requires y", "give y"),
    "continuous labels": (X, X[:, 0], DataError, "Unknown label type: continuous"),
    # what else one may try
    "three axes": (X.reshape(N, 3, 1), Y, DataError, "dim 3", "reshape"),
    "one axis": (X[:, 0], Y, DataError, "Expected 2D array", "reshape(-1, 1)"),
    "no axis": (np.array(3.0), Y, DataError, "Expected 2D array"),
    "no columns": (FRAME[[]], Y, DataError, "no column is left"),
    "a Series": (FRAME["a"], Y, DataError, "Pass a DataFrame"),
    "sparse": (sparse.csr_matrix(X), Y, TypeError, "dense data is required", "toarray()"),
    "np.matrix": (a_matrix(X), Y, TypeError, "np.asarray"),
    "a dict": ({"a": X[:, 0]}, Y, DataError, "got a dict", "pd.DataFrame(X)"),
    "a list of dicts": ([{"a": 1}] * N, Y, DataError, "got a list of dict", "pd.DataFrame(X)"),
    "ragged rows": ([[1, 2], [3]] * 10, Y, DataError, "of one length"),
    "a set": ({1, 2}, Y, DataError, "got a set"),
    "a generator": ((row for row in X), Y, DataError, "got a generator"),
    "None": (None, Y, DataError, "Expected 2D array"),
    "bytes": (b"a,b", Y, DataError, "could not convert"),
    "text that is no path": ("nonsense", Y, DataError, "nonsense: not a table", ".csv"),
    "a file that is not there": ("nonsense.csv", "y", DataError, "nonsense.csv: there is no such file"),
    "complex": (X + 1j, Y, DataError, "Complex data not supported"),
    "complex in a table": (changed(a=X[:, 0] + 1j), Y, DataError, "column 'a'", "Complex", "real numbers"),
    "huge integers": (np.array([[10**400] * 2] * N, dtype=object), Y, DataError, "int too large"),
    "huge numbers": (X * 1e300, Y, DataError, "column 'x0'", "too large"),
    "dates": (np.full((N, 2), np.datetime64("2020-01-01")), Y, DataError, "dates or times", "pass pd.DataFrame(X)"),
    "a column of dates": (changed(d=pd.Timestamp("2020-01-01")), Y, None),
    "a column of lists": (changed(d=[[1]] * N), Y, DataError, "'d'", "row 0 holds a list", "types={'d': 'ignored'}"),
    "a masked array": (np.ma.masked_array(X, X > 1), Y, DataError, "missing values", "filled(np.nan)"),
    "a structured array": (np.array([(1, 2.0)] * N, dtype="i4,f8"), Y, DataError, "must be an array (N, F)"),
    "a sparse tensor": (torch.from_numpy(X).to_sparse(), Y, DataError, "dense tensor", "to_dense()"),
    "a tensor without data": (torch.zeros(N, 3, device="meta"), Y, DataError, "dense tensor"),
    "all missing": (pd.DataFrame({"z": [np.nan] * N}), Y, DataError, "no column is left", "z hold no value"),
    "names twice": (pd.DataFrame(X, columns=list("aab")), Y, DataError, "named twice: a", "rename"),
    "names of two types": (pd.DataFrame(X, columns=[0, "a", "b"]), Y, TypeError, "X.columns.astype(str)"),
    "a name without columns": (X, "k", DataError, "y='k' names a column", "give y as an array"),
    "a name that is not there": (FRAME, "kk", DataError, "no column 'kk'", "did you mean 'k'"),
    "two names for a class": (FRAME, ("a", "b"), DataError, "1d array", "(20, 2)"),
    "two columns of labels": (X, pd.DataFrame({"p": Y, "q": Y}), DataError, "1d array", "(20, 2)"),
    "labels of two types": (X, np.array([1, "b"] * 10, dtype=object), DataError, "several types: int, str"),
    "infinite labels": (X, at(Y * 1.0, 3, np.inf), DataError, "infinite", "rows [3]"),
    "dates as labels": (X, pd.Series(pd.to_datetime(["2020-01-01", None] * 10)), DataError, "dates or times", "numbers"),
    "bytes as labels": (X, np.array([b"a", b"b"] * 10), DataError, "bytes", "string"),
    "one label": (X, 3, DataError, "one value a row", "int"),
    "ragged labels": (X, [[1], [1, 2]] * 10, DataError, "differ in length"),
    "sparse labels": (X, sparse.csr_matrix(Y[:, None]), DataError, "one value a row"),
    "a wrong type": (FRAME, Y, ConfigError, "types['a'] must be one of number", {"types": {"a": "numeric"}}),
    "a type of no column": (FRAME, Y, ConfigError, "did you mean 'k'", {"types": {"kk": "category"}}),
    "types as a list": (FRAME, Y, ConfigError, "types must be a mapping", {"types": ["a"]}),
    "weights of no class": (X, Y, ConfigError, "no class 7", "[0, 1]", {"class_weight": {7: 1}}),
    "a net beyond memory": (X, Y, ResourceError, "lower hidden", {"hidden": (3, 10**15)}),
    "a run folder in a file": (X, Y, ResourceError, "cannot write", {"run_dir": f"{__file__}/run"}),
    # what looks odd and works
    "NaN in a table": (changed(a=at(X[:, 0], 4, np.nan)), Y, None),
    "a constant column": (changed(a=7.0), Y, None),
    "mixed types in a column": (changed(a=[1, "x"] * 10), Y, None),
    "a column that is all missing": (changed(z=None), Y, None),
    "names of levels": (pd.DataFrame(X, columns=MULTI), Y, None),
    "numbers as names": (pd.DataFrame(X), Y, None),
    "rows of levels": (FRAME.set_index(pd.MultiIndex.from_product([range(4), range(5)])), Y, None),
    "names that we use": (FRAME.set_axis(["index", "y", "x", "codes"], axis=1), Y, None),
    "names that are long or strange": (FRAME.set_axis(["имя " * 3000, "\u202e\x00</script>", "", " "], axis=1), Y, None),
    "a tensor that wants a gradient": (torch.from_numpy(X).requires_grad_(), torch.from_numpy(Y), None),
    "a sparse frame": (pd.DataFrame.sparse.from_spmatrix(sparse.csr_matrix(X)), Y, None),
    "unsigned integers beyond 2^63": (pd.DataFrame({"a": np.arange(N, dtype=np.uint64) + 2**63}), Y, None),
    "huge integers in a table": (pd.DataFrame({"a": [10**400, 1] * 10}), Y, None),
    "objects that are truth values": (X, np.array([True, False] * 10, dtype=object), None),
    "a batch beyond the data": (X, Y, None, {"batch_size": 10**12}),
    "a seed below zero": (X, Y, None, {"random_state": -(2**70)}),
}  # fmt: skip


@pytest.mark.parametrize("case", TRAINING.values(), ids=TRAINING)
def test_a_table_at_training(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    X, y, error, *rest = case
    params = rest.pop() if rest and isinstance(rest[-1], dict) else {}
    if error is not None:
        fails(lambda: classify(X, y, **params), error, *rest)
        return
    model = classify(X, y, run_dir="run", **params)
    again = konspekt.load("run/model")
    proba = model.predict_proba(X)
    assert proba.shape == (N, 2)
    assert np.isfinite(proba).all()
    np.testing.assert_array_equal(again.predict_proba(X), proba)
    facts = json.loads(Path("run/data.json").read_text())
    assert facts["train"] == N


def test_gaps_in_a_table_are_filled_marked_and_counted(tmp_path):
    table = changed(a=at(X[:, 0], [4, 7], np.nan), k=["u", None] * (N // 2))
    model = classify(table, Y, run_dir=str(tmp_path / "run"))
    assert model.schema_.feature_names == ["a", "b", "c", "a is missing"]
    facts = json.loads((tmp_path / "run/data.json").read_text())
    assert {c["name"]: c["missing"] for c in facts["columns"]} == {"a": 2, "b": 0, "c": 0, "k": 10}
    log = (tmp_path / "run/log.txt").read_text()
    assert "a (2)" in log
    assert "k (10)" in log
    assert any("a (2)" in note for note in facts["notes"])


def test_a_constant_column_is_named(tmp_path):
    classify(changed(a=7.0), Y, run_dir=str(tmp_path / "run"))
    assert "1 constant column(s) left out of scaling: a" in (tmp_path / "run/log.txt").read_text()


REGRESSION = {
    "missing": (at(X[:, 0], [2, 9], np.nan), DataError, "missing (NaN) in 2 of 20 rows: 2, 9", "fill them in"),
    "infinite": (at(X[:, 0], [2, 9], np.inf), DataError, "infinite", "rows [2, 9]"),
    "words": (np.array(["low", "high"] * 10), DataError, "must be numeric", "'low'"),
    "complex": (X[:, 0] + 1j, DataError, "Complex data not supported"),
    "too large": (X[:, 0] * 1e300, DataError, "too large to be standardised"),
    "dates": (pd.Series(pd.to_datetime(["2020-01-01"] * N)), DataError, "dates or times"),
    "three axes": (np.zeros((N, 2, 2)), DataError, "(N,) or (N, T)", "(20, 2, 2)"),
    "no targets": (np.zeros((N, 0)), DataError, "(20, 0)"),
    "a dict": ({"a": 1}, DataError, "one value a row"),
    "constant": (np.ones(N), None),
    "truth values": (X[:, 0] > 0, None),
    "numbers as text": (np.array(["1", "2"] * 10), None),
}


@pytest.mark.parametrize("case", REGRESSION.values(), ids=REGRESSION)
def test_targets_of_a_regression(case):
    y, error, *parts = case
    if error is None:
        assert np.isfinite(regress(X, y).predict(X)).all()
    else:
        fails(lambda: regress(X, y), error, "MLPRegressor", *parts)


# ------------------------------------------------------------------------------------------------- tables at prediction


@pytest.fixture(scope="module")
def models():
    return {"array": classify(X, Y), "frame": classify(FRAME, Y)}


PREDICTION = {
    "columns missing": ("frame", FRAME[["a", "k"]], DataError, "now missing", "- b", "- c"),
    "columns in another order": ("frame", FRAME[["b", "a", "c", "k"]], DataError, "same order"),
    "a column more": ("frame", changed(z=1), DataError, "unseen at fit time", "- z"),
    "text where numbers were": ("frame", changed(a="zz"), DataError, "column 'a'", "rows 0 ('zz')"),
    "infinite": ("frame", changed(a=-np.inf), DataError, "column 'a'", "infinite"),
    "too large": ("frame", changed(a=1e308), DataError, "row 0, column 'a'", "too large"),
    "no rows": ("frame", FRAME[:0], DataError, "no rows"),
    "lists in cells": ("frame", changed(a=[[1]] * N), DataError, "column 'a'", "rows 0 ([1])"),
    "fewer features": ("array", X[:, :2], DataError, "2 features", "expecting 3"),
    "no rows of an array": ("array", X[:0], DataError, "0 sample(s)"),
    "NaN in an array": ("array", at(X, 0, np.nan), DataError, "contains NaN", "DataFrame"),
    "one row flat": ("array", X[0], DataError, "Expected 2D array", "reshape(1, -1)"),
    "sparse": ("array", sparse.csr_array(X), TypeError, "toarray()"),
    "text": ("array", "nonsense", DataError, "nonsense: not a table"),
    "a dict": ("array", {"a": 1}, DataError, "got a dict"),
    "a value never seen": ("frame", changed(k="w"), None),
    "a number as a category": ("frame", changed(k=3.0), None),
    "missing where nothing was": ("frame", changed(a=np.nan, k=None), None),
    "numbers as text": ("frame", changed(a="1.5"), None),
    "truth values as numbers": ("frame", changed(a=True), None),
}


@pytest.mark.parametrize("case", PREDICTION.values(), ids=PREDICTION)
def test_a_table_at_prediction(case, models):
    name, X, error, *parts = case
    if error is None:
        assert np.isfinite(models[name].predict_proba(X)).all()
    else:
        fails(lambda: models[name].predict(X), error, *parts)


def test_a_file_in_another_order_is_no_matter(models, tmp_path):
    changed(z=1)[["k", "z", "c", "a", "b"]].to_csv(tmp_path / "t.csv", index=False)
    np.testing.assert_array_equal(models["frame"].predict(tmp_path / "t.csv"), models["frame"].predict(FRAME))
    FRAME[["a", "k"]].to_csv(tmp_path / "few.csv", index=False)
    fails(lambda: models["frame"].predict(tmp_path / "few.csv"), DataError, "missing: b, c", "the file has: a, k")


@pytest.mark.parametrize("method", ["predict", "predict_proba", "evaluate", "save", "outputs", "encode"])
def test_before_fit(method):
    arguments = {"evaluate": (X, Y), "save": ("model",)}.get(method, (X,))
    fails(lambda: getattr(MLPClassifier(), method)(*arguments), NotFittedError, "not fitted yet")


EVALUATION = {
    "a label never seen": (Y + 1, "did not have: 2", "its classes are 0, 1"),
    "text for numbers": (Y.astype(str), "did not have: '0', '1'", "its classes are 0, 1"),
    "missing": (at(Y * 1.0, 3, np.nan), "missing (NaN) in 1 of 20 rows: 3"),
    "fewer": (Y[:3], "X has 20 rows and y has 3"),
    "none": (None, "true y is needed"),
    "two columns": (np.c_[Y, Y], "(20, 2)"),
}


@pytest.mark.parametrize("case", EVALUATION.values(), ids=EVALUATION)
def test_labels_at_evaluate(case, models):
    y, *parts = case
    fails(lambda: models["array"].evaluate(X, y), DataError, "MLPClassifier", *parts)


FILES = {
    "empty": ("t.csv", b"", "the file is empty"),
    "header only": ("t.csv", b"a,y\n", "no row"),
    "semicolons": ("t.csv", b"a;y\n1;0\n2;1\n", "separated by ';'", "sep=';'"),
    "latin-1": ("t.csv", "ä,y\n1,0\n2,1\n".encode("latin-1"), "not UTF-8", "0xe4", "save it as UTF-8"),
    "names twice": ("t.csv", b"a,a,y\n1,2,0\n3,4,1\n", "named twice: a", "rename"),
    "longer rows": ("t.csv", b"a,y\n1,0,5\n2,1,5\n", "more values than the first line has names"),
    "a gap in the target": ("t.csv", b"a,y\n1,0\n2,\n3,1\n", "in 1 of 3 rows: 1 "),
    "the target alone": ("t.csv", b"y\n0\n1\n", "beside the target"),
    "no gzip": ("t.csv.gz", b"a,y\n1,0\n", "not readable as csv"),
    "half a gzip": ("t.csv.gz", gzip.compress(os.urandom(5000).hex().encode())[:999], "not readable as csv"),
    "no target": ("t.csv", b"a,b\n1,0\n2,1\n", "no column 'y'"),
}


@pytest.mark.parametrize("case", FILES.values(), ids=FILES)
def test_a_file_at_training(case, tmp_path):
    name, data, *parts = case
    (tmp_path / name).write_bytes(data)
    fails(lambda: classify(tmp_path / name, "y"), DataError, *parts)


def test_a_folder_with_the_name_of_a_file(tmp_path):
    (tmp_path / "x.csv").mkdir()
    fails(lambda: classify(tmp_path / "x.csv", "y"), DataError, "x.csv: this is a folder, not a file")


# ------------------------------------------------------------------------------------------------------------- images


def paint(path, size=(8, 8), mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], 3)
    draw = np.random.default_rng(list(f"{path.parent.name}/{path.name}".encode()))  # each file is another picture
    Image.fromarray(draw.integers(0, 256, size=shape, dtype=np.uint8)).save(path)


@pytest.fixture
def pets(tmp_path):
    for name in ("cat", "dog"):
        for i in range(4):
            paint(tmp_path / "pets" / name / f"{i}.png")
    return tmp_path / "pets"


def see(X, y=None, **params):
    return ImageClassifier(**{"arch": "mlp(hidden=(4,))", "epochs": 1} | params).fit(X, y)


def spoil(folder):
    """A cut jpg, a text named png, an empty file."""
    paint(folder / "cat/cut.jpg", (64, 64))
    data = (folder / "cat/cut.jpg").read_bytes()
    (folder / "cat/cut.jpg").write_bytes(data[: len(data) // 2])
    (folder / "dog/text.png").write_text("this is no picture")
    (folder / "dog/empty.png").touch()
    return ["cat/cut.jpg", "dog/text.png", "dog/empty.png"]


def test_images_that_cannot_be_read_are_all_listed(pets):
    bad = spoil(pets)
    fails(lambda: see(pets), DataError, "3 of 11 images", *bad, 'on_bad="skip"')


def test_images_that_cannot_be_read_are_skipped_and_written_down(pets, tmp_path):
    bad = spoil(pets)
    model = see(pets, on_bad="skip", run_dir=str(tmp_path / "run"))
    facts = json.loads((tmp_path / "run/data.json").read_text())
    assert sorted(s["item"] for s in facts["skipped"]) == sorted(bad)
    assert all(s["reason"] for s in facts["skipped"])
    assert facts["train"] == 8
    assert "3 images could not be read and were skipped" in (tmp_path / "run/log.txt").read_text()
    assert model.classes_.tolist() == ["cat", "dog"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_may_not_be_read(pets):
    (pets / "dog").chmod(0)
    try:
        fails(lambda: see(pets), DataError, "dog", "permission")
    finally:
        (pets / "dog").chmod(0o700)


def test_a_folder_that_cannot_be_listed(pets, monkeypatch):
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("dog"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    fails(lambda: see(pets), DataError, "dog/", "cannot be listed", "ermission")


def test_sizes_that_differ_are_listed(pets):
    paint(pets / "dog/wide.png", (20, 10))
    fails(lambda: see(pets), DataError, "10 x 20", "8 x 8", "dog/wide.png", "image_size=")
    see(pets, image_size=8)


IMAGES = {
    "no folder": ("nowhere", None, DataError, "nowhere does not exist"),
    "no images": (np.empty((0, 8, 8)), [], DataError, "no images"),
    "NaN": (at(np.ones((6, 8, 8)), 3, np.nan), [0, 1] * 3, DataError, "image 3", "NaN"),
    "words": (np.array([["a"] * 9] * 6), [0, 1] * 3, DataError, "images must be numbers"),
    "rows that are no square": (np.zeros((6, 10)), [0, 1] * 3, DataError, "(6, 10)", "no square"),
    "five axes": (np.zeros((6, 1, 1, 8, 8)), [0, 1] * 3, DataError, "(6, 1, 1, 8, 8)"),
    "a dict": ({"a": 1}, [0, 1], DataError, "dict"),
    "one class": (np.zeros((6, 8, 8)), [1] * 6, DataError, "only one class"),
    "fewer labels": (np.zeros((6, 8, 8)), [0, 1], DataError, "6 images and y has 2"),
    "no labels": (np.zeros((6, 8, 8)), None, DataError, "requires y"),
    "missing labels": (np.zeros((6, 8, 8)), [0, 1, None, 0, 1, 0], DataError, "missing (NaN) in 1 of 6 rows: 2"),
    "a name for labels": (np.zeros((6, 8, 8)), "kind", DataError, "y='kind'"),
    "an unknown net": (np.zeros((6, 8, 8)), [0, 1] * 3, ConfigError, "did you mean 'lenet'", {"arch": "lenett"}),
    "a size of nothing": (np.zeros((6, 8, 8)), [0, 1] * 3, ConfigError, "image_size", "got 0", {"image_size": 0}),
    "an unknown augmentation": (np.zeros((6, 8, 8)), [0, 1] * 3, ConfigError, "augment", {"augment": ("shfit",)}),
    "all the same": (np.zeros((6, 8, 8)), [0, 1] * 3, DataError, "all 6 images are the same", "image 0 and image 1"),
    "too small for the net": (
        np.arange(6 * 64).reshape(6, 8, 8),
        [0, 1] * 3,
        ConfigError,
        "16 x 16",
        "image_size",
        {"arch": "lenet"},
    ),
}


@pytest.mark.parametrize("case", IMAGES.values(), ids=IMAGES)
def test_images_at_training(case):
    X, y, error, *parts = case
    params = parts.pop() if isinstance(parts[-1], dict) else {}
    fails(lambda: see(X, y, **params), error, *parts)


def test_images_of_another_kind_at_prediction(pets, tmp_path):
    model = see(pets)
    paint(tmp_path / "wide.png", (9, 8))
    fails(lambda: model.predict(tmp_path / "wide.png"), DataError, "8 x 9", "8 x 8", "image_size=")
    fails(lambda: model.predict(np.zeros((2, 3, 8, 8), dtype=np.uint8)), DataError, "3 channels", "1 channel")
    fails(lambda: model.predict(np.zeros((2, 9, 8), dtype=np.uint8)), DataError, "9 x 8", "8 x 8")
    fails(lambda: model.predict(np.random.default_rng(0).random((2, 8, 8))), DataError, "scale", "255")
    paint(tmp_path / "colour.png", mode="RGB")
    assert len(model.predict(tmp_path / "colour.png")) == 1  # a file is turned to grey


# ------------------------------------------------------------------------------------------------------ model folders


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A saved model; tests copy it."""
    return classify(FRAME, Y).save(tmp_path_factory.mktemp("saved") / "model")


@pytest.fixture
def model(saved, tmp_path):
    for file in saved.iterdir():
        (tmp_path / "model").mkdir(exist_ok=True)
        (tmp_path / "model" / file.name).write_bytes(file.read_bytes())
    return tmp_path / "model"


def seal(folder, names=("config.json", "weights.safetensors", "card.md")):
    """Write a manifest that is right, as a hostile author would."""
    sums = {}
    for name in names:
        data = (folder / name).read_bytes()
        sums[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps({"format": 1, "files": sums}))


def edit(folder, change):
    """Change config.json, and seal the folder again."""
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    seal(folder)


def check_refused(folder, *parts, file=None):
    fails(lambda: konspekt.load(folder), DataError, str(folder / file) if file else str(folder), *parts)


@pytest.mark.parametrize("name", ["config.json", "weights.safetensors", "card.md", "manifest.json"])
def test_a_flipped_byte_is_found_wherever_it_is(model, name):
    data = (model / name).read_bytes()
    places = range(0, len(data), max(1, len(data) // 40))
    for place in places:
        (model / name).write_bytes(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])
        check_refused(model)
    (model / name).write_bytes(data)
    konspekt.load(model)


@pytest.mark.parametrize("name", ["config.json", "weights.safetensors", "card.md", "manifest.json"])
def test_a_file_that_is_cut_or_gone(model, name):
    data = (model / name).read_bytes()
    (model / name).write_bytes(data[: len(data) // 2])
    check_refused(model, name)
    (model / name).unlink()
    check_refused(model, name)
    (model / name).mkdir()
    check_refused(model, name)


def test_what_is_no_model_folder(tmp_path):
    check_refused(tmp_path, "manifest.json")
    fails(lambda: konspekt.load(tmp_path / "no"), DataError, "no such folder")
    (tmp_path / "file").touch()
    fails(lambda: konspekt.load(tmp_path / "file"), DataError, "no such folder")
    fails(lambda: classify(X, Y).save(tmp_path), DataError, "was not written by konspekt", "remove this one first")


PATHS = [
    "../../evil",
    "/etc/passwd",
    "config.json/../../evil",
    "..",
    ".hidden",
    "a/b",
    "evil.py",
    "C:\\evil",
    "",
    "x\x00y",
]


@pytest.mark.parametrize("name", PATHS, ids=repr)
def test_names_that_lead_out_of_the_folder(model, name, tmp_path):
    (tmp_path / "evil").write_text("evil")
    manifest = json.loads((model / "manifest.json").read_text())
    manifest["files"][name] = {"bytes": 4, "sha256": hashlib.sha256(b"evil").hexdigest()}
    (model / "manifest.json").write_text(json.dumps(manifest))
    check_refused(model, "do not trust it", file="manifest.json")


@pytest.mark.parametrize("name", ["config.json", "weights.safetensors", "manifest.json"])
def test_links_are_not_followed(model, name, tmp_path):
    (model / name).rename(tmp_path / name)
    (model / name).symlink_to(tmp_path / name)
    check_refused(model, name)


def test_a_pickle_in_disguise_is_not_read(model, tmp_path):
    trap = tmp_path / "it ran"
    payloads = {
        "pickle": pickle.dumps(Evil(trap)),
        "old pickle": pickle.dumps(Evil(trap), protocol=0),
        "pickle with a header": struct.pack("<Q", 40) + b"{" + pickle.dumps(Evil(trap), protocol=0).ljust(39),
    }
    torch.save(Evil(trap), tmp_path / "torch.pt")
    payloads["torch file"] = (tmp_path / "torch.pt").read_bytes()
    for payload in payloads.values():
        (model / "weights.safetensors").write_bytes(payload)
        seal(model)
        check_refused(model, file="weights.safetensors")
    (model / "config.json").write_bytes(pickle.dumps(Evil(trap)))
    seal(model)
    check_refused(model, file="config.json")
    assert not trap.exists()
    with pickle.loads(payloads["pickle"]):  # noqa: S301, the payload is one: read, it runs
        assert trap.exists()


def header(size, text=b"{}"):
    return struct.pack("<Q", size) + text


WEIGHTS = {
    "a huge header": (header(2**63), "header does not fit"),
    "a header beyond the file": (header(10**6), "header does not fit"),
    "no header": (b"", "header does not fit"),
    "a header that is no JSON": (header(2, b"{x"), "not a whole safetensors file"),
    "offsets beyond the file": (
        header(64, b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}'.ljust(64)), "not a whole safetensors file",
    ),
    "offsets that overlap": (
        header(128, b'{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}'
               .ljust(128)) + b"abcd", "not a whole safetensors file",
    ),
    "deep nesting": (header(20001, b"{" + b"[" * 20000), "not a whole safetensors file"),
}  # fmt: skip


@pytest.mark.parametrize("case", WEIGHTS.values(), ids=WEIGHTS)
def test_weights_that_are_no_safetensors(model, case):
    data, message = case
    (model / "weights.safetensors").write_bytes(data)
    seal(model)
    check_refused(model, message, file="weights.safetensors")


def test_weights_of_another_model(model, tmp_path):
    other = classify(FRAME, Y, hidden=(5,)).save(tmp_path / "other")
    (model / "weights.safetensors").write_bytes((other / "weights.safetensors").read_bytes())
    seal(model)
    check_refused(model, "weights do not fit", "(5,", "(4,")
    other = LogisticClassifier(epochs=1).fit(FRAME, Y).save(tmp_path / "logistic")
    (model / "weights.safetensors").write_bytes((other / "weights.safetensors").read_bytes())
    seal(model)
    check_refused(model, "weights do not fit", "model.linear.weight")


JSON = {
    "deep nesting": b"[" * 100_000,
    "no JSON": b"{'system': 1}",
    "not UTF-8": b'{"a": "\xff"}',
    "a number without end": b'{"a": ' + b"9" * 100_000 + b"}",
    "a list": b"[]",
    "nothing": b"",
    "null": b"null",
}


@pytest.mark.parametrize("name", ["config.json", "manifest.json"])
@pytest.mark.parametrize("data", JSON.values(), ids=JSON)
def test_json_that_is_none_of_ours(model, name, data):
    (model / name).write_bytes(data)
    if name == "config.json":
        seal(model)
    check_refused(model, file=name)


MANIFEST = {
    "another format": {"format": 2},
    "no files": {"files": {}},
    "files as a list": {"files": ["config.json"]},
    "no sums": {"files": {"config.json": None, "weights.safetensors": None, "card.md": None}},
    "wrong types": {"files": {"config.json": {"bytes": "5", "sha256": 7}}},
}


@pytest.mark.parametrize("change", MANIFEST.values(), ids=MANIFEST)
def test_a_manifest_that_is_wrong(model, change):
    manifest = json.loads((model / "manifest.json").read_text())
    (model / "manifest.json").write_text(json.dumps(manifest | change))
    check_refused(model)


def put(*path_and_value):
    *path, last, value = path_and_value

    def change(config):
        for key in path:
            config = config[key]
        config[last] = value

    return change


def drop(*path):
    *path, last = path

    def change(config):
        for key in path:
            config = config[key]
        del config[last]

    return change


CONFIG = {
    # the class
    "a system that is a function": (put("system", "os.system"), "'os.system' is not a registered estimator"),
    "a system that is a path": (put("system", "../../evil"), "not a registered estimator"),
    "a system that is no text": (put("system", ["mlp-classifier"]), "not the description of a model"),
    "another system": (put("system", "image-classifier"), "ImageClassifier"),
    "a net for an estimator": (put("system", "lenet"), "not a registered estimator"),
    # the parameters
    "epochs=-1": (put("params", "epochs", -1), "epochs must be an integer at least 1, got -1"),
    "epochs=1.5": (put("params", "epochs", 1.5), "epochs must be an integer"),
    "lr=NaN": (put("params", "lr", float("nan")), "lr must be more than 0, or 'find', got nan"),
    "lr=Infinity": (put("params", "lr", float("inf")), "lr must be more than 0"),
    "hidden=text": (put("params", "hidden", "os.system"), "hidden"),
    "hidden is huge": (put("params", "hidden", [10**20]), "does not fit in memory"),
    "hidden is long": (put("params", "hidden", [[1]]), "hidden must be a tuple"),
    "an unknown parameter": (put("params", "epoch", 3), "no parameter 'epoch'"),
    "another activation": (put("params", "activation", "__import__('os').system('x')"), "activation"),
    "an optimizer that is code": (put("params", "optimizer", "adam(beta2=__import__('os'))"), "optimizer"),
    "types of another kind": (put("params", "types", [1]), "types must be a mapping"),
    "parameters as a list": (put("params", []), "not the description of a model"),
    # the schema
    "no schema": (drop("learned", "schema"), "KeyError"),
    "no learned part": (drop("learned"), "not the description of a model"),
    "a schema of another kind": (put("learned", "schema", "x"), "does not describe"),
    "a mean of NaN": (put("learned", "schema", "columns", 0, "mean", float("nan")), "column 'a'", "damaged"),
    "a scale of 0": (put("learned", "schema", "columns", 0, "scale", 0), "column 'a'", "damaged"),
    "a scale of Infinity": (put("learned", "schema", "columns", 0, "scale", float("inf")), "damaged"),
    "a type of column": (put("learned", "schema", "columns", 0, "type", "code"), "damaged"),
    "a field of column": (put("learned", "schema", "columns", 0, "__class__", "x"), "__class__"),
    "categories of another kind": (put("learned", "schema", "columns", 3, "categories", 5), "does not describe"),
    "a category more": (put("learned", "schema", "columns", 3, "categories", list("uvw")), "weights do not fit"),
    "a column less": (drop("learned", "schema", "columns", 0), "weights do not fit"),
    "features that are no number": (put("learned", "n_features_in", "many"), "does not describe"),
    "features beyond bounds": (put("learned", "n_features_in", float("inf")), "does not describe"),
    "a seed that is none": (put("learned", "seed", "x"), "does not describe"),
    # the classes
    "no targets": (drop("learned", "targets"), "does not describe"),
    "one class": (put("learned", "targets", "classes", [0]), "at least 2"),
    "a class twice": (put("learned", "targets", "classes", [0, 0]), "all different"),
    "a class more": (put("learned", "targets", "classes", [0, 1, 2]), "weights do not fit"),
    "classes of lists": (put("learned", "targets", "classes", [[0], [1]]), "classes"),
    "classes of objects": (put("learned", "targets", {"classes": [{"a": 1}, {}], "dtype": "object"}), "does not describe"),
    "a dtype that is none": (put("learned", "targets", "dtype", "os.system"), "does not describe"),
    "a dtype of dates": (put("learned", "targets", "dtype", "M8[ns]"), "are not known"),
    "a dtype beyond memory": (put("learned", "targets", "dtype", "U99999999"), "are not known"),
    "classes too large": (put("learned", "targets", "classes", [10**400, 1]), "does not describe"),
}  # fmt: skip


@pytest.mark.parametrize("case", CONFIG.values(), ids=CONFIG)
def test_a_config_that_a_hostile_author_wrote(model, case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    change, *parts = case
    edit(model, change)
    before = sorted(tmp_path.rglob("*"))
    check_refused(model, *parts)
    assert sorted(tmp_path.rglob("*")) == before


def test_numbers_of_a_regression_in_the_config(tmp_path):
    folder = LinearRegressor(epochs=1).fit(X, X[:, 0]).save(tmp_path / "model")
    data = (folder / "config.json").read_bytes()
    for key, value in (
        ("mean", [float("nan")]),
        ("scale", [0.0]),
        ("scale", [-1.0]),
        ("mean", [0.0, 0.0]),
        ("mean", "x"),
    ):
        edit(folder, put("learned", "targets", key, value))
        check_refused(folder)
        (folder / "config.json").write_bytes(data)
    edit(folder, put("params", "degree", 10**9))
    check_refused(folder, "degree=1000000000")


def test_an_image_model_in_the_config(tmp_path):
    folder = see(np.arange(6 * 64, dtype=np.uint8).reshape(6, 8, 8), [0, 1] * 3).save(tmp_path / "model")
    data = (folder / "config.json").read_bytes()
    for key, value in (
        ("mean", [float("nan")]),
        ("std", [0.0]),
        ("channels", 2),
        ("height", -8),
        ("height", 9),
        ("height", 10**12),
        ("dtype", "object"),
        ("resize", "yes"),
        ("code", 1),
    ):
        edit(folder, put("learned", "schema", key, value))
        check_refused(folder)
        (folder / "config.json").write_bytes(data)
    edit(folder, put("params", "arch", "mlp(hidden=(10**9,))"))
    check_refused(folder, "arch")


# ---------------------------------------------------------------------------------------------------- the machine


def full_disk(monkeypatch, after=0):
    """From the `after`-th flush on, the disk is full."""
    calls = []

    def flush(path):
        calls.append(path)
        if len(calls) > after:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(folders, "flush", flush)


@pytest.mark.parametrize("after", range(5))
def test_a_full_disk_while_saving_leaves_the_older_model(model, after, monkeypatch):
    old = konspekt.load(model)
    other = classify(FRAME, Y, random_state=7)
    with monkeypatch.context() as patch:
        full_disk(patch, after)
        fails(lambda: other.save(model), ResourceError, "cannot write", "the disk is full", "free some space")
    again = konspekt.load(model)
    np.testing.assert_array_equal(again.predict_proba(FRAME), old.predict_proba(FRAME))
    assert [p.name for p in model.parent.iterdir()] == ["model"]
    other.save(model)
    np.testing.assert_array_equal(konspekt.load(model).predict_proba(FRAME), other.predict_proba(FRAME))


def test_a_full_disk_during_a_fit(tmp_path, monkeypatch):
    full_disk(monkeypatch, 3)
    fails(lambda: classify(FRAME, Y, run_dir=str(tmp_path / "run")), ResourceError, "the disk is full")


def test_a_folder_that_another_process_writes_to(tmp_path):
    inside, done = threading.Event(), threading.Event()

    def wait(moment):
        inside.set()
        done.wait(10)

    def first():
        MLPClassifier(hidden=(4,), epochs=1, run_dir=str(tmp_path / "run")).fit(X, Y, callbacks=[wait])

    thread = threading.Thread(target=first)
    thread.start()
    try:
        assert inside.wait(10)
        fails(
            lambda: MLPClassifier(epochs=1, hidden=(4,)).fit(X, Y, resume=str(tmp_path / "run")),
            ResourceError, "another process", "run_dir",
        )  # fmt: skip
    finally:
        done.set()
        thread.join(10)


def test_a_run_folder_that_is_taken(tmp_path):
    classify(X, Y, run_dir=str(tmp_path / "run"))
    fails(lambda: classify(X, Y, run_dir=str(tmp_path / "run")), ConfigError, "already holds a run", "resume")
    fails(
        lambda: MLPClassifier(epochs=1, hidden=(4,), run_dir=str(tmp_path / "run")).fit(
            X**3, Y, resume=str(tmp_path / "run")
        ),
        DataError, "other data", "same items",
    )  # fmt: skip
    fails(
        lambda: MLPClassifier(epochs=1, hidden=(5,)).fit(X, Y, resume=str(tmp_path / "run")),
        ConfigError, "hidden was (4,), is (5,)",
    )  # fmt: skip
    fails(lambda: MLPClassifier().fit(X, Y, resume=str(tmp_path)), DataError, "not a run folder", "config.yaml")


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "momentum"])
def test_a_learning_rate_that_diverges(optimizer):
    parts = ["training stopped at step", "not finite", "The batch held items", "Lower lr (now 1e+30)", "clip_norm"]
    fails(lambda: regress(X, X[:, 0], lr=1e30, epochs=50, optimizer=optimizer), DivergedError, *parts)


PARAMETERS = {
    "epochs": (0, "epochs must be an integer at least 1, got 0"),
    "batch_size": (2.0, "batch_size must be an integer at least 1, or None, got 2.0"),
    "lr": (float("nan"), "lr must be more than 0, or 'find', got nan"),
    "optimizer": ("admw", "did you mean 'adamw'"),
    "schedule": ("cosin", "did you mean 'cosine'"),
    "device": ("tpu", "device must be auto, cpu, cuda, cuda:N or mps, got 'tpu'"),
    "monitor": ("f1", "monitor='f1' is not measured here; known: loss, accuracy"),
    "patience": (3, "patience=3 needs validation data"),
    "validation_fraction": (1.0, "validation_fraction must be at least 0 and less than 1, or None, got 1.0"),
    "on_bad": ("skp", "did you mean 'skip'"),
    "random_state": ("zero", "random_state must be an integer, or None"),
    "run_dir": (5, "run_dir must be a string, or None, got 5"),
    "verbose": ("yes", "verbose must be True or False, got 'yes'"),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(name):
    value, message = PARAMETERS[name]
    given = {name: value} | ({"validation_fraction": 0.2} if name == "monitor" else {})
    fails(lambda: classify(X, Y, **given), ConfigError, message)


VALIDATION = {
    "a fraction beyond 1": (1.5, ConfigError, "at least 0 and less than 1, got 1.5"),
    "a fraction of NaN": (float("nan"), ConfigError, "got nan"),
    "a fraction that leaves nothing": (0.999, DataError, "cannot hold out 0.999 of the items"),
    "no labels": (X, DataError, "true y is needed"),
    "labels never seen": ((X, Y + 1), DataError, "did not have: 2"),
    "labels shorter": ((X, Y[:3]), DataError, "X has 20 rows and y has 3"),
    "columns fewer": ((X[:, :2], Y), DataError, "2 features"),
    "a file that is not there": ("no.csv", DataError, "no.csv: there is no such file"),
}


@pytest.mark.parametrize("case", VALIDATION.values(), ids=VALIDATION)
def test_validation(case):
    validation, error, *parts = case
    fails(lambda: MLPClassifier(hidden=(4,), epochs=1).fit(X, Y, validation=validation), error, *parts)


def test_every_error_is_one_of_ours_and_a_value_error_where_scikit_learn_expects_one():
    assert all(issubclass(e, (KonspektError, ValueError)) for e in (DataError, ConfigError, ResourceError))
    assert issubclass(DivergedError, ArithmeticError)
