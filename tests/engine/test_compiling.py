"""`compile`: the decision, by a clock that the test moves and a net that only notes that it was compiled."""

from types import SimpleNamespace

import numpy as np
import pytest
from torch import nn

from konspekt.core import ConfigError
from konspekt.engine import Training, compiling, loop
from konspekt.engine.compiling import Compiling
from konspekt.tabular import MLPClassifier


class Net(nn.Module):
    """Notes when it is compiled."""

    def __init__(self):
        super().__init__()
        self.compiled = 0

    def compile(self):
        self.compiled += 1
        self._compiled_call_impl = lambda *inputs: None


class Fit:
    """A stage whose steps take `plain` seconds, or `fast` once the net is compiled, and whose compilation takes 30."""

    def __init__(self, monkeypatch, plain, fast, *, wanted="auto", chosen=None, breaks=None):
        self.now, self.times, self.breaks = 50.0, (plain, fast), breaks
        monkeypatch.setattr(compiling, "time", SimpleNamespace(perf_counter=lambda: self.now))
        self.net, self.notes, self.tried = Net(), [], 0
        self.made = Compiling(
            self.net, wanted, chosen, lambda text, start: self.notes.append((text, start)), self.trial
        )

    def trial(self):
        self.tried += 1
        self.now += 30
        if self.breaks:
            raise self.breaks

    def run(self, steps, total=None, first=0):
        """Take steps; how many of them ran compiled."""
        fast = 0
        for step in range(first, steps):
            if not self.made.decided:
                self.made.before(step, (total or steps) - step)
            fast += self.made.compiled
            self.now += self.times[self.made.compiled]
        return fast


LONG = 10**6  # steps of 10 ms: nearly three hours


class TestAuto:
    def test_a_short_run_is_left_alone(self, monkeypatch):
        fit = Fit(monkeypatch, 0.01, 0.001)
        assert fit.run(1000) == 0
        assert (fit.net.compiled, fit.tried, fit.notes) == (0, 0, [])
        assert fit.made.decided
        assert fit.made.start == -1

    @pytest.mark.parametrize(("steps", "tries"), [(59_000, 0), (61_000, 1)])
    def test_what_is_long_enough(self, monkeypatch, steps, tries):
        """15 times the 40 seconds that compiling may take: 600 seconds, 60 000 steps."""
        fit = Fit(monkeypatch, 0.01, 0.001)
        fit.run(100, steps)
        assert fit.tried == tries

    def test_the_faster_way_is_kept(self, monkeypatch):
        fit = Fit(monkeypatch, 0.01, 0.005)
        fast = fit.run(1000, LONG)
        assert fit.made.compiled
        assert fit.net.compiled == fit.tried == 1
        assert fit.notes == [("compiled: a step takes 5 ms, 10 before", 1000 - fast)]
        assert fit.made.start == 1000 - fast
        assert 25 <= 1000 - fast <= 35

    @pytest.mark.parametrize("fast", [0.02, 0.01, 0.0098])  # slower, as fast, by too little to matter
    def test_what_gains_nothing_is_given_back(self, monkeypatch, fast):
        fit = Fit(monkeypatch, 0.01, fast)
        assert fit.run(1000, LONG) == 30  # those that were timed
        assert not fit.made.compiled
        assert fit.made.decided
        ((text, start),) = fit.notes
        assert text.startswith(f"not compiled: a step would take {fast * 1e3:.3g} ms, 10 as it is")
        assert start == -1

    def test_what_cannot_be_compiled(self, monkeypatch):
        fit = Fit(monkeypatch, 0.01, 0.001, breaks=RuntimeError("no\n C++ compiler  found"))
        assert fit.run(1000, LONG) == 0
        assert fit.notes == [("not compiled: RuntimeError: no C++ compiler found", -1)]
        assert not fit.made.compiled
        assert fit.tried == 1

    def test_slow_first_steps_and_single_slow_ones_do_not_count(self, monkeypatch):
        fit = Fit(monkeypatch, 0.01, 0.005)
        fit.times = (100.0, 100.0)
        fit.run(5, LONG)
        fit.times = (0.01, 0.005)
        for first in range(5, 100, 5):
            fit.run(first + 5, LONG, first)
            fit.now += 3.0  # a checkpoint now and then
        assert fit.made.compiled


