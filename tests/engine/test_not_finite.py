"""What is not finite stops the run before a weight is touched, and the message says where it came from."""

import re

import pytest
import torch
from torch import nn

from konspekt.core import DataError
from konspekt.core.errors import DivergedError
from konspekt.data.batches import Resident
from konspekt.data.fields import Ragged
from konspekt.engine import Objective, loop
from konspekt.engine.diagnosis import why_not_finite
from konspekt.engine.supervised import Regression

BAD = 7  # the item that spoils its batch, which is batch 2 of 5


class Poison(nn.Module):
    """Divides by zero where the first feature is 100."""

    def forward(self, x):
        return x / (x[:, :1] != 100).to(x.dtype)


class Slope(torch.autograd.Function):
    """The identity, whose gradient is infinite where the value says so."""

    @staticmethod
    def forward(ctx, x, bad):
        ctx.save_for_backward(bad)
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        (bad,) = ctx.saved_tensors
        return torch.where(bad, torch.full_like(gradient, float("inf")), gradient), None


class Steep(Regression):
    def loss(self, batch, player):
        out = Slope.apply(self.model(batch["x"]), batch["x"][:, :1] == 100)
        return {"loss": (out - batch["y"]).square().mean()}


class Late(Regression):
    def loss(self, batch, player):
        errors = (self.model(batch["x"]) - batch["y"]).square().mean(1)
        return {"loss": (errors * torch.where(batch["x"][:, 0] == 100, float("nan"), 1.0)).mean()}


def batches(mark=100.0):
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(15, 2, generator=draw), torch.randn(15, 1, generator=draw)
    x[BAD, 0] = mark
    return Resident({"x": x, "y": y}, batch_size=3)


def spoiled(name):
    """An objective, its data, and what the diagnosis should find."""
    torch.manual_seed(1)
    line = nn.Linear(2, 1)
    if name == "field":
        return Regression(line), batches(float("nan")), r"field 'x' of the batch is not finite"
    if name == "module":
        net = nn.Sequential(nn.Sequential(Poison(), nn.Identity()), line)
        return Regression(net), batches(), r"the output of module model\.0\.0 \(Poison\) is not finite"
    if name == "loss":
        return Late(line), batches(), r"the loss is not finite \(NaN or inf\), though the outputs of all modules are"
    return Steep(line), batches(), r"the gradient of model\.weight is not finite \(NaN or inf\), though the loss is"


@pytest.mark.parametrize("name", ["field", "module", "loss", "gradient"])
@pytest.mark.parametrize(
    "more", [{}, {"clip_norm": 1.0}, {"clip_value": 0.1}, {"l2": 0.1, "weight_decay": 0.1}], ids=str
)
def test_the_message_says_step_items_and_place(train, bits, name, more, tmp_path):
    objective, data, place = spoiled(name)
    copies = {}
    with pytest.raises(DivergedError) as error:
        train(
            objective,
            data,
            tmp_path / "run",
            lr=0.01,
            callbacks=[lambda m: copies.update({m.step: bits(m.objective)})],
            **more,
        )
    message = str(error.value)
    assert re.search(rf"training stopped at step 2 \(epoch 1\): {place}", message)
    assert "The batch held items 6, 7, 8. The weights are still those of the step before" in message
    assert "Lower lr (now 0.01), set clip_norm, or look at these items" in message
    assert max(copies) == 2
    assert bits(objective) == copies[2]
    log = (tmp_path / "run" / "log.txt").read_text()
    assert f"WARNING {message}" in log


def test_many_items_are_cut(train):
    data = Resident({"x": torch.full((20, 2), float("inf")), "y": torch.zeros(20, 1)})
    with pytest.raises(DivergedError, match=r"held items 0, 1, .*, 14, 15 and 4 more\. "):
        train(Regression(nn.Linear(2, 1)), data)


def test_a_steep_rate_diverges_and_what_was_saved_stays(train, tmp_path):
    torch.manual_seed(0)
    data = batches(1.0)
    with pytest.raises(DivergedError) as error:
        train(Regression(nn.Linear(2, 1)), data, tmp_path / "run", lr=1e6, epochs=30, checkpoint_every=1)
    step = int(re.search(r"at step (\d+)", str(error.value))[1])
    kept = sorted(p.name for p in (tmp_path / "run" / "checkpoint").iterdir())
    assert kept == [f"fit-{step - 1:09d}", f"fit-{step:09d}"]  # of the steps before the bad one, counted from 1


@pytest.fixture
def deferred(monkeypatch):
    """The loop as it goes on a GPU: nothing is read inside a step."""
    init = loop.Loop.__init__

    def patched(self, *args):
        init(self, *args)
        self.deferred = True

    monkeypatch.setattr(loop.Loop, "__init__", patched)


