"""Anomaly detection by reconstruction: against PCA, by planted outliers, and in scikit-learn's terms."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import nn

import konspekt
from konspekt import AnomalyDetector, load
from konspekt.core.errors import ConfigError, DataError
from konspekt.core.runs import read_metrics
from konspekt.tabular.anomaly import Reconstruction, is_anomaly, threshold


def correlated(rows=200, seed=0):
    """Five columns that follow from two hidden ones; in the last ten rows the third column does not."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(rows, 2))
    X = hidden @ rng.normal(size=(2, 5)) + 0.1 * rng.normal(size=(rows, 5))
    X[-10:, 2] += rng.choice([-4.0, 4.0], size=10)
    return X, np.r_[np.zeros(rows - 10, int), np.ones(10, int)]


def detector(**params):
    return AnomalyDetector(**{"hidden": (8,), "epochs": 5, "lr": 0.01, "bottleneck": 2} | params)


def mixed(rows=60):
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"a": rng.normal(size=rows), "b": rng.normal(size=rows)})
    frame["kind"] = np.where(frame["a"] > 0, "plus", "minus")
    frame["day"] = pd.date_range("2024-01-01", periods=rows)
    frame.loc[[3, 9], "b"] = np.nan
    frame.loc[5, "day"] = pd.NaT
    return frame


# --------------------------------------------------------------------------------------------------- the error itself


def test_without_hidden_layers_it_finds_what_principal_components_find():
    X, _ = correlated()
    linear = detector(
        hidden=(), clip=None, error="squared", epochs=120, batch_size=None, optimizer="lbfgs", lr=1.0
    ).fit(X)
    Z = (X - X.mean(0)) / X.std(0)
    pca = PCA(n_components=2).fit(Z)
    residual = np.square(Z - pca.inverse_transform(pca.transform(Z))).mean(axis=1)
    np.testing.assert_allclose(-linear.score_samples(X), residual, rtol=0.05, atol=2e-4)
    assert np.array_equal(np.argsort(residual)[-10:], np.argsort(-linear.score_samples(X))[-10:])


@pytest.mark.parametrize("error", ["squared", "log"])
def test_the_error_of_each_kind_of_column_is_its_own(error):
    frame = mixed()
    fitted = detector(epochs=1, clip=None, error=error).fit(frame)
    fields = {n: f.double() if f.is_floating_point() else f for n, f in fitted.encode(frame).fields.items()}
    net = fitted.model_.double()
    with torch.no_grad():
        out = net(fields["x"], fields["codes"]).numpy()
    x, names = fields["x"].numpy(), fitted.schema_.feature_names
    totals = dict.fromkeys(("a", "b", "kind", "day"), 0.0)
    for place, name in enumerate(names):
        column = name.split(":")[0].removesuffix(" is missing")
        if name.endswith("is missing"):
            p = 1 / (1 + np.exp(-out[:, place]))
            totals[column] -= x[:, place] * np.log(p) + (1 - x[:, place]) * np.log(1 - p)
        else:
            there = 1 - x[:, names.index(f"{column} is missing")] if f"{column} is missing" in names else 1
            square = (out[:, place] - x[:, place]) ** 2
            totals[column] += there * (np.log(1 + square) if error == "log" else square)
    logits = out[:, len(names) :]
    chosen = logits[np.arange(len(x)), fields["codes"][:, 0].numpy()]
    totals["kind"] = np.log(np.exp(logits).sum(1)) - chosen
    expected = sum(totals.values()) / 4
    np.testing.assert_allclose(-fitted.score_samples(frame), expected, rtol=1e-6)
    shares = fitted.explain_scores(frame)
    assert list(shares.columns) == ["a", "b", "kind", "day"]
    np.testing.assert_allclose(shares["kind"], totals["kind"] / (4 * expected), rtol=1e-5)
    np.testing.assert_allclose(shares["b"], totals["b"] / (4 * expected), rtol=1e-5)
    np.testing.assert_allclose(shares.sum(axis=1), 1)


