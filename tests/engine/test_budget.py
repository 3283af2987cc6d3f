"""`max_time`: what is left of a fit's time, by a clock that only the test moves."""

import contextlib
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from konspekt.core import ConfigError, runs
from konspekt.core.runs import Run, read_metrics
from konspekt.data.batches import Resident
from konspekt.engine import Training, budget, forecast, loop, minimise, neural, progress, resuming, trials
from konspekt.engine.budget import Budget
from konspekt.engine.session import surroundings
from konspekt.engine.supervised import Regression
from konspekt.tabular import MLPClassifier


@pytest.fixture
def clock(monkeypatch):
    """The clock of the engine, which stands still until `clock.now` is moved."""
    fake = SimpleNamespace(now=1000.0, perf_counter=lambda: fake.now, strftime=lambda form: "now")
    for module in (budget, forecast, loop, neural, progress, resuming, runs, trials):
        monkeypatch.setattr(module, "time", fake)
    return fake


class TestArithmetic:
    def made(self, limit=100.0, **given):
        return Budget(limit, 0.0, **{"writes": False, "size": 0, "one_pass": 0.0, "measures": False} | given)

    def test_without_a_limit_it_is_never_over(self):
        assert not self.made(None).over(1e9)

    def test_another_step_must_fit_before_what_follows(self):
        left = self.made(one_pass=2.0, measures=True)
        left.stepped(5.0)
        assert left.reserve == pytest.approx(1.2 * (2 + 0.005))
        edge = 100 - 5 - left.reserve
        assert not left.over(edge - 1e-6)
        assert left.over(edge + 1e-6)

    def test_a_run_folder_costs_three_passes_and_two_checkpoints(self):
        left = self.made(one_pass=2.0, measures=True, writes=True, size=300e6)
        assert left.one_save == pytest.approx(3 + 0.02)  # 100 MB a second
        assert left.reserve == pytest.approx(1.2 * (4 * 2 + 2 * 3.02 + 0.1))
        left.saved(0.5)
        left.measured(1.0)
        assert left.reserve == pytest.approx(1.2 * (4 * 1 + 2 * 0.5 + 0.1))

    def test_a_slow_step_is_forgotten_slowly(self):
        left = self.made()
        left.stepped(10.0)
        for _ in range(3):
            left.stepped(1.0)
        assert left.step == pytest.approx(10 * 0.9**3)
        for _ in range(30):
            left.stepped(1.0)
        assert left.step == pytest.approx(1.0)

    def test_what_earlier_parts_used_is_gone(self):
        left = Budget(100.0, 50.0 - 30.0, writes=False, size=0, one_pass=0.0, measures=False)  # begun at 50, 30 used
        assert not left.over(119.9)
        assert left.over(120.1)


class Slow(Regression):
    """Every loss takes a second, every evaluation two. Its measures are written down, by the step."""

    values = None

    def __init__(self, clock):
        torch.manual_seed(0)
        super().__init__(nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Dropout(0.3), nn.Linear(6, 2)))
        self.clock, self.asked = clock, 0

    def loss(self, batch, player):
        self.clock.now += 1.0
        self.asked += 1
        out = super().loss(batch, player)
        self.last = out["loss"].item()
        return out

    def evaluate(self, batches):
        self.clock.now += 2.0
        found = super().evaluate(batches)
        return found if self.values is None else found | {"loss": self.values.pop(0)}


def points(**options):
    draw = torch.Generator().manual_seed(1)
    x, y = torch.randn(20, 3, generator=draw), torch.randn(20, 2, generator=draw)
    return Resident({"x": x, "y": y}, **{"batch_size": 4, "shuffle": True} | options)


@pytest.fixture
def fit(clock):
    """`fit(path=None, ...)`: epochs of 5 steps, each of one second by the clock."""

    def minimised(path=None, *, resume=False, validation=None, callbacks=(), values=None, **training):
        training = {"epochs": 4, "lr": 0.1, "optimizer": "adam"} | training
        with surroundings(torch.device("cpu"), 0), contextlib.closing(Run(path, resume=resume)) as run:
            objective = Slow(clock)
            objective.values = values
            minimise(objective, points(), Training(**training), run=run, validation=validation, callbacks=callbacks)
        return objective, run

    return minimised


