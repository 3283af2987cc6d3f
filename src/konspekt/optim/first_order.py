"""First-order optimisers. Course: row A11 (documents I, section 12; H, 1.1.14-1.1.16; D).

Each builder takes torch parameter groups, in which "lr" may be the group's own, and a step `lr`; all methods work element
by element (the engine joins a group's parameters into one long tensor), and all steps take a closure. g is the
gradient, w the weights, products and roots are element-wise. Weight decay is the engine's, except in `adamw`.

Where torch has a fused kernel for the device and it is faster, it is used: on 5 million float32 numbers and one thread
of a CPU Adam takes 6 ms so, 27 as a plain loop, 14 with foreach; plain descent gains nothing.

Sources, beside those at each function: Ruder 2016, https://arxiv.org/abs/1609.04747.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any, overload

import torch
from torch import Tensor
from torch.optim import SGD, Adadelta, Adagrad, Adam, AdamW, Optimizer, RMSprop

from konspekt.core.params import AtLeast, LessThan, MoreThan
from konspekt.core.registry import system

__all__ = [
    "GradientDescent",
    "adadelta",
    "adagrad",
    "adam",
    "adamw",
    "descent",
    "momentum",
    "nesterov",
    "rmsprop",
    "sgd",
]


class GradientDescent(Optimizer):
    """w(t) = w(t-1) - lr g, on all items at once, until ||w(t) - w(t-1)|| <= tolerance.

    The norm is Euclidean and over all parameters of all groups. It is measured from step to step, so that what else
    moves the weights in between (a decoupled weight decay) counts; this keeps one copy of the parameters.

    Attributes: `full_batch` is True, by which the engine feeds all items as one batch; `converged` says after each
    step whether the rule holds, and is kept by `state_dict`.

    Course: document H, 1.1.14, and RULES 41: for nets, stop by the validation error instead.
    """

    full_batch = True

    def __init__(self, params: Iterable[Any], lr: float, tolerance: float = 1e-6) -> None:
        super().__init__(params, {"lr": lr, "tolerance": tolerance, "converged": False})

    @property
    def converged(self) -> bool:
        """Whether the last step moved the weights by no more than the tolerance."""
        return bool(self.param_groups[0]["converged"])

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step and hand back the closure's loss, if there is a closure."""
        loss: float | None = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        moved: list[Tensor] = []
        for group in self.param_groups:
            for w in group["params"]:
                state = self.state[w]
                if "previous" not in state:
                    state["previous"] = w.detach().clone()
                if w.grad is not None:
                    w.add_(w.grad, alpha=-group["lr"])
                moved.append(torch.linalg.vector_norm(w - state["previous"]))
                state["previous"].copy_(w)
        distance = float(torch.linalg.vector_norm(torch.stack([m.to(moved[0].device) for m in moved])))
        for group in self.param_groups:
            group["converged"] = distance <= self.param_groups[0]["tolerance"]
        return loss


def _fused(groups: list[dict[str, Any]], devices: tuple[str, ...]) -> bool:
    """Whether torch's fused kernel takes all parameters: floating point, on devices that have it."""
    for group in groups:
        params = [group["params"]] if isinstance(group["params"], Tensor) else group["params"]
        if not all(p.is_floating_point() and p.device.type in devices for p in params):
            return False
    return True


_DEVICES = ("cpu", "cuda", "mps")


@system(name="descent", kind="optimizer", rows=("A11",))
def descent(groups: list[dict[str, Any]], lr: float, *, tolerance: Annotated[float, AtLeast(0)] = 1e-6) -> Optimizer:
    """Gradient descent on all items at once, w = w - lr g, with the notes' stopping rule ||w(t) - w(t-1)|| <= tolerance.

    tolerance: the fit stops when a step moves the weights, all together, by no more than this; 0 hardly ever stops it.
    """
    return GradientDescent(groups, lr, tolerance)


@system(name="sgd", kind="optimizer", rows=("A11",))
def sgd(groups: list[dict[str, Any]], lr: float) -> Optimizer:
    """Stochastic (batch size 1) or mini-batch gradient descent: w = w - lr g. Robbins and Monro 1951."""
    return SGD(groups, lr)


@system(name="momentum", kind="optimizer", rows=("A11",))
def momentum(
    groups: list[dict[str, Any]], lr: float, *, momentum: Annotated[float, AtLeast(0), LessThan(1)] = 0.9
) -> Optimizer:
    """Momentum: v = momentum v + lr g, w = w - v. Polyak 1964, the heavy ball.

    torch keeps v / lr, so that a schedule scales the whole velocity and not only the new part; at a constant lr the two
    are the same. The notes' order (I, section 12) uses v a step late.

    momentum: how much of the velocity stays; the notes' gamma.
    """
    return SGD(groups, lr, momentum=momentum, fused=_fused(groups, _DEVICES))


