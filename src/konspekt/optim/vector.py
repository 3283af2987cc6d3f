"""What second-order optimisers share: all parameters as one vector, the memory of a matrix, the line search. Row A12.

These optimisers ask their closure for more than a loss and a gradient. `Evaluations` is what the engine's closure
offers; those that need a gradient only (`bfgs`, `lbfgs`, `lbfgsb`) work with any closure of torch's kind.

Shape letters in this file: P numbers in all parameters (and in what pads them).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from konspekt.core.errors import ConfigError, ResourceError
from konspekt.core.memory import available_memory

__all__ = ["Evaluations", "Point", "VectorOptimizer", "finite", "offered", "require_memory", "wolfe"]


class Evaluations(Protocol):
    """What the engine's closure tells an optimiser about the point where the weights are.

    Every answer within a step is of the same batch and the same random numbers. The first must be of the point where the
    step begins, by a call or by `loss`; it is refused where it is not finite.
    """

    def __call__(self) -> Tensor:
        """The loss; the gradient is in the parameters' `grad`."""

    def probe(self) -> Tensor:
        """The same at a point that is only tried: the loss is inf where it or its gradient is not finite."""

    def loss(self) -> float:
        """The loss without its gradient; inf where it is not finite, but at the step's begin."""

    def hessian(self) -> Tensor:
        """(P, P), the second derivatives of the loss; the identity in what pads the parameters."""

    def item_gradients(self, estimate: str) -> Tensor:
        """(B, P), the gradient of each item's loss: of its own target ("empirical") or of one drawn from the model."""

    def blocks(self) -> list[slice]:
        """Where in the vector each parameter is."""


def offered(closure: Any, what: str, name: str) -> Any:
    """The method `what` of a closure.

    Raises ConfigError where it has none, as torch's plain closures.
    """
    found = getattr(closure, what, None)
    if found is None:
        raise ConfigError(
            f"optimizer {name!r} needs a closure with a method {what}(), as the engine's; got {closure!r}"
        )
    return found


def require_memory(name: str, size: int, copies: float, like: Tensor, instead: str) -> None:
    """Raise ResourceError where `copies` matrices of size * size cannot be had; `instead` says what to do."""
    needed = copies * size * size * like.element_size()
    free = _free_memory(like.device)
    if needed > free:
        raise ResourceError(
            f"optimizer {name!r} keeps matrices of {size} x {size} numbers, about {needed / 2**30:.3g} GiB; "
            f"{free / 2**30:.3g} GiB of memory are free. Take {instead}, or a smaller net"
        )


