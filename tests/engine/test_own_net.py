"""`model=`: a net of the user's own in the place of what an estimator would build; and the choice of a device."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

import konspekt
from konspekt.core import ConfigError, DataError
from konspekt.core.runs import read_config
from konspekt.engine.session import choose_device
from konspekt.tabular import MLPClassifier, MLPRegressor
from konspekt.vision import ImageClassifier

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
Y = np.where(X[:, 0] > 0, "yes", "no")
NUMBERS = X[:, 0] * 2 + X[:, 1]


def net(outputs=2, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Dropout(0.1), nn.Linear(6, outputs))


def classifier(model=None, **given):
    return MLPClassifier(model=model, **{"epochs": 4, "lr": 0.05, "batch_size": 10} | given)


class TestFit:
    def test_it_is_copied_trained_and_used(self):
        own = net()
        before = {n: t.clone() for n, t in own.state_dict().items()}
        fitted = classifier(own, epochs=30).fit(X, Y)
        assert fitted.score(X, Y) > 0.9
        assert all(torch.equal(t, before[n]) for n, t in own.state_dict().items())
        assert own.training
        assert fitted.model is own
        assert fitted.model_ is not own
        assert fitted.model_.state_dict().keys() == own.state_dict().keys()
        inputs = fitted.encode(X).fields["x"].double()
        logits = fitted.model_.double()(inputs).detach()
        fitted.model_.float()
        np.testing.assert_allclose(fitted.predict_proba(X), torch.softmax(logits, 1).numpy(), rtol=1e-6)

    def test_it_begins_with_the_weights_that_it_has(self):
        one = classifier(net(seed=1), lr=1e-12, epochs=1).fit(X, Y)
        torch.testing.assert_close(one.model_[0].weight.data, net(seed=1)[0].weight.data)

    def test_twice_the_same_and_a_trial_that_changes_nothing(self, bits):
        normed = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.3), nn.Linear(6, 2))
        one, other = classifier(normed).fit(X, Y), classifier(normed).fit(X, Y)
        assert bits(one.model_) == bits(other.model_)
        assert int(one.model_[1].num_batches_tracked) == 24  # 6 batches in each of 4 epochs, and no more

    def test_regression_and_images(self):
        fitted = MLPRegressor(model=net(1), epochs=40, lr=0.05, batch_size=10).fit(X, NUMBERS)
        assert fitted.score(X, NUMBERS) > 0.8
        pictures = RNG.integers(0, 255, size=(20, 6, 6)).astype(np.uint8)
        small = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(32, 2))
        seen = ImageClassifier(model=small, epochs=1).fit(pictures, np.arange(20) % 2)
        assert seen.predict(pictures).shape == (20,)
        assert seen.model_[1].state_dict().keys() == small.state_dict().keys()

    def test_a_clone_shares_nothing(self):
        own = net()
        original = classifier(own)
        copy = clone(original)
        assert copy.model is not own
        assert repr(copy.model) == repr(own)
        with torch.no_grad():
            copy.model[0].weight.fill_(7)
        assert not torch.equal(own[0].weight, copy.model[0].weight)
        fitted = original.fit(X, Y)
        again = clone(fitted)
        assert not hasattr(again, "objective_")

    def test_frozen_parts_stay(self):
        own = net()
        own[0].requires_grad_(False)
        fitted = classifier(own).fit(X, Y)
        assert torch.equal(fitted.model_[0].weight, own[0].weight)
        assert not torch.equal(fitted.model_[3].weight, own[3].weight)

    def test_layers_whose_size_the_data_decide(self, tmp_path):
        lazy = nn.Sequential(nn.LazyLinear(6), nn.ReLU(), nn.LazyLinear(2))
        fitted = classifier(lazy).fit(X, Y)
        assert fitted.model_[0].weight.shape == (6, 4)
        assert nn.parameter.is_lazy(lazy[0].weight)
        folder = fitted.save(tmp_path / "model")
        back = konspekt.load(folder, model=nn.Sequential(nn.LazyLinear(6), nn.ReLU(), nn.LazyLinear(2)))
        np.testing.assert_array_equal(back.predict_proba(X), fitted.predict_proba(X))


class TestWrong:
    def test_outputs_that_are_not_one_a_class(self):
        with pytest.raises(ConfigError) as error:
            classifier(net(3)).fit(X, Y)
        message = str(error.value)
        assert message.startswith("MLPClassifier: model=<Sequential( (0): Linear(in_features=4, out_features=6")
        assert "must give logits (items, 2), a number for each class; got (10, 3)" in message

    def test_predictions_that_are_not_one_a_target(self):
        with pytest.raises(
            ConfigError, match=r"must give predictions \(items, 1\), a number for each target; got \(32, 2\)"
        ):
            MLPRegressor(model=net(2), epochs=1).fit(X, NUMBERS)

    def test_inputs_that_it_does_not_take(self):
        with pytest.raises(
            ConfigError, match=r"fails on a batch of .*x \(10, 4\) torch.float32.*: RuntimeError: mat1 and mat2"
        ):
            classifier(nn.Linear(5, 2)).fit(X, Y)

    def test_outputs_that_are_no_tensor(self):
        class Pair(nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = nn.Linear(4, 2)

            def forward(self, x):
                return self.inner(x), 1

        with pytest.raises(ConfigError, match=r"model=<Pair.* fails on a batch of"):
            classifier(Pair()).fit(X, Y)

    def test_one_number_for_all_items(self):
        class Flat(nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = nn.Linear(4, 1)

            def forward(self, x):
                return self.inner(x)[:, 0]

        with pytest.raises(ConfigError, match="Flat"):
            MLPRegressor(model=Flat(), epochs=1).fit(X, NUMBERS)

    def test_what_is_no_net(self):
        with pytest.raises(
            ConfigError, match=r"MLPClassifier: model must be a torch\.nn\.Module or None, got 'resnet'"
        ):
            classifier("resnet").fit(X, Y)

    def test_a_net_without_parameters(self):
        with pytest.raises(ConfigError, match="player 'model' has no parameter that it may move"):
            classifier(nn.Sequential(nn.Flatten(), nn.Unflatten(1, (2, 2)), nn.Flatten(1), nn.AvgPool1d(2))).fit(X, Y)


class TestSaved:
    @pytest.fixture
    def saved(self, tmp_path):
        fitted = classifier(net(), run_dir=str(tmp_path / "run")).fit(X, Y)
        return fitted, tmp_path / "run" / "model"

    def test_with_the_net_it_comes_back(self, saved):
        fitted, folder = saved
        other = net(seed=5)
        before = other[0].weight.detach().clone()
        back = konspekt.load(folder, model=other)
        np.testing.assert_array_equal(back.predict_proba(X), fitted.predict_proba(X))
        assert torch.equal(other[0].weight, before)
        assert back.save(folder.parent / "again").is_dir()

    def test_without_it_the_message_says_what_is_missing(self, saved):
        _, folder = saved
        with pytest.raises(ConfigError) as error:
            konspekt.load(folder)
        message = str(error.value)
        assert "was fitted with a net of the user's own, <Sequential( (0): Linear(in_features=4" in message
        assert message.endswith(f"konspekt.load({str(folder)!r}, model=net)")

    def test_with_another_net(self, saved):
        _, folder = saved
        with pytest.raises(DataError, match=r"the weights do not fit the model.*0\.weight \(6, 4\)"):
            konspekt.load(folder, model=nn.Sequential(nn.Linear(4, 7), nn.Tanh(), nn.Dropout(0.1), nn.Linear(7, 2)))

    def test_one_that_is_not_wanted(self, tmp_path):
        folder = classifier(hidden=(3,), epochs=1).fit(X, Y).save(tmp_path / "model")
        with pytest.raises(ConfigError, match="this model has konspekt's own net: leave model= out"):
            konspekt.load(folder, model=net())

    def test_the_run_says_which_and_resume_compares(self, saved, tmp_path):
        _, folder = saved
        run = folder.parent
        assert read_config(run)["params"]["model"].startswith("<Sequential( (0): Linear(in_features=4, out_features=6")
        more = classifier(net(), run_dir=str(run), epochs=6).fit(X, Y, resume=run)
        whole = classifier(net(), epochs=6).fit(X, Y)
        np.testing.assert_array_equal(more.predict_proba(X), whole.predict_proba(X))
        wider = nn.Sequential(nn.Linear(4, 9), nn.Tanh(), nn.Dropout(0.1), nn.Linear(9, 2))
        with pytest.raises(
            ConfigError, match=r"cannot be resumed with other parameters than .*: model was .*out_features=6.*is "
        ):
            classifier(wider, run_dir=str(run), epochs=8).fit(X, Y, resume=run)
        with pytest.raises(ConfigError, match=r"model was .* is None"):
            classifier(run_dir=str(run), epochs=8).fit(X, Y, resume=run)


class TestDevice:
    def test_one_that_is_not_here(self, monkeypatch):
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        with pytest.raises(ConfigError) as error:
            MLPClassifier(device="mps").fit(X, Y)
        assert str(error.value) == "device='mps': this machine has no Apple GPU that torch can use; use 'cpu'"
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
        for name in ("cuda", "cuda:1"):
            with pytest.raises(ConfigError, match=f"device='{name}': this machine has 0 CUDA devices; use 'cpu'"):
                choose_device(name)

    @pytest.mark.parametrize("name", ["tpu", "meta", "", "cuda:x", "xpu"])
    def test_another_name_lists_them(self, name):
        with pytest.raises(ConfigError, match=f"device must be auto, cpu, cuda, cuda:N or mps, got '{name}'"):
            choose_device(name)

    def test_auto_takes_the_best_there_is(self, monkeypatch):
        for cuda, apple, taken in ((True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")):
            monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
            monkeypatch.setattr(torch.backends.mps, "is_available", lambda apple=apple: apple)
            assert choose_device("auto").type == taken
