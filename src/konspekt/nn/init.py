"""How weights start. Course: row A7 (document I, section 19).

Each function fills a weight in place, outside autograd, with numbers of torch's generator. A weight has the shape
(out, in) or (out, in, *kernel); its fans are n_in = in * prod(kernel) and n_out = out * prod(kernel). "normal" and
"uniform" have the same variance v: N(0, v), or U(-b, b) with b = sqrt(3 v).

Sources: LeCun, Bottou, Orr and Mueller 1998, "Efficient BackProp"; Glorot and Bengio 2010,
https://proceedings.mlr.press/v9/glorot10a.html (Xavier); He et al. 2015, https://arxiv.org/abs/1502.01852.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from konspekt.core.errors import ConfigError
from konspekt.core.params import AtLeast, MoreThan, Registered, build
from konspekt.core.registry import system

__all__ = ["fans", "he", "initialise", "lecun", "normal", "uniform", "xavier", "zeros"]

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def fans(weight: Tensor) -> tuple[int, int]:
    """(n_in, n_out) of a weight (out, in, *kernel): how many terms make an output, and how many an input feeds.

    Raises ConfigError on a weight with fewer than two axes.
    """
    if weight.dim() < 2:
        raise ConfigError(f"a weight of shape {tuple(weight.shape)} has no fans; give one of shape (out, in, *kernel)")
    kernel = math.prod(weight.shape[2:])
    return weight.shape[1] * kernel, weight.shape[0] * kernel


def _fill(weight: Tensor, variance: float, distribution: Literal["normal", "uniform"]) -> None:
    if distribution == "normal":
        nn.init.normal_(weight, 0.0, math.sqrt(variance))
    else:
        bound = math.sqrt(3 * variance)
        nn.init.uniform_(weight, -bound, bound)


@system(name="zeros", kind="init", rows=("A7",))
def zeros(weight: Tensor) -> None:
    """All zeros: right for biases, and for the matrix of a net that is one linear layer.

    With two layers or more it does not learn: all units of a layer compute the same and get the same gradient, and
    while the matrix above is zero that gradient is zero too. Nothing forbids it; the course shows it.
    """
    nn.init.zeros_(weight)


@system(name="normal", kind="init", rows=("A7",))
def normal(weight: Tensor, *, mean: float = 0.0, std: Annotated[float, AtLeast(0)] = 0.01) -> None:
    """Normal, with the same spread whatever the layer's width; std 0.01 is AlexNet's.

    std: the standard deviation.
    """
    nn.init.normal_(weight, mean, std)


@system(name="uniform", kind="init", rows=("A7",))
def uniform(weight: Tensor, *, bound: Annotated[float, AtLeast(0)] = 0.05) -> None:
    """Uniform, with the same spread whatever the layer's width.

    bound: the numbers lie in [-bound, bound).
    """
    nn.init.uniform_(weight, -bound, bound)


@system(name="lecun", kind="init", rows=("A7",), paper="LeCun et al. 1998, Efficient BackProp")
def lecun(weight: Tensor, *, distribution: Literal["normal", "uniform"] = "normal") -> None:
    """Variance 1 / n_in: keeps the variance of the signal where the activation is the identity near zero.

    Raises ConfigError on a weight with fewer than two axes.
    """
    _fill(weight, 1 / fans(weight)[0], distribution)


@system(name="xavier", kind="init", rows=("A7",), paper="https://proceedings.mlr.press/v9/glorot10a.html")
def xavier(
    weight: Tensor,
    *,
    distribution: Literal["normal", "uniform"] = "uniform",
    gain: Annotated[float, MoreThan(0)] = 1.0,
) -> None:
    """Variance gain^2 * 2 / (n_in + n_out), Glorot's: signal and gradient both about keep theirs, under tanh.

    Raises ConfigError on a weight with fewer than two axes.

    gain: what the activation takes away from the standard deviation, to be given back.
    """
    _fill(weight, 2 * gain**2 / sum(fans(weight)), distribution)


@system(name="he", kind="init", rows=("A7",), paper="https://arxiv.org/abs/1502.01852")
def he(
    weight: Tensor,
    *,
    mode: Literal["in", "out"] = "in",
    distribution: Literal["normal", "uniform"] = "normal",
    gain: Annotated[float, MoreThan(0)] = math.sqrt(2),
) -> None:
    """Variance gain^2 / n, He's (Kaiming's): sqrt(2) makes up for the half of a signal that ReLU sets to zero.

    Raises ConfigError on a weight with fewer than two axes.

    mode: n is n_in, which keeps the variance of the signal, or n_out, which keeps that of the gradient.
    gain: sqrt(2) for ReLU, sqrt(2 / (1 + slope^2)) for a leaky one.
    """
    _fill(weight, gain**2 / fans(weight)[0 if mode == "in" else 1], distribution)


def initialise(module: nn.Module, init: str) -> None:
    """Fill the matrices of every linear and convolutional layer as `init` says, their biases with zeros.

    init: a registered name with its arguments: "he", "he(mode='out')", "normal(std=0.02)".

    Left as they are: norm layers, embeddings (torch's N(0, 1)), recurrent and attention weights, learned slopes. A
    convolution in groups is filled group by group, and a transposed one with its axes in order, so that the fans are
    the true ones; a depthwise kernel of 3x3 has n_in = n_out = 9. A matrix that a linear layer shares with an embedding
    counts as the linear layer's.

    Raises ConfigError on an unknown name, with the nearest one, and on an argument that does not fit.
    """
    Registered("init").check("initialise", "init", init)
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            weights: tuple[Tensor, ...] = (layer.weight,)
        elif isinstance(layer, CONVOLUTIONS):
            weights = layer.weight.chunk(layer.groups)
        elif isinstance(layer, TRANSPOSED):
            weights = tuple(w.transpose(0, 1) for w in layer.weight.chunk(layer.groups))
        else:
            continue
        for weight in weights:
            # a view of a parameter may be filled only where autograd does not look
            build("init", init, weight.detach())
        if layer.bias is not None:
            torch.nn.init.zeros_(layer.bias)
