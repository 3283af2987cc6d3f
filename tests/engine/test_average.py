"""`ema`: the running average of the weights, against a recursion by hand, and where it stands in for the weights."""

import numpy as np
import pytest
import torch
from torch import nn

import konspekt
from konspekt.core import ConfigError
from konspekt.data.batches import Resident
from konspekt.engine import Objective
from konspekt.engine.average import Average
from konspekt.engine.supervised import Regression
from konspekt.tabular import MLPClassifier


def points(**options):
    draw = torch.Generator().manual_seed(1)
    x, y = torch.randn(12, 3, generator=draw), torch.randn(12, 2, generator=draw)
    return Resident({"x": x, "y": y}, **{"batch_size": 4, "shuffle": True} | options)


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 2))


def copied(module):
    return {n: t.detach().clone() for n, t in module.state_dict().items()}


def recursion(states, decay):
    """The average after each of `states`, of which the first is the start, in 64 bits."""
    mean = {n: t.double() for n, t in states[0].items()}
    means = [mean]
    for t, state in enumerate(states[1:], 1):
        keep = min(decay, (1 + t) / (10 + t))
        mean = {
            n: keep * m + (1 - keep) * state[n] if state[n].is_floating_point() else state[n] for n, m in mean.items()
        }
        means.append(mean)
    return means


@pytest.fixture
def followed(train):
    """`followed(**training)`: objective, run, weights before the first and after each step, weights at each epoch's end."""

    def fit(path=None, model=None, **training):
        objective = Regression(model or net())
        states, ends = [copied(objective)], []

        def look(moment):
            (states if moment.event == "step" else ends).append(copied(moment.objective))

        training = {"epochs": 4, "lr": 0.2} | training
        run = train(objective, points(), path, callbacks=[look], **training)
        return objective, run, states, ends

    return fit


def assert_close(found, expected):
    for name, value in expected.items():
        torch.testing.assert_close(found[name].double(), value.double(), rtol=1e-5, atol=1e-6, msg=name)


class TestClosedForm:
    @pytest.mark.parametrize("decay", [0.15, 0.5, 0.99])  # below all growing ones, amid, above all
    def test_the_saved_weights_are_the_average(self, followed, decay):
        objective, _, states, _ = followed(ema=decay)
        assert len(states) == 13
        means = recursion(states, decay)
        assert_close(objective.state_dict(), means[-1])
        assert not torch.allclose(objective.model[0].weight, states[-1]["model.0.weight"], atol=1e-3)

    def test_the_live_weights_go_on_as_without_it(self, followed):
        _, _, plain, plain_ends = followed(validation=points())
        _, _, states, ends = followed(ema=0.9, validation=points())
        for a, b in zip(plain + plain_ends, states + ends, strict=True):
            assert all(torch.equal(a[n], b[n]) for n in a)

    def test_the_average_is_what_is_measured(self, followed):
        held = points(shuffle=False)
        _, run, states, _ = followed(ema=0.9, validation=held)
        means = recursion(states, 0.9)
        probe = Regression(net()).eval()
        for epoch, record in enumerate(run.history):
            probe.load_state_dict({n: v.to(probe.state_dict()[n].dtype) for n, v in means[3 * (epoch + 1)].items()})
            assert record["val_loss"] == pytest.approx(probe.evaluate(held)["loss"], rel=1e-5)
            probe.load_state_dict(states[3 * (epoch + 1)])
            assert record["val_loss"] != pytest.approx(probe.evaluate(held)["loss"], rel=1e-3)

    def test_with_patience_the_best_epochs_average_comes_back(self, train):
        class Scripted(Regression):
            def evaluate(self, batches):
                self.asked = getattr(self, "asked", -1) + 1
                return {"loss": [3.0, 1, 2, 2, 0][self.asked]}

        objective = Scripted(net())
        states = [copied(objective)]

        def look(moment):
            if moment.event == "step":
                states.append(copied(moment.objective))

        run = train(objective, points(), validation=points(), epochs=5, lr=0.2, ema=0.9, patience=2, callbacks=[look])
        assert len(run.history) == 4
        assert_close(objective.state_dict(), recursion(states[:7], 0.9)[-1])  # of 3 steps each, the second epoch's

    def test_it_follows_the_model_only(self, train):
        class Pair(Objective):
            def __init__(self):
                super().__init__()
                torch.manual_seed(0)
                self.model, self.helper = nn.Linear(3, 2), nn.Linear(3, 2)

            def loss(self, batch, player):
                return {"loss": (self.model(batch["x"]) + self.helper(batch["x"]) - batch["y"]).square().mean()}

        with_average, without = Pair(), Pair()
        train(with_average, points(), ema=0.9)
        train(without, points())
        assert torch.equal(with_average.helper.weight, without.helper.weight)
        assert not torch.equal(with_average.model.weight, without.model.weight)


