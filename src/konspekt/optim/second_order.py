"""Newton's method with the whole Hessian. Course: row A12 (document I, section 13).

Shape letters in this file: P numbers in all parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import torch
from torch.optim import Optimizer

from konspekt.core.params import AtLeast
from konspekt.core.registry import system
from konspekt.optim.vector import VectorOptimizer, finite, offered, require_memory

__all__ = ["newton"]

_TRIES = 40  # each multiplies the damping by ten, so all of float32's range is looked at
_COPIES = 6  # the Hessian, its eigenvectors, and what is needed to find them


class Newton(VectorOptimizer):
    """Damped Newton steps that never raise the loss; keeps the damping from step to step."""

    name = "newton"

    @torch.no_grad()
    def step(self, closure: Callable[[], Any]) -> float:  # type: ignore[override]
        """Take one step; hands back the loss where it began."""
        hessian, loss_of = offered(closure, "hessian", self.name), offered(closure, "loss", self.name)
        start = self.begin(closure)
        if not finite(start):
            return start.loss
        self.end(float(start.gradient.abs().max()) <= self.setting("tolerance"))
        lr = self.setting("lr")
        if self.converged or lr == 0:
            return start.loss
        places = self.places(closure)
        values, vectors = torch.linalg.eigh(hessian()[places[:, None], places].double())
        g = vectors.T @ start.gradient[places].double()
        largest = float(values.abs().max())
        # A direction without curvature, as the softmax's common shift, has rounding for a curvature.
        bends = values.abs().clamp(min=len(g) * torch.finfo(start.w.dtype).eps * largest)
        damping = self.memory.get("damping", self.setting("damping"))
        for attempt in range(_TRIES):
            below = bends + damping
            move = g / torch.where(below > 0, below, 1.0)
            self.put(start.w.index_add(0, places, (-lr * (vectors @ move)).to(start.w)))
            loss, promised = loss_of(), lr * float(g @ move)
            hidden = promised <= 10 * torch.finfo(start.w.dtype).eps * abs(start.loss)  # by rounding
            if hidden and attempt:
                break
            if loss <= (start.loss if hidden else start.loss - 1e-4 * promised):
                self.memory["damping"] = damping / 10 if attempt == 0 else damping
                return start.loss
            damping = max(10 * damping, 1e-4 * largest, 1e-12)
        self.put(start.w)
        self.end(True)
        return start.loss


@system(name="newton", kind="optimizer", rows=("A12",))
def newton(
    groups: list[dict[str, Any]],
    lr: float,
    *,
    damping: Annotated[float, AtLeast(0)] = 1e-3,
    tolerance: Annotated[float, AtLeast(0)] = 1e-5,
) -> Optimizer:
    """Newton-Raphson on all items at once: w = w - lr (|H| + damping I)^-1 g, with `lr` the notes' mu, usually 1.

    |H| is the Hessian with its eigenvalues made positive: at a saddle or a hill, where H has negative ones, Newton's own
    step would go up to it, this one goes down and away (Dauphin et al. 2014, https://arxiv.org/abs/1406.2572). Where H is
    positive definite the two are the same. The damping adapts as Levenberg (1944) and Marquardt (1963) have it: ten
    times larger until the step lowers the loss by 1e-4 of what the slope promises, and a tenth after a step that did at
    once, so that near a minimum the steps become Newton's. The damped step is lr times as long: with the estimators'
    default lr it creeps; give lr=1.

    A step costs as many backward passes as there are weights, and their cube; where memory lacks for the Hessian,
    ResourceError says so.

    damping: what is added to each eigenvalue at the first step; 0: nothing until a step fails.
    tolerance: the fit stops when no component of the gradient is larger, or when no step lowers the loss.
    """
    made = Newton(groups, lr, damping=float(damping), tolerance=tolerance)
    w = made.weights().double()
    require_memory("newton", len(w), _COPIES, w[:1], "optimizer='lbfgs'")
    return made
