"""What a step computes, against formulas in numpy and against a plain torch loop with separate tensors."""

import numpy as np
import pytest
import torch
from torch import nn

from konspekt.core import ConfigError, entries
from konspekt.core.params import build
from konspekt.data.batches import Resident
from konspekt.engine import Objective
from konspekt.engine.flat import FlatParameters
from konspekt.engine.supervised import Regression

STEPS = 6
OPTIMIZERS = [e.name for e in entries() if e.kind == "optimizer" and "A11" in e.rows]  # element by element


def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(5, 3)), rng.normal(size=(5, 2))


def whole(x, y):
    return Resident({"x": torch.tensor(x), "y": torch.tensor(y)})


class Linear64:
    """Mean squared error of x W' + b in numpy, with its gradient."""

    def __init__(self):
        rng = np.random.default_rng(1)
        self.W, self.b = rng.normal(size=(2, 3)), rng.normal(size=2)
        self.x, self.y = data()

    def module(self):
        layer = nn.Linear(3, 2, dtype=torch.float64)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(self.W))
            layer.bias.copy_(torch.tensor(self.b))
        return layer

    def loss(self):
        return ((self.x @ self.W.T + self.b - self.y) ** 2).mean()

    def gradient(self):
        error = 2 * (self.x @ self.W.T + self.b - self.y) / self.y.size
        return error.T @ self.x, error.sum(0)


@pytest.mark.parametrize(
    ("l1", "l2", "decay"), [(0.05, 0, 0), (0, 0.3, 0), (0, 0, 0.2), (0.05, 0.3, 0.2)], ids=["l1", "l2", "decay", "all"]
)
def test_penalties_and_decay_touch_matrices_only(train, plugin, l1, l2, decay):
    lr, here = 0.1, Linear64()
    layer = here.module()
    plugin.seen.clear()
    run = train(
        Regression(layer), whole(here.x, here.y), epochs=STEPS, lr=lr, optimizer="toy-repeat", l1=l1, l2=l2,
        weight_decay=decay,
    )  # fmt: skip
    for step in range(STEPS):
        loss = here.loss()
        assert run.history[step]["loss"] == pytest.approx(loss, rel=1e-12)  # of the data alone
        penalty = l1 * np.abs(here.W).sum() + l2 * (here.W**2).sum()
        assert plugin.seen[step] == [pytest.approx(loss + penalty, rel=1e-12)]
        to_W, to_b = here.gradient()
        here.W = (1 - lr * decay) * here.W - lr * (to_W + l1 * np.sign(here.W) + 2 * l2 * here.W)
        here.b = here.b - lr * to_b
    np.testing.assert_allclose(layer.weight.detach(), here.W, rtol=1e-12)
    np.testing.assert_allclose(layer.bias.detach(), here.b, rtol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_decay_follows_the_schedule_and_the_groups_scale(train, scale):
    class Scaled(Regression):
        def players(self):
            bias = {"params": [self.model.bias]}
            return {"model": [bias, {"params": [self.model.weight], "decay": True, "lr_scale": scale}]}

    lr, here = 0.1, Linear64()
    layer = here.module()
    train(
        Scaled(layer), whole(here.x, here.y), epochs=STEPS, lr=lr, weight_decay=0.3,
        schedule="step(every=2, factor=0.5)",
    )  # fmt: skip
    for step in range(STEPS):
        rate = lr * 0.5 ** (step // 2)
        to_W, to_b = here.gradient()
        here.W, here.b = (1 - rate * scale * 0.3) * here.W - rate * scale * to_W, here.b - rate * to_b
    np.testing.assert_allclose(layer.weight.detach(), here.W, rtol=1e-12)
    np.testing.assert_allclose(layer.bias.detach(), here.b, rtol=1e-12)


def plain(layer, x, y, optimizer, steps=STEPS, before=lambda: None):
    """A loop as everyone writes it."""
    x, y = torch.tensor(x), torch.tensor(y)
    for _ in range(steps):
        optimizer.zero_grad()
        (layer(x) - y).square().mean().backward()
        before()
        optimizer.step()


def groups_of(layer):
    return [{"params": [layer.weight]}, {"params": [layer.bias], "weight_decay": 0.0}]


@pytest.mark.parametrize(
    "given", [{"optimizer": "adam", "weight_decay": 0.3}, {"optimizer": "adamw(weight_decay=0.3)"}]
)
def test_decoupled_decay_is_that_of_adamw(train, given):
    here = Linear64()
    ours, theirs = here.module(), here.module()
    train(Regression(ours), whole(here.x, here.y), epochs=STEPS, lr=0.05, **given)
    plain(theirs, here.x, here.y, torch.optim.AdamW(groups_of(theirs), 0.05, weight_decay=0.3))
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-12, atol=0)
    torch.testing.assert_close(ours.bias, theirs.bias, rtol=1e-12, atol=0)
    undecayed = here.module()
    plain(undecayed, here.x, here.y, torch.optim.Adam(undecayed.parameters(), 0.05))
    assert not torch.allclose(ours.weight, undecayed.weight, rtol=1e-3)


@pytest.mark.parametrize("largest", [0.01, 0.5, 1e6])
def test_clip_norm(train, largest):
    here = Linear64()
    ours, theirs = here.module(), here.module()
    run = train(Regression(ours), whole(here.x, here.y), epochs=STEPS, clip_norm=largest)
    optimizer, norms = torch.optim.SGD(theirs.parameters(), 0.1), []
    clip = nn.utils.clip_grad_norm_
    plain(theirs, here.x, here.y, optimizer, before=lambda: norms.append(float(clip(theirs.parameters(), largest))))
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-5, atol=0)  # torch adds 1e-6 to the norm
    torch.testing.assert_close(ours.bias, theirs.bias, rtol=1e-5, atol=0)
    assert [h["grad_norm"] for h in run.history] == pytest.approx(norms, rel=1e-5)  # before it is clipped


