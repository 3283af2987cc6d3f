"""`lr="find"`: the range test, what it picks, and that training then goes as if the rate had been given."""

import json
import math
import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from konspekt.core import ConfigError, runs
from konspekt.core.errors import InterruptedFit
from konspekt.core.runs import read_config
from konspekt.data.batches import Resident
from konspekt.engine import Objective, budget, forecast, loop, resuming, trials
from konspekt.engine.range_test import range_test, rates
from konspekt.engine.supervised import Regression
from konspekt.tabular import MLPClassifier


def points(**options):
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(48, 3, generator=draw)
    y = x @ torch.tensor([[1.0, 0.5], [-1.0, 2.0], [0.0, 1.0]]) + 0.1 * torch.randn(48, 2, generator=draw)
    return Resident({"x": x, "y": y}, **{"batch_size": 8, "shuffle": True, "seed": 3} | options)


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))


class TestRates:
    def test_each_the_same_factor_above_the_one_before(self):
        tried = rates()
        assert len(tried) == 100
        assert (tried[0], tried[-1]) == (1e-7, pytest.approx(10))
        np.testing.assert_allclose(np.diff(np.log(tried)), math.log(1e8) / 99, rtol=1e-9)

    def test_the_steepest_fall_of_the_smoothed_loss(self):
        """The loss falls as a logistic curve of log(rate), whose middle is its steepest place."""
        tried = rates(1e-6, 1.0, 200)
        middle = 1e-3
        found = range_test(lambda r: 1 / (1 + (r / middle) ** 2) + (r > 0.3) * 100, tried)
        assert middle / 3 < found.lr < middle * 6  # the running mean lags behind
        assert found.rates == tried[: len(found.rates)]

    def test_the_smoothed_loss_is_a_mean_with_known_weights(self):
        values = [1.0 - 0.01 * i for i in range(40)]
        given = iter(values)
        found = range_test(lambda r: next(given), rates(steps=40))
        for count, loss in enumerate(found.losses, 1):
            weights = np.array([0.9 ** (count - 1 - i) for i in range(count)])
            assert loss == pytest.approx(np.average(values[:count], weights=weights), rel=1e-9)

    def test_it_ends_where_the_loss_is_far_above_its_least_or_not_finite(self):
        asked = []

        def step(rate):
            asked.append(rate)
            return 1 - 0.01 * len(asked) if len(asked) < 50 else 1000.0

        found = range_test(step, rates())
        assert len(asked) == len(found.rates) == 50
        asked.clear()
        found = range_test(lambda r: math.nan if step(r) == 1000.0 else 1 - 0.01 * len(asked), rates())
        assert len(asked) == 50
        assert len(found.rates) == 49

    def test_a_first_loss_that_is_small_by_chance_is_not_the_least(self):
        given = iter([0.01] + [1.0] * 49 + [1.0 - 0.01 * i for i in range(50)])
        found = range_test(lambda r: next(given), rates())
        assert found.lr > rates()[45]

    @pytest.mark.parametrize("seed", range(20))
    def test_what_falls_by_chance_is_not_taken_for_a_fall(self, seed):
        """Losses that differ from batch to batch by as much as training gains in the end."""
        rng = np.random.default_rng(seed)
        found = range_test(lambda r: 1.5 - 1 / (1 + (0.03 / r) ** 2) + (r > 3) * 50 + 0.3 * rng.normal(), rates())
        assert 3e-3 < found.lr < 3

    @pytest.mark.parametrize("values", [lambda i: 1.0, lambda i: 1.0 + i, lambda i: math.nan])
    def test_a_loss_that_never_falls_recommends_nothing(self, values):
        counter = iter(range(1000))
        assert range_test(lambda r: values(next(counter)), rates()) is None


class Quadratic(Objective):
    """w' A w / 2 with the greatest eigenvalue `stiff`; gradient descent is stable below 2 / stiff."""

    def __init__(self, stiff):
        super().__init__()
        self.model = nn.Linear(3, 1, bias=False)
        with torch.no_grad():
            self.model.weight.fill_(1.0)
        self.slopes = torch.tensor([stiff, stiff / 3, stiff / 10])

    def forward(self, batch):
        return {"prediction": self.model(batch["x"])}

    def loss(self, batch, player):
        return {"loss": (self.slopes * self.model.weight[0] ** 2).sum() / 2}


