"""Objectives of supervised learning that several domains share. Course: row A9 (in part).

Shape letters in this file: B batch, C classes, T targets.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from konspekt.core.errors import ConfigError
from konspekt.data.batches import Batches
from konspekt.data.fields import Batch, Field
from konspekt.engine.objective import Objective

__all__ = ["Classification", "Regression", "inputs_of"]


def inputs_of(batch: Batch, fields: tuple[str, ...]) -> list[Field]:
    """What the net takes, in order: those of `fields` that the batch has."""
    return [batch[name] for name in fields if name in batch]


class Classification(Objective):
    """Mean negative log-likelihood of the true class, in nats.

    model: x (B, ...) -> logits (B, C). weights: (C,), the weight of each class, of mean 1 over the items.
    fields: the fields of a batch that the net takes. y (B,) int64.
    """

    weights: Tensor | None

    def __init__(
        self, model: nn.Module, weights: Tensor | None = None, fields: tuple[str, ...] = ("x", "codes")
    ) -> None:
        super().__init__()
        self.model = model
        self.fields = fields
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, batch: Batch) -> dict[str, Field]:
        return {"logits": self._logits_of(batch)}

    def loss(self, batch: Batch, player: str) -> dict[str, Tensor]:
        logits, y = self._logits(batch)
        if self.weights is None:
            return {"loss": F.cross_entropy(logits, y)}
        return {"loss": (F.cross_entropy(logits, y, reduction="none") * self.weights[y]).mean()}

    def item_losses(self, batch: Batch) -> Tensor:
        logits, y = self._logits(batch)
        return F.cross_entropy(logits, y, reduction="none")

    @torch.no_grad()
    def sample_targets(self, batch: Batch) -> Batch:
        """Classes drawn from the softmax; the loss is their negative log-likelihood.

        Raises ConfigError with class weights: a weighted loss is the likelihood of nothing.
        """
        if self.weights is not None:
            raise ConfigError(
                "with class weights the loss is no likelihood, so there is no true Fisher information; take "
                "natural-gradient(estimate='empirical'), or no class weights"
            )
        logits, _ = self._logits(batch)
        return batch | {"y": torch.multinomial(logits.float().softmax(1), 1)[:, 0]}

    def _logits(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return self._logits_of(batch), batch["y"]  # type: ignore[return-value]

    def _logits_of(self, batch: Batch) -> Tensor:
        return self.model(*inputs_of(batch, self.fields))  # type: ignore[no-any-return]

    @torch.no_grad()
    def evaluate(self, batches: Batches) -> dict[str, float]:
        """Loss (weighted as in training) and accuracy, the share of items whose likeliest class is the true one."""
        loss = right = 0.0
        for batch in batches.epoch(0):
            logits, y = self._logits(batch)
            losses = F.cross_entropy(logits, y, reduction="none")
            if self.weights is not None:
                losses = losses * self.weights[y]
            loss += float(losses.sum())
            right += float((logits.argmax(1) == y).sum())
        return {"loss": loss / batches.num_items, "accuracy": right / batches.num_items}


class Regression(Objective):
    """Mean squared error of standardised targets: 1 is what predicting the mean would get.

    model: x (B, ...) -> prediction (B, T). y (B, T) float32.
    """

    def __init__(self, model: nn.Module, fields: tuple[str, ...] = ("x", "codes")) -> None:
        super().__init__()
        self.model = model
        self.fields = fields

    def forward(self, batch: Batch) -> dict[str, Field]:
        return {"prediction": self._prediction(batch)}

    def loss(self, batch: Batch, player: str) -> dict[str, Tensor]:
        return {"loss": F.mse_loss(self._prediction(batch), batch["y"])}  # type: ignore[arg-type]

    def item_losses(self, batch: Batch) -> Tensor:
        return (self._prediction(batch) - batch["y"]).square().mean(dim=1)  # type: ignore[operator]

    def _prediction(self, batch: Batch) -> Tensor:
        return self.model(*inputs_of(batch, self.fields))  # type: ignore[no-any-return]

    @torch.no_grad()
    def sample_targets(self, batch: Batch) -> Batch:
        """Targets drawn from a normal distribution around the prediction, each with variance T / 2.

        With that variance the loss, a mean over T targets, is the negative log-likelihood up to a constant.
        """
        prediction = self._prediction(batch)
        return batch | {"y": prediction + (prediction.shape[1] / 2) ** 0.5 * torch.randn_like(prediction)}

    @torch.no_grad()
    def evaluate(self, batches: Batches) -> dict[str, float]:
        """Loss, and R^2: the share of the targets' variance that is explained, averaged over targets."""
        errors, truths = [], []
        for batch in batches.epoch(0):
            errors.append((self._prediction(batch) - batch["y"]).double())  # type: ignore[operator]
            truths.append(batch["y"].double())  # type: ignore[union-attr]
        error, truth = torch.cat(errors), torch.cat(truths)
        values = {"loss": float(error.square().mean())}
        spread = (truth - truth.mean(0)).square().sum(0)
        if bool((spread > 0).all()):
            values["r2"] = float((1 - error.square().sum(0) / spread).mean())
        return values