@pytest.mark.parametrize("largest", [0.02, 0.3])
def test_clip_value(train, largest):
    here = Linear64()
    ours, theirs = here.module(), here.module()
    train(Regression(ours), whole(here.x, here.y), epochs=STEPS, clip_value=largest)
    optimizer = torch.optim.SGD(theirs.parameters(), 0.1)
    plain(theirs, here.x, here.y, optimizer, before=lambda: nn.utils.clip_grad_value_(theirs.parameters(), largest))
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-12, atol=0)
    torch.testing.assert_close(ours.bias, theirs.bias, rtol=1e-12, atol=0)


def test_values_are_clipped_before_the_norm_and_penalties_before_both(train):
    here = Linear64()
    ours = here.module()
    train(Regression(ours), whole(here.x, here.y), epochs=1, lr=1.0, clip_value=0.3, clip_norm=0.2, l2=0.5)
    to_W, to_b = here.gradient()
    cut = np.clip(np.concatenate([(to_W + here.W).ravel(), to_b]), -0.3, 0.3)
    cut *= 0.2 / np.linalg.norm(cut)
    np.testing.assert_allclose(ours.weight.detach().ravel(), here.W.ravel() - cut[:6], rtol=1e-12)
    np.testing.assert_allclose(ours.bias.detach(), here.b - cut[6:], rtol=1e-12)


def test_a_gradient_whose_square_overflows_is_clipped_all_the_same(train):
    class Steep(Objective):
        def __init__(self):
            super().__init__()
            self.model = nn.Linear(1, 1, bias=False)
            nn.init.zeros_(self.model.weight)

        def loss(self, batch, player):
            return {"loss": self.model.weight.sum() * 1e30}

    steep = Steep()
    train(steep, Resident({"x": torch.ones(2, 1)}), lr=1.0, epochs=3, clip_norm=0.5)
    assert float(steep.model.weight.detach()) == pytest.approx(-1.5)