@system(name="nesterov", kind="optimizer", rows=("A11",))
def nesterov(
    groups: list[dict[str, Any]], lr: float, *, momentum: Annotated[float, MoreThan(0), LessThan(1)] = 0.9
) -> Optimizer:
    """Nesterov's momentum: v = momentum v + lr g(w - momentum v), w = w - v. Nesterov 1983.

    The gradient is taken where the velocity is about to carry the weights. torch, and so the net during a fit, holds
    that look-ahead point theta = w - momentum v itself (Sutskever et al. 2013,
    https://proceedings.mlr.press/v28/sutskever13.html): put into the two lines above it gives
    theta = theta - lr (g + momentum u) with u = momentum u + g, and u = v / lr. As the notes print the method (gradient
    at w - v(k), then w - v(k)) it is classical momentum, shifted by a step.

    momentum: how much of the velocity stays; the notes' gamma.
    """
    return SGD(groups, lr, momentum=momentum, nesterov=True, fused=_fused(groups, _DEVICES))


@system(name="adagrad", kind="optimizer", rows=("A11",), paper="https://jmlr.org/papers/v12/duchi11a.html")
def adagrad(groups: list[dict[str, Any]], lr: float, *, eps: Annotated[float, MoreThan(0)] = 1e-10) -> Optimizer:
    """AdaGrad: G = G + g^2, w = w - lr g / (sqrt(G) + eps). The notes advise lr 0.01.

    G only grows, so the steps shrink for ever. Duchi, Hazan and Singer 2011.

    eps: keeps from dividing by zero.
    """
    return Adagrad(groups, lr, eps=eps, fused=_fused(groups, ("cpu", "cuda")))


@system(name="rmsprop", kind="optimizer", rows=("A11",))
def rmsprop(
    groups: list[dict[str, Any]],
    lr: float,
    *,
    rho: Annotated[float, AtLeast(0), LessThan(1)] = 0.9,
    eps: Annotated[float, MoreThan(0)] = 1e-8,
) -> Optimizer:
    """RMSProp: G = rho G + (1 - rho) g^2, w = w - lr g / (sqrt(G) + eps).

    AdaGrad with a running mean in place of the sum. Tieleman and Hinton 2012, lecture 6.5 of Coursera's Neural Networks
    for Machine Learning. (H, 1.1.16 prints it without the factor before G.)

    rho: how much of the mean stays; the notes' gamma, 0.9 (torch's own default is 0.99).
    eps: keeps from dividing by zero.
    """
    return RMSprop(groups, lr, alpha=rho, eps=eps)


@system(name="adadelta", kind="optimizer", rows=("A11",), paper="https://arxiv.org/abs/1212.5701")
def adadelta(
    groups: list[dict[str, Any]],
    lr: float,
    *,
    rho: Annotated[float, AtLeast(0), LessThan(1)] = 0.9,
    eps: Annotated[float, MoreThan(0)] = 1e-6,
) -> Optimizer:
    """Adadelta: the step's unit comes from the steps before, so lr may be 1. Zeiler 2012.

    G = rho G + (1 - rho) g^2, s = sqrt(D + eps) / sqrt(G + eps) g, w = w - lr s, then D = rho D + (1 - rho) s^2.

    rho: how much of both means stays.
    eps: keeps from dividing by zero; its root also is the first step's size.
    """
    return Adadelta(groups, lr, rho=rho, eps=eps)


@system(name="adam", kind="optimizer", rows=("A11",), paper="https://arxiv.org/abs/1412.6980")
def adam(
    groups: list[dict[str, Any]],
    lr: float,
    *,
    beta1: Annotated[float, AtLeast(0), LessThan(1)] = 0.9,
    beta2: Annotated[float, AtLeast(0), LessThan(1)] = 0.999,
    eps: Annotated[float, MoreThan(0)] = 1e-8,
) -> Optimizer:
    """Adam: w = w - lr m' / (sqrt(b') + eps), from bias-corrected running means of g and g^2. Kingma and Ba 2015.

    m = beta1 m + (1 - beta1) g, b = beta2 b + (1 - beta2) g^2, and at step k m' = m / (1 - beta1^k),
    b' = b / (1 - beta2^k). The notes print 1 - beta2^2 for the latter, which enlarges b 500 times at every step.

    beta1: how much of the mean of the gradient stays.
    beta2: how much of the mean of its square stays.
    eps: keeps from dividing by zero.
    """
    return Adam(groups, lr, betas=(beta1, beta2), eps=eps, fused=_fused(groups, _DEVICES))


@system(name="adamw", kind="optimizer", rows=("A11",), paper="https://arxiv.org/abs/1711.05101")
def adamw(
    groups: list[dict[str, Any]],
    lr: float,
    *,
    beta1: Annotated[float, AtLeast(0), LessThan(1)] = 0.9,
    beta2: Annotated[float, AtLeast(0), LessThan(1)] = 0.999,
    eps: Annotated[float, MoreThan(0)] = 1e-8,
    weight_decay: Annotated[float, AtLeast(0)] = 0.01,
) -> Optimizer:
    """AdamW: w = w - lr weight_decay w, then Adam's step. Loshchilov and Hutter 2019.

    The decay touches all parameters of the groups, biases too; the estimators' own `weight_decay` is the engine's and comes
    on top.

    beta1: how much of the mean of the gradient stays.
    beta2: how much of the mean of its square stays.
    eps: keeps from dividing by zero.
    weight_decay: the share of each weight, times lr, that a step takes away.
    """
    return AdamW(groups, lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay, fused=_fused(groups, _DEVICES))