def test_a_swap_is_its_own_inverse():
    model = net()
    average = Average(model, 0.5)
    before = copied(model)
    with torch.no_grad():
        model[0].weight.add_(1)
    after = copied(model)
    with average.shown():
        assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    assert all(torch.equal(t, after[n]) for n, t in model.state_dict().items())
    with pytest.raises(KeyError), average.shown():
        raise KeyError
    assert torch.equal(model[0].weight, after["0.weight"])


class Tied(nn.Module):
    """Goes there and back by one matrix."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.there, self.back = nn.Linear(3, 3), nn.Linear(3, 3)
        self.back.weight = self.there.weight
        self.out = nn.Linear(3, 2)

    def forward(self, x):
        return self.out(self.back(torch.tanh(self.there(x))))


def test_weights_that_have_two_names(followed):
    plain = followed(model=Tied(), validation=points())
    objective, run, states, ends = followed(model=Tied(), ema=0.9, validation=points())
    for a, b in zip(plain[2] + plain[3], states + ends, strict=True):
        assert all(torch.equal(a[n], b[n]) for n in a)
    assert_close(objective.state_dict(), recursion(states, 0.9)[-1])
    assert objective.model.back.weight is objective.model.there.weight
    assert run.history[-1]["val_loss"] == pytest.approx(objective.evaluate(points())["loss"], rel=1e-5)


@pytest.mark.parametrize("step", [1, 4, 6, 9, 12])
@pytest.mark.parametrize("patience", [None, 3])
def test_resume_after_a_kill_to_the_bit(train, die, killed, bits, tmp_path, step, patience):
    def fit(name, **more):
        objective = Regression(net())
        options = {
            "epochs": 4,
            "lr": 0.1,
            "ema": 0.8,
            "checkpoint_every": 2,
            "validation": points(),
            "patience": patience,
        }
        run = train(objective, points(), tmp_path / name, **options, **more)
        return objective, [h["val_loss"] for h in run.history]

    whole, values = fit("whole")
    killed(lambda: fit("cut", callbacks=[die(step)]))
    resumed, again = fit("cut", resume=True)
    assert bits(resumed) == bits(whole)
    assert again == values
    finished, _ = fit("cut", resume=True)  # nothing is left to do
    assert bits(finished) == bits(whole)


class TestEstimator:
    X = np.random.default_rng(0).normal(size=(60, 3))
    y = np.where(X[:, 0] > 0, "yes", "no")

    def test_it_predicts_saves_and_scores_by_the_average(self, tmp_path):
        fitted = MLPClassifier(
            hidden=(6,), epochs=4, lr=0.05, ema=0.9, validation_fraction=0.3, run_dir=str(tmp_path / "run")
        ).fit(self.X, self.y)
        back = konspekt.load(tmp_path / "run" / "model")
        np.testing.assert_array_equal(back.predict_proba(self.X), fitted.predict_proba(self.X))
        assert fitted.history_[-1]["val_loss"] == pytest.approx(
            fitted.objective_.evaluate(fitted._batches(fitted.encode(*held_out(fitted, self.X, self.y), truth=True)))[
                "loss"
            ],
            rel=1e-5,
        )

    @pytest.mark.parametrize("ema", [0, 1, -0.1, "x"])
    def test_what_is_no_share(self, ema):
        with pytest.raises(
            ConfigError, match=r"MLPClassifier: ema must be a?.*more than 0 and less than 1, or None, got"
        ):
            MLPClassifier(ema=ema).fit(self.X, self.y)


def held_out(fitted, X, y):
    """The items that a fit held out, as its run folder names them."""
    index = np.load(fitted.run_.path / "validation.npz")["index"]
    return X[index], y[index]
