"""The evolution strategy: what it draws, what it makes of the losses, and that it finds minima."""

import math

import numpy as np
import pytest
import torch

from konspekt.core import ConfigError
from konspekt.core.params import build


def bowl(w):
    return ((w - 2).square() * torch.linspace(1, 10, len(w), dtype=w.dtype)).sum()


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("text", ["evolution", "evolution(antithetic=False)", "evolution(sigma=10.0, population=20)"])
def test_a_bowl_is_solved(problem, text):
    here = problem(text, bowl, np.zeros(10))
    losses = [loss for _, loss, _ in here.run(400)]
    assert losses[-1] < 1e-6 * losses[0]
    np.testing.assert_allclose(here.w, 2, atol=1e-2)
    best = np.minimum.accumulate(losses)
    assert (np.array(losses) <= 3 * best).mean() > 0.9  # it goes down, with little going back


def test_a_loss_without_a_gradient_is_lowered(problem):
    """Steps: the gradient is 0 wherever there is one."""
    here = problem("evolution(sigma=1.0)", lambda w: (w * 4).round().abs().sum() + 0 * w.sum(), [5.0, -3.0, 4.0])
    assert here.run(100)[-1][1] <= 1


def test_the_children_are_mirrored_and_normal(problem):
    start = np.full(500, 3.0)
    here = problem("evolution(population=40, sigma=0.5)", bowl, start)
    here.optimizer.step(here)
    points = np.array([w for w, _ in here.evaluated])
    assert (points[0] == start).all()
    noise = (points[1:] - start) / 0.5
    assert noise.shape == (40, 500)
    np.testing.assert_allclose(noise[::2], -noise[1::2], atol=1e-12)
    z = noise[::2]
    assert abs(z.mean()) < 5 / math.sqrt(z.size)
    assert z.var() == pytest.approx(1, abs=5 * math.sqrt(2 / z.size))
    assert abs(np.corrcoef(z)[np.triu_indices(20, 1)]).max() < 5 / math.sqrt(500)


@pytest.mark.parametrize(
    ("size", "antithetic", "children"), [(10, True, 10), (10, False, 10), (100, False, 17), (100, True, 18)]
)
def test_the_population_grows_with_the_logarithm(problem, size, antithetic, children):
    here = problem(f"evolution(antithetic={antithetic})", bowl, np.zeros(size))
    here.optimizer.step(here)
    assert len(here.evaluated) == 1 + children


@pytest.mark.parametrize("antithetic", [True, False])
@pytest.mark.parametrize("lr", [1.0, 0.4])
def test_the_mean_moves_by_the_weighted_best(problem, antithetic, lr):
    start, sigma = np.array([1.0, -1.0, 0.5]), 0.2
    here = problem(f"evolution(population=12, sigma={sigma}, antithetic={antithetic})", bowl, start, lr)
    here.optimizer.step(here)
    children = here.evaluated[1:]
    if antithetic:
        children = [min(children[i : i + 2], key=lambda c: c[1]) for i in range(0, 12, 2)]
    mu = 3 if antithetic else 6
    best = sorted(children, key=lambda c: c[1])[:mu]
    share = np.log(mu + 0.5) - np.log(np.arange(1, mu + 1))
    share /= share.sum()
    z = (np.array([w for w, _ in best]) - start) / sigma
    np.testing.assert_allclose(here.w, start + lr * sigma * share @ z, rtol=1e-10)
    mass = 1 / (share**2).sum()
    c = (mass + 2) / (3 + mass + 5)
    d = 1 + 2 * max(0, math.sqrt((mass - 1) / 4) - 1) + c
    path = math.sqrt(c * (2 - c) * mass) * share @ z
    chi = math.sqrt(3) * (1 - 1 / 12 + 1 / (21 * 9))
    expected = sigma * math.exp(min(1, c / d * (np.linalg.norm(path) / chi - 1)))
    assert here.optimizer.memory["sigma"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("antithetic", [True, False])
def test_under_losses_that_say_nothing_sigma_wanders_and_does_not_drift(problem, antithetic):
    """The step-size rule's neutrality, which two mirrored parents would break."""
    draw = np.random.default_rng(0)
    here = problem(f"evolution(antithetic={antithetic})", lambda w: w.sum() * 0 + draw.random(), np.zeros(30))
    here.run(300)
    assert abs(math.log(here.optimizer.memory["sigma"] / 0.1)) < 3


def test_torchs_generator_decides(problem):
    ends = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        here = problem("evolution", bowl, np.zeros(3))
        here.run(3)
        ends.append(here.w.tolist())
    assert ends[0] == ends[1] != ends[2]


def test_a_generator_that_is_set_back_does_not_repeat_the_mutations(problem):
    here = problem("evolution", bowl, np.zeros(3))
    own = here.loss

    def replaying():
        torch.manual_seed(7)
        return own()

    here.loss = replaying
    here.run(2)
    half = len(here.evaluated) // 2
    first, second = here.evaluated[:half], here.evaluated[half:]
    steps = [np.diff([w for w, _ in generation[:2]], axis=0)[0] for generation in (first, second)]
    assert not np.allclose(steps[0] / np.linalg.norm(steps[0]), steps[1] / np.linalg.norm(steps[1]))


def test_children_that_are_not_finite_die(problem):
    here = problem("evolution(sigma=3.0)", lambda w: (w - w.log()).sum(), [5.0, 3.0])
    here.run(150)
    assert any(not np.isfinite(loss) for _, loss in here.evaluated)
    np.testing.assert_allclose(here.w, [1, 1], atol=1e-2)


def test_where_all_die_the_mutations_shrink(problem):
    here = problem(
        "evolution(sigma=1e8)", lambda w: torch.where((w - 1).abs().max() < 1, bowl(w), math.nan), [1.0, 1.0]
    )
    here.run(1)
    assert here.w.tolist() == [1, 1]
    assert here.optimizer.memory["sigma"] == 5e7
    here.run(60)
    assert bowl(here.w) < bowl(torch.ones(2))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("evolution(population=1)", "population must be an integer at least 2, or None, got 1"),
        ("evolution(sigma=0)", "sigma must be more than 0, got 0"),
    ],
)
def test_refusals(text, message):
    with pytest.raises(ConfigError, match=message):
        build("optimizer", text, [{"params": [torch.zeros(1, requires_grad=True)]}], 1.0)
