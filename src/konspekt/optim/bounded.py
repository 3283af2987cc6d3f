"""L-BFGS-B: quasi-Newton steps inside a box. Course: row A12 (document I, section 13).

Source: Byrd, Lu, Nocedal and Zhu 1995, A limited memory algorithm for bound constrained optimization, SIAM J. Sci.
Comput. 16(5), whose algorithm CP, direct primal method (5.11) and matrices W, M these are. SciPy's L-BFGS-B is the
same method, but its public form runs to the end in one call, and could not be stopped and resumed.

Shape letters in this file: P numbers in all parameters, M pairs that are remembered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer

from konspekt.core.errors import ConfigError
from konspekt.core.params import AtLeast
from konspekt.core.registry import system
from konspekt.optim.quasi_newton import LBFGS
from konspekt.optim.vector import Point, wolfe

__all__ = ["lbfgsb"]

Array = NDArray[np.float64]


class LBFGSB(LBFGS):
    """The memory of L-BFGS, a direction that ends inside the box, and a search that does not leave it."""

    name = "lbfgsb"

    low: Tensor
    high: Tensor

    def step(self, closure: Callable[[], Any]) -> float:  # type: ignore[override]
        """Take one step inside the box, into which the weights are put first."""
        w = self.weights()
        lower, upper, places = self.setting("lower"), self.setting("upper"), self.places(closure)
        self.low, self.high = torch.full_like(w, -np.inf), torch.full_like(w, np.inf)
        if lower is not None:
            self.low[places] = lower
        if upper is not None:
            self.high[places] = upper
        with torch.no_grad():
            self.put(self._inside(w))
        return super().step(closure)

    def _inside(self, w: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(w, self.low), self.high)

    def distance(self, point: Point) -> float:
        return float((self._inside(point.w - point.gradient) - point.w).abs().max())

    def direction(self, point: Point) -> Tensor:
        x, g, low, high = (v.double().cpu().numpy() for v in (point.w, point.gradient, self.low, self.high))
        theta, W, M = self._compact(len(x))
        cauchy, c = cauchy_point(x, g, low, high, theta, W, M)
        end = subspace_minimum(x, g, low, high, theta, W, M, cauchy, c)
        return torch.as_tensor(end - x).to(point.w)

    def search(self, closure: Callable[[], Any], start: Point, direction: Tensor, first: float) -> Point | None:
        room = torch.where(direction > 0, self.high - start.w, start.w - self.low) / direction.abs()
        longest = float(room[direction != 0].min()) if bool((direction != 0).any()) else 0.0
        slack = 2 * torch.finfo(start.w.dtype).eps

        def evaluate(w: Tensor) -> Point:
            for bound in (self.low, self.high):  # what is at a bound but for rounding is put there
                near = (w - bound).abs() <= slack * (start.w.abs() + bound.abs())
                w = torch.where(near & bound.isfinite(), bound, w)
            return self.probe(closure, self._inside(w))

        return wolfe(evaluate, start, direction, first, max(longest, 1.0))

    def _compact(self, size: int) -> tuple[float, Array, Array]:
        """theta, W (P, 2M), M (2M, 2M) of the Hessian theta I - W M W' that the pairs stand for."""
        if not self.knows:
            return 1.0, np.zeros((size, 0)), np.zeros((0, 0))
        S, Y = (torch.stack(self.memory[key]).double().cpu().numpy().T for key in ("s", "y"))
        theta = float(Y[:, -1] @ Y[:, -1] / (S[:, -1] @ Y[:, -1]))
        SY = S.T @ Y
        L, D = np.tril(SY, -1), np.diag(np.diag(SY))
        middle = np.block([[-D, L.T], [L, theta * (S.T @ S)]])
        return theta, np.hstack([Y, theta * S]), np.linalg.inv(middle)