def test_noise_is_added_in_training_only_and_not_to_indicators():
    fitted = detector(epochs=1, noise=10.0).fit(mixed())
    objective, seen = fitted.objective_, []
    objective.model.register_forward_hook(lambda module, inputs, out: seen.append(inputs[0]))
    batch = {"x": fitted.encode(mixed()).fields["x"], "codes": fitted.encode(mixed()).fields["codes"]}
    objective.clip = None
    objective.eval().loss(batch, "model")
    objective.train().loss(batch, "model")
    assert torch.equal(seen[0], batch["x"])
    changed = (seen[1] != batch["x"]).any(0)
    assert torch.equal(changed, ~objective.binary)
    assert bool(objective.binary.any())


def test_what_lies_far_out_looks_to_the_net_as_if_it_were_at_the_clip_and_costs_all_of_it():
    X, _ = correlated()
    fitted = detector(clip=2.0, error="squared").fit(X)
    far = X[:1].copy()
    far[0, 0] = X[:, 0].mean() + 9 * X[:, 0].std()
    at = far.copy()
    at[0, 0] = X[:, 0].mean() + 2 * X[:, 0].std()
    seen = []
    fitted.model_.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    objective = fitted.objective_
    errors = [
        objective({"x": torch.from_numpy((row - X.mean(0)) / X.std(0)).float()})["errors"].detach() for row in (far, at)
    ]
    torch.testing.assert_close(seen[0], seen[1])
    assert float(errors[0][0, 0].sqrt() - errors[1][0, 0].sqrt()) == pytest.approx(7, abs=1e-3)
    torch.testing.assert_close(errors[0][:, 1:], errors[1][:, 1:])


def test_an_unseen_category_is_odd():
    frame = mixed()
    fitted = detector(epochs=40).fit(frame)
    odd = frame.head(1).assign(kind="neither")
    assert fitted.score_samples(odd)[0] < 2 * fitted.score_samples(frame.head(1))[0]
    assert fitted.explain_scores(odd).iloc[0].idxmax() == "kind"


# ----------------------------------------------------------------------------------------------- what it is to do


def test_planted_outliers_are_found_and_explained():
    X, y = correlated()
    fitted = detector(epochs=60, clip=None).fit(X)
    assert roc_auc_score(y, -fitted.score_samples(X)) > 0.95
    worst = np.argsort(fitted.score_samples(X))[:5]
    assert (y[worst] == 1).all()
    assert (fitted.explain_scores(X[worst]).to_numpy().argmax(axis=1) == 2).all()
    assert (fitted.predict(X[worst]) == -1).all()


def test_labels_are_measured_against_and_never_trained_on(tmp_path):
    X, y = correlated()
    bare = detector(validation_fraction=0.5).fit(X)
    for number, labels in enumerate([y, np.random.default_rng(0).permutation(y)]):
        fitted = detector(validation_fraction=0.5, run_dir=str(tmp_path / str(number))).fit(X, labels)
        for (name, weight), other in zip(
            fitted.objective_.state_dict().items(), bare.objective_.state_dict().values(), strict=True
        ):
            assert torch.equal(weight, other), name
        assert fitted.offset_ == bare.offset_
        scores = json.loads((tmp_path / str(number) / "result.json").read_text())["scores"]
        assert set(scores) == {"loss", "roc_auc", "average_precision"}


def test_measures_are_scikit_learns():
    X, y = correlated()
    fitted = detector().fit(X)
    errors = -fitted.score_samples(X)
    found = fitted.evaluate(X, y)
    assert found["roc_auc"] == pytest.approx(roc_auc_score(y, errors))
    assert found["average_precision"] == pytest.approx(average_precision_score(y, errors))
    x = torch.from_numpy((X - X.mean(0)) / X.std(0)).float().clamp(-2, 2)
    with torch.no_grad():
        assert found["loss"] == pytest.approx(float((fitted.model_(x) - x).square().mean()), rel=1e-4)
    assert fitted.evaluate(X, np.where(y, -1, 1)) == found == fitted.evaluate(X, y.astype(bool))
    assert fitted.evaluate(X) == {"loss": found["loss"]} == fitted.evaluate(X, np.zeros(len(X)))


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_the_threshold_is_the_quantile_of_the_training_scores(share):
    X, _ = correlated()
    fitted = detector(contamination=share).fit(X)
    assert fitted.offset_ == np.percentile(fitted.score_samples(X), 100 * share)
    assert (fitted.predict(X) == -1).mean() == share


def test_the_threshold_comes_from_the_rows_trained_on():
    X, _ = correlated()
    fitted = detector(contamination=0.1).fit(X[:100], validation=X[100:])
    assert fitted.offset_ == np.percentile(fitted.score_samples(X[:100]), 10)


