"""The small data sets by name, and what each kind of system gets of them."""

import numpy as np
import pandas as pd
import pytest
from sklearn import datasets

from konspekt import ImageClassifier, LinearRegressor, MLPClassifier
from konspekt.core.errors import ConfigError, DataError
from konspekt.data.sets import SETS, load


@pytest.mark.parametrize(
    ("name", "shape", "task"),
    [
        ("breast-cancer", (569, 30), "tabular-classification"),
        ("diabetes", (442, 10), "tabular-regression"),
        ("digits", (1797, 8, 8), "image-classification"),
        ("iris", (150, 4), "tabular-classification"),
        ("wine", (178, 13), "tabular-classification"),
    ],
)
def test_each_set_is_what_scikit_learn_has(name, shape, task):
    data = load(name)
    assert (data.name, data.X.shape, data.task) == (name, shape, task)
    assert len(data.y) == len(data.X)
    bunch = getattr(datasets, f"load_{name.replace('-', '_')}")()
    if task == "tabular-classification":
        assert list(data.y) == [str(bunch.target_names[i]) for i in bunch.target]
        assert all(isinstance(label, str) for label in data.y)
    else:
        np.testing.assert_array_equal(data.y, bunch.target)
    if task != "image-classification":
        np.testing.assert_array_equal(data.X.to_numpy(), bunch.data)
        assert list(data.X.columns) == list(bunch.feature_names)


def test_the_list_is_whole():
    assert SETS == ("breast-cancer", "diabetes", "digits", "iris", "wine")


def test_digits_are_eight_bit_pictures():
    data = load("digits")
    assert data.X.dtype == np.uint8
    assert (data.X.min(), data.X.max()) == (0, 255)
    np.testing.assert_array_equal(np.round(data.X / (255 / 16)), datasets.load_digits().images)


@pytest.mark.parametrize(
    ("name", "hint"), [("irsi", "did you mean 'iris'"), ("mist", "known: breast-cancer"), ("", "known")]
)
def test_unknown_names_suggest_the_nearest(name, hint):
    with pytest.raises(ConfigError, match=f"there is no data set '{name}'; {hint}"):
        load(name)


def test_pictures_become_rows_for_tabular_systems():
    data = load("digits")
    X, y = data.for_task("tabular-classification")
    assert isinstance(X, pd.DataFrame)
    assert X.shape == (1797, 64)
    assert list(X.columns[:2]) == ["pixel 0", "pixel 1"]
    np.testing.assert_array_equal(X.to_numpy().reshape(-1, 8, 8), data.X)
    np.testing.assert_array_equal(y, data.y)
    assert data.for_task("image-classification")[0] is data.X
    assert load("iris").for_task(None)[0].shape == (150, 4)


def test_a_set_is_x_and_y_at_once():
    iris = load("iris")
    model = MLPClassifier(hidden=(8,), epochs=3).fit(iris, validation=0.2)
    assert model.evaluate(iris) == model.evaluate(iris.X, iris.y)
    np.testing.assert_array_equal(model.predict(iris), model.predict(iris.X))
    given = MLPClassifier(hidden=(8,), epochs=1).fit(iris, np.arange(150) % 2)
    assert given.classes_.tolist() == [0, 1]
    held = MLPClassifier(hidden=(8,), epochs=1).fit(iris, validation=load("iris"))
    assert held.history_[-1]["val_accuracy"] == pytest.approx(held.evaluate(iris)["accuracy"])


def test_a_set_of_another_task_is_refused_where_it_makes_no_sense():
    with pytest.raises(DataError, match=r"LinearRegressor: the target of a regression must be numeric .*'setosa'"):
        LinearRegressor(epochs=1).fit(load("iris"))
    with pytest.raises(ConfigError, match="16 x 16 pixels"):  # 4 numbers a row are taken for a picture of 2 x 2
        ImageClassifier(epochs=1).fit(load("iris"))


def test_digits_as_a_table_and_as_pictures():
    digits = load("digits")
    table = MLPClassifier(hidden=(16,), epochs=2, lr=0.01).fit(digits)
    pictures = ImageClassifier(arch="mlp(hidden=(16,))", epochs=2, lr=0.01).fit(digits)
    assert min(table.evaluate(digits)["accuracy"], pictures.evaluate(digits)["accuracy"]) > 0.7
    with pytest.raises(DataError, match="pixel 0"):
        table.predict(pd.DataFrame(digits.X.reshape(-1, 64)).add_prefix("p"))
