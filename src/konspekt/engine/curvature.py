"""Second derivatives, and the gradient of each item by itself, for second-order optimisers. Course: row A12.

All by torch.autograd.grad and torch.func; `backward()` is the loop's. The vectors are a player's flat buffer: what
pads the parameters in it has gradient 0, and a Hessian of 1 on the diagonal, so that nothing becomes singular by it.

Shape letters in this file: B items of a batch, P places in the buffer, R of them real, C rows at a time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from konspekt.core.errors import ConfigError
from konspekt.data.fields import Batch, Ragged
from konspekt.engine import checkpoint
from konspekt.engine.flat import FlatParameters
from konspekt.engine.objective import Objective
from konspekt.nn.norm import BatchRenorm

__all__ = ["hessian", "item_gradients"]

_ROWS = 64  # of the Hessian in one batched backward pass


def _real(flat: FlatParameters) -> Tensor:
    """(R,) int64, the places of the buffer that hold parameters, in order."""
    parts = [torch.arange(b.start, b.stop) for b in flat.slices]
    return torch.cat(parts).to(flat.weights.device)


def hessian(objective: Objective, batch: Batch, player: str, flat: FlatParameters, l2: float = 0.0) -> Tensor:
    """The second derivatives (P, P) of a player's loss on a batch, with those of l2 * sum w^2 over its matrices.

    Those of the penalty l1 are 0 wherever they exist.
    """
    places = _real(flat)
    size = len(flat.weights)
    made = torch.eye(size, dtype=flat.weights.dtype, device=flat.weights.device)
    made[places[:, None], places] = 0
    with torch.enable_grad():
        loss = objective.loss(batch, player)["loss"]
        parts = torch.autograd.grad(loss, flat.parameters, create_graph=True, materialize_grads=True)
        slope = torch.cat([part.reshape(-1) for part in parts])
        if slope.requires_grad:  # otherwise the loss is linear
            for rows in torch.arange(len(places), device=places.device).split(_ROWS):
                made[places[rows][:, None], places] = _rows(slope, rows, flat)
    made = (made + made.T) / 2  # the two orders of differentiating round apart
    if l2:
        diagonal = made.diagonal()
        for weights, _ in flat.decayed:
            begin = weights.storage_offset()
            inside = places[(places >= begin) & (places < begin + len(weights))]
            diagonal[inside] += 2 * l2
    return made


def _rows(slope: Tensor, rows: Tensor, flat: FlatParameters) -> Tensor:
    """(C, R), the gradients of some components of the gradient."""
    options: dict[str, Any] = {"retain_graph": True, "materialize_grads": True}
    chosen = nn.functional.one_hot(rows, len(slope)).to(slope)
    try:
        parts = torch.autograd.grad(slope, flat.parameters, chosen, is_grads_batched=True, **options)
        return torch.cat([part.reshape(len(rows), -1) for part in parts], dim=1)
    except RuntimeError:  # an operation that cannot be batched: one row after another
        single = [torch.autograd.grad(slope, flat.parameters, row, **options) for row in chosen]
        return torch.stack([torch.cat([part.reshape(-1) for part in parts]) for parts in single])


class _Loss(nn.Module):
    """An objective's loss as a forward, which torch.func can call with other weights."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, batch: Batch, player: str) -> Tensor:
        return self.objective.loss(batch, player)["loss"]


def item_gradients(objective: Objective, batch: Batch, player: str, flat: FlatParameters) -> Tensor:
    """(B, P), the gradient of a player's loss on each item of a batch by itself, without penalties.

    Dropout draws for each item what it draws for it in the whole batch, where operations can be batched over items;
    those that cannot, and ragged fields, go item by item.

    Raises ConfigError where the net has batch statistics, with which an item has no loss by itself.
    """
    for name, module in objective.named_modules():
        if module.training and isinstance(module, (nn.modules.batchnorm._BatchNorm, BatchRenorm)):
            raise ConfigError(
                f"the gradient of each item by itself is asked for (optimizer 'natural-gradient'), but {name} "
                f"({type(module).__name__}) mixes the items of a batch; take norm='layer' or none"
            )
    made = flat.weights.new_zeros(len(batch["index"]), len(flat.weights))
    tensors = {name: field for name, field in batch.items() if isinstance(field, Tensor)}
    if len(tensors) < len(batch):  # the rest is ragged
        return _one_by_one(objective, batch, player, flat, made)
    device = flat.weights.device
    random = checkpoint.random_state(device)
    places = {p: place for p, place in zip(flat.parameters, flat.slices, strict=True)}
    net = _Loss(objective)
    own = {name: p for name, p in net.named_parameters() if p in places}

    def loss_of(weights: dict[str, Tensor], item: dict[str, Tensor]) -> Tensor:
        alone = {name: field[None] for name, field in item.items()}
        loss: Tensor = functional_call(net, weights, (alone, player))
        return loss

    try:
        found = vmap(grad(loss_of), in_dims=(None, 0), randomness="different")(
            {name: p.detach() for name, p in own.items()}, tensors
        )
    except RuntimeError:
        checkpoint.set_random_state(random, device)
        return _one_by_one(objective, batch, player, flat, made)
    for name, p in own.items():
        made[:, places[p]] = found[name].reshape(len(made), -1)
    return made


def _one_by_one(objective: Objective, batch: Batch, player: str, flat: FlatParameters, made: Tensor) -> Tensor:
    """Fill `made` (B, P) row by row."""
    for item in range(len(made)):
        one = torch.tensor([item], device=made.device)
        alone: Batch = {
            name: field.take(one) if isinstance(field, Ragged) else field[item : item + 1]
            for name, field in batch.items()
        }
        with torch.enable_grad():
            loss = objective.loss(alone, player)["loss"]
            parts = torch.autograd.grad(loss, flat.parameters, materialize_grads=True)
        for place, part in zip(flat.slices, parts, strict=True):
            made[item, place] = part.reshape(-1)
    return made
