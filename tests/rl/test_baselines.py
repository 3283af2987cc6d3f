"""What a baseline does to the gradient, where all of it is known exactly. The reference is the notes' numerical gradient."""

import numpy as np
import pytest
import torch

from konspekt.core.errors import ConfigError
from konspekt.rl.actor_critic import PolicyObjective
from konspekt.rl.baselines import SoftmaxProblem, numerical_gradient
from konspekt.rl.policies import Categorical

THETA = np.array([[0.3, -0.2, 0.8], [-1.0, 0.5, 0.1]])
REWARDS = np.array([[1.0, 3.0, 2.0], [5.0, 4.0, 7.0]])


def one_step() -> SoftmaxProblem:
    return SoftmaxProblem(REWARDS, [0.4, 0.6])


def episodes() -> SoftmaxProblem:
    rng = np.random.default_rng(0)
    transitions = rng.random((2, 3, 2))
    return SoftmaxProblem(REWARDS, [0.7, 0.3], 0.8 * transitions / transitions.sum(2, keepdims=True), gamma=0.9)


@pytest.mark.parametrize("problem", [one_step(), episodes()], ids=["one step", "episodes"])
def test_the_policy_gradient_is_the_numerical_gradient(problem: SoftmaxProblem) -> None:
    numerical = numerical_gradient(problem.objective, THETA)
    np.testing.assert_allclose(problem.gradient(THETA), numerical, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("problem", [one_step(), episodes()], ids=["one step", "episodes"])
@pytest.mark.parametrize("baseline", [0.0, 4.0, -50.0, [2.0, 6.0]])
def test_no_baseline_biases_the_gradient(problem: SoftmaxProblem, baseline: object) -> None:
    numerical = numerical_gradient(problem.objective, THETA) / problem.visits(THETA).sum()
    np.testing.assert_allclose(problem.moments(THETA, baseline).mean, numerical, rtol=1e-3, atol=1e-5)


def test_a_baseline_lowers_the_variance_exactly_where_the_condition_says_so() -> None:
    problem = one_step()
    plain = problem.moments(THETA).variance
    signs = set()
    for b in np.linspace(-3, 12, 31):
        effect = problem.effect(THETA, b)
        assert problem.moments(THETA, b).variance - plain == pytest.approx(effect, abs=1e-12)
        signs.add(bool(effect < 0))
    assert signs == {True, False}  # both happen, whatever Var[b(s)] = 0 says


def test_a_baseline_far_off_raises_the_variance() -> None:
    problem = one_step()
    plain, best = problem.moments(THETA).variance, problem.best_constant(THETA)
    assert problem.moments(THETA, best).variance < plain
    # The change is a parabola in b with zeros at 0 and twice the best constant.
    assert problem.moments(THETA, 2.01 * best).variance > plain
    assert problem.moments(THETA, -0.1).variance > plain  # all Q are above 0


def test_the_value_as_a_baseline_can_raise_the_variance() -> None:
    # The likely action pays 1 and has a small score, the rare one pays nothing and has a large one: Q is 0 where it matters.
    problem = SoftmaxProblem([[1.0, 0.0]], [1.0])
    theta = np.array([[3.0, 0.0]])
    v = problem.v(theta)
    assert problem.moments(theta, v).variance > problem.moments(theta).variance
    assert problem.effect(theta, v) > 0
    best = problem.best_constant(theta)
    p = 1 / (1 + np.exp(-3))
    assert v[0] == pytest.approx(p)
    assert best == pytest.approx(1 - p)  # |z|^2 is 2 (1 - p)^2 of the likely, 2 p^2 of the rare
    assert problem.moments(theta, best).variance < problem.moments(theta).variance


def test_the_best_constant_is_the_lowest_of_all() -> None:
    problem = episodes()
    best = problem.best_constant(THETA)
    tried = np.linspace(best - 5, best + 5, 1001)
    variances = [problem.moments(THETA, b).variance for b in tried]
    assert tried[int(np.argmin(variances))] == pytest.approx(best, abs=1e-9)
    by_state = problem.moments(THETA, problem.best_by_state(THETA)).variance
    assert by_state < min(variances)
    assert by_state < problem.moments(THETA, problem.v(THETA)).variance


def test_the_moments_are_those_of_samples() -> None:
    problem = one_step()
    rng = np.random.default_rng(1)
    states = rng.choice(2, 200_000, p=[0.4, 0.6])
    chances = problem.policy(THETA)[states]
    actions = (rng.random(len(states))[:, None] > chances.cumsum(1)).sum(1)
    samples = problem.scores(THETA)[states, actions] * (REWARDS[states, actions] - 4.0)[:, None]
    moments = problem.moments(THETA, 4.0)
    np.testing.assert_allclose(samples.mean(0), moments.mean, atol=0.02)
    assert samples.var(0).sum() == pytest.approx(moments.variance, rel=0.01)


@pytest.mark.parametrize("baseline", [0.0, 4.0])
def test_the_objective_of_the_agents_has_that_gradient(baseline: float) -> None:
    """One batch in which each state and action stands as often as the policy takes it."""
    problem = one_step()

    class Table(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.theta = torch.nn.Parameter(torch.tensor(THETA))

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
            return self.theta[x], None

    table = Table()
    states, actions = (torch.tensor(part.ravel()) for part in np.indices(REWARDS.shape))
    chance = torch.tensor((np.array([[0.4], [0.6]]) * problem.policy(THETA)).ravel())
    advantage = (torch.tensor(REWARDS.ravel()) - baseline) * chance * len(chance)  # the loss takes a mean
    batch = {"observation": states, "action": actions, "advantage": advantage, "index": torch.arange(6)}
    loss = PolicyObjective(table, Categorical(3)).loss(batch, "model")["loss"]  # type: ignore[arg-type]
    (slope,) = torch.autograd.grad(loss, table.theta)
    np.testing.assert_allclose(
        -slope.numpy().ravel(), numerical_gradient(problem.objective, THETA), rtol=1e-4, atol=1e-5
    )


def test_what_is_no_problem_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"rewards must be \(S, A\) and start \(S,\), got \(3,\) and \(1,\)"):
        SoftmaxProblem([1.0, 2.0, 3.0], [1.0])
    with pytest.raises(ConfigError, match=r"start must be probabilities with the sum 1, got the sum 0\.5"):
        SoftmaxProblem([[1.0, 2.0]], [0.5])
    with pytest.raises(ConfigError, match=r"transitions must be \(S, A, S\) = \(1, 2, 1\), got \(1, 2, 2\)"):
        SoftmaxProblem([[1.0, 2.0]], [1.0], np.zeros((1, 2, 2)))
    with pytest.raises(ConfigError, match="a sum of at most 1"):
        SoftmaxProblem([[1.0, 2.0]], [1.0], np.full((1, 2, 1), 1.5))