def test_auto_is_tukeys_fence():
    distances = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    assert threshold(-(distances**2), "auto") == -((4 + 1.5 * 2) ** 2)
    far = np.append(distances, 1e6)  # one row, however far out, moves it little
    assert threshold(-(far**2), "auto") > -100
    normal = np.abs(np.random.default_rng(0).normal(size=200_000))
    assert (-(normal**2) < threshold(-(normal**2), "auto")).mean() == pytest.approx(0.0163, abs=0.002)


def test_names_and_signs_are_those_of_the_isolation_forest():
    X, _ = correlated()
    for fitted in (detector(contamination=0.1).fit(X), IsolationForest(contamination=0.1, random_state=0).fit(X)):
        scores, decisions = fitted.score_samples(X), fitted.decision_function(X)
        np.testing.assert_allclose(decisions, scores - fitted.offset_)
        assert np.array_equal(fitted.predict(X), np.where(decisions < 0, -1, 1))
        assert (scores <= 0).all()
        assert (fitted.fit_predict(X) == -1).mean() == 0.1


def test_a_saved_detector_is_the_same_to_the_bit(tmp_path):
    frame = mixed()
    fitted = detector(contamination=0.1).fit(frame)
    back = load(fitted.save(tmp_path / "m"))
    assert back.offset_ == fitted.offset_
    assert np.array_equal(back.score_samples(frame), fitted.score_samples(frame))
    assert np.array_equal(back.predict(frame), fitted.predict(frame))


@pytest.mark.parametrize("offset", [float("nan"), 0.5])
def test_a_damaged_threshold_is_refused(offset):
    fitted = detector(epochs=1).fit(mixed())
    config, tensors = fitted.learned()
    with pytest.raises(DataError, match="threshold of the scores"):
        detector(epochs=1).restore(config | {"offset": offset}, tensors)


def test_the_row_that_is_the_threshold_does_not_change_sides():
    X, _ = correlated(101)
    fitted = detector(contamination=0.1).fit(X)  # of 101 rows the quantile is a row's own score
    alone = np.array([fitted.predict(X[i : i + 1])[0] for i in range(len(X))])
    assert np.array_equal(alone, fitted.predict(X))
    assert (fitted.score_samples(X) == fitted.offset_).any()


def test_the_frame_says_what_and_why():
    X, _ = correlated()
    fitted = detector(epochs=60, clip=None).fit(pd.DataFrame(X, columns=list("abcde")))
    frame = fitted.predict_frame(pd.DataFrame(X, columns=list("abcde")))
    assert list(frame.columns) == ["item", "prediction", "error", "column", "share"]
    assert frame.loc[frame["error"].idxmax(), "column"] == "c"
    assert set(frame["prediction"]) == {-1, 1}


# ------------------------------------------------------------------------------------------------ labels, data, runs


@pytest.mark.parametrize(
    ("y", "label", "expected"),
    [
        ([0, 1, 1], None, [False, True, True]),
        ([0.0, 1.0], None, [False, True]),
        ([True, True], None, [True, True]),
        ([0, 0], None, [False, False]),
        ([1, -1], None, [False, True]),
        ([-1, -1], None, [True, True]),
        (["ok", "fraud"], "fraud", [False, True]),
        ([3.0, 4.0], "4", [False, True]),
        ([[0], [1]], None, [False, True]),
    ],
)
def test_labels_that_can_be_read(y, label, expected):
    assert is_anomaly(y, label, "here").tolist() == expected


@pytest.mark.parametrize(
    ("y", "parts"),
    [
        ([1, 1], ["it holds 1", "outlier_label"]),
        ([-1, 0, 1], ["-1, 0, 1"]),
        (["a", "b"], ["'a', 'b'"]),
        ([0.0, np.nan], ["missing in 1 of 2 rows", "[1]"]),
        ([[0, 1], [1, 0]], ["(2, 2)"]),
    ],
)
def test_labels_that_cannot(y, parts):
    with pytest.raises(DataError) as error:
        is_anomaly(y, None, "here")
    assert all(part in str(error.value) for part in ["here: y", *parts])