class TestDeferred:
    @pytest.mark.parametrize("name", ["field", "module", "loss", "gradient"])
    def test_the_update_is_masked_and_told_at_the_next_read(self, train, bits, deferred, name):
        objective, data, _ = spoiled(name)
        copies, steps = {}, []

        def look(moment):
            steps.append(moment.step)
            copies[moment.step] = bits(moment.objective)

        with pytest.raises(DivergedError) as error:
            train(objective, data, lr=0.01, callbacks=[look], weight_decay=0.1, optimizer="momentum")
        assert "training stopped at step 2 (epoch 1)" in str(error.value)
        assert "The batch held items 6, 7, 8." in str(error.value)
        assert steps == [1, 2, 3, 4, 5]  # read at the end of the epoch
        assert copies[1] != copies[2]
        assert copies[3] == copies[4] == copies[5] == copies[2] == bits(objective)

    def test_it_is_read_every_so_many_steps_too(self, train, deferred, monkeypatch, tmp_path):
        monkeypatch.setattr(loop, "LOG_EVERY", 4)
        objective, data, _ = spoiled("loss")
        steps = []
        with pytest.raises(DivergedError, match="stopped at step 2 "):
            train(objective, data, tmp_path / "run", callbacks=[lambda m: steps.append(m.step)])
        assert steps == [1, 2, 3]

    def test_a_checkpoint_is_never_written_of_it(self, train, deferred, tmp_path):
        objective, data, _ = spoiled("loss")
        with pytest.raises(DivergedError, match="stopped at step 2 "):
            train(objective, data, tmp_path / "run", checkpoint_every=1)
        assert max(p.name for p in (tmp_path / "run" / "checkpoint").iterdir()) == "fit-000000002"

    @pytest.mark.parametrize(
        "training", [{}, {"clip_norm": 0.3}, {"l1": 0.1, "l2": 0.1}, {"weight_decay": 0.2, "clip_value": 0.1}], ids=str
    )
    def test_without_it_all_is_as_at_once(self, train, monkeypatch, training):
        ends = []
        for defer in (False, True):
            torch.manual_seed(2)
            objective = Regression(nn.Linear(2, 1))
            with monkeypatch.context() as patch:
                if defer:
                    init = loop.Loop.__init__
                    patch.setattr(
                        loop.Loop,
                        "__init__",
                        lambda self, *a, init=init: (init(self, *a), setattr(self, "deferred", True))[0],
                    )
                run = train(objective, batches(1.0), optimizer="adam", epochs=4, **training)
            ends.append(([p.detach().clone() for p in objective.parameters()], run.history))
        for now, later in zip(ends[0][0], ends[1][0], strict=True):
            torch.testing.assert_close(now, later, rtol=1e-6, atol=1e-7)
        for now, later in zip(ends[0][1], ends[1][1], strict=True):
            assert now["loss"] == pytest.approx(later["loss"], rel=1e-5)
            assert now["grad_norm"] == pytest.approx(later["grad_norm"], rel=1e-5)


class TestDiagnosis:
    def test_a_ragged_field_and_numbers_that_cannot_be_infinite(self):
        objective = Regression(nn.Linear(2, 1))
        batch = {
            "index": torch.arange(2),
            "tokens": Ragged(torch.tensor([1.0, float("inf")]), torch.tensor([0, 1, 2])),
        }
        assert why_not_finite(objective, batch, "model") == "field 'tokens' of the batch is not finite"

    def test_outputs_in_tuples_and_dicts_are_looked_into(self):
        class Pair(nn.Module):
            def forward(self, x):
                return {"a": (x, [x.log()])}

        class Uses(Objective):
            def __init__(self):
                super().__init__()
                self.model = Pair()

            def loss(self, batch, player):
                return {"loss": self.model(batch["x"])["a"][0].mean()}

        reason = why_not_finite(Uses(), {"index": torch.arange(1), "x": torch.zeros(1)}, "model")
        assert reason == "the output of module model (Pair) is not finite (NaN or inf)"

    def test_what_a_module_with_parts_computes_itself(self):
        class Block(nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = nn.Linear(1, 1)

            def forward(self, x):
                return self.inner(x) * 0 / 0

        reason = why_not_finite(
            Regression(nn.Sequential(nn.Linear(1, 1), Block(), nn.Identity())),
            {"index": torch.arange(2), "x": torch.ones(2, 1), "y": torch.ones(2, 1)},
            "model",
        )
        assert reason == "the output of module model.1 (Block) is not finite (NaN or inf)"

    def test_nothing_found(self):
        objective, data, _ = spoiled("loss")
        batch = data.take(torch.tensor([0, 1]))
        assert why_not_finite(objective, batch, "model") == "the gradient is not finite (NaN or inf)"
        assert not any(m._forward_hooks for m in objective.modules())


def test_an_estimator_names_them_and_is_not_fitted():
    from konspekt.tabular import LinearRegressor

    X = torch.randn(20, 2, generator=torch.Generator().manual_seed(0)).numpy()
    estimator = LinearRegressor(optimizer="sgd", lr=1e30, epochs=30)
    with pytest.raises(DivergedError, match=r"training stopped at step \d+ .* Lower lr \(now 1e\+30\)"):
        estimator.fit(X, X[:, 0])
    assert not hasattr(estimator, "objective_")
    assert not issubclass(DivergedError, DataError)
