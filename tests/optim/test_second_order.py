"""Newton's method: closed forms, saddles, singular Hessians, and SciPy's minimum."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.optimize import minimize


def quadratic(seed=0, size=5):
    rng = np.random.default_rng(seed)
    root, b = rng.normal(size=(size, size)), rng.normal(size=size)
    A = root @ root.T + 0.1 * np.eye(size)
    tA, tb = torch.tensor(A), torch.tensor(b)
    return A, b, lambda w: w @ tA @ w / 2 - tb @ w


def test_one_step_solves_a_quadratic(problem):
    A, b, function = quadratic()
    here = problem("newton(damping=0)", function, np.ones(5), split=[2, 3])
    here.run(1)
    np.testing.assert_allclose(here.w, np.linalg.solve(A, b), rtol=1e-9)
    here.run(1)
    assert here.optimizer.converged


@pytest.mark.parametrize(("lr", "damping"), [(0.5, 0.0), (1.0, 0.7), (0.3, 2.0)])
def test_the_damped_step(problem, lr, damping):
    A, b, function = quadratic()
    start = np.ones(5)
    here = problem(f"newton(damping={damping})", function, start, lr)
    here.run(1)
    expected = start - lr * np.linalg.solve(A + damping * np.eye(5), A @ start - b)
    np.testing.assert_allclose(here.w, expected, rtol=1e-9)
    assert here.optimizer.memory["damping"] == pytest.approx(damping / 10)


def test_a_saddle_is_left_downwards(problem):
    """f = x^2 - y^2 + y^4 / 2 has a saddle at 0, where Newton's own step goes, and minima at (0, +-1)."""

    def function(w):
        return w[0] ** 2 - w[1] ** 2 + w[1] ** 4 / 2

    start = np.array([1.0, 0.05])
    own = start - np.linalg.solve(np.diag([2, -2 + 6 * start[1] ** 2]), [2.0, -2 * start[1] + 2 * start[1] ** 3])
    assert abs(own[1]) < 0.001
    here = problem("newton", function, start)
    path = here.run(30)
    assert path[1][0][1] == pytest.approx(2 * 0.05, rel=0.01)  # as far from the saddle as it was near
    np.testing.assert_allclose(here.w, [0, 1], atol=1e-5)
    assert here.optimizer.converged
    assert all(b[1] <= a[1] for a, b in pairwise(path))


def test_the_loss_never_rises_and_the_damping_adapts(problem, rosenbrock):
    here = problem("newton", rosenbrock, [-1.2, 1.0])
    dampings = []
    path = [here._point()]
    while not here.optimizer.converged and len(path) < 50:
        path += here.run(1)[1:]
        dampings.append(here.optimizer.memory.get("damping"))
    np.testing.assert_allclose(here.w, [1, 1], atol=1e-5)
    assert all(b[1] <= a[1] for a, b in pairwise(path))
    assert any(b > a for a, b in pairwise(dampings))
    assert any(b < a for a, b in pairwise(dampings))


def test_convergence_is_quadratic_near_the_minimum(problem, logistic):
    function, other, *_ = logistic
    best = minimize(other, np.zeros(4), jac=True, method="BFGS", options={"gtol": 1e-10}).x
    here = problem("newton(tolerance=1e-12, damping=0)", function, np.zeros(4))
    errors = [np.linalg.norm(w - best) for w, *_ in here.run(12)]
    assert errors[-1] < 1e-7
    assert len(errors) < 12


def test_scipys_minimum_of_a_logistic_regression(problem, logistic):
    function, other, X, y = logistic

    def bends(w):
        p = 1 / (1 + np.exp(-X @ w))
        return X.T @ (X * (p * (1 - p))[:, None]) / len(y) + 0.02 * np.eye(4)

    expected = minimize(other, np.zeros(4), jac=True, hess=bends, method="Newton-CG", options={"xtol": 1e-10})
    here = problem("newton", function, np.zeros(4))
    here.run(30)
    assert here.optimizer.converged
    np.testing.assert_allclose(here.w, expected.x, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_singular_hessian_moves_nothing_along_what_does_not_matter(problem, dtype):
    here = problem("newton(damping=0)", lambda w: (w[0] + w[1] - 1) ** 2, [3.0, 0.0], dtype=dtype)
    here.run(5)
    np.testing.assert_allclose(here.w, [2, -1], atol=1e-4)
    assert here.optimizer.converged


def test_a_linear_loss_is_followed_down(problem):
    here = problem("newton(damping=0)", lambda w: 2 * w[0] - w[1], [0.0, 0.0])
    here.run(1)
    np.testing.assert_allclose(here.w, [-2, 1])


def test_a_step_into_what_is_not_finite_is_shortened(problem):
    here = problem("newton(damping=0)", lambda w: (w - w.log()).sum(), [3.0])  # Newton's own goes to -3
    here.run(20)
    assert any(not np.isfinite(loss) for _, loss in here.evaluated)
    np.testing.assert_allclose(here.w, [1], atol=1e-5)


def test_where_nothing_is_lower_the_weights_stay_and_the_fit_ends(problem):
    here = problem("newton", lambda w: (2 * w.square().detach() - w.square()).sum(), [3.0, -2.0])  # a false gradient
    here.run(5)
    assert here.optimizer.converged
    assert here.w.tolist() == [3, -2]
