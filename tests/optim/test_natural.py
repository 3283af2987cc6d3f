"""The natural gradient against its formula, and its invariance."""

import numpy as np
import pytest
import torch
from torch import nn

from konspekt.core import ConfigError, ResourceError
from konspekt.core.params import build
from konspekt.optim import vector


def data(seed=0, items=30, size=4):
    rng = np.random.default_rng(seed)
    return torch.tensor(rng.normal(size=(items, size))), torch.tensor((rng.random(items) > 0.4).astype(float))


def losses(X, y):
    return lambda w: nn.functional.binary_cross_entropy_with_logits(X @ w, y, reduction="none")


def stepped(problem, text, X, y, start, lr=0.5, split=None, steps=1):
    here = problem(text, lambda w: losses(X, y)(w).mean(), start, lr, split=split, items=losses(X, y))
    (_, _, gradient), *_ = here.run(steps)
    return here.w.numpy(), gradient


@pytest.mark.parametrize("damping", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["full", "block", "diagonal"])
def test_the_formula(problem, kind, damping):
    X, y = data()
    start = np.array([0.3, -0.2, 0.5, 1.0])
    p = 1 / (1 + np.exp(-X.numpy() @ start))
    G = X.numpy() * (p - y.numpy())[:, None]
    F = G.T @ G / len(G)
    keep = {"full": np.ones((4, 4)), "diagonal": np.eye(4), "block": np.kron(np.eye(2), np.ones((2, 2)))}[kind]
    found, gradient = stepped(
        problem, f"natural-gradient(fisher='{kind}', damping={damping})", X, y, start, split=[2, 2]
    )
    np.testing.assert_allclose(G.mean(0), gradient, rtol=1e-10)
    expected = start - 0.5 * np.linalg.solve(F * keep + damping * np.eye(4), gradient)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("kind", ["full", "block", "diagonal"])
@pytest.mark.parametrize("rho", [0.0, 0.6, 0.95])
def test_the_running_mean_is_plain_until_there_are_enough_steps(problem, kind, rho):
    X, y = data()
    w, mean = np.zeros(4), 0
    text = f"natural-gradient(fisher='{kind}', damping=0.01, rho={rho})"
    here = problem(text, lambda v: losses(X, y)(v).mean(), w, 0.5, split=[2, 2], items=losses(X, y))
    keep = {"full": np.ones((4, 4)), "diagonal": np.eye(4), "block": np.kron(np.eye(2), np.ones((2, 2)))}[kind]
    for step in range(1, 6):
        G = X.numpy() * (1 / (1 + np.exp(-X.numpy() @ w)) - y.numpy())[:, None]
        stays = min(1 - 1 / step, rho)
        mean = stays * mean + (1 - stays) * keep * (G.T @ G) / len(G)
        w = w - 0.5 * np.linalg.solve(mean + 0.01 * np.eye(4), G.mean(0))
        here.run(1)
        np.testing.assert_allclose(here.w, w, rtol=1e-8)


def test_the_full_one_is_the_same_function_in_any_linear_coordinates(problem):
    """w = A v: X w = (X A) v. The others, and a little damping, are not."""
    X, y = data()
    A = torch.tensor(np.random.default_rng(1).normal(size=(4, 4)))
    start = np.array([0.3, -0.2, 0.5, 1.0])
    same = {}
    for text in ("full', damping=0", "full', damping=0.1", "diagonal', damping=0", "block', damping=0"):
        there = np.linalg.solve(A.numpy(), start)
        ours, _ = stepped(problem, f"natural-gradient(fisher='{text})", X, y, start, split=[2, 2], steps=3)
        theirs, _ = stepped(problem, f"natural-gradient(fisher='{text})", X @ A, y, there, split=[2, 2], steps=3)
        assert abs(ours - start).max() > 0.01
        same[text] = np.allclose(X.numpy() @ ours, (X @ A).numpy() @ theirs, rtol=1e-8, atol=1e-10)
    assert list(same.values()) == [True, False, False, False]


@pytest.mark.parametrize("kind", ["full", "block", "diagonal"])
def test_a_fisher_without_full_rank_needs_damping(problem, kind):
    X, y = data(items=3)
    X[:, 1] = 0
    message = "the Fisher information of a batch of 3 items cannot be inverted with damping=0; take a larger damping"
    with pytest.raises(ConfigError, match=message):
        stepped(problem, f"natural-gradient(fisher='{kind}', damping=0)", X, y, np.zeros(4))
    found, _ = stepped(problem, f"natural-gradient(fisher='{kind}', damping=1e-3)", X, y, np.zeros(4))
    assert found[1] == 0 != found[0]


def test_a_block_that_memory_has_no_room_for_is_refused(problem, monkeypatch):
    X, y = data(size=30)
    monkeypatch.setattr(vector, "_free_memory", lambda device: 4 * 8 * 20 * 20)
    stepped(problem, "natural-gradient(fisher='block')", X, y, np.zeros(30), split=[20, 10])
    with pytest.raises(ResourceError, match=r"matrices of 21 x 21 numbers.*Take fisher='diagonal'"):
        stepped(problem, "natural-gradient(fisher='block')", X, y, np.zeros(30), split=[21, 9])


@pytest.mark.parametrize("estimate", ["true", "empirical"])
def test_the_estimate_is_asked_of_the_closure(problem, estimate):
    X, y = data()
    here = problem(
        f"natural-gradient(estimate='{estimate}')", lambda w: losses(X, y)(w).mean(), np.zeros(4), items=losses(X, y)
    )
    asked, own = [], here.item_gradients
    here.item_gradients = lambda how: asked.append(how) or own(how)
    here.run(2)
    assert asked == [estimate] * 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("natural-gradient(fisher='banded')", "fisher must be one of 'full', 'diagonal', 'block', got 'banded'"),
        ("natural-gradient(estimate='exact')", "estimate must be one of 'true', 'empirical', got 'exact'"),
        ("natural-gradient(damping=-1)", "damping must be at least 0, got -1"),
    ],
)
def test_refusals(text, message):
    with pytest.raises(ConfigError, match=message):
        build("optimizer", text, [{"params": [torch.zeros(1, requires_grad=True)]}], 1.0)