def end(run):
    return next(r for r in read_metrics(run.path) if r["kind"] == "stage")


class TestTheEnd:
    def test_in_mid_epoch(self, fit, tmp_path):
        # 0.144 s are kept back for what follows, a step is a second: the step that begins at 7 would end too late
        objective, run = fit(tmp_path / "run", max_time=8.0)
        assert objective.asked == 7
        assert (end(run)["stopped"], end(run)["step"]) == ("max_time", 7)
        assert [(h["epoch"], h["step"], h.get("cut_short")) for h in run.history] == [(0, 5, None), (1, 7, True)]
        assert "stopped after step 7 (epoch 2 of 4) by max_time=8" in (run.path / "log.txt").read_text()

    def test_the_cut_epochs_loss_is_of_its_steps(self, fit):
        losses = []

        def look(moment):
            if moment.event == "step":
                losses.append(moment.objective.last)

        _, run = fit(max_time=8.0, callbacks=[look])
        assert len(losses) == 7
        assert [h["loss"] for h in run.history] == pytest.approx([np.mean(losses[:5]), np.mean(losses[5:])], rel=1e-6)

    def test_the_measurement_is_kept_time_for(self, fit):
        objective, run = fit(max_time=20.0, validation=points())
        # five steps and two seconds of measurement an epoch; of what is left 2.4 s are kept back, and a step's second
        assert objective.clock.now - 1000 <= 20
        assert [(h["step"], h.get("cut_short")) for h in run.history] == [(5, None), (10, None), (13, True)]

    def test_it_is_not_reached(self, fit, tmp_path):
        objective, run = fit(tmp_path / "run", max_time=1000.0)
        assert end(run)["stopped"] == "epochs"
        assert objective.asked == 20
        assert "max_time" not in ((run.path / "log.txt").read_text() if (run.path / "log.txt").exists() else "")

    @pytest.mark.parametrize("limit", [1e-6, 0.5])
    def test_one_step_is_always_made(self, fit, tmp_path, limit):
        objective, run = fit(tmp_path / "run", max_time=limit, validation=points())
        assert objective.asked == 1
        assert (end(run)["stopped"], end(run)["step"]) == ("max_time", 1)
        assert run.history[-1]["cut_short"] is True
        assert math.isfinite(run.history[-1]["val_loss"])

    def test_the_best_weights_so_far_come_back(self, fit, bits):
        after = []

        def look(moment):
            if moment.event == "step":
                after.append(bits(moment.objective))

        values = [3.0, 1.0, 2.0, 4.0]
        objective, run = fit(max_time=27.5, validation=points(), callbacks=[look], values=values)
        assert [h["val_loss"] for h in run.history] == [3, 1, 2, 4]
        assert run.history[-1]["cut_short"]
        assert bits(objective) == after[9]
        assert after[9] != after[-1]

    def test_the_cut_epoch_may_be_the_best(self, fit, bits):
        after = []

        def look(moment):
            if moment.event == "step":
                after.append(bits(moment.objective))

        objective, run = fit(max_time=27.5, validation=points(), callbacks=[look], values=[3.0, 1.0, 2.0, 0.5])
        assert run.history[-1]["cut_short"]
        assert bits(objective) == after[-1]