class Net(Objective):
    """A net with tied weights (in and out), frozen ones, and groups of their own steps; errors of its reconstruction."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        inner = nn.Linear(4, 3, dtype=torch.float64)
        self.model = nn.ModuleDict(
            {"in": inner, "mid": nn.Linear(3, 3, dtype=torch.float64), "frozen": nn.Linear(3, 3, dtype=torch.float64)}
        )
        self.shift = nn.Parameter(torch.zeros(4, dtype=torch.float64))
        self.twin = inner  # the same module under a second name
        self.frozen = self.model["frozen"].requires_grad_(False)

    def players(self):
        net = self.model
        return {
            "all": [
                {"params": [net["in"].weight, net["mid"].weight, self.twin.weight], "lr_scale": 0.5},
                {"params": list(self.frozen.parameters())},
                {"params": [net["in"].bias, net["mid"].bias, net["in"].weight], "decay": True},
                {"params": [self.shift], "lr_scale": 2.0},
            ]
        }

    def loss(self, batch, player):
        net = self.model
        h = torch.tanh(net["frozen"](torch.tanh(net["mid"](torch.tanh(net["in"](batch["x"]))))))
        out = h @ self.twin.weight + self.shift
        return {"loss": (out - batch["x"]).square().mean()}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_one_buffer_computes_what_separate_tensors_do(train, name):
    x = torch.randn(9, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    lr = {"adadelta": 1.0}.get(name, 0.02)
    ours, theirs = Net(), Net()
    train(ours, Resident({"x": x}, batch_size=3), epochs=4, lr=lr, optimizer=name)
    net = theirs.model
    groups = [
        {"params": [net["in"].weight, net["mid"].weight], "lr": 0.5 * lr},
        {"params": [net["in"].bias, net["mid"].bias], "lr": lr},
        {"params": [theirs.shift], "lr": 2 * lr},
    ]
    if name == "adamw":  # its own decay is for groups that decay
        groups[0]["weight_decay"] = groups[2]["weight_decay"] = 0.0
    optimizer = build("optimizer", name, groups, lr)
    start = {n: p.detach().clone() for n, p in theirs.named_parameters()}
    for _ in range(4):
        for part in x.split(3):
            optimizer.zero_grad()
            theirs.loss({"x": part}, "all")["loss"].backward()
            optimizer.step()
    mine = dict(ours.named_parameters())
    for n, p in theirs.named_parameters():
        torch.testing.assert_close(mine[n], p, rtol=1e-12, atol=1e-15, msg=lambda m, n=n: f"{n}: {m}")
        assert torch.equal(start[n], p) == (not p.requires_grad)
    assert ours.twin.weight is ours.model["in"].weight
    assert not any(p.requires_grad for p in ours.frozen.parameters())


def test_adamw_decays_the_matrices_and_leaves_biases_alone(train):
    class Still(Regression):
        def loss(self, batch, player):
            return {"loss": sum((p * 0).sum() for p in self.parameters())}

    layer = Linear64().module()
    W, b = layer.weight.detach().clone(), layer.bias.detach().clone()
    train(Still(layer), whole(*data()), epochs=3, lr=0.1, optimizer="adamw(weight_decay=0.5)")
    torch.testing.assert_close(layer.weight.detach(), W * 0.95**3, rtol=1e-12, atol=0)
    assert torch.equal(layer.bias, b)


class TestFlatParameters:
    def groups(self):
        torch.manual_seed(0)
        self.a, self.b = nn.Parameter(torch.randn(5, 7)), nn.Parameter(torch.randn(3))
        self.c, self.d = nn.Parameter(torch.randn(2, 2).t()), nn.Parameter(torch.tensor(4.0))
        return [
            {"params": [self.a], "decay": True},
            {"params": [self.b, self.a], "lr_scale": 0.1},
            {"params": [self.c], "decay": True, "lr_scale": 0.1},
            {"params": iter([self.d])},
        ]

    def test_merged_groups_differ_in_their_rate_only(self):
        groups = self.groups()
        values = [p.detach().clone() for p in (self.a, self.b, self.c, self.d)]
        flat = FlatParameters("model", groups, merge=True)
        assert [g["lr_scale"] for g in flat.groups] == [1.0, 0.1]
        assert all(torch.equal(p, v) for p, v in zip((self.a, self.b, self.c, self.d), values, strict=True))
        flat.weights.zero_()
        assert not any(bool(p.any()) for p in (self.a, self.b, self.c, self.d))
        decayed = [w.data for w, *_ in flat.decayed]
        for w in decayed:
            w.fill_(1.0)
        assert [float(p.detach().sum()) for p in (self.a, self.b, self.c, self.d)] == [35, 0, 4, 0]

    def test_separate_groups_keep_their_decay(self):
        flat = FlatParameters("model", self.groups(), merge=False)
        assert [(g["lr_scale"], g["decay"]) for g in flat.groups] == [
            (1.0, True),
            (0.1, False),
            (0.1, True),
            (1.0, False),
        ]

    def test_gradients_are_slices_of_one_and_begin_aligned(self):
        flat = FlatParameters("model", self.groups(), merge=True)
        sum((p * p).sum() for p in flat.parameters).backward()
        for p in (self.a, self.b, self.c, self.d):
            assert torch.equal(p.grad, 2 * p.detach())
            assert (p.data_ptr() - flat.weights.data_ptr()) % 64 == 0
        assert float(flat.gradient.square().sum()) == pytest.approx(
            4 * sum(float(p.detach().square().sum()) for p in flat.parameters), rel=1e-6
        )

    def test_release_gives_each_memory_of_its_own(self):
        flat = FlatParameters("model", self.groups(), merge=True)
        value = self.a.detach().clone()
        flat.release()
        flat.weights.zero_()
        assert torch.equal(self.a, value)
        assert self.a.grad is None

    def test_mixed_types_are_refused(self):
        params = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2, dtype=torch.float64))]
        with pytest.raises(ConfigError, match="parameters of one player must share type and device"):
            FlatParameters("model", [{"params": params}], merge=True)
