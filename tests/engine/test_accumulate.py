"""`accumulate`: gradients of several batches added up are the gradient of one large batch."""

import numpy as np
import pytest
import torch
from torch import nn

from konspekt.core import ConfigError
from konspekt.core.runs import read_metrics
from konspekt.data.batches import Resident
from konspekt.engine import Objective
from konspekt.engine.supervised import Regression
from konspekt.tabular import MLPClassifier

ITEMS = 77  # 32, 32 and 13: in eights 4 batches, 4 batches, and one of 8 with one of 5


def points(batch_size, items=ITEMS, dtype=torch.float64):
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(items, 3, generator=draw, dtype=dtype)
    y = torch.sin(x @ torch.randn(3, 2, generator=draw, dtype=dtype))
    terms = torch.randint(1, 9, (items,), generator=draw).to(dtype)
    return Resident({"x": x, "y": y, "terms": terms}, batch_size=batch_size, shuffle=True, seed=5)


def net(dtype=torch.float64):
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)).to(dtype)


class Counted(Regression):
    """A mean over as many terms as its items have, which is not their number."""

    def loss(self, batch, player):
        terms = batch["terms"]
        errors = (self.model(batch["x"]) - batch["y"]).square().mean(1)
        return {"loss": (errors * terms).sum() / terms.sum(), "count": terms.sum(), "size": self.mean_size(batch)}

    def mean_size(self, batch):
        return (self.model(batch["x"]).abs().mean(1) * batch["terms"]).sum() / batch["terms"].sum()


class Duel(Objective):
    """Two nets that pull at each other; the second moves at odd steps only."""

    def __init__(self, model):
        super().__init__()
        self.model, self.critic = model, net()

    def players(self):
        return {"d": [{"params": self.critic.parameters()}], "g": [{"params": self.model.parameters()}]}

    def turns(self, step):
        return ("d", "g") if step % 2 else ("d",)

    def loss(self, batch, player):
        gap = self.critic(batch["x"]) - self.model(batch["x"])
        return {"loss": (gap - batch["y"]).square().mean() if player == "d" else gap.square().mean()}


def flat(objective):
    return torch.cat([p.detach().ravel() for p in objective.parameters()])


def apart(one, other):
    """How far two objectives' weights are apart, relative to their size."""
    return float((flat(one) - flat(other)).norm() / flat(one).norm())


CASES = {
    "sgd": {},
    "adam": {"optimizer": "adam", "lr": 0.01},
    "momentum": {"optimizer": "momentum", "lr": 0.05},
    "penalties": {"l1": 0.01, "l2": 0.02, "weight_decay": 0.1},
    "clip_norm": {"clip_norm": 0.05},
    "clip_value": {"clip_value": 0.01},
    "schedule": {"schedule": "one-cycle", "warmup": 2},
}


