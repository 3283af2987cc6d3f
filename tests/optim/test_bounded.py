"""L-BFGS-B against SciPy's, and its two inner problems against a search by force and linear algebra."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize, rosen, rosen_der

from konspekt.core import ConfigError
from konspekt.optim.bounded import cauchy_point, subspace_minimum

BOXES = [(-2.0, 0.8), (0.2, 0.5), (None, 0.9), (1.3, None), (-5.0, 5.0), (-1.0, -0.5)]
START = np.array([-1.2, 1.0, 0.7, -0.3, 2.0])


@pytest.mark.parametrize("box", BOXES)
def test_scipys_minimum_on_a_bounded_rosenbrock(problem, rosenbrock, box):
    start = np.clip(START, *box)
    expected = minimize(
        rosen, start, jac=rosen_der, method="L-BFGS-B", bounds=[box] * 5, options={"ftol": 0, "gtol": 1e-8}
    )
    here = problem(f"lbfgsb(lower={box[0]}, upper={box[1]}, tolerance=1e-7)", rosenbrock, START, split=[3, 2])
    here.run(200)
    low, high = (-np.inf if box[0] is None else box[0]), (np.inf if box[1] is None else box[1])
    assert here.optimizer.converged
    assert all((low <= w).all() and (w <= high).all() for w, _ in here.evaluated)
    np.testing.assert_allclose(here.w, expected.x, rtol=1e-5, atol=1e-6)
    at = ((here.w.numpy() == low) | (here.w.numpy() == high)).tolist()
    assert at == [x in box for x in expected.x]
    assert sum(at) > 0 or box == (-5.0, 5.0)


def test_scipys_minimum_of_a_bounded_logistic_regression(problem, logistic):
    function, other, *_ = logistic
    expected = minimize(
        other, np.zeros(4), jac=True, method="L-BFGS-B", bounds=[(0, 0.5)] * 4, options={"gtol": 1e-9, "ftol": 0}
    )
    here = problem("lbfgsb(lower=0, upper=0.5, tolerance=1e-8)", function, np.zeros(4))
    here.run(100)
    np.testing.assert_allclose(here.w, expected.x, rtol=1e-6, atol=1e-7)
    assert 0 in here.w.tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_condition_is_that_of_the_projected_gradient(problem, dtype):
    here = problem(
        "lbfgsb(lower=0.1)", lambda w: (w - torch.tensor([3.0, -4.0])).square().sum(), [1.0, 5.0], dtype=dtype
    )
    here.run(20)
    assert here.optimizer.converged
    torch.testing.assert_close(here.w, torch.tensor([3.0, 0.1], dtype=dtype))
    assert here.w[1] == torch.tensor(0.1, dtype=dtype)


def model(seed, size=6, pairs=3):
    """A quadratic with theta, W, M as its Hessian, and the Hessian written out."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(size, size))
    S = rng.normal(size=(size, pairs))
    Y = (root @ root.T + np.eye(size)) @ S
    theta = Y[:, -1] @ Y[:, -1] / (S[:, -1] @ Y[:, -1])
    SY = S.T @ Y
    L = np.tril(SY, -1)
    M = np.linalg.inv(np.block([[-np.diag(np.diag(SY)), L.T], [L, theta * S.T @ S]]))
    W = np.hstack([Y, theta * S])
    B = theta * np.eye(size) - W @ M @ W.T
    np.testing.assert_allclose(B @ S[:, -1], Y[:, -1], rtol=1e-8)  # the secant equation
    x, g = rng.uniform(-1, 1, size), rng.normal(size=size) * 5
    return rng, x, g, theta, W, M, B


@pytest.mark.parametrize("seed", range(8))
def test_the_cauchy_point_is_the_first_minimum_on_the_bent_path(seed):
    rng, x, g, theta, W, M, B = model(seed)
    low, high = x - rng.uniform(0, 0.4, len(x)), x + rng.uniform(0, 0.4, len(x))
    low[0] = x[0] if g[0] > 0 else low[0]  # one that is at its bound already

    def at(t):
        move = np.clip(x - t * g, low, high) - x
        return g @ move + move @ B @ move / 2

    times = np.linspace(0, 1.0, 4_001)
    values = np.array([at(t) for t in times])
    rising = np.flatnonzero(np.diff(values) > 1e-15)
    t = times[rising[0]] if len(rising) else times[-1]
    found, c = cauchy_point(x, g, low, high, theta, W, M)
    np.testing.assert_allclose(found, np.clip(x - t * g, low, high), atol=3e-4 * abs(g).max())
    np.testing.assert_allclose(c, W.T @ (found - x), atol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_without_bounds_the_end_is_newtons(seed):
    _, x, g, theta, W, M, B = model(seed)
    wide = np.full(len(x), np.inf)
    cauchy, c = cauchy_point(x, g, -wide, wide, theta, W, M)
    end = subspace_minimum(x, g, -wide, wide, theta, W, M, cauchy, c)
    np.testing.assert_allclose(end, x - np.linalg.solve(B, g), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("seed", range(4))
def test_over_what_is_free_the_model_is_minimised(seed):
    """The box holds two at their bounds and leaves the others room."""
    _, x, g, theta, W, M, B = model(seed)
    low, high = x - 1e3, x + 1e3
    low[:2], high[:2] = x[:2], x[:2]
    cauchy, c = cauchy_point(x, g, low, high, theta, W, M)
    end = subspace_minimum(x, g, low, high, theta, W, M, cauchy, c)
    assert (end[:2] == x[:2]).all()
    np.testing.assert_allclose((g + B @ (end - x))[2:], 0, atol=1e-8)


@pytest.mark.parametrize("seed", range(4))
def test_where_the_box_is_in_the_way_the_step_is_cut_and_keeps_its_direction(seed):
    _, x, g, theta, W, M, _B = model(seed)
    wide = np.full(len(x), np.inf)
    cauchy, c = cauchy_point(x, g, -wide, wide, theta, W, M)
    whole = subspace_minimum(x, g, -wide, wide, theta, W, M, cauchy, c) - cauchy
    low = cauchy - abs(whole) * np.linspace(0.2, 0.9, len(x))
    end = subspace_minimum(x, g, low, wide, theta, W, M, cauchy, c)
    share = min(s for s, m in zip(np.linspace(0.2, 0.9, len(x)), whole, strict=True) if m < 0)
    np.testing.assert_allclose(end, cauchy + share * whole, rtol=1e-9, atol=1e-12)


def test_a_hill_ends_in_a_corner_and_teaches_no_curvature(problem):
    here = problem("lbfgsb(lower=-1, upper=2)", lambda w: -w.square().sum(), [0.5, -0.2])
    here.run(20)
    assert here.optimizer.converged
    assert here.w.tolist() == [2, -1]
    assert not here.optimizer.memory


def test_a_box_that_is_none_is_refused(problem):
    with pytest.raises(ConfigError, match=r"lower must be less than upper, got lower=1, upper=0\.5"):
        problem("lbfgsb(lower=1, upper=0.5)", torch.sum, [0.0])