@pytest.mark.parametrize("stiff", [0.5, 4.0, 100.0, 3000.0])
def test_on_a_quadratic_it_is_below_the_limit_of_stability(train, stiff, tmp_path):
    objective = Quadratic(stiff)
    run = train(objective, points(), tmp_path / "run", lr="find", epochs=20)
    found = run.chosen["fit.lr"]
    assert 2 / stiff / 200 < found < 2 / stiff
    assert run.history[-1]["loss"] < run.history[0]["loss"]


class TestAsIfGiven:
    @pytest.mark.parametrize(
        "training",
        [
            {},
            {"optimizer": "adam", "ema": 0.9, "running_risk": 0.1},
            {"schedule": "one-cycle"},
            {"schedule": "cosine", "warmup": 3, "optimizer": "momentum", "weight_decay": 0.1},
            {"accumulate": 2, "optimizer": "adam"},
            {"validation": True, "patience": 2, "schedule": "plateau(patience=0)"},
        ],
        ids=str,
    )
    def test_the_same_bytes_and_records(self, train, bits, training):
        finding, given = Regression(net()), Regression(net())
        training = training | {"validation": points() if training.get("validation") else None}
        run = train(finding, points(), lr="find", epochs=3, **training)
        found = run.chosen["fit.lr"]
        again = train(given, points(), lr=found, epochs=3, **training)
        assert bits(finding) == bits(given)
        timeless = [[{k: v for k, v in h.items() if "seconds" not in k} for h in r.history] for r in (run, again)]
        assert timeless[0] == timeless[1]
        if "schedule" not in training:
            assert again.history[0]["lr"] == found

    def test_of_an_objective_with_a_state_and_two_players(self, train, bits):
        class Duel(Objective):
            def __init__(self):
                super().__init__()
                torch.manual_seed(3)
                self.model, self.critic = nn.Linear(3, 2), nn.Linear(3, 2)
                self.memory, self.epochs = torch.zeros(2), []

            def players(self):
                return {"d": [{"params": self.critic.parameters()}], "g": [{"params": self.model.parameters()}]}

            def start_epoch(self, epoch, batches):
                self.memory = self.memory + 1

            def after_step(self, step, player):
                self.memory = 0.9 * self.memory + self.model.bias

            def state(self):
                return {"memory": self.memory}

            def load_state(self, state):
                self.memory = state["memory"]

            def loss(self, batch, player):
                gap = self.critic(batch["x"]) - self.model(batch["x"]) + 0.01 * self.memory
                return {"loss": (gap - batch["y"]).square().mean() if player == "d" else gap.square().mean()}

        finding, given = Duel(), Duel()
        run = train(finding, points(), lr="find")
        train(given, points(), lr=run.chosen["fit.lr"])
        assert bits(finding) == bits(given)
        assert torch.equal(finding.memory, given.memory)

    def test_where_nothing_is_read_inside_a_step(self, train, bits, monkeypatch):
        """As on a GPU: what was not finite while a rate was looked for is forgotten."""
        init = loop.Loop.__init__

        def patched(self, *args):
            init(self, *args)
            self.deferred = True

        monkeypatch.setattr(loop.Loop, "__init__", patched)
        seen = []

        class Exploding(Regression):
            """Not finite as soon as the weights are far."""

            def loss(self, batch, player):
                out = super().loss(batch, player)
                seen.append(bool(self.model[0].weight.detach().norm() > 3))
                return {"loss": out["loss"] * math.inf} if seen[-1] else out

        finding, given = Exploding(net()), Exploding(net())
        run = train(finding, points(), lr="find")
        assert any(seen)
        train(given, points(), lr=run.chosen["fit.lr"])
        assert bits(finding) == bits(given)


