"""What is minimised: an objective owns the nets, says who moves when, and what is lost.

Only `model`, `forward` and `loss` must be written; the other hooks have defaults.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from konspekt.core.errors import ConfigError
from konspekt.data.batches import Batches
from konspekt.data.fields import Batch, Collate, Field

__all__ = ["Objective", "split_decay"]


class Objective(nn.Module):
    """What is minimised.

    model: what predicts; it is saved, exported, served. Other nets of the objective are attributes beside it.
    collate: how ragged fields are handed over, by name: "pad" (the default) or "ragged".
    higher_is_better: names of `evaluate`'s values that grow as the model gets better; the rest are losses.
    """

    model: nn.Module
    collate: Mapping[str, Collate] = {}
    higher_is_better: tuple[str, ...] = ("accuracy", "r2")

    def forward(self, batch: Batch) -> dict[str, Field]:
        """The prediction for a batch; `predict`, `evaluate` and the report use it."""
        raise NotImplementedError(f"{type(self).__name__}.forward")

    def loss(self, batch: Batch, player: str) -> dict[str, Tensor]:
        """What `player` minimises on a batch.

        "loss": a scalar, a mean; "count": over how many terms (default: the items of the batch); the rest is logged.
        """
        raise NotImplementedError(f"{type(self).__name__}.loss")

    def item_losses(self, batch: Batch) -> Tensor:
        """The loss of each item, (B,); the report's worst items come from it."""
        raise NotImplementedError(f"{type(self).__name__}.item_losses")

    def sample_targets(self, batch: Batch) -> Batch:
        """The batch with targets drawn from the model's own prediction; the true Fisher information needs it.

        The gradient of `loss` must then be that of a negative log-likelihood, up to a constant. Draws come from torch's
        generator. Raises ConfigError here: not every loss is one.
        """
        raise ConfigError(
            f"{type(self).__name__} does not say how targets are drawn from a prediction, which the true Fisher information "
            "needs; take natural-gradient(estimate='empirical'), or write sample_targets"
        )

    def players(self) -> dict[str, list[dict[str, Any]]]:
        """Who moves what: for each player parameter groups with "params" and, if need be, "lr_scale" and "decay".

        By default one player, "model", moves all; only matrices, not biases and norms, are regularised.
        """
        return {"model": split_decay(self)}

    def turns(self, step: int) -> Sequence[str]:
        """Who moves at this step, in order; by default each player once."""
        return tuple(self.players())

    def start_epoch(self, epoch: int, batches: Batches) -> None:
        """Called before an epoch: assignments, hard negatives, target distributions."""

    def after_step(self, step: int, player: str) -> None:
        """Called, without gradient, after a player's step: target nets, teachers, clipped critics."""

    def state(self) -> dict[str, Any]:
        """Tensors and JSON that live from step to step and are no parameters or buffers."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""

    @torch.no_grad()
    def evaluate(self, batches: Batches) -> dict[str, float]:
        """Measures over a whole data set; "loss" is the first player's, weighted by `count`."""
        player = next(iter(self.players()))
        total = terms = 0.0
        for batch in batches.epoch(0):
            out = self.loss(batch, player)
            count = float(out.get("count", torch.tensor(len(batch["index"]))))
            total += float(out["loss"]) * count
            terms += count
        return {"loss": total / terms}


def split_decay(module: nn.Module) -> list[dict[str, Any]]:
    """The parameters of a module as two groups: matrices, which penalties act on, and the rest."""
    matrices = [p for p in module.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in module.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": matrices, "decay": True}, {"params": others, "decay": False}]
    return [g for g in groups if g["params"]]
