"""Each optimiser against its formula written out in numpy, in float64, on a small problem that is not a quadratic.

Two groups, the second with a step of its own; the gradient of one depends on the other.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from konspekt.core import ConfigError, entries
from konspekt.core.params import build
from konspekt.optim import GradientDescent, first_order

STEPS = 8
START = np.array([1.0, -2.0, 0.5, 3.0])
SCALE = np.array([0.3, 1.0, 4.0, 0.1])
RATES = np.array([0.05, 0.05, 0.02, 0.02])  # the second pair is the group with its own


def loss_of(w):
    return (SCALE * w**2).sum() / 2 + np.cos(w).sum() + w[0] * w[3]


def slope_of(w):
    return SCALE * w - np.sin(w) + np.array([w[3], 0, 0, w[0]])


def test_the_problems_gradient_is_right():
    for i in range(4):
        h = np.zeros(4)
        h[i] = 1e-6
        assert (loss_of(START + h) - loss_of(START - h)) / 2e-6 == pytest.approx(slope_of(START)[i], rel=1e-6)


class Problem:
    """The same in torch, as an engine would hand it over: flat tensors and a closure."""

    def __init__(self, text, dtype=torch.float64):
        self.a = nn.Parameter(torch.tensor(START[:2], dtype=dtype))
        self.b = nn.Parameter(torch.tensor(START[2:], dtype=dtype))
        self.scale = torch.tensor(SCALE, dtype=dtype)
        self.optimizer = build("optimizer", text, [{"params": [self.a]}, {"params": [self.b], "lr": 0.02}], 0.05)

    @property
    def w(self):
        return torch.cat([self.a, self.b]).detach().numpy().copy()

    def closure(self):
        self.optimizer.zero_grad()
        w = torch.cat([self.a, self.b])
        loss = (self.scale * w**2).sum() / 2 + w.cos().sum() + w[0] * w[3]
        loss.backward()
        return loss

    def run(self, steps):
        path = [self.w]
        for _ in range(steps):
            expected = loss_of(path[-1])
            assert self.optimizer.step(self.closure).item() == pytest.approx(expected, rel=1e-5)
            path.append(self.w)
        return np.array(path)


def plain(w, g, s, k):
    return w - RATES * g


def heavy_ball(w, g, s, k, gamma=0.9):
    s["v"] = gamma * s.get("v", 0) + RATES * g
    return w - s["v"]


def adagrad(w, g, s, k, eps=1e-10):
    s["G"] = s.get("G", 0) + g**2
    return w - RATES * g / (np.sqrt(s["G"]) + eps)


def rmsprop(w, g, s, k, rho=0.9, eps=1e-8):
    s["G"] = rho * s.get("G", 0) + (1 - rho) * g**2
    return w - RATES * g / (np.sqrt(s["G"]) + eps)


def adadelta(w, g, s, k, rho=0.9, eps=1e-6):
    s["G"] = rho * s.get("G", 0) + (1 - rho) * g**2
    step = np.sqrt(s.get("D", 0) + eps) / np.sqrt(s["G"] + eps) * g
    s["D"] = rho * s.get("D", 0) + (1 - rho) * step**2
    return w - RATES * step


def adam(w, g, s, k, b1=0.9, b2=0.999, eps=1e-8, printed=False):
    s["m"] = b1 * s.get("m", 0) + (1 - b1) * g
    s["b"] = b2 * s.get("b", 0) + (1 - b2) * g**2
    corrected = s["b"] / (1 - b2 ** (2 if printed else k))
    return w - RATES * s["m"] / (1 - b1**k) / (np.sqrt(corrected) + eps)


def adamw(w, g, s, k, decay=0.01):
    return adam(w * (1 - RATES * decay), g, s, k)


def follow(rule, steps=STEPS, **arguments):
    w, state, path = START.copy(), {}, [START.copy()]
    for k in range(1, steps + 1):
        w = rule(w, slope_of(w), state, k, **arguments)
        path.append(w)
    return np.array(path)


RULES = {
    "descent": (plain, {}),
    "sgd": (plain, {}),
    "momentum": (heavy_ball, {}),
    "momentum(momentum=0.5)": (heavy_ball, {"gamma": 0.5}),
    "adagrad": (adagrad, {}),
    "adagrad(eps=0.1)": (adagrad, {"eps": 0.1}),
    "rmsprop": (rmsprop, {}),
    "rmsprop(rho=0.7, eps=0.1)": (rmsprop, {"rho": 0.7, "eps": 0.1}),
    "adadelta": (adadelta, {}),
    "adadelta(rho=0.8, eps=0.01)": (adadelta, {"rho": 0.8, "eps": 0.01}),
    "adam": (adam, {}),
    "adam(beta1=0.8, beta2=0.9, eps=0.1)": (adam, {"b1": 0.8, "b2": 0.9, "eps": 0.1}),
    "adamw": (adamw, {}),
    "adamw(weight_decay=0.3)": (adamw, {"decay": 0.3}),
}
NAMES = sorted(e.name for e in entries() if e.kind == "optimizer" and e.module == first_order.__name__)


@pytest.mark.parametrize("text", RULES)
def test_the_formula(text):
    rule, arguments = RULES[text]
    np.testing.assert_allclose(Problem(text).run(STEPS), follow(rule, **arguments), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("gamma", [0.9, 0.5])
def test_nesterov_holds_the_look_ahead_point(gamma):
    """theta = w - gamma v, where w and v follow the two lines of the method."""
    w, v, thetas = START.copy(), np.zeros(4), [START.copy()]
    for _ in range(STEPS):
        v = gamma * v + RATES * slope_of(w - gamma * v)
        w = w - v
        thetas.append(w - gamma * v)
    np.testing.assert_allclose(Problem(f"nesterov(momentum={gamma})").run(STEPS), thetas, rtol=1e-10, atol=1e-12)


def test_the_notes_printed_nesterov_is_classical_momentum_shifted_by_a_step():
    """Document I, lines 540-542: gradient at w - v(k), then w - v(k)."""
    w, v, printed = START.copy(), np.zeros(4), []
    for _ in range(STEPS + 1):
        w, v = w - v, 0.9 * v + RATES * slope_of(w - v)
        printed.append(w)
    np.testing.assert_allclose(printed, Problem("momentum").run(STEPS), rtol=1e-10)
    assert abs(printed[-1] - Problem("nesterov").run(STEPS)[-1]).max() > 0.01


def test_adam_with_the_notes_printed_correction_is_another_method():
    ours = Problem("adam").run(STEPS)
    printed = follow(adam, printed=True)
    first = (ours[1] - START) / (printed[1] - START)
    np.testing.assert_allclose(first, np.sqrt((1 - 0.999) / (1 - 0.999**2)), rtol=1e-6)
    assert abs(ours[-1] - printed[-1]).max() > 0.01


def test_every_registered_optimizer_is_tested_here():
    assert sorted({t.split("(")[0] for t in RULES} | {"nesterov"}) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_resumed_from_its_state_it_takes_the_same_path_to_the_bit(name):
    whole = Problem(name).run(7)
    first = Problem(name)
    first.run(3)
    second = Problem(name)
    with torch.no_grad():
        second.a.copy_(first.a)
        second.b.copy_(first.b)
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    assert np.array_equal(second.run(4), whole[3:])


@pytest.mark.parametrize("name", NAMES)
def test_a_step_without_closure_and_parameters_without_gradient(name):
    problem = Problem(name)
    problem.closure()
    problem.b.grad = None
    assert problem.optimizer.step() is None
    assert not np.array_equal(problem.w[:2], START[:2])
    assert np.array_equal(problem.w[2:], START[2:])


@pytest.mark.parametrize("name", NAMES)
def test_a_schedule_that_sets_the_groups_rates_is_obeyed(name):
    problem = Problem(name)
    problem.run(1)
    for group in problem.optimizer.param_groups:
        group["lr"] = 0.0
    path = problem.run(1)
    assert np.array_equal(path[0], path[1])


TORCH = {
    "momentum": lambda p: torch.optim.SGD(p, 0.01, momentum=0.9, foreach=False),
    "nesterov": lambda p: torch.optim.SGD(p, 0.01, momentum=0.9, nesterov=True, foreach=False),
    "adagrad": lambda p: torch.optim.Adagrad(p, 0.01, foreach=False),
    "adam": lambda p: torch.optim.Adam(p, 0.01, foreach=False),
    "adamw": lambda p: torch.optim.AdamW(p, 0.01, foreach=False),
}


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("name", TORCH)
def test_the_fused_kernel_agrees_with_the_plain_loop(name, dtype, rtol):
    start = torch.randn(1003, dtype=dtype, generator=torch.Generator().manual_seed(0))
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    fused = build("optimizer", name, [{"params": [ours]}], 0.01)
    assert fused.param_groups[0]["fused"] is True
    loop = TORCH[name]([theirs])
    for step in range(6):
        noise = torch.randn(1003, dtype=dtype, generator=torch.Generator().manual_seed(step + 1))
        for w, optimizer in ((ours, fused), (theirs, loop)):
            w.grad = noise * w.detach()
            optimizer.step()
    torch.testing.assert_close(ours, theirs, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("name", TORCH)
def test_what_the_fused_kernel_cannot_take_goes_another_way(name):
    w = nn.Parameter(torch.tensor([1 + 1j]))
    optimizer = build("optimizer", name, [{"params": w}], 0.1)
    assert not optimizer.param_groups[0]["fused"]
    w.grad = torch.tensor([1 + 0j])
    optimizer.step()
    assert w.real.item() < 1


def bowl(text, lr, curvature, start):
    """A quadratic with one group for each number, and steps until the rule stops them."""
    ws = [nn.Parameter(torch.tensor([s], dtype=torch.float64)) for s in start]
    optimizer = build("optimizer", text, [{"params": [w]} for w in ws], lr)

    def closure():
        optimizer.zero_grad()
        loss = sum(c * w**2 / 2 for c, w in zip(curvature, ws, strict=True)).sum()
        loss.backward()
        return loss

    return optimizer, closure, ws


def test_descent_stops_by_the_length_of_the_step_over_all_groups():
    """On a quadratic the step t is lr c (1 - lr c)^(t-1) w0 for each number, so the stopping time is known."""
    lr, curvature, start, tolerance = 0.1, np.array([1.0, 3.0, 0.5]), np.array([2.0, -1.0, 4.0]), 1e-3
    t = 1
    while np.linalg.norm(lr * curvature * (1 - lr * curvature) ** (t - 1) * start) > tolerance:
        t += 1
    optimizer, closure, ws = bowl(f"descent(tolerance={tolerance})", lr, curvature, start)
    assert isinstance(optimizer, GradientDescent)
    assert optimizer.full_batch is True
    assert optimizer.converged is False
    taken = 0
    while not optimizer.converged and taken < 1000:
        optimizer.step(closure)
        taken += 1
    assert optimizer.converged is True
    assert taken == t > 50
    np.testing.assert_allclose([w.item() for w in ws], (1 - lr * curvature) ** t * start, rtol=1e-9)


def test_no_single_group_decides():
    """Two steps of 0.8 tolerances are together 1.13."""
    optimizer, closure, _ = bowl("descent(tolerance=0.1)", 0.1, [1.0, 1.0], [0.8, 0.8])
    optimizer.step(closure)
    assert not optimizer.converged
    optimizer, closure, _ = bowl("descent(tolerance=0.1)", 0.1, [1.0, 1.0], [0.7, 0.7])
    optimizer.step(closure)
    assert optimizer.converged


def test_converged_is_kept_in_the_state_and_taken_back_by_a_longer_step():
    optimizer, closure, ws = bowl("descent(tolerance=0.1)", 0.1, [1.0], [0.5])
    optimizer.step(closure)
    other, *_ = bowl("descent(tolerance=0.1)", 0.1, [1.0], [0.5])
    other.load_state_dict(optimizer.state_dict())
    assert other.converged is True
    with torch.no_grad():
        ws[0].fill_(50)
    optimizer.step(closure)
    assert optimizer.converged is False
    other.load_state_dict(optimizer.state_dict())
    assert other.converged is False


def test_what_else_moves_the_weights_counts():
    """At the fixed point of descent with decoupled decay the two parts cancel, and neither of them is zero."""
    optimizer, closure, ws = bowl("descent(tolerance=1e-8)", 0.1, [1.0], [5.0])

    def shifted():  # the loss (w - 3)^2 / 2
        loss = closure()
        ws[0].grad -= 3
        return loss

    steps = 0
    while not optimizer.converged and steps < 500:
        steps += 1
        with torch.no_grad():
            ws[0].mul_(1 - 0.1 * 0.5)
        optimizer.step(shifted)
    assert steps < 499
    # after the step, w = 0.9 * 0.95 w + 0.3
    assert ws[0].item() == pytest.approx(0.3 / (1 - 0.9 * 0.95), rel=1e-6)


def test_a_step_of_just_the_tolerance_converges():
    optimizer, closure, _ = bowl("descent(tolerance=0)", 0.1, [1.0], [0.0])
    optimizer.step(closure)
    assert optimizer.converged


def test_not_a_number_does_not_converge():
    optimizer, _, ws = bowl("descent(tolerance=1.0)", 0.1, [1.0], [5.0])
    ws[0].grad = torch.tensor([float("nan")], dtype=torch.float64)
    optimizer.step()
    assert not optimizer.converged


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("admw", r"'admw' is not a registered optimizer; did you mean 'adamw'\?"),
        ("adam(beta1=1)", "optimizer 'adam': beta1 must be at least 0 and less than 1, got 1"),
        ("adam(beta3=0.5)", r"optimizer 'adam' has no argument 'beta3'; did you mean 'beta2'\?|'beta1'\?"),
        ("adam(lr=0.5)", "optimizer 'adam' has no argument 'lr'"),
        ("nesterov(momentum=0)", "momentum must be more than 0 and less than 1, got 0"),
        ("descent(tolerance=-1)", "tolerance must be at least 0, got -1"),
        ("adamw(weight_decay='x')", "weight_decay must be at least 0, got 'x'"),
    ],
)
def test_refusals(text, message):
    with pytest.raises(ConfigError, match=message):
        Problem(text)
