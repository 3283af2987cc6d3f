"""BFGS and L-BFGS against their formulas, SciPy's minima, and the conditions that each step must fulfil."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.optimize import minimize, rosen

from konspekt.optim.vector import Point

METHODS = ["bfgs", "lbfgs", "lbfgsb"]  # the last without bounds
START = [-1.2, 1.0, 0.7]


def matrix_of(pairs, scale):
    """The notes' formula, from `scale` times the identity."""
    eye = np.eye(len(pairs[0][0]))
    C = scale * eye
    for s, y in pairs:
        rho = 1 / (y @ s)
        C = (eye - rho * np.outer(s, y)) @ C @ (eye - rho * np.outer(y, s)) + rho * np.outer(s, s)
    return C


def pairs_of(path):
    return [(b[0] - a[0], b[2] - a[2]) for a, b in pairwise(path)]


def test_bfgs_keeps_the_inverse_of_the_formula(problem, rosenbrock):
    here = problem("bfgs", rosenbrock, START)
    path = here.run(7)
    pairs = pairs_of(path)
    s, y = pairs[0]
    expected = matrix_of(pairs, s @ y / (y @ y))
    inverse = here.optimizer.memory["inverse"].numpy()
    np.testing.assert_allclose(inverse, expected, rtol=1e-8, atol=1e-10)
    # the next step goes along it
    here.run(1)
    d, moved = -expected @ path[-1][2], here.w.numpy() - path[-1][0]
    assert d @ moved == pytest.approx(np.linalg.norm(d) * np.linalg.norm(moved), rel=1e-9)


@pytest.mark.parametrize("history", [1, 3, 20])
@pytest.mark.parametrize("name", ["lbfgs", "lbfgsb"])
def test_lbfgs_multiplies_by_the_matrix_of_its_last_pairs(problem, rosenbrock, name, history):
    here = problem(f"{name}(history={history})", rosenbrock, START)
    path = here.run(7)
    pairs = pairs_of(path)[-history:]
    s, y = pairs[-1]
    w, loss, gradient = path[-1]
    expected = -matrix_of(pairs, s @ y / (y @ y)) @ gradient
    found = here.optimizer.direction(Point(torch.tensor(w), loss, torch.tensor(gradient)))
    np.testing.assert_allclose(found, expected, rtol=1e-7)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("lr", [1e-3, 1.0, 100.0])
def test_rosenbrocks_minimum(problem, rosenbrock, name, lr):
    here = problem(name, rosenbrock, [-1.2, 1.0], lr, split=[1, 1])
    path = here.run(100)
    assert here.optimizer.converged
    np.testing.assert_allclose(here.w, [1, 1], atol=1e-4)
    assert abs(path[-1][2]).max() <= 1e-5 < abs(path[-2][2]).max()
    assert len(path) < 60
    assert rosen(here.evaluated[7][0]) == pytest.approx(here.evaluated[7][1], rel=1e-12)


@pytest.mark.parametrize("name", METHODS)
def test_scipys_minimum_of_a_logistic_regression(problem, logistic, name):
    function, other, *_ = logistic
    expected = minimize(other, np.zeros(4), jac=True, method="BFGS", options={"gtol": 1e-9})
    here = problem(f"{name}(tolerance=1e-8)", function, np.zeros(4))
    here.run(200)
    np.testing.assert_allclose(here.w, expected.x, rtol=1e-5, atol=1e-6)
    assert here.function(here.w).item() == pytest.approx(expected.fun, rel=1e-12)


@pytest.mark.parametrize("name", METHODS)
def test_each_step_fulfils_the_strong_wolfe_conditions(problem, rosenbrock, name):
    path = problem(name, rosenbrock, START).run(25)
    assert len(path) == 26
    for (w, loss, gradient), (v, lower, slope) in pairwise(path):
        assert lower <= loss + 1e-4 * gradient @ (v - w)
        assert abs(slope @ (v - w)) <= 0.9 * abs(gradient @ (v - w))


@pytest.mark.parametrize("name", METHODS)
def test_points_where_the_loss_is_not_finite_are_walked_around(problem, name):
    here = problem(name, lambda w: (w - w.log()).sum(), [5.0, 0.02], lr=1e4)
    here.run(60)
    assert any(not np.isfinite(loss) for _, loss in here.evaluated)
    np.testing.assert_allclose(here.w, [1, 1], atol=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_float32_ends_where_rounding_hides_what_is_lower(problem, rosenbrock, name):
    here = problem(f"{name}(tolerance=0)", rosenbrock, [-1.2, 1.0], dtype=torch.float32)
    here.run(200)
    assert here.optimizer.converged
    np.testing.assert_allclose(here.w, [1, 1], atol=2e-3)


@pytest.mark.parametrize("name", METHODS)
def test_where_nothing_is_lower_the_weights_stay_and_the_fit_ends(problem, name):
    here = problem(name, lambda w: (2 * w.square().detach() - w.square()).sum(), [3.0, -2.0])  # a false gradient
    here.run(5)
    assert here.optimizer.converged
    assert here.w.tolist() == [3, -2]


@pytest.mark.parametrize("name", METHODS)
def test_a_minimum_is_known_before_a_step(problem, name):
    here = problem(name, lambda w: w.square().sum(), [0.0, 0.0])
    assert not here.optimizer.converged
    here.run(1)
    assert here.optimizer.converged
    assert len(here.evaluated) == 1


def test_a_memory_that_leads_nowhere_is_forgotten(problem, rosenbrock):
    for name, spoil in (("bfgs", "inverse"), ("lbfgs", "y")):
        here = problem(name, rosenbrock, START)
        before = here.run(3)[-1][1]
        memory = here.optimizer.memory[spoil]
        for part in memory if isinstance(memory, list) else [memory]:
            part.neg_()
        after = here.run(1)[-1][1]
        assert after < before
        assert not here.optimizer.converged


def test_plain_closures_do(rosenbrock):
    from konspekt.core.params import build

    w = torch.tensor([-1.2, 1.0], dtype=torch.float64, requires_grad=True)
    optimizer = build("optimizer", "lbfgs", [{"params": [w]}], 1.0)

    def closure():
        optimizer.zero_grad()
        loss = rosenbrock(w)
        loss.backward()
        return loss

    first = optimizer.step(closure)
    assert first == pytest.approx(rosen([-1.2, 1.0]), rel=1e-12)  # the loss where the step began
    for _ in range(60):
        optimizer.step(closure)
    np.testing.assert_allclose(w.detach(), [1, 1], atol=1e-4)