def cauchy_point(x: Array, g: Array, low: Array, high: Array, theta: float, W: Array, M: Array) -> tuple[Array, Array]:
    """The first minimum of the quadratic model along the gradient's path bent at the box, (P,), and W'(it - x), (2M,)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        breaks = np.where(g < 0, (x - high) / g, np.where(g > 0, (x - low) / g, np.inf))
    d = np.where(breaks > 0, -g, 0.0)
    at = x.copy()
    p, c = W.T @ d, np.zeros(W.shape[1])
    slope = -(d @ d)
    bend = -theta * slope - p @ M @ p
    order = [i for i in np.argsort(breaks, kind="stable") if 0 < breaks[i] < np.inf]
    best, before = (-slope / bend if slope < 0 else 0.0), 0.0
    least = np.finfo(float).eps * max(bend, 0.0)
    for i in order:
        step = breaks[i] - before
        if best < step:
            break
        at[i] = high[i] if d[i] > 0 else low[i]
        c += step * p
        moved, row = at[i] - x[i], W[i]
        slope += step * bend + g[i] ** 2 + theta * g[i] * moved - g[i] * (row @ M @ c)
        bend += -theta * g[i] ** 2 - 2 * g[i] * (row @ M @ p) - g[i] ** 2 * (row @ M @ row)
        bend = max(bend, least)
        p += g[i] * row
        d[i] = 0.0
        before = breaks[i]
        best = -slope / bend if bend > 0 else 0.0
    best = max(best, 0.0)
    free = d != 0
    at[free] = x[free] + (before + best) * d[free]
    return np.clip(at, low, high), c + best * p


def subspace_minimum(
    x: Array, g: Array, low: Array, high: Array, theta: float, W: Array, M: Array, cauchy: Array, c: Array
) -> Array:
    """The model's minimum over what is not at a bound at the Cauchy point, as far towards it as the box allows, (P,)."""
    free = (cauchy > low) & (cauchy < high)
    if not free.any():
        return cauchy
    r = (g + theta * (cauchy - x) - W @ (M @ c))[free]
    Z = W[free]
    v = M @ (Z.T @ r)
    v = np.linalg.solve(np.eye(len(M)) - M @ (Z.T @ Z) / theta, v) if len(M) else v
    move = -r / theta - Z @ v / theta**2
    with np.errstate(divide="ignore", invalid="ignore"):
        room = np.where(move > 0, (high - cauchy)[free] / move, np.where(move < 0, (low - cauchy)[free] / move, np.inf))
    end = cauchy.copy()
    end[free] += min(1.0, float(room.min())) * move
    return np.clip(end, low, high)


@system(name="lbfgsb", kind="optimizer", rows=("A12",))
def lbfgsb(
    groups: list[dict[str, Any]],
    lr: float,
    *,
    lower: float | None = None,
    upper: float | None = None,
    history: Annotated[int, AtLeast(1)] = 10,
    tolerance: Annotated[float, AtLeast(0)] = 1e-5,
) -> Optimizer:
    """L-BFGS-B on all items at once: L-BFGS with every parameter, biases too, between `lower` and `upper`.

    The generalised Cauchy point says which bounds hold, the quadratic model is minimised over the rest, and a strong
    Wolfe search goes from the weights towards that point. `lr` matters where no curvature is known, as in `bfgs`.
    The engine's decoupled `weight_decay` moves weights after a step, which may leave the box again; `l2` does not. Byrd, Lu, Nocedal and Zhu 1995.

    lower: the least value of a weight; None: no bound.
    upper: the largest value of a weight; None: no bound.
    history: how many pairs are remembered.
    tolerance: the fit stops when no component of the projected gradient is larger, or when no step lowers the loss.
    """
    if lower is not None and upper is not None and not lower < upper:
        raise ConfigError(f"optimizer 'lbfgsb': lower must be less than upper, got lower={lower:g}, upper={upper:g}")
    return LBFGSB(groups, lr, lower=lower, upper=upper, history=history, tolerance=tolerance)