class TestResume:
    @pytest.mark.parametrize("limit", [3.0, 5.5, 8.0, 14.0])
    @pytest.mark.parametrize("validation", [None, "held"])
    def test_with_more_time_it_is_as_if_there_had_been_no_cut(self, fit, bits, tmp_path, limit, validation):
        held = points() if validation else None
        options = {"validation": held, "schedule": "plateau(patience=0, factor=0.5)" if held else "cosine", "ema": 0.9}
        whole, run = fit(tmp_path / "whole", max_time=1e6, **options)
        cut, first = fit(tmp_path / "cut", max_time=limit, **options)
        assert end(first)["stopped"] == "max_time"
        assert first.history[-1].get("cut_short") == (None if limit == 5.5 else True)  # which is an epoch's end
        more, again = fit(tmp_path / "cut", resume=True, max_time=1e6, **options)
        assert cut.asked + more.asked == 20
        assert bits(more) == bits(whole)
        timeless = [[{k: v for k, v in h.items() if "seconds" not in k} for h in r.history] for r in (run, again)]
        assert timeless[0] == timeless[1]
        assert end(again)["stopped"] == "epochs"

    def test_without_a_limit_it_goes_on_too(self, fit, tmp_path):
        first, _ = fit(tmp_path / "run", max_time=4.0)
        more, run = fit(tmp_path / "run", resume=True)
        assert first.asked + more.asked == 20
        assert end(run)["stopped"] == "epochs"

    def test_the_time_that_was_used_counts(self, fit, tmp_path):
        first, _ = fit(tmp_path / "run", max_time=8.0)
        more, run = fit(tmp_path / "run", resume=True, max_time=12.0)
        assert first.asked == 7
        assert more.asked == 4
        assert (end(run)["stopped"], end(run)["step"]) == ("max_time", 11)
        last, run = fit(tmp_path / "run", resume=True, max_time=15.0)
        assert last.asked == 3

    def test_without_more_time_it_is_finished(self, fit, bits, tmp_path):
        first, run = fit(tmp_path / "run", max_time=8.0, validation=points())
        before = (run.path / "metrics.jsonl").read_bytes()
        for limit in (8.0, 5.0):
            more, _ = fit(tmp_path / "run", resume=True, max_time=limit, validation=points())
            assert more.asked == 0
            assert bits(more) == bits(first)
        assert (run.path / "metrics.jsonl").read_bytes() == before

    def test_a_killed_run_has_used_what_its_checkpoint_says(self, fit, tmp_path):
        class Stop(Exception):
            pass

        def stop(moment):
            if moment.step == 4:
                raise Stop

        with pytest.raises(Stop):
            fit(tmp_path / "run", max_time=8.0, checkpoint_every=3, callbacks=[stop])
        more, run = fit(tmp_path / "run", resume=True, max_time=8.0, checkpoint_every=3)
        assert more.asked == 4  # after the three of the checkpoint
        assert end(run)["step"] == 7


class TestEstimator:
    X = np.random.default_rng(0).normal(size=(40, 3))
    y = np.where(X[:, 0] > 0, "yes", "no")

    @pytest.mark.parametrize("run", [False, True])
    def test_a_limit_that_is_over_at_once_leaves_a_model(self, run, tmp_path):
        path = str(tmp_path / "run") if run else None
        fitted = MLPClassifier(hidden=(4,), max_time=1e-6, batch_size=10, run_dir=path).fit(self.X, self.y)
        assert fitted.n_iter_ == 1
        assert fitted.history_[0]["step"] == 1
        assert set(fitted.predict(self.X)) <= {"yes", "no"}
        if run:
            assert end(fitted.run_)["stopped"] == "max_time"
            assert (tmp_path / "run" / "model" / "manifest.json").is_file()

    def test_reading_counts(self, clock, monkeypatch):
        read = MLPClassifier._read

        def slow(self, *args):
            clock.now += 50.0
            return read(self, *args)

        monkeypatch.setattr(MLPClassifier, "_read", slow)
        fitted = MLPClassifier(hidden=(4,), max_time=40.0, batch_size=10).fit(self.X, self.y)
        assert fitted.history_[0]["step"] == 1
        fitted = MLPClassifier(hidden=(4,), max_time=60.0, batch_size=10, epochs=2).fit(self.X, self.y)
        assert fitted.history_[-1]["step"] == 8

    @pytest.mark.parametrize("limit", [0, -1, "soon", math.inf])
    def test_what_is_no_time(self, limit):
        with pytest.raises(ConfigError, match=r"MLPClassifier: max_time must be .*more than 0, or None, got"):
            MLPClassifier(max_time=limit).fit(self.X, self.y)
