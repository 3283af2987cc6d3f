"""The forecast of a fit: what it counts, that it leaves no trace, and what stands beside it afterwards."""

import json
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from torch import nn

from konspekt.core import ConfigError, DataError, runs
from konspekt.engine import forecast, loop, neural, record, trials
from konspekt.engine.supervised import Classification
from konspekt.tabular import MLPClassifier

ITEMS, FEATURES, HIDDEN, CLASSES, BATCH = 50, 4, 20, 3, 8
X = np.random.default_rng(0).normal(size=(ITEMS, FEATURES)).astype(np.float32)
Y = np.arange(ITEMS) % CLASSES


def estimator(**given):
    return MLPClassifier(**{"hidden": (HIDDEN,), "batch_size": BATCH, "epochs": 6} | given)


def padded(*sizes):
    """The bytes of tensors of float32 that each begin at a multiple of 64."""
    return sum(-(-n // 16) * 64 for n in sizes)


WEIGHTS = (FEATURES * HIDDEN, HIDDEN * CLASSES, HIDDEN, CLASSES)


class TestCounts:
    def test_layers_and_parameters(self):
        found = estimator().forecast(X, Y)
        total = sum(WEIGHTS)
        assert found["parameters"] == total == 163
        assert [(e["type"], e["parameters"]) for e in found["layers"] if e["parameters"]] == [
            ("Linear", FEATURES * HIDDEN + HIDDEN),
            ("Linear", HIDDEN * CLASSES + CLASSES),
        ]
        assert found["device"] in ("cpu", "cuda", "mps")

    def test_the_bytes_of_each_part(self):
        (stage,) = estimator(device="cpu").forecast(X, Y)["stages"]
        parts = stage["parts"]
        assert parts["weights"] == 4 * sum(WEIGHTS)
        assert parts["gradients"] == padded(*WEIGHTS)
        assert parts["optimizer"] == 2 * padded(*WEIGHTS) + 4  # two moments, and the count of steps
        assert parts["data"] == ITEMS * (FEATURES * 4 + 8)
        # kept for the backward pass: the inputs of both layers, the log-probabilities, the classes, a sum of weights
        assert parts["activations"] == BATCH * (FEATURES * 4 + HIDDEN * 4 + CLASSES * 4 + 8) + 4
        assert "averages" not in parts
        assert stage["memory"] >= sum(parts.values()) + parts["weights"]

    @pytest.mark.parametrize(("given", "moments"), [({"optimizer": "sgd"}, 0), ({"optimizer": "momentum"}, 1)])
    def test_of_other_optimisers(self, given, moments):
        (stage,) = estimator(**given).forecast(X, Y)["stages"]
        assert stage["parts"].get("optimizer", 0) == moments * padded(*WEIGHTS)

    def test_averages_and_held_out_items(self):
        (stage,) = estimator(ema=0.9, patience=2).forecast(X, Y, validation=0.2)["stages"]
        assert stage["parts"]["averages"] == 2 * 4 * sum(WEIGHTS)

    @pytest.mark.parametrize(
        ("given", "steps"),
        [({}, 6 * 7), ({"accumulate": 3}, 6 * 3), ({"batch_size": None}, 6), ({"epochs": 1, "batch_size": 25}, 2)],
        ids=str,
    )
    def test_steps(self, given, steps):
        (stage,) = estimator(**given).forecast(X, Y)["stages"]
        assert stage["steps"] == steps

    def test_of_a_fit_in_stages(self):
        class Twice(MLPClassifier):
            def train(self, splits, run, callbacks):
                objective = self.build(self.schema_, self.targets_)
                for stage in ("first", "second"):
                    loop.minimise(objective, splits.train, self, run=run, stage=stage, callbacks=callbacks)
                return objective

        Twice.__konspekt__ = MLPClassifier.__konspekt__
        found = Twice(hidden=(4,), batch_size=BATCH, epochs=2).forecast(X, Y)
        assert [s["steps"] for s in found["stages"]] == [14, 14]


@pytest.fixture
def clock(monkeypatch):
    """The clock of the engine, which stands still until `clock.now` is moved."""
    fake = SimpleNamespace(now=1000.0, perf_counter=lambda: fake.now, strftime=lambda form: "now")
    for module in (forecast, loop, neural, record, runs, trials):
        monkeypatch.setattr(module, "time", fake)
    step = loop.Loop._step
    taken = []

    def slow(self):
        fake.now += 5.0 if not taken else 2.0  # the first also warms up
        taken.append(self.step)
        step(self)

    read = MLPClassifier._read

    def slower(self, *args):
        fake.now += 10.0
        return read(self, *args)

    monkeypatch.setattr(loop.Loop, "_step", slow)
    monkeypatch.setattr(MLPClassifier, "_read", slower)
    fake.taken = taken
    return fake


class TestSeconds:
    def test_reading_a_slow_first_step_and_the_rest_at_the_pace_of_the_others(self, clock):
        found = estimator().forecast(X, Y)
        assert len(clock.taken) == 3
        assert found["data_seconds"] == pytest.approx(10)
        (stage,) = found["stages"]
        assert stage["step_seconds"] == pytest.approx(2)
        assert stage["seconds"] == pytest.approx(5 + 41 * 2)
        assert found["seconds"] == pytest.approx(10 + 5 + 41 * 2)

    @pytest.mark.parametrize(("limit", "seconds"), [(40.0, 40), (1000.0, 10 + 5 + 41 * 2)])
    def test_no_more_than_it_may_take(self, clock, limit, seconds):
        assert estimator(max_time=limit).forecast(X, Y)["seconds"] == pytest.approx(seconds)

    def test_and_an_evaluation_after_each_epoch(self, clock, monkeypatch):
        forward = Classification.forward

        def slow(self, batch):
            clock.now += 3.0
            return forward(self, batch)

        monkeypatch.setattr(Classification, "forward", slow)
        found = estimator().forecast(X, Y, validation=0.2)
        (stage,) = found["stages"]
        assert stage["evaluation_seconds"] == pytest.approx(3)  # ten items: one batch
        assert stage["seconds"] >= 5 + (6 * 5 - 1) * 2 + 6 * 3

    def test_beside_what_it_came_to(self, clock, tmp_path):
        estimator(run_dir=str(tmp_path / "run")).fit(X, Y)
        result = json.loads((tmp_path / "run" / "result.json").read_text())
        took = 10 + 5 + 41 * 2
        assert result["actual"]["seconds"] == pytest.approx(took)
        assert result["forecast"]["seconds"] == pytest.approx(took)
        assert result["forecast"]["step_seconds"] == pytest.approx(2)
        assert result["actual"]["step_seconds"] == pytest.approx((5 + 41 * 2) / 42)
        assert result["forecast"]["memory"] > 0
        assert result["actual"]["memory"] >= 0
        assert f"forecast {took:.3g} s, actual {took:.3g} s" in (tmp_path / "run" / "log.txt").read_text()


class TestNoTrace:
    def test_the_estimator_stays_unfitted_and_generators_untouched(self, tmp_path):
        one = estimator(run_dir=str(tmp_path / "run"), verbose=True, dropout=0.3, random_state=None)
        params, names = one.get_params(), set(vars(one))

        def outside():
            return torch.get_rng_state().numpy().tobytes(), random.getstate(), np.random.get_state()[1].tobytes()

        before = outside()
        one.forecast(X, Y, validation=0.2)
        assert outside() == before
        assert one.get_params() == params
        assert set(vars(one)) == names
        assert not (tmp_path / "run").exists()
        with pytest.raises(NotFittedError):
            one.predict(X)

    def test_what_an_earlier_fit_learned_stays(self):
        one = estimator(epochs=1).fit(X, Y)
        before = one.predict_proba(X)
        one.forecast(X, Y)
        np.testing.assert_array_equal(one.predict_proba(X), before)

    def test_a_net_of_the_users_own_is_not_trained(self):
        net = nn.Sequential(nn.Linear(FEATURES, 5), nn.BatchNorm1d(5), nn.Linear(5, CLASSES))
        before = {n: t.clone() for n, t in net.state_dict().items()}
        found = estimator(model=net).forecast(X, Y)
        assert all(torch.equal(t, before[n]) for n, t in net.state_dict().items())
        assert all(p.grad is None for p in net.parameters())
        assert found["parameters"] == sum(p.numel() for p in net.parameters())

    def test_a_fit_after_it_is_as_without_it(self, bits):
        one, other = estimator(dropout=0.2, epochs=2), estimator(dropout=0.2, epochs=2)
        one.forecast(X, Y)
        assert bits(one.fit(X, Y).model_) == bits(other.fit(X, Y).model_)

    def test_the_forecast_within_a_fit_changes_nothing(self, bits, tmp_path):
        """With a run folder the first steps are timed, without one nobody looks."""
        given = {"hidden": (6,), "dropout": 0.3, "norm": "batch", "epochs": 2}
        with_folder = estimator(run_dir=str(tmp_path / "run"), **given).fit(X, Y, validation=0.2)
        without = estimator(**given).fit(X, Y, validation=0.2)
        assert with_folder.run_.forecasts
        assert not without.run_.forecasts
        assert bits(with_folder.model_) == bits(without.model_)


class TestRefused:
    def test_as_a_fit(self):
        with pytest.raises(ConfigError, match="MLPClassifier: lr must be"):
            estimator(lr=-1).forecast(X, Y)
        with pytest.raises(DataError):
            estimator().forecast(X, Y[:-1])
        with pytest.raises(ConfigError, match="needs validation data"):
            estimator(patience=1).forecast(X, Y)

    def test_a_rate_that_is_to_be_found_is_not_looked_for(self, monkeypatch):
        monkeypatch.setattr(trials, "_find_rate", lambda self: pytest.fail("it looked"))
        assert estimator(lr="find", schedule="one-cycle", compile=True).forecast(X, Y)["stages"][0]["steps"] == 42


def test_a_resumed_run_has_none(tmp_path):
    class Stop(Exception):
        pass

    def stop(moment):
        if moment.step == 20:
            raise Stop

    path = str(tmp_path / "run")
    with pytest.raises(Stop):
        estimator(run_dir=path, checkpoint_every=5).fit(X, Y, callbacks=[stop])
    estimator(run_dir=path, checkpoint_every=5).fit(X, Y, resume=path)
    assert "forecast" not in json.loads((tmp_path / "run" / "result.json").read_text())
