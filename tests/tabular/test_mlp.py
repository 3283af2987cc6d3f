"""The multilayer perceptron on tables: its arithmetic, its options, and the contract."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

import konspekt
from konspekt import MLPClassifier, MLPRegressor
from konspekt.core.errors import ConfigError, ResourceError
from konspekt.core.registry import entries
from konspekt.tabular.mlp import MLP, embedding_size

TINY = {"hidden": (8,), "epochs": 2}


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": rng.normal(size=40), "b": rng.normal(size=40), "k": ["red", "green", "blue", None] * 10})
    table.loc[3, "a"] = None
    return table


LABELS = ["yes", "no"] * 20


# ---------------------------------------------------------------------------------------------------------- the net


ACTIVATIONS = {
    "relu": lambda z: np.maximum(z, 0),
    "tanh": np.tanh,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "leaky-relu(slope=0.2)": lambda z: np.where(z > 0, z, 0.2 * z),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_forward_is_plain_arithmetic(name):
    torch.manual_seed(0)
    net = MLP(3, 2, num_codes=[4, 6], hidden=(5, 7), activation=name).double().eval()
    x, codes = torch.randn(11, 3, dtype=torch.float64), torch.stack([torch.arange(11) % 4, torch.arange(11) % 6], dim=1)
    tables = [e.weight.detach().numpy() for e in net.embeddings]
    h = np.c_[x.numpy(), tables[0][codes[:, 0]], tables[1][codes[:, 1]]]
    layers = [m for m in net.layers if isinstance(m, nn.Linear)]
    assert [tuple(layer.weight.shape) for layer in layers] == [(5, 3 + 2 + 3), (7, 5), (2, 7)]
    for layer in layers[:-1]:
        h = ACTIVATIONS[name](h @ layer.weight.detach().numpy().T + layer.bias.detach().numpy())
    expected = h @ layers[-1].weight.detach().numpy().T + layers[-1].bias.detach().numpy()
    np.testing.assert_allclose(net(x, codes).detach().numpy(), expected, rtol=1e-12)


def test_predictions_are_the_softmax_of_that_arithmetic():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 3)) * 7 + 2, rng.integers(0, 3, size=30)
    model = MLPClassifier(hidden=(5,), epochs=3, activation="tanh").fit(X, y)
    first, _, last = model.model_.layers
    z = (X - X.mean(0)) / X.std(0)
    for layer, follow in ((first, np.tanh), (last, lambda v: v)):
        z = follow(z @ layer.weight.detach().double().numpy().T + layer.bias.detach().double().numpy())
    expected = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    np.testing.assert_allclose(model.predict_proba(X), expected, atol=1e-6)
    np.testing.assert_array_equal(model.predict(X), expected.argmax(1))


def test_without_hidden_layers_it_is_linear():
    model = MLPRegressor(hidden=(), epochs=200, lr=0.05).fit([[0.0], [1.0], [2.0], [3.0]], [1.0, 3.0, 5.0, 7.0])
    assert len(list(model.model_.parameters())) == 2
    np.testing.assert_allclose(model.predict([[10.0]]), [21.0], rtol=0.01)


def test_an_unseen_category_is_the_zero_vector(frame):
    model = MLPClassifier(**TINY).fit(frame, LABELS)
    (table,) = model.model_.embeddings
    assert torch.equal(table.weight[0], torch.zeros(embedding_size(5)))
    assert table.weight[1:].abs().min() > 0
    assert tuple(table.weight.shape) == (5, 3)  # unseen, missing, three colours
    unseen = model.encode(frame.assign(k="violet")).fields["codes"]
    assert unseen.unique().tolist() == [0]
    assert model.encode(frame.assign(k=None)).fields["codes"].unique().tolist() == [1]
    first = next(m for m in model.model_.layers if isinstance(m, nn.Linear))
    x = model.encode(frame.assign(k="violet")).fields["x"]
    by_hand = x @ first.weight[:, : x.shape[1]].T + first.bias
    seen = {}
    hook = first.register_forward_hook(lambda module, inputs, output: seen.update(out=output))
    model.model_(x, unseen)
    hook.remove()
    torch.testing.assert_close(seen["out"], by_hand)


@pytest.mark.parametrize(("codes", "size"), [(2, 1), (3, 2), (5, 3), (99, 50), (1001, 50)])
def test_embeddings_grow_with_the_number_of_values(codes, size):
    assert embedding_size(codes) == size


def test_columns_of_categories_alone_are_enough():
    frame = pd.DataFrame({"k": ["u", "v"] * 20, "l": ["p", "p", "q", "q"] * 10})
    y = (frame["k"] == "u").to_numpy() ^ (frame["l"] == "p").to_numpy()
    assert MLPClassifier(hidden=(16,), epochs=40, lr=0.05).fit(frame, y).score(frame, y) == 1.0


# ------------------------------------------------------------------------------------------------------- the options


@pytest.mark.parametrize("norm", ["none", "batch", "renorm", "layer"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_norms_and_dropout_are_built_and_train(frame, norm, dropout):
    y = (frame["b"] > 0).to_numpy()
    model = MLPClassifier(hidden=(16, 8), norm=norm, dropout=dropout, epochs=15, lr=0.02).fit(frame, y)
    kinds = [type(m).__name__ for m in model.model_.layers]
    assert len(kinds) == 2 * (2 + (norm != "none") + (dropout > 0)) + 1
    assert kinds.count("Dropout") == (2 if dropout else 0)
    assert model.history_[-1]["loss"] < model.history_[0]["loss"]
    assert model.score(frame, y) > 0.8
    # Prediction neither drops nor looks at the other rows.
    np.testing.assert_array_equal(model.predict_proba(frame)[:7], model.predict_proba(frame[:7]))


@pytest.mark.parametrize("name", [e.name for e in entries() if e.kind == "activation" and e.name != "softmax"])
def test_every_activation_trains(frame, name):
    model = MLPRegressor(hidden=(8,), activation=name, epochs=8, lr=0.02).fit(frame, frame["b"])
    assert model.history_[-1]["loss"] < model.history_[0]["loss"]


@pytest.mark.parametrize("name", [e.name for e in entries() if e.kind == "init"])
def test_every_init_is_taken(frame, name):
    model = MLPClassifier(init=name, **TINY).fit(frame, LABELS)
    assert np.isfinite(model.predict_proba(frame)).all()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"hidden": [8]}, r"hidden must be a tuple .* got \[8\]"),
        ({"hidden": (8, 0)}, r"hidden must be .* at least 1, got \(8, 0\)"),
        ({"dropout": 1.0}, "dropout must be at least 0 and less than 1, got 1.0"),
        ({"activation": "rleu"}, "did you mean 'relu'"),
        ({"activation": "relu(slope=1)"}, "it takes none"),
        ({"norm": "bach"}, "did you mean 'batch'"),
        ({"init": "hee"}, "'hee' is not a registered init; did you mean 'he'|known"),
        ({"types": ["a"]}, "types must be a mapping, or None"),
        ({"class_weight": "balancd"}, "class_weight must be None, 'balanced' or a mapping"),
        ({"class_weight": {"maybe": 2.0}}, r"class_weight names no class 'maybe'; the classes are \['no', 'yes'\]"),
        ({"class_weight": {"yes": -1}}, r"class_weight\['yes'\] must be a number at least 0, got -1"),
        ({"class_weight": {"yes": float("nan")}}, "must be a number at least 0, got nan"),
        ({"class_weight": {"yes": "much"}}, "must be a number at least 0, got 'much'"),
        ({"class_weight": {"yes": 0, "no": 0}}, "class_weight is 0 for every class"),
    ],
    ids=lambda v: next(iter(v)) + "=" + str(next(iter(v.values()))) if isinstance(v, dict) else "",
)
def test_wrong_parameters_are_named(frame, params, message):
    with pytest.raises(ConfigError, match=f"MLPClassifier: .*({message})"):
        MLPClassifier(**params).fit(frame, LABELS)


@pytest.mark.parametrize("hidden", [(3, 10**15), (10**20,)], ids=str)
def test_a_net_beyond_the_memory_is_a_resource_error(frame, hidden):
    with pytest.raises(
        ResourceError, match=r"MLPClassifier: a net with hidden=.* does not fit in memory; lower hidden"
    ):
        MLPClassifier(hidden=hidden).fit(frame, LABELS)


def test_class_weights_shift_the_decision(frame):
    y = np.array(["often"] * 36 + ["seldom"] * 4)
    share = {}
    for weight in (None, "balanced", {"seldom": 100.0}):
        model = MLPClassifier(hidden=(4,), epochs=10, lr=0.02, class_weight=weight).fit(frame, y)
        share[str(weight)[:4]] = model.predict_proba(frame)[:, 1].mean()
    assert share["None"] < share["bala"] < share["{'se"]


def test_several_targets(frame):
    Y = pd.DataFrame({"twice": 2 * frame["b"], "less": frame["b"] - 100})
    model = MLPRegressor(hidden=(32,), epochs=60, lr=0.02).fit(frame[["b"]], Y)
    assert model.predict(frame[["b"]]).shape == (40, 2)
    assert model.score(frame[["b"]], Y) > 0.98
    assert list(model.predict_frame(frame[["b"]]).columns) == ["item", "twice", "less"]
    values = model.evaluate(frame[["b"]], Y)
    error = model.predict(frame[["b"]]) - Y.to_numpy()
    assert values["rmse"] == pytest.approx(np.sqrt((error**2).mean(0)).mean(), rel=1e-5)
    assert values["mae"] == pytest.approx(np.abs(error).mean(), rel=1e-5)
    table = frame[["b"]].assign(p=Y["twice"], q=Y["less"])
    assert MLPRegressor(**TINY).fit(table, ("p", "q")).predict(frame[["b"]]).shape == (40, 2)


def test_predict_frame_has_each_class(frame):
    model = MLPClassifier(**TINY).fit(frame, LABELS)
    table = model.predict_frame(frame[:3])
    assert list(table.columns) == ["item", "prediction", "p(no)", "p(yes)"]
    np.testing.assert_array_equal(table["prediction"], model.predict(frame[:3]))
    np.testing.assert_array_equal(table[["p(no)", "p(yes)"]], model.predict_proba(frame[:3]))


def test_partial_targets_by_name(frame):
    table = frame.assign(y=LABELS)
    by_name = MLPClassifier(**TINY).fit(table, "y")
    by_hand = MLPClassifier(**TINY).fit(frame, LABELS)
    np.testing.assert_array_equal(by_name.predict_proba(frame), by_hand.predict_proba(frame))


def test_a_column_that_is_the_target_at_evaluate(frame):
    table = frame.assign(y=LABELS)
    model = MLPClassifier(**TINY).fit(table, "y", validation=(table, "y"))
    assert model.evaluate(table, "y") == model.evaluate(frame, LABELS)
    assert model.history_[-1]["val_loss"] == pytest.approx(model.evaluate(table, "y")["loss"], rel=1e-4)


# ------------------------------------------------------------------------------------------------------- the contract


def test_pipeline_cross_validation_and_search(frame):
    X, y = frame[["b"]].to_numpy(), (frame["b"] > 0).to_numpy()
    model = MLPClassifier(hidden=(8,), epochs=10, lr=0.05)
    assert make_pipeline(StandardScaler(), model).fit(X, y).score(X, y) > 0.9
    assert cross_val_score(model, frame, y, cv=2).min() > 0.6
    search = GridSearchCV(model, {"hidden": [(4,), (8, 8)], "lr": np.array([1e-5, 0.05])}, cv=2).fit(X, y)
    assert search.best_params_["lr"] == 0.05


@pytest.mark.parametrize("norm", ["batch", "renorm", "layer"])
def test_a_model_comes_back_to_the_bit(frame, norm, tmp_path):
    model = MLPClassifier(hidden=(8, 4), norm=norm, dropout=0.2, epochs=3).fit(frame, LABELS)
    again = konspekt.load(model.save(tmp_path / "model"))
    other = frame.assign(k=["red", "violet", None, "blue"] * 10, a=np.nan)
    for table in (frame, other):
        np.testing.assert_array_equal(again.predict_proba(table), model.predict_proba(table))
        np.testing.assert_array_equal(again.predict(table), model.predict(table))
    assert again.get_params() == model.get_params()
    assert again.evaluate(frame, LABELS) == model.evaluate(frame, LABELS)
    np.testing.assert_array_equal(again.feature_names_in_, model.feature_names_in_)
    assert again.n_features_in_ == 3


def test_a_regressor_comes_back_to_the_bit(frame, tmp_path):
    Y = frame[["b"]].assign(c=1e6)
    model = MLPRegressor(**TINY).fit(frame, Y)
    again = konspekt.load(model.save(tmp_path / "model"))
    np.testing.assert_array_equal(again.predict(frame), model.predict(frame))
    pd.testing.assert_frame_equal(again.predict_frame(frame), model.predict_frame(frame))


def test_a_loaded_model_can_be_cloned_and_fitted_again(frame, tmp_path):
    model = MLPClassifier(class_weight={0: 1.0, 1: 3.0}, types={"a": "category"}, **TINY).fit(frame, [0, 1] * 20)
    again = clone(konspekt.load(model.save(tmp_path / "model"))).fit(frame, [0, 1] * 20)
    np.testing.assert_array_equal(again.predict_proba(frame), model.predict_proba(frame))


def test_the_same_seed_gives_the_same_bits(frame):
    fits = [MLPClassifier(dropout=0.2, random_state=seed, **TINY).fit(frame, LABELS) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(fits[0].predict_proba(frame), fits[1].predict_proba(frame))
    assert not np.array_equal(fits[0].predict_proba(frame), fits[2].predict_proba(frame))


def test_a_rows_prediction_depends_on_no_other_row():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 3))  # more than one batch
    model = MLPRegressor(**TINY).fit(X, X[:, 0])
    whole = model.predict(X)
    np.testing.assert_array_equal(whole[::-1], model.predict(X[::-1]))
    np.testing.assert_array_equal(whole[:1], model.predict(X[:1]))


@pytest.mark.parametrize("make", [MLPClassifier, MLPRegressor])
def test_points_of_the_space_are_parameters(make):
    draws = [make.space().draw(np.random.default_rng(seed)) for seed in range(30)]
    for point in draws:
        make(**point).check_params()
        make.space().check(point)
        assert 1e-4 <= point["lr"] <= 1e-1
    assert {p["norm"] for p in draws} == {"none", "batch", "renorm", "layer"}


def test_early_stopping_takes_the_best_weights(frame):
    model = MLPRegressor(hidden=(16,), epochs=60, lr=0.1, patience=3, validation_fraction=0.3).fit(
        frame, np.arange(40.0)
    )
    losses = [r["val_loss"] for r in model.history_]
    assert model.n_iter_ == len(losses) < 60
    assert int(np.argmin(losses)) == len(losses) - 4


def test_the_run_says_what_was_read(frame, tmp_path):
    MLPClassifier(run_dir=str(tmp_path / "run"), **TINY).fit(frame.assign(c=1.0), LABELS)
    facts = json.loads((tmp_path / "run/data.json").read_text())
    assert {c["name"]: c["type"] for c in facts["columns"]} == {
        "a": "number",
        "b": "number",
        "k": "category",
        "c": "number",
    }
    assert {c["name"]: c["missing"] for c in facts["columns"]} == {"a": 1, "b": 0, "k": 10, "c": 0}
    assert facts["classes"] == [
        {"name": "no", "train": 20, "validation": 0},
        {"name": "yes", "train": 20, "validation": 0},
    ]
    log = (tmp_path / "run/log.txt").read_text()
    assert "missing numbers filled with the mean, with an indicator column each: a (1)" in log
    assert "missing categories have a code of their own: k (10)" in log
    assert "1 constant column(s) left out of scaling: c" in log
