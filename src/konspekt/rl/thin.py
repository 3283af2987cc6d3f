"""A small net's forward pass without the cost of calling modules: NumPy on views of the weights.

Acting asks a net for a few rows at a time, and there torch's calls take longer than the arithmetic. The views are of the memory in
which the optimiser works, so they need no copy; what is made of other layers, or lies on another device, goes through torch.

Shape letters in this file: N observations, U numbers of a policy's distribution.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from konspekt.rl.actor_critic import NARROWEST, WIDEST, ActorCritic, GaussianHead, Rescaled
from konspekt.rl.nets import Numbers, OneHot, Standardised

__all__ = ["Chain", "Seen"]

Array = NDArray[Any]
Layer = Callable[[Array], Array]


class Chain:
    """Modules one after another as one function of an array, (N, ...) -> (N, ...), by the same weights.

    `known` says whether all their layers are of a kind that is written here, in 32 bits on the CPU. `refresh` looks where the weights lie
    at the moment, and is called before a question where they may have been moved elsewhere.
    """

    def __init__(self, *modules: nn.Module | None) -> None:
        self._modules = _flat(*modules)
        there = [module for module in modules if module is not None]
        self._parameters = [parameter for module in there for parameter in module.parameters()]
        self.known = self._modules is not None and all(
            p.device.type == "cpu" and p.dtype == torch.float32 for p in self._parameters
        )
        self._moves = any(isinstance(m, (Standardised, Rescaled)) for m in self._modules or ())  # besides the weights
        self._where: list[int] = []
        self._layers: list[Layer] = []

    def refresh(self) -> None:
        """Look where the weights lie."""
        where = [parameter.data_ptr() for parameter in self._parameters]
        if self.known and (where != self._where or self._moves or not self._layers):
            self._where = where
            self._layers = [_layer(module) for module in self._modules or ()]

    def __call__(self, x: Array) -> Array:
        for layer in self._layers:
            x = layer(x)
        return x


class Seen:
    """What a net with the interface of `ActorCritic` says of observations, as arrays, with the weights of the moment.

    policy: (N, ...) -> (N, U) float32. values: (N, ...) -> (N,) float32; zeros where the net has none.
    `refresh` is called once a round, before the first question.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self.model, self.device = model, device
        self._policy: Chain | None = None
        self._value: Chain | None = None
        if isinstance(model, ActorCritic):
            policy = Chain(model.encoder, model.policy_body, model.policy_head)
            value = Chain(model.encoder, model.value_body or model.policy_body, model.value_head)
            if policy.known and value.known:
                self._policy = policy
                self._value = value if model.value_head is not None else None
        self.thin = self._policy is not None

    def refresh(self) -> None:
        """Look where the weights lie."""
        for chain in (self._policy, self._value):
            if chain is not None:
                chain.refresh()

    def policy(self, observations: Array) -> NDArray[np.float32]:
        """(N, ...) -> (N, U)."""
        if self._policy is None:
            return self._ask(observations)[0].detach().cpu().numpy()
        return self._policy(observations)

    def values(self, observations: Array) -> NDArray[np.float32]:
        """(N, ...) -> (N,)."""
        if self._value is not None:
            return self._value(observations)[:, 0]
        value = None if self.thin else self._ask(observations)[1]
        return np.zeros(len(observations), np.float32) if value is None else value.detach().cpu().numpy()

    @torch.no_grad()
    def _ask(self, observations: Array) -> tuple[Tensor, Tensor | None]:
        given = torch.from_numpy(np.ascontiguousarray(observations)).to(self.device)
        answer: tuple[Tensor, Tensor | None] = self.model(given)
        return answer


def _flat(*modules: nn.Module | None) -> list[nn.Module] | None:
    """The layers one after another; None where one is of a kind that is not written here."""
    layers: list[nn.Module] = []
    for module in modules:
        if module is None:
            continue
        if isinstance(module, nn.Sequential):
            inner = _flat(*module)
            if inner is None:
                return None
            layers += inner
        elif isinstance(module, (OneHot, Numbers, Standardised, nn.Linear, GaussianHead, Rescaled, nn.Tanh, nn.ReLU)):
            layers.append(module)
        else:
            return None
    return layers


def _layer(module: nn.Module) -> Layer:
    """A layer as a function of an array; activations follow a product, so they may write where it stands."""
    if isinstance(module, nn.Linear):
        return _linear(module)
    if isinstance(module, nn.Tanh):
        return lambda x: np.tanh(x, out=x)
    if isinstance(module, nn.ReLU):
        return lambda x: np.maximum(x, 0, out=x)
    if isinstance(module, Numbers):
        return lambda x: x.reshape(len(x), -1).astype(np.float32, copy=False)
    if isinstance(module, Standardised):
        buffers: Any = module
        mean, scale = buffers.mean.numpy(), torch.rsqrt(buffers.variance + 1e-8).numpy()
        return lambda x: np.clip((x - mean) * scale, -10, 10)
    if isinstance(module, Rescaled):
        shift, unit = (np.float32(buffer) for buffer in module.buffers())
        return lambda x: x * unit + shift
    if isinstance(module, GaussianHead):
        return _gaussian(module)
    return _one_hot(cast(OneHot, module))


def _one_hot(module: OneHot) -> Layer:
    tables = [np.eye(size, dtype=np.float32) for size in module.sizes]
    starts = module.starts
    return lambda x: np.concatenate(
        [table[x.reshape(len(x), -1)[:, k] - starts[k]] for k, table in enumerate(tables)], axis=1
    )


def _linear(module: nn.Linear) -> Layer:
    weight, bias = module.weight.detach().numpy().T, module.bias.detach().numpy()

    def apply(x: Array) -> Array:
        y: Array = x @ weight
        y += bias
        return y

    return apply


def _gaussian(module: GaussianHead) -> Layer:
    linear, size = _linear(module.linear), module.size
    if module.spread == "state":

        def apply(x: Array) -> Array:
            y = linear(x)
            np.clip(y[:, size:], NARROWEST, WIDEST, out=y[:, size:])
            return y

        return apply
    log_std = module.log_std.detach().numpy()
    return lambda x: np.concatenate([linear(x), np.broadcast_to(log_std, (len(x), size))], axis=1)