def test_a_y_that_is_no_label_is_left_aside_and_the_log_says_so(tmp_path):
    X, _ = correlated()
    fitted = detector(run_dir=str(tmp_path / "run")).fit(X, X[:, 0])
    assert "no measures by labels" in (tmp_path / "run" / "log.txt").read_text()
    assert set(fitted.facts_["scores"]) == {"loss"}
    with pytest.raises(DataError, match="y must be 1 or True for an anomaly"):
        fitted.evaluate(X, X[:, 0])
    with pytest.raises(DataError, match=r"outlier_label=\.\.\. says which"):
        detector().fit(X, pd.Series(X[:, 0], name="what"))
    with pytest.raises(DataError, match="has 200 rows and y has 3"):
        detector().fit(X, [0, 1, 0])


def test_a_column_of_a_file_serves_for_measures_only(tmp_path):
    X, y = correlated()
    frame = pd.DataFrame(X, columns=list("abcde")).assign(what=np.where(y, "bad", "good"))
    frame.to_csv(tmp_path / "t.csv", index=False)
    path = str(tmp_path / "t.csv")
    for stream in ("never", "always"):
        fitted = detector(outlier_label="bad", stream=stream, run_dir=str(tmp_path / stream)).fit(path, "what")
        assert [c.name for c in fitted.schema_.columns] == list("abcde")
        scores = json.loads((tmp_path / stream / "result.json").read_text())["scores"]
        assert scores["roc_auc"] == pytest.approx(fitted.evaluate(path, "what")["roc_auc"], abs=1e-6)
    bare = detector(stream="always").fit(
        frame.drop(columns="what").to_csv(tmp_path / "u.csv", index=False) or str(tmp_path / "u.csv")
    )
    assert bare.offset_ == fitted.offset_


def test_classes_of_a_built_in_set_are_no_labels_unless_one_is_named():
    data = konspekt.data.sets.load("breast-cancer")
    assert set(detector(epochs=1).fit(data).evaluate(data)) == {"loss"}
    assert "roc_auc" in detector(epochs=1, outlier_label="malignant").fit(data).evaluate(data)


def test_a_run_shows_the_errors_and_the_oddest_rows(tmp_path):
    X, y = correlated()
    detector(run_dir=str(tmp_path / "run")).fit(X, y)
    curve = json.loads((tmp_path / "run" / "kept" / "share of the training rows by error.json").read_text())["value"]
    assert set(curve) == {"normal", "anomalies", "threshold"}
    assert sum(curve["normal"][1]) == pytest.approx(1)
    assert sum(curve["anomalies"][1]) == pytest.approx(1)
    table = json.loads((tmp_path / "run" / "kept" / "oddest training rows.json").read_text())["value"]
    assert [row["error"] for row in table] == sorted((row["error"] for row in table), reverse=True)
    with np.load(tmp_path / "run" / "validation.npz") as arrays:
        assert set(arrays.files) == {"index", "loss"}
        first = int(arrays["index"][arrays["loss"].argmax()])
    worst = [i for i in json.loads((tmp_path / "run" / "items" / "items.json").read_text()) if i["role"] == "worst"]
    assert worst[0]["index"] == first == table[0]["item"]
    text = konspekt.report(tmp_path / "run").read_text(encoding="utf-8")
    assert "threshold" in text
    assert "Oddest training rows" in text
    assert "validation.npz" not in text
    assert "Truth → prediction" not in text


def test_early_stopping_watches_the_error_not_the_labels(tmp_path):
    X, y = correlated()
    runs = [detector(epochs=20, patience=2, validation_fraction=0.3, run_dir=str(tmp_path / n)) for n in "ab"]
    one, other = runs[0].fit(X, y), runs[1].fit(X)
    assert one.n_iter_ == other.n_iter_
    assert "val_roc_auc" in next(r for r in read_metrics(tmp_path / "a") if r["kind"] == "epoch")


def test_a_net_of_the_users_own():
    X, _ = correlated()
    net = nn.Sequential(nn.Linear(5, 1), nn.Linear(1, 5))
    assert isinstance(detector(model=net).fit(X).objective_, Reconstruction)
    with pytest.raises(ConfigError, match="must give back"):
        detector(model=nn.Linear(5, 1)).fit(X)


@pytest.mark.parametrize("wrong", [{"contamination": 0.6}, {"contamination": 0}, {"bottleneck": 0}, {"noise": -1.0}])
def test_parameters_out_of_bounds(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        detector(**wrong).fit(correlated()[0])
