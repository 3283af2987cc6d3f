"""`precision`: 16 bits in the forward and backward pass, and the scale that keeps small gradients of float16."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from konspekt.core import ConfigError
from konspekt.data.batches import Resident
from konspekt.engine import loop
from konspekt.engine.precision import Precision
from konspekt.engine.supervised import Regression
from konspekt.tabular import MLPClassifier

CPU = torch.device("cpu")


def points(items=40):
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(items, 3, generator=draw)
    y = torch.tanh(x @ torch.randn(3, 2, generator=draw))
    return Resident({"x": x, "y": y}, batch_size=10, shuffle=True)


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 2))


class Typed(Regression):
    """Writes down in what numbers the net computes."""

    def __init__(self):
        super().__init__(net())
        self.types = []

    def loss(self, batch, player):
        out = super().loss(batch, player)
        self.types.append((self.model(batch["x"]).dtype, self.model[0].weight.dtype))
        return out


class TestBfloat16:
    def test_it_computes_in_16_bits_near_32(self, train):
        wide, narrow = Typed(), Typed()
        held = points()
        a = train(wide, points(), epochs=5, validation=held)
        b = train(narrow, points(), epochs=5, validation=held, precision="bf16")
        assert set(wide.types) == {(torch.float32, torch.float32)}
        assert set(narrow.types) == {(torch.bfloat16, torch.float32)}
        for one, other in zip(a.history, b.history, strict=True):
            assert other["loss"] == pytest.approx(one["loss"], rel=0.03)
            assert other["loss"] != one["loss"]
            assert other["val_loss"] == pytest.approx(one["val_loss"], rel=0.03)

    def test_the_measurement_is_in_32_bits(self, train):
        objective, held = Typed(), points()
        run = train(objective, points(), epochs=1, validation=held, precision="bf16")
        objective.types.clear()
        assert objective.evaluate(held)["loss"] == run.history[-1]["val_loss"]
        assert objective(held.sample())["prediction"].dtype == torch.float32

    def test_with_accumulated_batches_penalties_and_clipping(self, train):
        losses = []
        for precision in ("32", "bf16"):
            run = train(Typed(), points(), epochs=4, accumulate=2, l2=0.01, clip_norm=0.5, precision=precision)
            losses.append([h["loss"] for h in run.history])
        assert losses[1] == pytest.approx(losses[0], rel=0.03)
        assert losses[0] != losses[1]

    def test_resume_after_a_kill_to_the_bit(self, train, die, killed, bits, tmp_path):
        def fit(name, **more):
            objective = Regression(nn.Sequential(net(), nn.Dropout(0.2)))
            options = {"epochs": 3, "optimizer": "adam", "lr": 0.01, "precision": "bf16", "checkpoint_every": 2}
            train(objective, points(), tmp_path / name, **options, **more)
            return objective

        whole = fit("whole")
        killed(lambda: fit("cut", callbacks=[die(7)]))
        assert bits(fit("cut", resume=True)) == bits(whole)

    def test_an_estimator_learns(self):
        X = np.random.default_rng(0).normal(size=(200, 3))
        y = np.where(X[:, 0] > 0, "yes", "no")
        fitted = MLPClassifier(hidden=(8,), precision="bf16", epochs=20, lr=0.01).fit(X, y)
        assert fitted.score(X, y) > 0.9
        assert {p.dtype for p in fitted.model_.parameters()} == {torch.float32}


class TestRefused:
    def test_float16_where_there_is_no_gpu(self):
        message = "precision='fp16' needs a CUDA GPU, and this is cpu; use precision='bf16' or '32'"
        with pytest.raises(ConfigError) as error:
            MLPClassifier(precision="fp16", device="cpu").fit([[0.0], [1.0]], [0, 1])
        assert str(error.value) == message

    def test_another_name(self):
        with pytest.raises(ConfigError, match="precision must be one of '32', 'bf16', 'fp16', got 'fp8'"):
            MLPClassifier(precision="fp8").fit([[0.0], [1.0]], [0, 1])

    def test_what_asks_for_more_than_a_gradient(self):
        with pytest.raises(ConfigError, match=r"asks for more than a gradient.* leave accumulate=1"):
            MLPClassifier(precision="bf16", optimizer="newton", hidden=(2,)).fit([[0.0], [1.0]] * 4, [0, 1] * 4)


def scaled(start=2.0**16):
    """float16's scale, on the CPU."""
    precision = Precision("32", CPU)
    precision.scale = torch.full((), start)
    return precision