class TestChosen:
    def test_an_earlier_decision_is_taken_over(self, monkeypatch):
        fit = Fit(monkeypatch, 0.01, 0.001, chosen=40)
        assert fit.run(100, LONG) == 60
        assert fit.net.compiled == 1
        assert fit.notes == []
        later = Fit(monkeypatch, 0.01, 0.001, chosen=40)
        assert later.run(100, LONG, first=70) == 30  # resumed after it
        never = Fit(monkeypatch, 0.01, 0.001, chosen=-1)
        assert never.run(100, LONG) == 0
        assert never.made.decided

    def test_true_and_false(self, monkeypatch):
        fit = Fit(monkeypatch, 0.01, 0.1, wanted=True)
        assert fit.run(10) == 10
        assert fit.net.compiled == 1
        fit = Fit(monkeypatch, 0.01, 0.001, wanted=False)
        assert fit.run(100, LONG) == 0
        assert fit.net.compiled == 0


class TestInAFit:
    X = np.random.default_rng(0).normal(size=(40, 3))
    y = np.where(X[:, 0] > 0, "yes", "no")

    @pytest.fixture
    def compiles(self, monkeypatch):
        """`torch.compile` left out: the net runs as it is, by way of the compiled call."""
        seen = []

        def compiled(module):
            seen.append(module)
            module._compiled_call_impl = module._call_impl

        monkeypatch.setattr(nn.Module, "compile", compiled)
        return seen

    def fit(self, path=None, callbacks=(), resume=None, **given):
        given = {"hidden": (4,), "batch_size": 10, "epochs": 3, "dropout": 0.3, "checkpoint_every": 2} | given
        return MLPClassifier(run_dir=path and str(path), **given).fit(
            self.X, self.y, callbacks=callbacks, resume=resume
        )

    def test_a_small_net_is_not(self, compiles):
        self.fit(epochs=20)
        assert compiles == []

    def test_true_compiles_at_once_and_the_fitted_net_is_plain(self, compiles, tmp_path):
        fitted = self.fit(tmp_path / "run", compile=True)
        assert len(compiles) == 1
        assert fitted.model_._compiled_call_impl is None
        assert not hasattr(fitted, "compile_")
        plain = self.fit(compile=False)
        np.testing.assert_array_equal(fitted.predict_proba(self.X), plain.predict_proba(self.X))

    def test_auto_tries_keeps_writes_down_and_resumes_so(
        self, compiles, killed, die, tmp_path, monkeypatch, model_bytes
    ):
        """Long steps by a clock of their own, faster once the net is compiled."""
        state = SimpleNamespace(now=0.0)
        monkeypatch.setattr(compiling, "time", SimpleNamespace(perf_counter=lambda: state.now))
        step = loop.Loop._step

        def slow(self):
            state.now += 10.0 if self.objective.model._compiled_call_impl is None else 5.0
            step(self)

        monkeypatch.setattr(loop.Loop, "_step", slow)
        given = {"epochs": 25, "checkpoint_every": 20}
        self.fit(tmp_path / "whole", **given)
        self.fit(tmp_path / "plain", compile=False, **given)
        assert len(compiles) == 1
        chosen = (tmp_path / "whole" / "chosen.json").read_text()
        assert '"fit.compile": 29' in chosen
        assert "compiled: a step takes 5e+03 ms, 1e+04 before" in (tmp_path / "whole" / "log.txt").read_text()
        # the trial drew no random number and moved no statistic
        assert model_bytes(tmp_path / "whole") == model_bytes(tmp_path / "plain")
        killed(lambda: self.fit(tmp_path / "cut", **given, callbacks=[die(80)]))
        compiles.clear()
        state.now = 0.0
        self.fit(tmp_path / "cut", **given, resume=tmp_path / "cut")
        assert len(compiles) == 1  # at its first step, without another trial
        assert (tmp_path / "cut" / "chosen.json").read_text() == chosen
        assert model_bytes(tmp_path / "cut") == model_bytes(tmp_path / "whole")

    @pytest.mark.parametrize("value", ["yes", 1.5, "Auto"])
    def test_what_it_may_be(self, value):
        with pytest.raises(ConfigError, match="compile must be True or False, or 'auto', got"):
            MLPClassifier(compile=value).fit(self.X, self.y)
        assert Training().compile == "auto"