class TestKept:
    def fit(self, path, **more):
        given = {"hidden": (6,), "epochs": 3, "batch_size": 8, "lr": "find", "checkpoint_every": 2, "dropout": 0.2}
        rng = np.random.default_rng(0)
        X = rng.normal(size=(48, 3))
        callbacks, resume = more.pop("callbacks", ()), more.pop("resume", None)
        estimator = MLPClassifier(run_dir=str(path), **given | more)
        return estimator.fit(X, np.where(X[:, 0] > 0, "yes", "no"), callbacks=callbacks, resume=resume)

    def test_curve_rate_and_log(self, tmp_path):
        fitted = self.fit(tmp_path / "run")
        found = json.loads((tmp_path / "run" / "chosen.json").read_text())["fit.lr"]
        assert found == fitted.run_.chosen["fit.lr"] == fitted.history_[0]["lr"]
        kept = json.loads((tmp_path / "run" / "kept" / "learning-rate range test.json").read_text())
        assert kept["kind"] == "curve"
        tried, losses = kept["value"]["loss"]
        assert len(tried) == len(losses) > 20
        assert tried == rates()[: len(tried)]
        ([taken], [height]) = kept["value"]["taken"]
        assert taken == found
        assert losses[tried.index(found)] == height
        log = (tmp_path / "run" / "log.txt").read_text()
        assert f"learning rate found by a range test of {len(tried)} steps: {found:.3g}" in log
        assert read_config(tmp_path / "run")["params"]["lr"] == "find"
        assert fitted.lr == "find"  # a parameter is not changed by a fit

    def test_the_rest_is_as_with_that_rate(self, tmp_path, model_bytes):
        fitted = self.fit(tmp_path / "found")
        self.fit(tmp_path / "given", lr=fitted.run_.chosen["fit.lr"])
        assert model_bytes(tmp_path / "found") == model_bytes(tmp_path / "given")

    def test_a_resumed_run_does_not_look_again(self, killed, die, tmp_path, monkeypatch, model_bytes):
        self.fit(tmp_path / "whole")
        killed(lambda: self.fit(tmp_path / "cut", callbacks=[die(9)]))
        before = (tmp_path / "cut" / "chosen.json").read_bytes()

        def never(self):
            raise AssertionError("it looked again")

        monkeypatch.setattr(trials, "_find_rate", never)
        self.fit(tmp_path / "cut", resume=tmp_path / "cut")
        assert (tmp_path / "cut" / "chosen.json").read_bytes() == before
        assert model_bytes(tmp_path / "cut") == model_bytes(tmp_path / "whole")

    def test_killed_before_it_was_found_it_looks_anew(self, killed, tmp_path, monkeypatch, model_bytes):
        self.fit(tmp_path / "whole")

        def dying():
            step = loop.Loop.turn

            def some(loop_, count=[0]):  # noqa: B006
                count[0] += 1
                if count[0] == 30:
                    os.kill(os.getpid(), signal.SIGKILL)
                step(loop_)

            loop.Loop.turn = some
            self.fit(tmp_path / "cut")

        killed(dying)
        assert not (tmp_path / "cut" / "chosen.json").exists()
        self.fit(tmp_path / "cut", resume=tmp_path / "cut")
        assert model_bytes(tmp_path / "cut") == model_bytes(tmp_path / "whole")


class TestRefused:
    def test_a_loss_that_falls_at_no_rate(self, train):
        class Flat(Regression):
            def loss(self, batch, player):
                return {"loss": 1.0 + 0.0 * self.model(batch["x"]).mean()}

        with pytest.raises(
            ConfigError, match=r"lr='find': the loss fell at no rate between 1e-7 and 10, .* give lr a number"
        ):
            train(Flat(nn.Linear(3, 2)), points(), lr="find")

    def test_data_that_are_not_finite(self, train):
        batches = points()
        batches.fields["x"][:, 1] = math.nan
        with pytest.raises(ConfigError, match=r"lr='find': the loss fell at no rate.* look at the data and the net"):
            train(Regression(nn.Linear(3, 2)), batches, lr="find")

    def test_time_that_is_over_before(self, train, monkeypatch):
        clock = SimpleNamespace(now=0.0, perf_counter=lambda: clock.now)
        for module in (budget, forecast, loop, resuming, runs, trials):
            monkeypatch.setattr(module, "time", clock)

        class Slow(Regression):
            asked = 0

            def loss(self, batch, player):
                self.asked += 1
                clock.now += 1.0
                return super().loss(batch, player)

        objective = Slow(net())
        message = "lr='find': max_time=30 was over before a rate was found; give lr a number, or more time"
        with pytest.raises(ConfigError, match=message):
            train(objective, points(), lr="find", max_time=30)
        assert objective.asked == 29
        run = train(Slow(net()), points(), lr="find", max_time=300, epochs=100)
        assert run.history[-1]["step"] > 100

    def test_ctrl_c_while_it_looks(self, train, tmp_path, bits):
        pressed = []

        class Pressing(Regression):
            def loss(self, batch, player):
                if not pressed:
                    pressed.append(True)
                    os.kill(os.getpid(), signal.SIGINT)
                return super().loss(batch, player)

        with pytest.raises(InterruptedFit, match=r"stopped by Ctrl-C .*go on with: konspekt resume"):
            train(Pressing(net()), points(), tmp_path / "run", lr="find")
        resumed, whole = Pressing(net()), Pressing(net())
        train(resumed, points(), tmp_path / "run", lr="find", resume=True)
        train(whole, points(), lr="find")
        assert bits(resumed) == bits(whole)
