"""What the base of all neural estimators promises beside the contract checks."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import accuracy_score, r2_score

import konspekt
from konspekt import LogisticClassifier, MLPClassifier, MLPRegressor
from konspekt.core import ConfigError, DataError
from konspekt.core.runs import Run
from konspekt.engine import Training, minimise
from konspekt.testing import tiny


def test_class_weights_are_saved_with_the_model(tmp_path):
    X, y = tiny("tabular-classification")
    model = LogisticClassifier(epochs=2, class_weight={"yes": 5.0}).fit(X, y)
    back = konspekt.load(model.save(tmp_path / "model"))
    assert back.evaluate(X, y) == model.evaluate(X, y)
    assert model.evaluate(X, y)["loss"] != LogisticClassifier(epochs=2).fit(X, y).evaluate(X, y)["loss"]


def test_score_takes_the_name_of_the_target(tmp_path):
    X, y = tiny("tabular-classification")
    table = X.assign(answer=y)
    table.to_csv(tmp_path / "table.csv", index=False)
    model = MLPClassifier(epochs=2, hidden=(4,)).fit(X, y)
    weights = np.arange(len(y))
    wanted = accuracy_score(y, model.predict(X))
    assert model.score(X, y) == model.score(table, "answer") == model.score(tmp_path / "table.csv", "answer") == wanted
    assert model.score(X, y, weights) == accuracy_score(y, model.predict(X), sample_weight=weights)
    assert model.score(X, np.full(len(y), "other")) == 0
    regressor = MLPRegressor(epochs=2, hidden=(4,)).fit(X, np.arange(len(X)))
    assert regressor.score(X, np.arange(len(X))) == pytest.approx(r2_score(np.arange(len(X)), regressor.predict(X)))


@pytest.mark.parametrize("fraction", [0.25, np.float32(0.25), np.float64(0.25)])
def test_validation_as_a_fraction(fraction):
    X, y = tiny("tabular-classification")
    assert "val_loss" in MLPClassifier(epochs=1).fit(X, y, validation=fraction).history_[0]


@pytest.mark.parametrize("fraction", [1, 1.0, -0.1, True])
def test_validation_as_no_fraction(fraction):
    X, y = tiny("tabular-classification")
    with pytest.raises(ConfigError, match="validation as a fraction must be at least 0 and less than 1, got"):
        MLPClassifier(epochs=1).fit(X, y, validation=fraction)


def test_held_out_rows_do_not_touch_the_schema():
    X, y = tiny("tabular-classification")
    one = MLPClassifier(epochs=1).fit(X, y, validation=0.25)
    held = sorted(set(range(len(X))) - set(_training_rows(X, y)))
    changed = X.copy()
    changed.loc[held, "a"] += 1000
    other = MLPClassifier(epochs=1).fit(changed, y, validation=0.25)
    assert one.schema_ == other.schema_


def _training_rows(X, y):
    seen = []

    class Spy(MLPClassifier):
        def train(self, splits, run, callbacks):
            seen.extend(splits.train.items.tolist())
            return super().train(splits, run, callbacks)

    Spy(epochs=1).fit(X, y, validation=0.25)
    return seen


def test_load_takes_the_folder_of_a_run_too(tmp_path):
    X, y = tiny("tabular-classification")
    fitted = MLPClassifier(epochs=1, run_dir=str(tmp_path / "run")).fit(X, y)
    assert np.array_equal(konspekt.load(tmp_path / "run").predict_proba(X), fitted.predict_proba(X))


def test_a_finished_run_resumed_is_as_it_was(tmp_path):
    X, y = tiny("tabular-classification")
    run = tmp_path / "run"
    first = MLPClassifier(epochs=3, run_dir=str(run)).fit(X, y)
    again = MLPClassifier(epochs=3).fit(X, y, resume=run)
    assert again.n_iter_ == first.n_iter_ == json.loads((run / "result.json").read_text())["epochs"] == 3
    assert again.history_ == first.history_


@pytest.mark.parametrize(
    "change", [lambda X: X.assign(a=X["a"] + 1), lambda X: X.assign(a=X["a"] * 2), lambda X: X[::-1]]
)
def test_resume_refuses_data_that_only_standardise_to_the_same(tmp_path, change):
    X, y = tiny("tabular-classification")
    MLPClassifier(epochs=1, run_dir=str(tmp_path / "run")).fit(X, y)
    with pytest.raises(DataError, match="begun with other data"):
        MLPClassifier(epochs=2).fit(change(X), y, resume=tmp_path / "run")


def test_a_fit_that_fails_leaves_no_folder(tmp_path):
    with pytest.raises(DataError):
        MLPClassifier(run_dir=str(tmp_path / "run")).fit(pd.DataFrame({"a": [1.0, 2.0]}), ["x", "x"])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("stage", ["two words", "a.b", "", "../up"])
def test_a_stages_name_is_a_folders(stage):
    with pytest.raises(ConfigError, match="stage's name"):
        minimise(torch.nn.Linear(1, 1), None, Training(), run=Run(), stage=stage)


def test_a_damaged_model_that_describes_a_giant_is_refused_before_it_is_built(tmp_path):
    from konspekt.core.folders import json_bytes, read_json, read_tensors, tensor_file, write_folder

    X, y = tiny("tabular-classification")
    folder = MLPClassifier(epochs=1, hidden=(4,)).fit(X, y).save(tmp_path / "model")
    config, tensors = read_json(folder / "config.json"), read_tensors(folder / "weights.safetensors")
    config["params"]["hidden"] = [10**6, 10**6]  # 4 TB
    card = (folder / "card.md").read_bytes()
    files = {"config.json": json_bytes(config), "weights.safetensors": tensor_file(tensors), "card.md": card}
    write_folder(folder, files)
    with pytest.raises(DataError, match="do not fit the model"):
        konspekt.load(folder)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    X, y = tiny("tabular-classification")
    model = MLPClassifier(epochs=1).fit(X, y)
    with torch.no_grad():
        next(model.model_.parameters())[0, 0] = torch.nan
    with pytest.raises(DataError, match=r"NaN or infinite: model\.embeddings\.0\.weight"):
        konspekt.load(model.save(tmp_path / "model"))


class Shared(konspekt.engine.Objective):
    def __init__(self):
        super().__init__()
        self.model = torch.nn.Linear(1, 1)

    def players(self):
        return {"one": [{"params": [self.model.weight]}], "two": [{"params": list(self.model.parameters())}]}


def test_two_players_may_not_share_a_parameter():
    batches = konspekt.data.Resident({"x": torch.zeros(2, 1)})
    with pytest.raises(ConfigError, match=r"players 'one' and 'two' share a parameter of shape \(1, 1\)"):
        minimise(Shared(), batches, Training(), run=Run())


def test_a_fit_that_fails_leaves_the_earlier_one(tmp_path):
    X, y = tiny("tabular-classification")
    model = MLPClassifier(epochs=1).fit(X, y)
    before = model.predict_proba(X)
    with pytest.raises(DataError):
        model.fit(X[["a", "b"]], y[:3])
    assert np.array_equal(model.predict_proba(X), before)


def test_resume_with_fewer_epochs_than_done_is_refused(tmp_path):
    X, y = tiny("tabular-classification")
    MLPClassifier(epochs=3, run_dir=str(tmp_path / "run")).fit(X, y)
    with pytest.raises(ConfigError, match="is in epoch 3 already; epochs=2 cannot be had back"):
        MLPClassifier(epochs=2).fit(X, y, resume=tmp_path / "run")


def test_leading_zeros_of_names_and_labels_are_kept(tmp_path):
    zips = [f"{i % 10:05d}" for i in range(40)]
    table = pd.DataFrame({"zip": zips, "x": np.arange(40.0), "y": [f"00{i % 10 // 5}" for i in range(40)]})
    table.to_csv(tmp_path / "table.csv", index=False)
    given = {"epochs": 40, "lr": 0.02, "types": {"zip": "category"}}
    from_frame = MLPClassifier(**given).fit(table, "y")
    from_file = MLPClassifier(**given).fit(tmp_path / "table.csv", "y")
    assert from_file.classes_.tolist() == ["000", "001"]
    assert from_frame.score(tmp_path / "table.csv", "y") == from_file.score(table, "y") == 1


def test_batch_norm_of_single_items_is_refused():
    with pytest.raises(ConfigError, match="norm='batch' needs batches of several items"):
        MLPClassifier(norm="batch", batch_size=1).fit(*tiny("tabular-classification"))


def test_run_dir_must_be_a_folder():
    with pytest.raises(ConfigError, match="run_dir must name a folder"):
        MLPClassifier(run_dir="").fit(*tiny("tabular-classification"))


class TestWhatANewcomerMeets:
    def test_each_item_a_class_of_its_own_cannot_be_held_out(self):
        X = np.random.default_rng(0).normal(size=(20, 2))
        with pytest.raises(DataError, match="each of the 20 items is the only one of its class"):
            MLPClassifier(validation_fraction=0.2).fit(X, [f"c{i}" for i in range(20)])

    def test_rows_in_messages_are_those_of_the_table_though_some_are_held_out(self):
        frame = pd.DataFrame({"n": ["1", "2"] * 20, "y": ["a", "b"] * 20})
        frame.loc[[4, 30], "n"] = "oops"
        for share in (None, 0.5):
            with pytest.raises(DataError, match=r"not in rows 4 \('oops'\), 30 \('oops'\) \(counted from 0\)"):
                MLPClassifier(types={"n": "number"}, validation_fraction=share).fit(frame, "y")

    def test_a_fit_that_fails_before_its_first_step_leaves_the_folder_free(self, tmp_path):
        X, y = np.random.default_rng(0).normal(size=(20, 2)), np.arange(20) % 2
        with pytest.raises(ConfigError, match=r"model must be a torch\.nn\.Module"):
            MLPClassifier(model="x", run_dir=str(tmp_path / "run")).fit(X, y)
        assert not (tmp_path / "run").exists()
        MLPClassifier(epochs=1, run_dir=str(tmp_path / "run")).fit(X, y)

    def test_and_takes_nothing_that_stood_there_before(self, tmp_path):
        (tmp_path / "kept").mkdir()
        (tmp_path / "kept" / "mine.txt").write_text("mine")
        (tmp_path / "data.json").write_text("mine")
        with pytest.raises(DataError):
            MLPClassifier(run_dir=str(tmp_path)).fit(np.full((4, 2), np.nan), [0, 1, 0, 1])
        assert (tmp_path / "kept" / "mine.txt").read_text() == (tmp_path / "data.json").read_text() == "mine"

    def test_a_finished_run_keeps_its_time_and_says_that_it_is_finished(self, tmp_path):
        X, y = np.random.default_rng(0).normal(size=(20, 2)), np.arange(20) % 2
        run = tmp_path / "run"
        MLPClassifier(epochs=2, run_dir=str(run)).fit(X, y)
        used = json.loads((run / "checkpoint" / "fit-finished" / "state.json").read_text())["used"]
        MLPClassifier(epochs=2).fit(X, y, resume=run)
        assert json.loads((run / "result.json").read_text())["seconds"] > used > 0  # counted on, not anew
        assert (
            "this run was finished already; nothing is trained without more epochs: epochs=N"
            in (run / "log.txt").read_text()
        )

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"resume": True}, "resume must be the run folder to go on with, got True"),
            ({"callbacks": print}, "callbacks must be a list of functions that take a Moment"),
            ({"callbacks": [1]}, r"callbacks must be a list of functions that take a Moment, got \[1\]"),
        ],
    )
    def test_arguments_of_fit(self, given, message):
        with pytest.raises(ConfigError, match=message):
            MLPClassifier().fit(np.eye(4), [0, 1, 0, 1], **given)