def _free_memory(device: torch.device) -> float:
    """Bytes that can be had without swapping: of the GPU, or of the machine."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    free = available_memory()
    return math.inf if free is None else float(free)


class Point(NamedTuple):
    """A point: weights (P,), loss, gradient (P,)."""

    w: Tensor
    loss: float
    gradient: Tensor


class VectorOptimizer(Optimizer):
    """An optimiser that sees all parameters of all groups as one vector, and moves it by one step length.

    settings: what `state_dict` keeps of each group, beside "lr" and "converged".

    Attributes: `name`: as it is registered, for messages; `full_batch`: the engine feeds all items as one batch, because curvature between different batches is
    none; `exact`: the engine refuses to clip,
    because a clipped gradient is the slope of nothing; `converged`: whether the
    fit is to end. Point, state and random numbers decide a step, so a resumed run takes the same path.

    Raises ConfigError where groups have steps of their own.
    """

    name: str
    full_batch = True
    exact = True

    def __init__(self, groups: list[dict[str, Any]], lr: float, **settings: Any) -> None:
        super().__init__(groups, {"lr": lr, "converged": False, **settings})
        rates = sorted({group["lr"] for group in self.param_groups})
        if len(rates) > 1:
            raise ConfigError(
                f"optimizer {self.name!r} moves all parameters by one step length; groups with their own ({rates}) are for "
                "first-order optimisers"
            )

    @property
    def converged(self) -> bool:
        """Whether the largest part of the gradient is within the tolerance, or no step lowers the loss any more."""
        return bool(self.param_groups[0]["converged"])

    @property
    def memory(self) -> dict[str, Any]:
        """What lives from step to step; `state_dict` keeps it with the first parameter."""
        state: dict[str, Any] = self.state[self.param_groups[0]["params"][0]]
        return state

    def setting(self, key: str) -> Any:
        """The value of a setting, which is the same in all groups."""
        return self.param_groups[0][key]

    def end(self, converged: bool) -> None:
        """Say whether the fit is to end."""
        for group in self.param_groups:
            group["converged"] = converged

    def weights(self) -> Tensor:
        """(P,), a copy."""
        return torch.cat([p.detach().reshape(-1) for group in self.param_groups for p in group["params"]])

    def gradient(self) -> Tensor:
        """(P,), a copy; zero for a parameter without one."""
        parts = [p for group in self.param_groups for p in group["params"]]
        return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in parts])

    def put(self, w: Tensor) -> None:
        """Set all parameters from (P,)."""
        place = 0
        for group in self.param_groups:
            for p in group["params"]:
                p.detach().copy_(w[place : place + p.numel()].view_as(p))
                place += p.numel()

    def places(self, closure: Any) -> Tensor:
        """(R,) int64, which of the P numbers are parameters: those that pad them stay 0, and count for nothing."""
        device = self.param_groups[0]["params"][0].device
        if not hasattr(closure, "blocks"):
            return torch.arange(sum(p.numel() for g in self.param_groups for p in g["params"]), device=device)
        return torch.cat([torch.arange(b.start, b.stop, device=device) for b in closure.blocks()])

    def begin(self, closure: Callable[[], Any]) -> Point:
        """Loss and gradient at the point where the step begins."""
        return Point(self.weights(), _ask(closure), self.gradient())

    def probe(self, closure: Callable[[], Any], w: Tensor) -> Point:
        """Loss and gradient at another point; a loss of inf says that it cannot be used."""
        self.put(w)
        loss = _ask(getattr(closure, "probe", closure))
        gradient = self.gradient()
        usable = math.isfinite(loss) and bool(torch.isfinite(gradient).all())
        return Point(w, loss if usable else math.inf, gradient)


def _ask(closure: Callable[[], Any]) -> float:
    with torch.enable_grad():
        loss = closure()
    return float(loss.detach() if isinstance(loss, Tensor) else loss)


def finite(point: Point) -> bool:
    """Whether loss and gradient are; at the step's begin only a GPU, which is asked late, gives others."""
    return math.isfinite(point.loss) and bool(torch.isfinite(point.gradient).all())


def wolfe(
    evaluate: Callable[[Tensor], Point], start: Point, direction: Tensor, first: float, longest: float = math.inf
) -> Point | None:
    """A point along `direction` (P,) that fulfils the strong Wolfe conditions, with c1 = 1e-4 and c2 = 0.9.

    The search is SciPy's (Nocedal and Wright 2006, algorithms 3.5 and 3.6). Where it ends without such a point, as at
    the bound `longest` or where rounding hides the slope, the lowest point that it met is taken; where that is not
    lower than `start`, it looks at steps ten thousand times shorter. None: nothing lower was found.

    evaluate: loss and gradient at weights (P,), the loss inf where a step is too long.
    first: the step length that is tried first.
    """
    from scipy.optimize import line_search

    slope = float(start.gradient.double() @ direction.double())
    if not slope < 0 or first <= 0:
        return None
    tried: dict[float, tuple[Point, float]] = {}

    def at(length: float) -> tuple[Point, float]:
        if length not in tried:
            point = evaluate(start.w + length * direction)
            usable = math.isfinite(point.loss)
            tried[length] = point, float(point.gradient.double() @ direction.double()) if usable else math.inf
        return tried[length]

    for shorter in (1.0, 1e-4):
        unit = min(first, longest) * shorter  # so that SciPy's first step, 1, is ours
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", RuntimeWarning
            )  # it warns where it ends without a point; that is seen below
            found = line_search(
                lambda x, unit=unit: at(float(x[0]) * unit)[0].loss,
                lambda x, unit=unit: np.array([at(float(x[0]) * unit)[1] * unit]),
                np.zeros(1),
                np.ones(1),
                gfk=np.array([slope * unit]),
                old_fval=start.loss,
                amax=longest / unit if math.isfinite(longest) else None,
                maxiter=20,
            )
        if found[0] is not None and found[5] is not None and found[0] * unit in tried:
            return tried[found[0] * unit][0]
        best = min((point for point, _ in tried.values()), key=lambda p: p.loss)
        if best.loss < start.loss:
            return best
    return None
