"""Quasi-Newton methods: curvature learned from how the gradient changes. Course: row A12 (document I, section 13).

One step is one direction and one line search, so an epoch on all items is one iteration. A memory that no longer
gives a direction of descent, or along which nothing lower is found, is forgotten once in favour of the gradient;
where that finds nothing lower either, the method has converged, as far as rounding lets it.

Source: Nocedal and Wright 2006, Numerical Optimization, chapters 3, 6 and 7.

Shape letters in this file: P numbers in all parameters, M pairs that are remembered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from konspekt.core.params import AtLeast
from konspekt.core.registry import system
from konspekt.optim.vector import Point, VectorOptimizer, finite, require_memory, wolfe

__all__ = ["QuasiNewton", "bfgs", "lbfgs"]


class QuasiNewton(VectorOptimizer):
    """The step that the methods share; `direction`, `learn` and `forget` are theirs."""

    def direction(self, point: Point) -> Tensor:
        """(P,), minus the inverse Hessian, as far as it is known, times the gradient."""
        raise NotImplementedError

    def learn(self, s: Tensor, y: Tensor) -> None:
        """Take up that a step s (P,) changed the gradient by y (P,), with s'y > 0."""
        raise NotImplementedError

    @property
    def knows(self) -> bool:
        """Whether a pair was learned."""
        raise NotImplementedError

    def forget(self) -> None:
        """Begin anew, with the gradient's direction."""
        self.memory.clear()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any]) -> float:  # type: ignore[override]
        """Go along one direction; hands back the loss where the step began."""
        start = self.begin(closure)
        if not finite(start):
            return start.loss
        if self.distance(start) <= self.setting("tolerance"):
            self.end(True)
            return start.loss
        lr, found = self.setting("lr"), None
        if lr == 0:  # a warmup's first step
            return start.loss
        if self.knows:
            found = self.search(closure, start, self.direction(start), 1.0)
            if found is None:
                self.forget()
        if found is None:
            steepest = self.direction(start)
            size = float(steepest.double().abs().sum())
            found = self.search(closure, start, steepest, lr * min(1.0, 1.0 / size) if size else lr)
        if found is None:
            self.put(start.w)
            self.end(True)
            return start.loss
        self.put(found.w)
        s, y = found.w - start.w, found.gradient - start.gradient
        sy, yy = float(s.double() @ y.double()), float(y.double() @ y.double())
        if sy > 1e-10 * yy:  # otherwise the curvature would not be positive
            self.learn(s, y)
        self.end(self.distance(found) <= self.setting("tolerance"))
        return start.loss

    def distance(self, point: Point) -> float:
        """How far a point is from fulfilling the condition of a minimum."""
        return float(point.gradient.abs().max())

    def search(self, closure: Callable[[], Any], start: Point, direction: Tensor, first: float) -> Point | None:
        """The line search along a direction (P,)."""
        return wolfe(lambda w: self.probe(closure, w), start, direction, first)


class BFGS(QuasiNewton):
    """Keeps the inverse of the Hessian, (P, P)."""

    name = "bfgs"

    @property
    def knows(self) -> bool:
        return "inverse" in self.memory

    def direction(self, point: Point) -> Tensor:
        return -(self.memory["inverse"] @ point.gradient) if self.knows else -point.gradient

    def learn(self, s: Tensor, y: Tensor) -> None:
        sy = s @ y
        if not self.knows:
            require_memory(self.name, len(s), 3, s, "optimizer='lbfgs'")
            self.memory["inverse"] = torch.eye(len(s), dtype=s.dtype, device=s.device) * (sy / (y @ y))
        inverse: Tensor = self.memory["inverse"]
        # (I - s y'/s'y) C (I - y s'/s'y) + s s'/s'y, multiplied out: no product of matrices
        Cy = inverse @ y
        inverse.addr_(s, s * ((sy + y @ Cy) / sy**2))
        inverse.addr_(Cy / sy, s, alpha=-1)
        inverse.addr_(s, Cy / sy, alpha=-1)


class LBFGS(QuasiNewton):
    """Keeps the last M pairs, and multiplies by the inverse Hessian that they stand for (algorithm 7.4)."""

    name = "lbfgs"

    @property
    def knows(self) -> bool:
        return bool(self.memory.get("s"))

    def direction(self, point: Point) -> Tensor:
        if not self.knows:
            return -point.gradient
        pairs = [(s, y, 1 / (s @ y)) for s, y in zip(self.memory["s"], self.memory["y"], strict=True)]
        q, shares = point.gradient.clone(), []
        for s, y, rho in reversed(pairs):
            shares.append(rho * (s @ q))
            q -= shares[-1] * y
        s, y, rho = pairs[-1]
        q /= rho * (y @ y)
        for (s, y, rho), share in zip(pairs, reversed(shares), strict=True):
            q += (share - rho * (y @ q)) * s
        return -q

    def learn(self, s: Tensor, y: Tensor) -> None:
        for key, value in (("s", s), ("y", y)):
            self.memory[key] = [*self.memory.get(key, []), value][-self.setting("history") :]


@system(name="bfgs", kind="optimizer", rows=("A12",))
def bfgs(groups: list[dict[str, Any]], lr: float, *, tolerance: Annotated[float, AtLeast(0)] = 1e-5) -> Optimizer:
    """BFGS on all items at once: w = w - t C g, C = (I - r s y') C (I - r y s') + r s s' with r = 1 / y's.

    s is the last step, y the change of the gradient along it; before the first update C is s'y / y'y times the identity.
    The length t fulfils the strong Wolfe conditions; the search tries 1 first. `lr` matters only where no curvature is
    known, at the first step and after a memory that led nowhere was forgotten: then the search begins with a step whose
    sum of absolute changes is lr, or less. So lr need not be tuned, and a schedule changes nothing after the first step.
    C has as many rows as there are weights; where memory lacks for it, ResourceError says so. Broyden, Fletcher,
    Goldfarb and Shanno 1970.

    tolerance: the fit stops when no component of the gradient is larger, or when no step lowers the loss.
    """
    made = BFGS(groups, lr, tolerance=tolerance)
    require_memory("bfgs", len(made.weights()), 3, made.weights()[:1], "optimizer='lbfgs'")
    return made


@system(name="lbfgs", kind="optimizer", rows=("A12",))
def lbfgs(
    groups: list[dict[str, Any]],
    lr: float,
    *,
    history: Annotated[int, AtLeast(1)] = 10,
    tolerance: Annotated[float, AtLeast(0)] = 1e-5,
) -> Optimizer:
    """L-BFGS on all items at once: BFGS whose C is rebuilt from the last pairs s, y, and never written out.

    The length of each step fulfils the strong Wolfe conditions. `lr` matters where no curvature is known, as in `bfgs`.
    torch's own LBFGS does many iterations in a step, which a checkpoint could not part, and its search takes a loss
    that is not finite for a number. Liu and Nocedal 1989.

    history: how many pairs are remembered.
    tolerance: the fit stops when no component of the gradient is larger, or when no step lowers the loss.
    """
    return LBFGS(groups, lr, history=history, tolerance=tolerance)
