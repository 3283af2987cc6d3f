"""Activation functions of the course, each a builder that makes a new module. Row A6 (document I, sections 15-16).

Each module maps a tensor of any shape to one of the same shape. Nothing here works in place, and every module can be
deep-copied. `activation("leaky-relu(slope=0.2)")` makes one from its name.

Sources: LeCun, Bottou, Orr and Mueller 1998, "Efficient BackProp" (tanh, its linear term); Nair and Hinton 2010, "Rectified
Linear Units Improve Restricted Boltzmann Machines" (ReLU, noisy ReLU); Dugas et al. 2000, https://papers.nips.cc/paper/1920
(softplus); Maas, Hannun and Ng 2013 (leaky ReLU); He et al. 2015, https://arxiv.org/abs/1502.01852 (parametric ReLU);
Bergstra et al. 2009 (softsign).
"""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from konspekt.core.params import AtLeast, MoreThan, Within, build
from konspekt.core.registry import system

__all__ = [
    "Arctan",
    "LinearTanh",
    "NoisyReLU",
    "Softmax",
    "activation",
    "arctan",
    "leaky_relu",
    "linear_tanh",
    "noisy_relu",
    "prelu",
    "relu",
    "sigmoid",
    "softmax",
    "softplus",
    "softsign",
    "tanh",
]


class NoisyReLU(nn.Module):
    """max(0, x + e) with e ~ N(0, sigmoid(x)), where sigmoid(x) is the variance; in evaluation max(0, x).

    (...) -> (...). The noise comes from torch's generator of the input's device. The gradient takes it as a constant:
    1 where the noisy value is above zero, 0 elsewhere. Nair and Hinton 2010, section 2.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(...) -> (...)."""
        if self.training:
            x = x + torch.randn_like(x) * torch.sigmoid(x.detach()).sqrt()
        return torch.relu(x)


class Arctan(nn.Module):
    """The inverse tangent, in (-pi/2, pi/2), with the derivative 1 / (1 + x^2). (...) -> (...)."""

    def forward(self, x: Tensor) -> Tensor:
        """(...) -> (...)."""
        return torch.atan(x)


class LinearTanh(nn.Module):
    """tanh(x) + slope * x: a tanh whose derivative never falls below `slope`. (...) -> (...).

    LeCun et al. 1998, section 4.4: the linear term keeps the unit from stopping in a flat part.
    """

    def __init__(self, slope: float = 0.01) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        """(...) -> (...)."""
        return torch.tanh(x) + self.slope * x

    def extra_repr(self) -> str:
        """What stands between the parentheses when the module is printed."""
        return f"slope={self.slope}"


class Softmax(nn.Module):
    """exp(x_i / T) over the sum of exp(x_j / T) along `dim`. (..., C) -> (..., C), with sum 1.

    temperature: T; below 1 the largest score gains, above 1 the distribution flattens.
    """

    def __init__(self, temperature: float = 1.0, dim: int = -1) -> None:
        super().__init__()
        self.temperature = temperature
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        return torch.softmax(x / self.temperature, dim=self.dim)

    def extra_repr(self) -> str:
        """What stands between the parentheses when the module is printed."""
        return f"temperature={self.temperature}, dim={self.dim}"


@system(name="sigmoid", kind="activation", rows=("A6",))
def sigmoid() -> nn.Module:
    """The logistic function 1 / (1 + exp(-x)), in (0, 1). Its derivative is at most 1/4, and near 0 beyond -4 and 4."""
    return nn.Sigmoid()


@system(name="tanh", kind="activation", rows=("A6",))
def tanh() -> nn.Module:
    """The hyperbolic tangent, in (-1, 1), with the derivative 1 - tanh(x)^2."""
    return nn.Tanh()


@system(name="relu", kind="activation", rows=("A6",), paper="Nair and Hinton 2010")
def relu() -> nn.Module:
    """The rectifier max(0, x); its derivative at 0 is taken as 0."""
    return nn.ReLU()


@system(name="leaky-relu", kind="activation", rows=("A6",), paper="Maas, Hannun and Ng 2013")
def leaky_relu(*, slope: Annotated[float, Within(0, 1)] = 0.01) -> nn.Module:
    """A rectifier that leaks: x above zero, slope * x below, so that no unit dies.

    slope: the derivative below zero.
    """
    return nn.LeakyReLU(slope)


@system(name="prelu", kind="activation", rows=("A6",), paper="https://arxiv.org/abs/1502.01852")
def prelu(*, slope: Annotated[float, Within(0, 1)] = 0.25) -> nn.Module:
    """The parametric rectifier: x above zero, beta * x below, with beta learned.

    One beta for the layer (the paper's channel-shared form), so that it fits any width.

    slope: what beta starts from.
    """
    return nn.PReLU(init=slope)


@system(name="noisy-relu", kind="activation", rows=("A6",), paper="Nair and Hinton 2010")
def noisy_relu() -> nn.Module:
    """The noisy rectifier max(0, x + N(0, sigmoid(x))) in training, max(0, x) otherwise."""
    return NoisyReLU()


@system(name="softplus", kind="activation", rows=("A6",), paper="https://papers.nips.cc/paper/1920")
def softplus() -> nn.Module:
    """The smooth rectifier ln(1 + exp(x)); its derivative is the sigmoid. Above 20 it is x, which is 2e-9 off."""
    return nn.Softplus()


@system(name="arctan", kind="activation", rows=("A6",))
def arctan() -> nn.Module:
    """The inverse tangent, in (-pi/2, pi/2)."""
    return Arctan()


@system(name="softsign", kind="activation", rows=("A6",), paper="Bergstra et al. 2009")
def softsign() -> nn.Module:
    """x / (1 + |x|), in (-1, 1), with the derivative 1 / (1 + |x|)^2: it saturates more slowly than tanh."""
    return nn.Softsign()


@system(name="linear-tanh", kind="activation", rows=("A6",), paper="LeCun et al. 1998, Efficient BackProp")
def linear_tanh(*, slope: Annotated[float, AtLeast(0)] = 0.01) -> nn.Module:
    """tanh(x) + slope * x, a tanh without flat parts.

    slope: the derivative far from zero.
    """
    return LinearTanh(slope)


@system(name="softmax", kind="activation", rows=("A6",))
def softmax(*, temperature: Annotated[float, MoreThan(0)] = 1.0) -> nn.Module:
    """The softmax of x / temperature over the last axis.

    temperature: below 1 sharpens the distribution, above 1 flattens it.
    """
    return Softmax(temperature)


def activation(text: str) -> nn.Module:
    """A new module from a registered name with its arguments: "relu", "leaky-relu(slope=0.2)".

    Raises ConfigError on an unknown name, with the nearest one, and on an argument that does not fit.
    """
    module: nn.Module = build("activation", text)
    return module
