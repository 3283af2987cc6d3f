"""Sequences of different lengths, by an estimator that a package from outside registers."""

import numpy as np
import pytest
import torch

import konspekt
from konspekt.core import ConfigError, DataError, entries
from konspekt.data.batches import Resident


def sequences(items=60):
    """Lists of 1 to 12 numbers; the class is whether the small ones prevail."""
    rng = np.random.default_rng(0)
    X = [rng.integers(0, 9, size=rng.integers(1, 13)).tolist() for _ in range(items)]
    return X, ["small" if np.mean(x) < 4 else "large" for x in X]


@pytest.fixture
def made(plugin):
    def make(path=None, cls=plugin.BagClassifier, **params):
        given = {"epochs": 12, "batch_size": 8, "lr": 0.05, "validation_fraction": 0.2, "checkpoint_every": 3}
        return cls(run_dir=path and str(path), **given | params)

    return make


def test_it_is_registered_by_its_entry_point(plugin):
    found = {e.name: e for e in entries() if e.module == "konspekt_toys"}
    assert set(found) == {"toy-bag", "toy-pieces", "toy-repeat"}
    assert found["toy-bag"].load() is plugin.BagClassifier


def test_save_load_predict_to_the_bit(made, tmp_path):
    X, y = sequences()
    fitted = made().fit(X, y)
    assert fitted.score(X, y) > 0.85
    back = konspekt.load(fitted.save(tmp_path / "model"))
    assert type(back) is type(fitted)
    np.testing.assert_array_equal(back.predict_proba(X), fitted.predict_proba(X))
    assert back.predict(X[:3]).tolist() == fitted.predict(X[:3]).tolist()
    assert back.evaluate(X, y) == fitted.evaluate(X, y)


def test_its_batches_are_padded_and_of_similar_length(made, monkeypatch):
    shapes, take = [], Resident.take

    def seen(self, index):
        batch = take(self, index)
        if self.shuffle:
            shapes.append(batch["x"].shape)
            lengths = self.fields["x"].lengths[index]
            assert batch["x_mask"].sum(1).equal(lengths)
            assert batch["x"].shape == (len(index), int(lengths.max()))
        return batch

    monkeypatch.setattr(Resident, "take", seen)
    X, y = sequences()
    made(epochs=3).fit(X, y)
    assert len(shapes) == 3 * 6
    places = sum(b * length for b, length in shapes) / 3
    used = sum(map(len, X)) * 0.8
    assert places < 1.35 * used  # in random batches it is about twice as many


def test_one_item_does_not_depend_on_its_batch(made):
    X, y = sequences()
    fitted = made(epochs=2).fit(X, y)
    alone = np.concatenate([fitted.predict_proba([x]) for x in X[:10]])
    np.testing.assert_allclose(alone, fitted.predict_proba(X)[:10], rtol=1e-5)


def test_the_objective_may_have_the_pieces_instead(made, plugin, tmp_path):
    X, y = sequences()
    fitted = made(tmp_path / "run", cls=plugin.PiecesClassifier).fit(X, y)
    assert fitted.score(X, y) > 0.85
    assert fitted.evaluate(X, y)["accuracy"] == fitted.score(X, y)
    back = konspekt.load(tmp_path / "run" / "model")
    np.testing.assert_array_equal(back.predict_proba(X), fitted.predict_proba(X))
    padded = made(epochs=1).fit(X, y)
    padded.objective_.load_state_dict(fitted.objective_.state_dict())
    np.testing.assert_allclose(padded.predict_proba(X), fitted.predict_proba(X), rtol=1e-5)


@pytest.mark.parametrize("step", [2, 17, 40])
def test_resume_after_a_kill_to_the_bit(made, killed, die, tmp_path, model_bytes, step):
    X, y = sequences()
    whole = made(tmp_path / "whole").fit(X, y)
    killed(lambda: made(tmp_path / "cut").fit(X, y, callbacks=[die(step)]))
    resumed = made(tmp_path / "cut").fit(X, y, resume=tmp_path / "cut")
    assert model_bytes(tmp_path / "cut") == model_bytes(tmp_path / "whole")
    assert [h["val_loss"] for h in resumed.history_] == [h["val_loss"] for h in whole.history_]
    other = [x[::-1] for x in X]
    with pytest.raises(DataError, match="was begun with other data"):
        made(tmp_path / "cut").fit(other, y, resume=tmp_path / "cut")


def test_without_the_package_its_model_is_not_read(made, tmp_path, monkeypatch):
    X, y = sequences()
    folder = made(epochs=1).fit(X, y).save(tmp_path / "model")
    monkeypatch.setattr("konspekt.core.registry.entries", lambda: ())
    with pytest.raises(DataError, match=r"config\.json: 'toy-bag' is not a registered estimator"):
        konspekt.load(folder)


def test_another_seed_draws_other_weights(made):
    X, y = sequences()
    weights = [made(epochs=1, random_state=s).fit(X, y).model_.out.weight.detach() for s in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    with pytest.raises(ConfigError, match="BagClassifier: lr must be"):
        made(lr=0).fit(X, y)
