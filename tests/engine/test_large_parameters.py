"""Gradients that stay apart from the buffer, and the layout of kernels: the numbers must not know of either."""

import numpy as np
import pytest
import torch
from torch import nn

from konspekt.core import DivergedError, entries
from konspekt.core.params import build
from konspekt.data.batches import Resident
from konspekt.engine import flat, layout
from konspekt.engine.flat import FlatParameters
from konspekt.engine.layout import kernels_last
from konspekt.engine.objective import Objective
from konspekt.engine.supervised import Regression

NEVER = 10**9
OPTIMIZERS = [e.name for e in entries() if e.kind == "optimizer" and "A11" in e.rows]  # element by element


def images(items=12, side=6):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(items, 2, side, side, generator=g, dtype=torch.float64)
    return Resident({"x": x, "y": x.mean((1, 2, 3))[:, None]}, batch_size=4)


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 8, 3),
        nn.ReLU(),
        nn.Conv2d(8, 16, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 1),
    ).double()


@pytest.fixture
def large(monkeypatch):
    """`large(n)`: from now on parameters of n elements or more have gradients of their own."""
    return lambda elements: monkeypatch.setattr(flat, "LARGE", elements)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_apart_or_together_the_weights_are_the_same(train, large, optimizer):
    trained = {}
    for name, elements in (("apart", 64), ("together", NEVER)):
        large(elements)
        model, seen = net(), []
        train(
            Regression(model), images(), epochs=3, lr=0.05, optimizer=optimizer, l1=1e-3, l2=1e-2, weight_decay=0.1,
            clip_norm=0.5, clip_value=0.2, callbacks=[lambda m, s=seen: s.append(m.event)],
        )  # fmt: skip
        trained[name] = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    start = torch.cat([p.detach().reshape(-1) for p in net().parameters()])
    assert (trained["apart"] - start).norm() > 1e-3
    torch.testing.assert_close(trained["apart"], trained["together"], rtol=1e-9, atol=1e-12)


def test_what_lies_apart_is_what_was_meant(large):
    large(64)
    model = net()
    parts = FlatParameters("model", [{"params": list(model.parameters())}], merge=True, apart=True)
    sizes = [p.numel() for p, _ in parts.apart]
    assert sizes == [144, 128, 256]
    assert len(parts.groups) == 1
    assert sum(len(p) for p in parts.groups[0]["params"]) == len(parts.weights)
    assert len(parts.gradient) == len(parts.weights) - sum(sizes)
    parts.clear()
    model(torch.ones(2, 2, 6, 6, dtype=torch.float64)).sum().backward()
    parts.collect()
    assert len(parts.gradients) == 1 + len(sizes)
    for p, part in parts.apart:
        assert part.grad.data_ptr() == p.grad.data_ptr()  # not a copy
    whole = sum(float(g.square().sum()) for g in parts.gradients)
    assert whole == pytest.approx(sum(float(p.grad.square().sum()) for p in model.parameters()), rel=1e-12)


def test_one_that_the_loss_leaves_out_has_a_gradient_of_zero(train, large):
    class Half(Objective):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.model = nn.ModuleList([nn.Linear(32, 4), nn.Linear(32, 4)])

        def loss(self, batch, player):
            return {"loss": self.model[0](batch["x"]).square().mean()}

    large(64)
    objective = Half()
    before = objective.model[1].weight.detach().clone()
    train(objective, Resident({"x": torch.randn(8, 32)}), epochs=2, optimizer="adam", lr=0.1)
    assert torch.equal(objective.model[1].weight, before)


@pytest.mark.parametrize("where", [0, 40])
def test_what_is_not_finite_is_found_in_them_too(train, large, where):
    class Spoiled(Objective):
        def __init__(self):
            super().__init__()
            self.model = nn.Linear(64, 2, bias=False)

        def loss(self, batch, player):
            w = self.model.weight.reshape(-1)
            return {"loss": w.square().mean() + 0 * torch.sqrt(w[where] - w[where].detach())}  # a slope of 0 * inf

    large(64)
    objective = Spoiled()
    before = objective.model.weight.detach().clone()
    with pytest.raises(DivergedError, match="gradient"):
        train(objective, Resident({"x": torch.zeros(4, 1)}), epochs=1)
    assert torch.equal(objective.model.weight, before)


@pytest.mark.parametrize("optimizer", ["adam", "momentum", "adamw"])
@pytest.mark.parametrize("last", [True, False])
def test_a_checkpoint_knows_neither_layout_nor_division(train, large, monkeypatch, tmp_path, optimizer, last):
    def settle(elements, *, few):
        large(elements)
        monkeypatch.setattr(layout, "FEW", NEVER if few else 0)
        monkeypatch.setattr(layout, "SHARE", 0.0)  # none of those that are asked have the channels last

    settings = {"epochs": 4, "lr": 0.02, "optimizer": optimizer, "checkpoint_every": 1}
    settle(64, few=last)
    straight = net()
    train(Regression(straight), images(), **settings)

    def stop(moment):
        if moment.step == 7:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train(Regression(net()), images(), tmp_path / "run", callbacks=[stop], **settings)
    settle(NEVER, few=not last)
    resumed = net()
    train(Regression(resumed), images(), tmp_path / "run", resume=True, **settings)
    for (name, p), q in zip(straight.named_parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-11, msg=lambda m, name=name: f"{name}: {m}")


class TestKernelsLast:
    def test_many_weights_and_few_numbers_in_the_maps(self, monkeypatch):
        monkeypatch.setattr(layout, "FEW", 0)
        # Per item 2*36 + 8*16 in and out of the first, 8*16 + 16*16 of the second: 584, of 4 items 2336; 272 weights.
        for share, wanted in ((0.10, False), (0.13, True)):  # 272 / 2336 = 0.116
            monkeypatch.setattr(layout, "SHARE", share)
            assert bool(kernels_last(Regression(net()), images())) == wanted
        assert kernels_last(Regression(net()), images(), processes=1)
        assert not kernels_last(Regression(net()), images(), processes=2)

    def test_small_nets_are_not_asked(self):
        class Silent(Objective):
            def __init__(self):
                super().__init__()
                self.model = net()

            def loss(self, batch, player):
                raise AssertionError("nobody should ask")

        assert len(kernels_last(Silent(), images())) == 2

    def test_asking_leaves_no_trace(self, monkeypatch):
        monkeypatch.setattr(layout, "FEW", 0)
        objective = Regression(nn.Sequential(net(), nn.Dropout(0.5)))
        state = {n: t.clone() for n, t in objective.state_dict().items()}
        random = torch.get_rng_state()
        objective.eval()
        kernels_last(objective, images())
        assert all(torch.equal(t, state[n]) for n, t in objective.state_dict().items())
        assert torch.equal(torch.get_rng_state(), random)
        assert not objective.training
        assert not any(m._forward_hooks for m in objective.modules())


def test_a_net_of_images_is_trained_alike_with_either_layout(train, monkeypatch):
    trained = []
    for few in (0, NEVER):
        monkeypatch.setattr(layout, "FEW", few)
        monkeypatch.setattr(layout, "SHARE", 0.0)
        torch.manual_seed(0)
        model = build("net", "resnet18(width=0.125)", 2, 1, (6, 6)).double()
        train(Regression(model), images(), epochs=1, lr=0.01)
        trained.append(torch.cat([p.detach().reshape(-1) for p in model.parameters()]).numpy())
    np.testing.assert_allclose(trained[0], trained[1], rtol=1e-6, atol=1e-9)