class TestAsOneLargeBatch:
    @pytest.mark.parametrize("made", [Regression, Counted, Duel])
    @pytest.mark.parametrize("name", CASES)
    def test_the_same_weights(self, train, made, name):
        large, small = made(net()), made(net())
        whole = train(large, points(32), epochs=4, **CASES[name])
        parts = train(small, points(8), epochs=4, accumulate=4, **CASES[name])
        assert apart(large, small) < 1e-12
        assert apart(large, made(net())) > 1e-3  # they have moved
        assert [h["step"] for h in parts.history] == [h["step"] for h in whole.history] == [3, 6, 9, 12]
        for a, b in zip(whole.history, parts.history, strict=True):
            for key in {"loss", "loss_g", "size", "lr", "grad_norm"} & set(a):
                assert b[key] == pytest.approx(a[key], rel=1e-10), key

    def test_in_32_bits(self, train):
        large, small = Regression(net(torch.float32)), Regression(net(torch.float32))
        train(large, points(32, dtype=torch.float32), epochs=5)
        train(small, points(8, dtype=torch.float32), epochs=5, accumulate=4)
        assert 0 < apart(large, small) < 1e-6

    def test_more_than_there_are(self, train):
        large, small = Regression(net()), Regression(net())
        train(large, points(None), epochs=3)
        run = train(small, points(8), epochs=3, accumulate=50)
        assert run.history[-1]["step"] == 3
        assert apart(large, small) < 1e-12

    def test_a_last_batch_of_one_that_joined_another(self, train):
        large, small = Regression(net()), Regression(net())  # 32 and 33; seven eights and a nine
        train(large, points(32, items=65), epochs=3)
        train(small, points(8, items=65), epochs=3, accumulate=4)
        assert apart(large, small) < 1e-12

    def test_by_an_optimiser_that_asks_several_times(self, plugin, train):
        large, small = Regression(net()), Regression(net())
        train(large, points(32), optimizer="toy-repeat(times=3)")
        plugin.seen.clear()
        train(small, points(8), optimizer="toy-repeat(times=3)", accumulate=4)
        assert apart(large, small) < 1e-12
        assert all(len(s) == 3 and len(set(s)) == 1 for s in plugin.seen)

    def test_every_question_of_a_step_sees_the_same_random_numbers(self, plugin, train):
        dropping = Regression(nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 2)).double())
        plugin.seen.clear()
        train(dropping, points(8), optimizer="toy-repeat(times=3)", accumulate=4)
        assert len(plugin.seen) == 6
        assert all(len(set(s)) == 1 for s in plugin.seen)
        assert len({s[0] for s in plugin.seen}) == 6

    def test_of_an_estimator(self):
        rng = np.random.default_rng(0)
        X = rng.normal(size=(77, 3))
        y = np.where(X[:, 0] + X[:, 1] ** 2 > 0.5, "yes", "no")
        given = {"epochs": 3, "hidden": (8,), "class_weight": "balanced"}
        large = MLPClassifier(batch_size=32, **given).fit(X, y)
        small = MLPClassifier(batch_size=8, accumulate=4, **given).fit(X, y)
        np.testing.assert_allclose(small.predict_proba(X), large.predict_proba(X), rtol=1e-5)
        assert small.history_[-1]["loss"] == pytest.approx(large.history_[-1]["loss"], rel=1e-6)


@pytest.mark.parametrize("step", [1, 3, 4, 7])
@pytest.mark.parametrize("optimizer", ["adam", "momentum"])
def test_resume_after_a_kill_to_the_bit(train, die, killed, bits, tmp_path, step, optimizer):
    def fit(name, **more):
        torch.manual_seed(3)
        objective = Regression(nn.Sequential(net(), nn.Dropout(0.3)))
        options = {"epochs": 3, "accumulate": 4, "optimizer": optimizer, "lr": 0.05, "checkpoint_every": 2}
        train(objective, points(8), tmp_path / name, **options, **more)
        return objective

    whole = fit("whole")
    killed(lambda: fit("cut", callbacks=[die(step)]))
    assert bits(fit("cut", resume=True)) == bits(whole)
    kinds = [[(r["kind"], r["step"]) for r in read_metrics(tmp_path / n)] for n in ("whole", "cut")]
    assert kinds[0] == kinds[1] == [("epoch", 3), ("epoch", 6), ("epoch", 9), ("stage", 9)]


def test_what_batch_normalisation_sees_is_said(train, tmp_path):
    def log(name, model, **training):
        train(Regression(model.double()), points(8), tmp_path / name, epochs=1, **training)
        return (tmp_path / name / "log.txt").read_text() if (tmp_path / name / "log.txt").exists() else ""

    normed = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    said = "batch statistics are those of each batch that is accumulated, not of the whole step's items (model.1, ...)"
    assert said in log("normed", normed, accumulate=4)
    assert "batch statistics" not in log("plain", net(), accumulate=4)
    assert "batch statistics" not in log("large", normed)


@pytest.mark.parametrize("optimizer", ["newton", "natural-gradient"])
def test_what_asks_for_more_than_a_gradient_is_refused(optimizer):
    X = np.random.default_rng(0).normal(size=(20, 2))
    with pytest.raises(ConfigError, match=r"asks for more than a gradient.* leave accumulate=1"):
        MLPClassifier(optimizer=optimizer, accumulate=2, batch_size=5, hidden=(2,)).fit(X, X[:, 0] > 0)