class TestScale:
    def test_it_divides(self):
        precision, gradient = scaled(), torch.tensor([1.0, -3.0, 2.0**-10])
        scaled_up = gradient * 2.0**16
        assert precision.unscale(scaled_up) is False
        assert torch.equal(scaled_up, gradient)
        assert float(precision.scale) == 2.0**16

    @pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan")])
    def test_an_overflow_halves_it(self, bad):
        precision = scaled()
        precision.unscale(torch.ones(3))
        assert int(precision.calm) == 1
        assert precision.unscale(torch.tensor([1.0, bad])) is True
        assert (float(precision.scale), int(precision.calm)) == (2.0**15, 0)
        assert precision.unscale(torch.tensor([bad])) is True
        assert float(precision.scale) == 2.0**14

    def test_2000_steps_in_a_row_double_it(self):
        precision = scaled()
        for _ in range(1999):
            precision.unscale(torch.ones(1))
        assert float(precision.scale) == 2.0**16
        precision.unscale(torch.tensor([float("inf")]))  # the count begins anew
        for _ in range(2000):
            precision.unscale(torch.ones(1))
        assert (float(precision.scale), int(precision.calm)) == (2.0**16, 0)

    def test_its_state(self):
        precision, other = scaled(), scaled()
        precision.unscale(torch.tensor([float("inf")]))
        precision.unscale(torch.ones(1))
        other.load_state(precision.state())
        assert precision.state() == other.state() == {"scale": 2.0**15, "calm": 1}
        assert Precision("32", CPU).state() == {}
        Precision("32", CPU).load_state({})

    def test_without_it_nothing_is_done(self):
        gradient = torch.tensor([float("inf")])
        assert Precision("bf16", CPU).unscale(gradient) is False
        assert gradient.isinf().all()


@pytest.fixture
def scales(monkeypatch):
    """Loops whose losses are multiplied by a scale, as in float16; `scales` collects their precisions."""
    made, init = [], loop.Loop.__init__

    def patched(self, *args):
        init(self, *args)
        self.precision.scale = torch.full((), 2.0**16)
        self.shares = True
        made.append(self.precision)

    monkeypatch.setattr(loop.Loop, "__init__", patched)
    return made


class Overflowing(Regression):
    """Its gradient is infinite at some of the calls, its loss is not."""

    at = ()

    def __init__(self):
        super().__init__(net())
        self.calls = 0

    def loss(self, batch, player):
        out = super().loss(batch, player)["loss"]
        self.calls += 1
        if self.calls in self.at:
            out.register_hook(lambda gradient: gradient * float("inf"))
        return {"loss": out}


class TestSteps:
    def test_scaled_and_not_are_alike(self, train, monkeypatch):
        plain = Overflowing()
        train(plain, points(), epochs=3, l2=0.01, clip_norm=0.1, clip_value=0.05)
        init = loop.Loop.__init__

        def patched(self, *args):
            init(self, *args)
            self.precision.scale = torch.full((), 2.0**16)
            self.shares = True

        monkeypatch.setattr(loop.Loop, "__init__", patched)
        wide = Overflowing()
        train(wide, points(), epochs=3, l2=0.01, clip_norm=0.1, clip_value=0.05)
        for a, b in zip(plain.parameters(), wide.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)

    @pytest.mark.parametrize(
        "training", [{}, {"weight_decay": 0.5}, {"optimizer": "momentum"}, {"l1": 0.1, "clip_norm": 1.0}], ids=str
    )
    def test_one_that_overflows_is_left_out(self, train, scales, bits, training):
        objective = Overflowing()
        objective.at, states = (2, 5), [bits(objective)]

        def look(moment):
            if moment.event == "step":
                states.append(bits(moment.objective))

        run = train(objective, points(), epochs=2, callbacks=[look], **training)
        moved = [a != b for a, b in pairwise(states)]
        assert moved == [True, False, True, True, False, True, True, True]
        (precision,) = scales
        assert float(precision.scale) == 2.0**14
        assert all(np.isfinite(h["loss"]) for h in run.history)

    @pytest.mark.parametrize("optimizer", ["adam", "momentum", "adadelta"])
    def test_it_is_as_if_nobody_had_moved(self, train, scales, bits, optimizer):
        class Resting(Overflowing):
            def turns(self, step):
                return () if step == 1 else ("model",)

        skipping, resting = Overflowing(), Resting()
        skipping.at = (2,)
        train(skipping, points(), optimizer=optimizer, weight_decay=0.1)
        train(resting, points(), optimizer=optimizer, weight_decay=0.1)
        assert (skipping.calls, resting.calls) == (8, 7)
        assert bits(skipping) == bits(resting)
